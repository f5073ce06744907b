//! Writes one run's events behind the run's back: a slow disk must not hold up a stop.

use super::{Dialect, Started, Store, StoreError};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Row as _, query};
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::RunId;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// So many events may wait for the disk: minutes of a large run. What does not fit is lost from the store, which is logged.
const WAITING_MAX: usize = 65_536;

/// So many events at most are kept at once. What costs is not an event but the disk's word that it is kept: thousands of faults are in force
/// within a second, and their ends must not wait minutes to be written. Few enough that other runs, who wait meanwhile, do not notice.
const AT_ONCE_MAX: usize = 256;

/// Why a run's events are not kept any more.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The controller was taken for dead while it stood still: its leadership is over, and so are its runs.
    #[error("another controller leads now; this one writes nothing any more")]
    Superseded,
    /// Somebody else wrote in its place.
    #[error("another event is kept in its place: two programs write one run")]
    Taken,
    /// The database does not take them: a full disk, a server that is gone.
    #[error(
        "the run's events cannot be kept: look at the disk of the data directory, or at the database's server"
    )]
    Database(#[from] sqlx::Error),
}

/// What the task and its handle share: the first trouble there was.
type First = Arc<OnceLock<Trouble>>;

/// An event that the database does not take is brought again after so long, until it does.
const AGAIN: Duration = Duration::from_millis(250);

/// So long it may take none before the run hears of it: a server that is started again takes seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whoever waits for a run on a laptop does so no longer than this for a disk that is full. A controller's runs wait for it: only so does
/// each have an end.
const LAPTOP_PATIENCE: Duration = Duration::from_secs(5);

/// What became of a run's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Each is kept, once.
    All,
    /// Some, or all from one on, are not.
    NotAll,
    /// Another controller leads, and has said how the run ended.
    Superseded,
}

/// Writes the events of one run, in order.
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Sender<Event>,
    lost: u64,
    trouble: First,
    task: JoinHandle<Kept>,
}

/// Where, as what, and as whom.
struct Desk {
    pool: AnyPool,
    dialect: Dialect,
    run: RunId,
    term: Option<i64>,
    #[cfg(test)]
    simulated: Option<Arc<super::simulated::Session>>,
}

impl Store {
    /// What writes one run's events, after so many that are kept already.
    #[must_use]
    pub fn writer(&self, run: &RunId, after: i64) -> Writer {
        let (queue, events) = mpsc::channel(WAITING_MAX);
        let trouble = First::default();
        let task = tokio::spawn(write(self.desk(run), after, events, Arc::clone(&trouble)));
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
            #[cfg(test)]
            simulated: self.simulated.clone(),
        }
    }

    /// Writes one event of a run that has no writer.
    pub(super) async fn append(
        &self,
        run: &RunId,
        sequence: i64,
        event: &Event,
    ) -> Result<(), StoreError> {
        let event = std::slice::from_ref(event);
        let appended = append(&self.desk(run), sequence, event, None).await;
        appended.map_err(|source| unkept(run, sequence, source))
    }

    /// The same of its first event, with what is kept of its start.
    pub(super) async fn begin(&self, started: &Started, created: &Event) -> Result<(), StoreError> {
        let run = &started.run;
        let created = std::slice::from_ref(created);
        let appended = append(&self.desk(run), 0, created, Some(started)).await;
        appended.map_err(|source| unkept(run, 0, source))
    }
}

fn unkept(run: &RunId, sequence: i64, source: Trouble) -> StoreError {
    StoreError::Append {
        run: run.0.clone(),
        sequence,
        source,
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
    pub async fn close(self) -> Kept {
        drop(self.queue);
        if self.lost > 0 {
            tracing::error!(
                lost = self.lost,
                "the disk was too slow: events are missing from the store"
            );
        }
        match self.task.await {
            Ok(Kept::All) if self.lost > 0 => Kept::NotAll,
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%error, "the run's events could not be kept");
                Kept::NotAll
            }
        }
    }
}

async fn write(desk: Desk, after: i64, mut events: mpsc::Receiver<Event>, first: First) -> Kept {
    let mut sequence = after;
    let mut waiting = Vec::new();
    while events.recv_many(&mut waiting, AT_ONCE_MAX).await > 0 {
        let began = Instant::now();
        let mut said = false;
        loop {
            let trouble = match append(&desk, sequence, &waiting, None).await {
                Ok(()) => break,
                Err(trouble) => trouble,
            };
            // Said once: a full disk would say it each second.
            if !std::mem::replace(&mut said, true) {
                let error = crate::words::chain(&trouble);
                let events = waiting.len();
                tracing::error!(run = %desk.run, sequence, events, error, "events could not be kept");
            }
            let waited = began.elapsed();
            let again = matches!(trouble, Trouble::Database(_));
            let superseded = matches!(trouble, Trouble::Superseded);
            if !again || waited >= PATIENCE {
                let _later = first.set(trouble);
            }
            if superseded {
                return Kept::Superseded;
            }
            if !again || (desk.term.is_none() && waited >= LAPTOP_PATIENCE) {
                tracing::error!(run = %desk.run, sequence, "events are missing from the store, from this one on");
                return Kept::NotAll;
            }
            tokio::time::sleep(AGAIN).await;
        }
        sequence = next(sequence, waiting.len());
        waiting.clear();
    }
    Kept::All
}

