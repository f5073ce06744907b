//! Writes one run's events behind the run's back: a slow disk must not hold up a stop.

use sqlx::AnyPool;
use sqlx::query;
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::RunId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// So many events may wait for the disk: minutes of a large run. What does not fit is lost from the store, which is logged.
const WAITING_MAX: usize = 65_536;

/// Writes the events of one run, in order.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Sender<Event>,
    lost: u64,
    task: JoinHandle<()>,
}

impl Writer {
    pub(super) fn new(pool: AnyPool, run: &RunId) -> Self {
        let (queue, events) = mpsc::channel(WAITING_MAX);
        let task = tokio::spawn(write(pool, run.clone(), events));
        Self {
            queue,
            lost: 0,
            task,
        }
    }

    /// Queues an event.
    pub fn append(&mut self, event: &Event) {
        if self.queue.try_send(event.clone()).is_err() {
            self.lost += 1;
        }
    }

    /// Waits until everything is written.
    pub async fn close(self) {
        drop(self.queue);
        if self.lost > 0 {
            tracing::error!(
                lost = self.lost,
                "the disk was too slow: events are missing from the store"
            );
        }
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the run's events could not be kept");
        }
    }
}

async fn write(pool: AnyPool, run: RunId, mut events: mpsc::Receiver<Event>) {
    let mut sequence = 0_i64;
    let mut failed = 0_u64;
    while let Some(event) = events.recv().await {
        if let Err(error) = append(&pool, &run, sequence, &event).await {
            // Said once: a full disk would say it each second. The run goes on, its verdict does not depend on the disk.
            if failed == 0 {
                tracing::error!(%run, %error, "an event could not be kept; the run goes on");
            }
            failed += 1;
        }
        sequence += 1;
    }
    if failed > 0 {
        tracing::error!(%run, failed, "events are missing from the store");
    }
}

async fn append(
    pool: &AnyPool,
    run: &RunId,
    sequence: i64,
    event: &Event,
) -> Result<(), sqlx::Error> {
    let at_us = i64::try_from(event.at_us).unwrap_or(i64::MAX);
    let what = serde_json::to_string(&event.what).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    let mut transaction = pool.begin().await?;
    match &event.what {
        Happening::Created(created) => {
            query("INSERT INTO runs (id, name, digest, created_us) VALUES ($1, $2, $3, $4)")
                .bind(&run.0)
                .bind(&created.name)
                .bind(&created.digest)
                .bind(at_us)
                .execute(&mut *transaction)
                .await?;
        }
        Happening::Finished(finished) => {
            query("UPDATE runs SET verdict = $1, because = $2 WHERE id = $3")
                .bind(finished.verdict.to_string())
                .bind(&finished.because)
                .bind(&run.0)
                .execute(&mut *transaction)
                .await?;
        }
        _ => {}
    }
    query("INSERT INTO events (run, sequence, at_us, what) VALUES ($1, $2, $3, $4)")
        .bind(&run.0)
        .bind(sequence)
        .bind(at_us)
        .bind(what)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
