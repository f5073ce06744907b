//! The halt of everything: nothing starts until it is lifted, also after a restart.
//!
//! It is kept in the store, where every controller of the same store sees it; and a file `halt` in the data directory halts, too, for whoever
//! has a shell and nothing else. Both must be gone before anything starts.

use crate::clock;
use crate::store::{Store, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::MissedTickBehavior;

/// The file.
const FILE: &str = "halt";
/// What a file says in words; more is not read.
const FILE_BYTES_MAX: u64 = 4 << 10;
/// How often the file is looked at: a person's patience.
const LOOK: Duration = Duration::from_millis(200);
/// At each so-manieth look the store is asked, too.
const STORE_LOOKS: u32 = 5;

/// A halt that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Halted {
    /// Who said it.
    pub by: String,
    /// Why.
    pub because: String,
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
}

impl std::fmt::Display for Halted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = jiff::Timestamp::from_microsecond(self.at_us).unwrap_or_default();
        write!(f, "halted by {} at {at:.0}", self.by)?;
        if self.because.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.because)
    }
}

/// Whether everything stands still. Cloning it is another handle to the same.
#[derive(Debug, Clone)]
pub struct StandStill {
    store: Store,
    file: PathBuf,
    now: Arc<watch::Sender<Option<Halted>>>,
    /// One at a time: looking must not undo what is just being said.
    turn: Arc<Mutex<()>>,
}

impl StandStill {
    /// Looks whether it does.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn open(store: Store, directory: &Path) -> Result<Self, StoreError> {
        let (now, _) = watch::channel(None);
        let still = Self {
            store,
            file: directory.join(FILE),
            now: Arc::new(now),
            turn: Arc::default(),
        };
        still.look(true).await?;
        Ok(still)
    }

    /// The halt that is in force.
    #[must_use]
    pub fn is(&self) -> Option<Halted> {
        // A file that was made just now counts as well.
        self.now.borrow().clone().or_else(|| in_file(&self.file))
    }

    /// Says it.
    ///
    /// # Errors
    /// It cannot be kept in the store. It is in force all the same, and the file says so where that can be written.
    pub async fn halt(&self, by: &str, because: &str) -> Result<(), StoreError> {
        let halted = Halted {
            by: by.to_owned(),
            because: because.to_owned(),
            at_us: clock::kept_us(),
        };
        self.now.send_replace(Some(halted.clone()));
        let _turn = self.turn.lock().await;
        self.now.send_replace(Some(halted.clone()));
        let kept = self.store.halt(&halted).await;
        if kept.is_err()
            && let Err(error) = std::fs::write(&self.file, halted.to_string())
        {
            tracing::error!(file = %self.file.display(), %error, "the halt is in force until this controller ends, and can be kept nowhere");
        }
        kept
    }

    /// Lifts it, the file's as well.
    ///
    /// # Errors
    /// The store does not take it, or the file cannot be removed: then it stays.
    pub async fn lift(&self, by: &str) -> Result<(), StoreError> {
        let turn = self.turn.lock().await;
        let at_us = clock::kept_us();
        self.store.lift_halt(by, at_us).await?;
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::error!(file = %self.file.display(), %error, "the halt's file cannot be removed: the halt stays");
            }
            _ => {}
        }
        drop(turn);
        self.look(true).await
    }

    async fn look(&self, store_too: bool) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let before = self.now.borrow().clone();
        let by_file = before.as_ref().is_some_and(|one| one.by == FROM_FILE);
        let mut halted = in_file(&self.file);
        if halted.is_none() {
            halted = if store_too || by_file {
                self.store.halted().await?
            } else {
                before.clone()
            };
        }
        if halted.is_some() != before.is_some() {
            self.now.send_replace(halted);
        }
        Ok(())
    }

    /// Looks again and again; `stop` is called whenever a halt comes into force. Never ends.
    pub async fn watch(self, stop: impl Fn()) {
        let mut changes = self.now.subscribe();
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = 0_u32;
        if self.is().is_some() {
            stop();
        }
        loop {
            tokio::select! {
                biased;
                Ok(()) = changes.changed() => {
                    if changes.borrow_and_update().is_some() {
                        stop();
                    }
                }
                _ = ticks.tick() => {
                    looks = looks.wrapping_add(1);
                    if let Err(error) = self.look(looks.is_multiple_of(STORE_LOOKS)).await {
                        tracing::error!(%error, "whether everything is halted cannot be read");
                    }
                }
            }
        }
    }
}

/// Whom a file speaks for.
const FROM_FILE: &str = "a file in the data directory";

/// Any file of that name halts, also one that cannot be read.
fn in_file(path: &Path) -> Option<Halted> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(_) => None,
    };
    let small = metadata.filter(|m| m.is_file() && m.len() <= FILE_BYTES_MAX);
    let text = small
        .as_ref()
        .and_then(|_| std::fs::read_to_string(path).ok());
    let at = small.and_then(|m| m.modified().ok());
    let at = at.and_then(|at| jiff::Timestamp::try_from(at).ok());
    Some(Halted {
        by: FROM_FILE.to_owned(),
        because: text.unwrap_or_default().trim().to_owned(),
        at_us: at.unwrap_or_else(jiff::Timestamp::now).as_microsecond(),
    })
}
