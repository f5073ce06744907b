//! Writes one run's events behind the run's back: a slow disk must not hold up a stop.

use super::{Dialect, Store, StoreError};
use sqlx::{AnyConnection, AnyPool, query};
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::RunId;
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// So many events may wait for the disk: minutes of a large run. What does not fit is lost from the store, which is logged.
const WAITING_MAX: usize = 65_536;

/// Why a run's events are not kept any more.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The controller was taken for dead while it stood still: its leadership is over, and so are its runs.
    #[error("another controller leads now; this one writes nothing any more")]
    Superseded,
    /// The database does not take them: a full disk, a server that is gone.
    #[error(
        "the run's events cannot be kept: look at the disk of the data directory, or at the database's server"
    )]
    Database(#[from] sqlx::Error),
}

/// What the task and its handle share: the first trouble there was.
type First = Arc<OnceLock<Trouble>>;

/// Writes the events of one run, in order.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Sender<Event>,
    lost: u64,
    trouble: First,
    task: JoinHandle<()>,
}

/// Where, as what, and as whom.
struct Desk {
    pool: AnyPool,
    dialect: Dialect,
    run: RunId,
    term: Option<i64>,
}

impl Store {
    /// What writes one run's events.
    #[must_use]
    pub fn writer(&self, run: &RunId) -> Writer {
        let (queue, events) = mpsc::channel(WAITING_MAX);
        let trouble = First::default();
        let task = tokio::spawn(write(self.desk(run), events, Arc::clone(&trouble)));
        Writer {
            queue,
            lost: 0,
            trouble,
            task,
        }
    }

    fn desk(&self, run: &RunId) -> Desk {
        Desk {
            pool: self.pool.clone(),
            dialect: self.dialect,
            run: run.clone(),
            term: self.term(),
        }
    }

    /// Writes one event of a run that has no writer.
    pub(super) async fn append(
        &self,
        run: &RunId,
        sequence: i64,
        event: &Event,
    ) -> Result<(), StoreError> {
        let appended = append(&self.desk(run), sequence, event).await;
        appended.map_err(|source| StoreError::Append {
            run: run.0.clone(),
            sequence,
            source,
        })
    }
}

impl Writer {
    /// Queues an event.
    pub fn append(&mut self, event: &Event) {
        if self.queue.try_send(event.clone()).is_err() {
            self.lost += 1;
        }
    }

    /// Why events are not kept any more, if they are not: a run that leaves no record is to be stopped.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.get()
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

async fn write(desk: Desk, mut events: mpsc::Receiver<Event>, first: First) {
    let mut sequence = 0_i64;
    let mut failed = 0_u64;
    while let Some(event) = events.recv().await {
        match append(&desk, sequence, &event).await {
            Ok(()) => {}
            Err(trouble) => {
                failed += 1;
                // Said once: a full disk would say it each second.
                if failed == 1 {
                    let error = crate::words::chain(&trouble);
                    tracing::error!(run = %desk.run, error, "an event could not be kept");
                }
                let superseded = matches!(trouble, Trouble::Superseded);
                let _later = first.set(trouble);
                if superseded {
                    return;
                }
            }
        }
        sequence += 1;
    }
    if failed > 0 {
        tracing::error!(run = %desk.run, failed, "events are missing from the store");
    }
}

/// One event and what it changes, or nothing.
async fn append(desk: &Desk, sequence: i64, event: &Event) -> Result<(), Trouble> {
    let at_us = i64::try_from(event.at_us).unwrap_or(i64::MAX);
    let what = serde_json::to_string(&event.what).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    let mut transaction = desk.pool.begin().await?;
    match &event.what {
        Happening::Created(created) => {
            query(
                "INSERT INTO runs (id, name, digest, created_us, term) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(&desk.run.0)
            .bind(&created.name)
            .bind(&created.digest)
            .bind(at_us)
            .bind(desk.term)
            .execute(&mut *transaction)
            .await?;
        }
        Happening::Finished(finished) => {
            query("UPDATE runs SET verdict = $1, because = $2 WHERE id = $3")
                .bind(finished.verdict.to_string())
                .bind(&finished.because)
                .bind(&desk.run.0)
                .execute(&mut *transaction)
                .await?;
        }
        _ => {}
    }
    query("INSERT INTO events (run, sequence, at_us, what) VALUES ($1, $2, $3, $4)")
        .bind(&desk.run.0)
        .bind(sequence)
        .bind(at_us)
        .bind(what)
        .execute(&mut *transaction)
        .await?;
    if let Some(term) = desk.term
        && !leads(&mut transaction, desk.dialect, term).await?
    {
        return Err(Trouble::Superseded);
    }
    Ok(transaction.commit().await?)
}

/// Whether the leader with this token still leads. It does until the transaction is over: who wants to lead waits for it.
pub(super) async fn leads(
    transaction: &mut AnyConnection,
    dialect: Dialect,
    term: i64,
) -> Result<bool, sqlx::Error> {
    let asked = match dialect {
        // The transaction has written, and nobody else writes meanwhile.
        Dialect::Sqlite => "SELECT 1 FROM leader WHERE token = $1",
        Dialect::Postgres => "SELECT 1 FROM leader WHERE token = $1 FOR SHARE",
    };
    let row = query(asked).bind(term).fetch_optional(transaction).await?;
    Ok(row.is_some())
}
