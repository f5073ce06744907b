//! Runs and their events, agents and tokens, kept in one database: an SQLite file, or PostgreSQL.
//!
//! Events are written as they happen, so that a controller that dies leaves what it saw; a run without an end was
//! interrupted, and is shown so.

mod audit;
#[cfg(test)]
pub(crate) mod both;
mod callers;
mod change;
mod copy;
mod database;
mod earned;
mod game_days;
mod lease;
mod members;
mod once;
mod place;
mod retention;
mod rights;
mod schedules;
#[cfg(test)]
pub(crate) mod simulated;
mod started;
mod writer;

pub use audit::{Broken, Deed, Entry, Verified};
pub use callers::{ApiTokenKept, NewApiToken};
pub use database::{BadServer, Dialect, Hold, Server, hold, make_directory};
pub use game_days::{GameDayFiles, GameDayKept};
pub use lease::Lease;
pub use members::{Admitted, JoinTokenKept, Member, NewJoinToken};
pub use once::Known;
pub use place::place;
pub use retention::{Floors, Old};
pub use schedules::{Claim, NamedText, Origin, ScheduleFiles, ScheduleKept, StartKept, StartState};
pub use started::Started;
pub(crate) use started::interrupted;
pub use writer::{Kept as KeptEvents, Trouble, Writer};

use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row, query};
use squall_experiments::event::Event;
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Why runs cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory.
    #[error("the data directory `{}` cannot be made; set SQUALL_DATA to one that can", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Another controller is there.
    #[error("the data directory `{}` cannot be held: if another controller serves from it, stop that one, or set SQUALL_DATA to another directory", path.display())]
    Held {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The database.
    #[error("the database `{place}` cannot be opened")]
    Open {
        /// Which.
        place: String,
        /// What it said.
        #[source]
        source: sqlx::Error,
    },
    /// Its tables.
    #[error("the tables of `{place}` cannot be brought up to date")]
    Migrate {
        /// Which.
        place: String,
        /// What went wrong.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// Reading.
    #[error("{what} cannot be read")]
    Read {
        /// What was to be read.
        what: String,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// Anything else.
    #[error("{what}")]
    Use {
        /// What was to be done, and that it cannot be.
        what: String,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// What was read.
    #[error(
        "event {sequence} of run {run} cannot be understood: it was written by another version of Squall"
    )]
    Event {
        /// The run.
        run: String,
        /// Its event's number.
        sequence: i64,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Writing.
    #[error("event {sequence} of run {run} cannot be kept")]
    Append {
        /// The run.
        run: String,
        /// Its event's number.
        sequence: i64,
        /// Why not.
        #[source]
        source: Trouble,
    },
    /// What was read, of anything else.
    #[error("{what} cannot be understood: it was kept by another version of Squall")]
    Other {
        /// What it is.
        what: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A file that is none of ours, or is in the way.
    #[error("the file `{}` cannot be used; name one that is not there for a backup, and a backup to restore", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A backup goes into an empty database alone.
    #[error(
        "the table {0} has rows already: restore into a data directory or a database that is new, before a controller serves from it"
    )]
    NotEmpty(String),
    /// No such run.
    #[error("there is no run `{0}`; `squall runs` lists them")]
    NoRun(String),
    /// More than one.
    #[error("`{0}` begins the names of several runs; write more of it")]
    Ambiguous(String),
}

impl StoreError {
    /// Whether another controller leads by now, so that this one is to write nothing.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        let source = match self {
            Self::Append { source, .. } => return matches!(source, Trouble::Superseded),
            Self::Use { source, .. } => source,
            _ => return false,
        };
        let sqlx::Error::AnyDriverError(source) = source else {
            return false;
        };
        let trouble = source.downcast_ref::<Trouble>();
        matches!(trouble, Some(Trouble::Superseded))
    }
}

/// Where runs are kept. Cloning it is another handle to the same.
#[derive(Debug, Clone)]
pub struct Store {
    pool: AnyPool,
    dialect: Dialect,
    /// The token of this process's leadership; 0 where it writes for itself alone.
    term: Arc<AtomicI64>,
    /// In a simulation: what is asked instead of the database, as far as runs, halts and the lead go.
    #[cfg(test)]
    simulated: Option<Arc<simulated::Session>>,
}

