//! What is said on a game day, done: kept as an event, and a run started or stopped where everybody does.

use super::day::{Day, No};
use super::event::{
    Began, Controller, DayEvent, DayId, Go, NotBegun, Opened, Planned, Stopped, What,
};
use super::notices::notice;
use crate::git::at_commit;
use crate::notify::Notices;
use crate::run::desk::{Desk, Refused, Trigger, Wanted};
use crate::run::new_id;
use crate::store::{GameDayFiles, GameDayKept, Origin, Store, StoreError};
use squall_experiments::game_day::GameDay;
use squall_experiments::ids::RunId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Another may have said something meanwhile; so often it is looked again.
const TRIES_MAX: usize = 64;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum DaysError {
    /// It may not be.
    #[error(transparent)]
    No(#[from] No),
    /// The run was not let begin.
    #[error(transparent)]
    Run(#[from] Refused),
    /// It cannot be kept.
    #[error(transparent)]
    Store(StoreError),
    /// A record that contradicts itself.
    #[error("the record of game day {day} is not whole")]
    Record {
        /// Which day.
        day: DayId,
        /// What is wrong with it.
        #[source]
        source: No,
    },
}

impl From<StoreError> for DaysError {
    fn from(error: StoreError) -> Self {
        match error.is_superseded() {
            true => Self::Run(Refused::StandsBy),
            false => Self::Store(error),
        }
    }
}

/// A day as it stands, and how many events that took.
#[derive(Debug, Clone)]
pub struct Now {
    /// The day.
    pub day: Day,
    /// The number of the event that would be next.
    pub next: usize,
    /// When the last one was, microseconds since the Unix epoch.
    pub last_us: u64,
}

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) desk: Desk,
    notices: Notices,
    /// Grows with each event, for whoever waits for the next.
    pub(super) changed: watch::Sender<u64>,
    /// The runs for which go was said here, until each has ended: what a stop needs to know, without asking the store.
    pub(super) runs: Mutex<BTreeMap<RunId, OnADay>>,
    /// The days on which somebody says stop at this moment, once for each who does.
    telling: Mutex<Vec<DayId>>,
}

/// Somebody says stop on a day. Until this is dropped no run of the day is said to have ended: nobody could add to that who stopped it.
#[must_use = "a run may be over before it is kept who stopped it"]
pub struct Telling {
    days: Days,
    day: DayId,
}

impl Drop for Telling {
    fn drop(&mut self) {
        let mut telling = self.days.telling();
        if let Some(one) = telling.iter().position(|day| *day == self.day) {
            telling.swap_remove(one);
        }
        drop(telling);
        self.days.0.changed.send_modify(|changes| *changes += 1);
    }
}

/// A run for which go was said here.
pub(super) struct OnADay {
    day: DayId,
    /// It was told to stop, and told once: a second word would kill what the first lets end in order.
    is_told: bool,
}

/// Holds game days. Cloning it is another handle to the same.
#[derive(Clone)]
pub struct Days(pub(super) Arc<Inner>);

fn now_us() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default()
}

impl Days {
    /// Those that this store keeps; their runs are this desk's, and others are told of them.
    #[must_use]
    pub fn new(store: Store, desk: Desk, notices: Notices) -> Self {
        Self(Arc::new(Inner {
            store,
            desk,
            notices,
            changed: watch::channel(0).0,
            runs: Mutex::default(),
            telling: Mutex::default(),
        }))
    }

    fn telling(&self) -> MutexGuard<'_, Vec<DayId>> {
        let telling = self.0.telling.lock();
        telling.unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody says stop on a day, and it is not kept yet.
    pub(super) fn is_told_to_stop(&self, id: &DayId) -> bool {
        self.telling().contains(id)
    }