fn next(sequence: i64, by: usize) -> i64 {
    sequence.saturating_add(i64::try_from(by).unwrap_or(i64::MAX))
}

/// Events, one after the other from this number on, and what they change, or nothing; with the run's start, where the first of it is among
/// them. Saying it again, for want of an answer, changes nothing.
async fn append(
    desk: &Desk,
    sequence: i64,
    events: &[Event],
    started: Option<&Started>,
) -> Result<(), Trouble> {
    #[cfg(test)]
    if let Some(simulated) = &desk.simulated {
        for (n, event) in events.iter().enumerate() {
            let sequence = next(sequence, n);
            let kept = simulated.append(&desk.run, desk.term, sequence, event, started);
            kept.await?;
        }
        return Ok(());
    }
    let mut transaction = desk.pool.begin().await?;
    if let Some(started) = started {
        start(&mut transaction, started).await?;
    }
    let mut rows = Vec::new();
    for (n, event) in events.iter().enumerate() {
        let row = Row::of(next(sequence, n), event)?;
        fold(&mut transaction, desk, event, row.at_us).await?;
        rows.push(row);
    }
    let added = insert(&mut transaction, &desk.run, &rows).await?;
    if added == 0 && are_there(&mut transaction, &desk.run, &rows).await? {
        // Kept before, and the answer was lost: it stands, whoever leads now.
        return Ok(());
    }
    if let Some(term) = desk.term
        && !leads(&mut transaction, desk.dialect, term).await?
    {
        return Err(Trouble::Superseded);
    }
    if added < rows.len() as u64 && !are_there(&mut transaction, &desk.run, &rows).await? {
        return Err(Trouble::Taken);
    }
    Ok(transaction.commit().await?)
}

/// An event as a line.
struct Row {
    sequence: i64,
    at_us: i64,
    what: String,
}

impl Row {
    fn of(sequence: i64, event: &Event) -> Result<Self, sqlx::Error> {
        let what = serde_json::to_string(&event.what);
        Ok(Self {
            sequence,
            at_us: i64::try_from(event.at_us).unwrap_or(i64::MAX),
            what: what.map_err(|error| sqlx::Error::Encode(Box::new(error)))?,
        })
    }
}

/// All of them in one statement, but for those that are there already; how many were not.
async fn insert(
    transaction: &mut AnyConnection,
    run: &RunId,
    rows: &[Row],
) -> Result<u64, sqlx::Error> {
    let places = (0..rows.len()).map(|n| {
        let first = n * 3 + 2;
        format!("($1, ${}, ${}, ${})", first, first + 1, first + 2)
    });
    let places = places.collect::<Vec<_>>().join(", ");
    let inserted = format!(
        "INSERT INTO events (run, sequence, at_us, what) VALUES {places} ON CONFLICT (run, sequence) DO NOTHING"
    );
    // Of so many lengths each would be kept as a statement of its own.
    let mut inserted = query(AssertSqlSafe(inserted))
        .persistent(rows.len() == 1)
        .bind(&run.0);
    for row in rows {
        inserted = inserted.bind(row.sequence).bind(row.at_us).bind(&row.what);
    }
    let done = inserted.execute(transaction).await?;
    Ok(done.rows_affected())
}

/// Whether each number has this event, and not another.
async fn are_there(
    transaction: &mut AnyConnection,
    run: &RunId,
    rows: &[Row],
) -> Result<bool, sqlx::Error> {
    for row in rows {
        let there = query("SELECT at_us, what FROM events WHERE run = $1 AND sequence = $2")
            .bind(&run.0)
            .bind(row.sequence)
            .fetch_one(&mut *transaction)
            .await?;
        if there.get::<i64, _>("at_us") != row.at_us || there.get::<String, _>("what") != row.what {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What an event changes in its run's own line.
async fn fold(
    transaction: &mut AnyConnection,
    desk: &Desk,
    event: &Event,
    at_us: i64,
) -> Result<(), sqlx::Error> {
    match &event.what {
        Happening::Created(created) => {
            query(
                "INSERT INTO runs (id, name, digest, created_us, term) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (id) DO NOTHING",
            )
            .bind(&desk.run.0)
            .bind(&created.name)
            .bind(&created.digest)
            .bind(at_us)
            .bind(desk.term)
            .execute(transaction)
            .await?;
        }
        Happening::Finished(finished) => {
            query("UPDATE runs SET verdict = $1, because = $2 WHERE id = $3")
                .bind(finished.verdict.to_string())
                .bind(&finished.because)
                .bind(&desk.run.0)
                .execute(transaction)
                .await?;
        }
        _ => {}
    }
    Ok(())
}

async fn start(transaction: &mut AnyConnection, started: &Started) -> Result<(), sqlx::Error> {
    query("INSERT INTO started_runs (run, environment, started_by, at_us) VALUES ($1, $2, $3, $4) ON CONFLICT (run) DO NOTHING")
        .bind(&started.run.0)
        .bind(&started.environment)
        .bind(&started.by)
        .bind(started.at_us)
        .execute(transaction)
        .await
        .map(drop)
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
