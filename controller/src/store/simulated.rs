//! A database for simulations: tables in memory, each transaction done at one instant, and all that can happen on the way there and back.
//!
//! It says what the statements of the two real ones say; those are tested on both.

use super::{Lease, Started, Trouble};
use crate::clock::simulated::now_us;
use crate::run::Halted;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A run's lines.
#[derive(Debug, Default)]
pub(crate) struct RunKept {
    /// The token of the leader that began it.
    pub(crate) term: Option<i64>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) events: BTreeMap<i64, Event>,
}

/// All lines.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    now_us: u64,
    pub(crate) token: i64,
    pub(crate) address: String,
    pub(crate) until_us: u64,
    pub(crate) runs: BTreeMap<RunId, RunKept>,
    pub(crate) started: BTreeMap<RunId, Started>,
    pub(crate) halts: Vec<(Halted, bool)>,
}

/// The database: as many sessions as there are controllers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Database(Arc<Mutex<Tables>>);

impl Database {
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Tables) -> T) -> T {
        look(&mut lock(&self.0))
    }
}

/// The way of one controller to the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// The longest that a word takes, each way.
    pub(crate) slow_us: u64,
    /// No word arrives.
    pub(crate) is_cut: bool,
    /// Of a hundred answers, so many do not come back, though what was asked was done.
    pub(crate) lost_percent: u32,
    /// Nothing can be written: its disk is full.
    pub(crate) is_full: bool,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            slow_us: 2_000,
            is_cut: false,
            lost_percent: 0,
            is_full: false,
        }
    }
}

/// One controller's session.
#[derive(Debug)]
pub(crate) struct Session {
    database: Database,
    way: Arc<Mutex<Way>>,
    dice: Mutex<StdRng>,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

type Answer<T> = Result<T, sqlx::Error>;

/// No answer: it is not known whether it was done.
fn unheard() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into())
}

impl Session {
    pub(crate) fn new(database: Database, way: Arc<Mutex<Way>>, seed: u64) -> Self {
        let dice = Mutex::new(StdRng::seed_from_u64(seed));
        Self {
            database,
            way,
            dice,
        }
    }

    fn way(&self) -> Way {
        *lock(&self.way)
    }

    async fn on_the_way(&self) -> Answer<()> {
        let way = self.way();
        if way.is_cut {
            // As long as a pool waits for a connection.
            tokio::time::sleep(Duration::from_secs(5)).await;
            return Err(sqlx::Error::PoolTimedOut);
        }
        let takes = lock(&self.dice).random_range(0..=way.slow_us);
        tokio::time::sleep(Duration::from_micros(takes)).await;
        Ok(())
    }

    async fn ask<T>(&self, act: impl FnOnce(&mut Tables) -> Answer<T>) -> Answer<T> {
        self.on_the_way().await?;
        let answer = self.database.look(|tables| {
            // Its clock does not go back, whoever asks.
            tables.now_us = tables.now_us.max(now_us().unwrap_or_default());
            act(tables)
        });
        self.on_the_way().await?;
        if lock(&self.dice).random_range(0..100) < self.way().lost_percent {
            return Err(unheard());
        }
        answer
    }

    async fn write<T>(&self, act: impl FnOnce(&mut Tables) -> Answer<T>) -> Answer<T> {
        let is_full = self.way().is_full;
        let full = || sqlx::Error::Io(std::io::ErrorKind::StorageFull.into());
        self.ask(|tables| if is_full { Err(full()) } else { act(tables) })
            .await
    }

    pub(super) async fn take_lead(
        &self,
        address: &str,
        time: Duration,
        whoever: bool,
    ) -> Answer<Option<i64>> {
        self.write(|tables| {
            if tables.until_us > tables.now_us && !whoever {
                return Ok(None);
            }
            tables.token += 1;
            tables.address = address.to_owned();
            tables.until_us = tables.now_us.saturating_add(micros(time));
            Ok(Some(tables.token))
        })
        .await
    }

    pub(super) async fn keep_lead(&self, token: i64, time: Duration) -> Answer<bool> {
        self.write(|tables| {
            let leads = tables.token == token;
            if leads {
                tables.until_us = tables.now_us.saturating_add(micros(time));
            }
            Ok(leads)
        })
        .await
    }

    pub(super) async fn leave_lead(&self, token: i64) -> Answer<()> {
        self.write(|tables| {
            if tables.token == token {
                tables.until_us = 0;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn leader(&self) -> Answer<Lease> {
        self.ask(|tables| {
            Ok(Lease {
                token: tables.token,
                address: tables.address.clone(),
                is_live: tables.until_us > tables.now_us,
            })
        })
        .await
    }

    pub(super) async fn interrupted(&self, term: i64) -> Answer<Vec<(RunId, i64)>> {
        self.ask(|tables| {
            let runs = tables.runs.iter();
            let theirs = runs.filter(|(id, run)| {
                let earlier = run.term.is_none_or(|theirs| theirs < term);
                run.verdict.is_none() && earlier && tables.started.contains_key(*id)
            });
            let last = |run: &RunKept| run.events.keys().last().copied().unwrap_or(-1);
            Ok(theirs.map(|(id, run)| (id.clone(), last(run))).collect())
        })
        .await
    }

    pub(super) async fn append(
        &self,
        run: &RunId,
        term: Option<i64>,
        sequence: i64,
        event: &Event,
        started: Option<&Started>,
    ) -> Result<(), Trouble> {
        let done = self.write(|tables| Ok(tables.append(run, term, sequence, event, started)));
        done.await?
    }

    pub(super) async fn halt(&self, halted: &Halted) -> Answer<()> {
        self.write(|tables| {
            tables.halts.push((halted.clone(), false));
            Ok(())
        })
        .await
    }

    pub(super) async fn lift_halt(&self) -> Answer<()> {
        self.write(|tables| {
            tables
                .halts
                .iter_mut()
                .for_each(|(_, lifted)| *lifted = true);
            Ok(())
        })
        .await
    }

    pub(super) async fn halted(&self) -> Answer<Option<Halted>> {
        self.ask(|tables| {
            let mut halts = tables.halts.iter();
            let held = halts.find(|(_, lifted)| !lifted);
            Ok(held.map(|(halted, _)| halted.clone()))
        })
        .await
    }
}

impl Tables {
    fn append(
        &mut self,
        run: &RunId,
        term: Option<i64>,
        sequence: i64,
        event: &Event,
        started: Option<&Started>,
    ) -> Result<(), Trouble> {
        let there = self
            .runs
            .get(run)
            .and_then(|kept| kept.events.get(&sequence));
        if there == Some(event) {
            return Ok(());
        }
        if term.is_some_and(|term| term != self.token) {
            return Err(Trouble::Superseded);
        }
        if there.is_some() {
            return Err(Trouble::Taken);
        }
        if let Some(started) = started {
            self.started.insert(run.clone(), started.clone());
        }
        let kept = self.runs.entry(run.clone()).or_insert_with(|| RunKept {
            term,
            ..RunKept::default()
        });
        if let Happening::Finished(finished) = &event.what {
            kept.verdict = Some(finished.verdict);
        }
        kept.events.insert(sequence, event.clone());
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