    pub(super) fn runs(&self) -> MutexGuard<'_, BTreeMap<RunId, OnADay>> {
        let runs = self.0.runs.lock();
        runs.unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that something has happened on a day.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Opens a game day, with what its files say.
    ///
    /// # Errors
    /// It cannot be kept.
    pub async fn open(
        &self,
        game_day: GameDay,
        experiments: Vec<Planned>,
        files: &GameDayFiles,
        from: Origin<'_>,
    ) -> Result<DayId, DaysError> {
        let (by, source) = match from {
            Origin::Person(name) => (name, None),
            Origin::Commit(commit) => ("Git", Some(commit.to_owned())),
        };
        let at_us = now_us();
        let mut environments: Vec<String> =
            experiments.iter().map(|e| e.environment.clone()).collect();
        environments.sort();
        environments.dedup();
        let kept = GameDayKept {
            id: DayId(new_id().0),
            name: game_day.metadata.name.clone(),
            held_on: game_day.date.to_string(),
            environments,
            opened_us: i64::try_from(at_us).unwrap_or(i64::MAX),
            opened_by: by.to_owned(),
            ended_us: None,
        };
        let opened = Opened {
            by: by.to_owned(),
            game_day,
            experiments,
            controller: self.controller().await?,
            source,
        };
        let first = DayEvent {
            at_us,
            what: What::Opened(Box::new(opened)),
        };
        self.0.store.open_game_day(&kept, files, &first).await?;
        tracing::info!(day = %kept.id, by, "a game day was opened");
        if let What::Opened(opened) = &first.what {
            self.happened(opened, &first.what);
        }
        Ok(kept.id)
    }

    /// Tells whoever waits for the next event, and others.
    fn happened(&self, opened: &Opened, what: &What) {
        self.0.changed.send_modify(|count| *count += 1);
        if let Some(notice) = notice(opened, what) {
            self.0.notices.say(notice);
        }
    }

    /// The controller that leads, which is this one where it does anything.
    pub(super) async fn controller(&self) -> Result<Controller, StoreError> {
        let leader = self.0.store.leader().await?;
        Ok(Controller {
            term: leader.token,
            address: leader.address,
        })
    }