/// One run, in a line.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Its name.
    pub run: RunId,
    /// The experiment's name.
    pub name: String,
    /// When it was created, microseconds since the Unix epoch.
    pub created_us: i64,
    /// How it ended; none when it is under way, or was interrupted.
    pub verdict: Option<Verdict>,
    /// Why, in a sentence.
    pub because: Option<String>,
}

impl Store {
    /// Which of the two databases it is.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// As which leader it writes, if as one.
    fn term(&self) -> Option<i64> {
        Some(self.term.load(Ordering::Relaxed)).filter(|token| *token > 0)
    }

    /// The latest runs, the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn runs(&self, most: u32) -> Result<Vec<Kept>, StoreError> {
        let rows = query("SELECT id, name, created_us, verdict, because FROM runs ORDER BY created_us DESC, id DESC LIMIT $1")
            .bind(i64::from(most))
            .fetch_all(&self.pool)
            .await
            .map_err(|source| StoreError::Read {
                what: "the list of runs".into(),
                source,
            })?;
        Ok(rows.iter().map(kept).collect())
    }

    /// The one run whose name is, or begins with, `name`; `last` is the newest.
    ///
    /// # Errors
    /// None, or several; or the database cannot be read.
    pub async fn find(&self, name: &str) -> Result<RunId, StoreError> {
        if name == "last" {
            let runs = self.runs(1).await?;
            let newest = runs.into_iter().next().map(|kept| kept.run);
            return newest.ok_or_else(|| StoreError::NoRun(name.to_owned()));
        }
        // Names are ordered by their bytes: all that begin with this one are behind it, and before it with the last letter there is.
        let rows = query("SELECT id FROM runs WHERE id >= $1 AND id < $2 ORDER BY id LIMIT 2")
            .bind(name)
            .bind(format!("{name}\u{10FFFF}"))
            .fetch_all(&self.pool)
            .await
            .map_err(|source| StoreError::Read {
                what: format!("run `{name}`"),
                source,
            })?;
        match rows.as_slice() {
            [] => Err(StoreError::NoRun(name.to_owned())),
            [one] => Ok(RunId(one.get(0))),
            [whole, _] if whole.get::<String, _>(0) == name => Ok(RunId::from(name)),
            _ => Err(StoreError::Ambiguous(name.to_owned())),
        }
    }

    /// Every event of a run, in order.
    ///
    /// # Errors
    /// The database cannot be read, or an event not be understood.
    pub async fn events(&self, run: &RunId) -> Result<Vec<Event>, StoreError> {
        let rows =
            query("SELECT sequence, at_us, what FROM events WHERE run = $1 ORDER BY sequence")
                .bind(&run.0)
                .fetch_all(&self.pool)
                .await
                .map_err(|source| StoreError::Read {
                    what: format!("run `{run}`"),
                    source,
                })?;
        let events = rows.iter().map(|row| {
            let what: String = row.get("what");
            let at_us: i64 = row.get("at_us");
            let what = serde_json::from_str(&what).map_err(|source| StoreError::Event {
                run: run.0.clone(),
                sequence: row.get("sequence"),
                source,
            })?;
            Ok(Event {
                at_us: u64::try_from(at_us).unwrap_or_default(),
                what,
            })
        });
        events.collect()
    }
}

/// `what` says what cannot be done.
fn failed(what: &str, source: sqlx::Error) -> StoreError {
    StoreError::Use {
        what: what.to_owned(),
        source,
    }
}

fn kept(row: &AnyRow) -> Kept {
    let verdict: Option<String> = row.get("verdict");
    let verdict = verdict.map(serde_json::Value::String);
    Kept {
        run: RunId(row.get("id")),
        name: row.get("name"),
        created_us: row.get("created_us"),
        verdict: verdict.and_then(|verdict| serde_json::from_value(verdict).ok()),
        because: row.get("because"),
    }
}

#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
pub(crate) mod tests;