    /// A day as it stands.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn now(&self, id: &DayId) -> Result<Now, DaysError> {
        Self::kept(&self.0.store, id).await
    }

    /// A day as it stands in a store.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn kept(store: &Store, id: &DayId) -> Result<Now, DaysError> {
        let events = store.game_day_events(id, 0).await?;
        let day = Day::of(&events).map_err(|source| DaysError::Record {
            day: id.clone(),
            source,
        })?;
        Ok(Now {
            day,
            next: events.len(),
            last_us: events.last().map_or(0, |last| last.at_us),
        })
    }

    /// Lets something happen, where it can; the day after it.
    ///
    /// # Errors
    /// It cannot, or cannot be kept.
    pub async fn say(&self, id: &DayId, what: What) -> Result<Day, DaysError> {
        for _ in 0..TRIES_MAX {
            let now = self.now(id).await?;
            let day = now.day.next(&what)?;
            let event = DayEvent {
                // A clock that was set back does not turn the record round.
                at_us: now_us().max(now.last_us),
                what: what.clone(),
            };
            if self.0.store.add_to_game_day(id, now.next, &event).await? {
                self.happened(&day.opened, &what);
                return Ok(day);
            }
        }
        Err(Refused::StandsBy.into())
    }

    /// Go: starts the step's run, past every gate that any run passes.
    ///
    /// # Errors
    /// It is not the lead's step to begin, or the run is not let in.
    pub async fn go(
        &self,
        id: &DayId,
        step: u32,
        by: &str,
        because: String,
    ) -> Result<RunId, DaysError> {
        let go = Go {
            step,
            by: by.to_owned(),
            run: new_id(),
            because,
        };
        let (run, step) = (go.run.clone(), go.step);
        let files = self.0.store.game_day_files(id).await?;
        let day = self.now(id).await?.day;
        day.next(&What::Go(go.clone()))?;
        let wanted = wanted(&day, &files, &go)?;
        // First: whoever sees that go was said must see that it is being done.
        let on_a_day = OnADay {
            day: id.clone(),
            is_told: false,
        };
        self.runs().insert(run.clone(), on_a_day);
        if let Err(no) = self.say(id, What::Go(go)).await {
            self.runs().remove(&run);
            return Err(no);
        }
        match self.0.desk.start(wanted).await {
            Ok(_) => {
                let began = What::Began(Began {
                    step,
                    run: run.clone(),
                });
                let day = self.say(id, began).await;
                // Somebody may have said stop since, and not have found the run; and a run that the day does not know of is none.
                if day.as_ref().map_or(true, Day::is_stopped) {
                    self.tell_stop(&run);
                }
                day.map(|_| run)
            }
            Err(refused) => {
                let reasons = reasons(&refused);
                let not = NotBegun {
                    step,
                    run: run.clone(),
                    reasons,
                };
                let said = self.say(id, What::Refused(not)).await;
                self.runs().remove(&run);
                said?;
                Err(refused.into())
            }
        }
    }

    /// Stops the run of a day for which go was said here, if there is one: at once, without a look at anything else.
    pub fn stop_now(&self, id: &DayId) -> Telling {
        self.telling().push(id.clone());
        let telling = Telling {
            days: self.clone(),
            day: id.clone(),
        };
        for own in self.runs().iter_mut().filter(|(_, own)| own.day == *id) {
            self.tell(own);
        }
        telling
    }

    fn tell(&self, (run, own): (&RunId, &mut OnADay)) {
        // A run that is only being let in is not found yet, and told when it is.
        own.is_told = own.is_told || self.0.desk.stop(run);
    }

    fn tell_stop(&self, run: &RunId) {
        let mut runs = self.runs();
        for own in runs.iter_mut().filter(|(known, _)| *known == run) {
            self.tell(own);
        }
    }

    /// Stops the step's run, and keeps who said so.
    ///
    /// # Errors
    /// Nothing runs.
    pub async fn stop(&self, id: &DayId, by: &str, because: String) -> Result<(), DaysError> {
        let _telling = self.stop_now(id);
        let now = self.now(id).await?;
        let (step, run) = match &now.day.phase {
            super::Phase::Starting { step, run, .. } | super::Phase::Running { step, run, .. } => {
                (*step, run.clone())
            }
            super::Phase::Over => return Err(No::Over.into()),
            _ => return Err(No::NothingRuns.into()),
        };
        tracing::info!(day = %id, by, %run, "a game day's run is told to stop");
        let stopped = What::Stopped(Stopped {
            step,
            run: run.clone(),
            by: by.to_owned(),
            because,
        });
        match self.say(id, stopped).await {
            // It has ended meanwhile.
            Err(DaysError::No(No::NothingRuns | No::AnotherRun(_))) => {}
            other => drop(other?),
        }
        // It may have begun only now.
        self.tell_stop(&run);
        Ok(())
    }
}

/// The run of a step.
fn wanted(day: &Day, files: &GameDayFiles, go: &Go) -> Result<Wanted, No> {
    let index = usize::try_from(go.step).unwrap_or_default().wrapping_sub(1);
    let round = day.game_day().experiments.get(index);
    let planned = day.opened.experiments.get(index);
    let (round, planned) = round.zip(planned).ok_or(No::Through)?;
    let file = files.experiments.iter().find(|f| f.name == round.file);
    let file = file.ok_or(No::NotOpened)?;
    Ok(Wanted {
        run: Some(go.run.clone()),
        file_text: file.text.clone(),
        file_path: match &day.opened.source {
            Some(commit) => at_commit(&file.name, commit),
            None => file.name.clone(),
        },
        environment: planned.environment.clone(),
        by: go.by.clone(),
        trigger: Trigger::Hand,
        seed: None,
    })
}

fn reasons(refused: &Refused) -> Vec<String> {
    match refused {
        Refused::Gate(reasons) | Refused::Reach(reasons) => reasons.clone(),
        other => vec![crate::words::chain(other)],
    }
}
