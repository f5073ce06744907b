//! Starts what is due. It may die at any point, and others may do the same beside it: what the store says is all there is.

use super::decide::{Outcome, Standing, decide};
use super::timetable::{Due, Timetable, TimetableError, longest, run_name};
use crate::access::{Grant, Grants, Role};
use crate::notify::{Event, Notice, Notices};
use crate::store::{Claim, ScheduleFiles, ScheduleKept, StartKept, StartState, Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use squall_experiments::experiment::Experiment;
use squall_experiments::ids::RunId;
use squall_experiments::language;
use squall_experiments::schedule::{Schedule, SuspendAfter};
use squall_experiments::verdict::Verdict;
use std::time::Duration;

/// A controller that claimed a start and has not started it for so long is gone.
const CLAIM_MAX: SignedDuration = SignedDuration::from_secs(60);

/// A run that has not ended so long after it should have will not: its controller is gone.
const OVERDUE_MAX: SignedDuration = SignedDuration::from_mins(15);

/// The schedules are looked at so often at the least: others may have changed them.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// A run that is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Its name. Who has started a run of this name already does nothing.
    pub run: RunId,
    /// What starts it.
    pub schedule: String,
    /// Where; the controller's own default where nothing is said.
    pub environment: Option<String>,
    /// The experiment's file, as it is named beside the schedule's.
    pub path: String,
    /// What is in it.
    pub text: String,
    /// The commit it comes from.
    pub commit: Option<String>,
}

/// Why a run was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStarted {
    /// It may not be: a gate, a policy or a mistake in the file. It is not tried again.
    #[error("{0}")]
    Refused(String),
    /// It cannot be now. It is tried again until it is too late.
    #[error("{0}")]
    Unavailable(String),
}

/// What starts runs.
pub trait Starter: Send + Sync {
    /// Starts a run, and answers when it is kept under its name; not when it has ended. A second start of one name is none.
    fn start(&self, order: Order) -> impl Future<Output = Result<(), NotStarted>> + Send;
}

/// Why a schedule cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A file of it.
    #[error("`{path}` is not right:\n{said}")]
    File {
        /// Which.
        path: String,
        /// All that is said of it.
        said: String,
    },
    /// Its times.
    #[error(transparent)]
    Timetable(#[from] TimetableError),
    /// A calendar that it names is not there.
    #[error("the schedule names the calendar `{0}`, which was not given")]
    NoCalendar(String),
}

/// A schedule with all its files, read.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The schedule.
    pub schedule: Schedule,
    /// What it runs.
    pub experiment: Experiment,
    /// When.
    pub timetable: Timetable,
}

impl Prepared {
    /// Reads all files of a schedule.
    ///
    /// # Errors
    /// One of them is not right.
    pub fn new(files: &ScheduleFiles) -> Result<Self, PrepareError> {
        let wrong = |path: &str, said: String| PrepareError::File {
            path: path.to_owned(),
            said,
        };
        let own = &files.schedule;
        let read = language::read_schedule(&own.name, &own.text);
        let said = || read.render(&own.text, language::Colour::Never);
        let schedule = read.value.clone().ok_or_else(|| wrong(&own.name, said()))?;
        let of = &files.experiment;
        let read = language::read(&of.name, &of.text);
        let said = read.render(&of.text, language::Colour::Never);
        let experiment = read.experiment.ok_or_else(|| wrong(&of.name, said))?;
        let given = |name: &String| {
            let found = files.blackouts.iter().find(|file| file.name == *name);
            let found = found.ok_or_else(|| PrepareError::NoCalendar(name.clone()))?;
            Ok((found.name.clone(), found.text.clone()))
        };
        let blackouts: Result<Vec<(String, String)>, PrepareError> =
            schedule.blackouts.iter().map(given).collect();
        let timetable = Timetable::new(&schedule, longest(&experiment), &blackouts?)?;
        Ok(Self {
            schedule,
            experiment,
            timetable,
        })
    }
}

/// Keeps the schedules.
#[derive(Debug)]
pub struct Keeper<S> {
    store: Store,
    starter: S,
    /// Which controller this is, among all that ever were.
    holder: String,
    notices: Notices,
    git: GitRights,
}

impl<S: Starter> Keeper<S> {
    /// A keeper under a name of its own.
    pub fn new(store: Store, starter: S, notices: Notices, git: GitRights) -> Self {
        let holder = format!("{:016x}", rand::random::<u64>());
        Self {
            store,
            starter,
            holder,
            notices,
            git,
        }
    }

    /// Keeps them until it is dropped.
    pub async fn keep(&self) {
        loop {
            let now = Timestamp::now();
            let next = match self.look(now).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(
                        error = crate::words::chain(&error),
                        "the schedules cannot be kept now"
                    );
                    None
                }
            };
            let until = next.map(|next| {
                next.duration_since(Timestamp::now())
                    .unsigned_abs()
                    .min(LOOK_MAX)
            });
            let passed = next.is_some_and(|next| next <= Timestamp::now());
            tokio::time::sleep(if passed {
                Duration::ZERO
            } else {
                until.unwrap_or(LOOK_MAX)
            })
            .await;
        }
    }

    /// Does all that is to be done now, and says when there will be more.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn look(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let mut next: Option<Timestamp> = None;
        for kept in self.store.schedules().await? {
            match Prepared::new(&kept.files) {
                Ok(prepared) => {
                    let again = self.one(&kept, &prepared, now).await?;
                    next = [next, again].into_iter().flatten().min();
                }
                Err(error) => {
                    tracing::error!(schedule = kept.name, %error, "a schedule that is kept cannot be used")
                }
            }
        }
        Ok(next)
    }

    async fn one(
        &self,
        kept: &ScheduleKept,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut running = 0;
        let mut is_suspended = kept.suspended_us.is_some();
        for start in self.store.open_starts(&kept.name).await? {
            match self.open(kept, prepared, &start, now).await? {
                Open::Running => running += 1,
                Open::Over => {}
                Open::Suspended => is_suspended = true,
            }
        }
        let standing = Standing {
            settled: Timestamp::from_microsecond(kept.settled_us).unwrap_or(Timestamp::MIN),
            running,
            is_suspended,
        };
        let decision = decide(&prepared.timetable, standing, now);
        let settled = decision
            .outcomes
            .last()
            .map(|(due, _)| due.due.as_microsecond());
        for (due, outcome) in &decision.outcomes {
            self.carry_out(kept, prepared, *due, outcome, now).await?;
        }
        // Afterwards: whoever dies before finds the rows, and does nothing twice.
        if let Some(settled) = settled {
            self.store.settle(&kept.name, settled).await?;
        }
        Ok(decision.look_again)
    }

    async fn carry_out(
        &self,
        kept: &ScheduleKept,
        prepared: &Prepared,
        due: Due,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let run = RunId(run_name(&kept.name, due.due));
        let because = match outcome {
            Outcome::Start => None,
            Outcome::PassedOver(why) => Some(why.as_str()),
        };
        let claim = Claim {
            schedule: &kept.name,
            due_us: due.due.as_microsecond(),
            run: because.is_none().then_some(&run),
            holder: &self.holder,
            now_us: now.as_microsecond(),
            because,
        };
        if !self.store.claim(&claim).await? {
            return Ok(());
        }
        match because {
            None => self.start(kept, prepared, claim.due_us, &run).await,
            Some(why) => {
                tracing::info!(schedule = kept.name, due = %due.due, why, "passed over");
                let text = format!(
                    "Schedule `{}` passed over its run of {}: {why}.",
                    kept.name, due.due
                );
                self.notices
                    .say(Notice::new(Event::SchedulePassedOver, text).about(&kept.name, None));
                Ok(())
            }
        }
    }

    async fn start(
        &self,
        kept: &ScheduleKept,
        prepared: &Prepared,
        due_us: i64,
        run: &RunId,
    ) -> Result<(), StoreError> {
        let order = Order {
            run: run.clone(),
            schedule: kept.name.clone(),
            environment: prepared.schedule.environment.clone(),
            path: kept.files.experiment.name.clone(),
            text: kept.files.experiment.text.clone(),
            commit: kept.source.clone(),
        };
        let started = match self.may(kept, prepared).await? {
            Ok(()) => self.starter.start(order).await,
            Err(why) => Err(NotStarted::Refused(why)),
        };
        match started {
            Ok(()) => {
                tracing::info!(schedule = kept.name, %run, "started");
                self.store
                    .note_start(&kept.name, due_us, StartState::Started, None)
                    .await
            }
            Err(NotStarted::Refused(why)) => {
                tracing::warn!(schedule = kept.name, %run, why, "refused");
                let text = format!("Schedule `{}` was not let start its run: {why}", kept.name);
                self.notices
                    .say(Notice::new(Event::ScheduleRefused, text).about(&kept.name, Some(run)));
                self.store
                    .note_start(&kept.name, due_us, StartState::Refused, Some(&why))
                    .await
            }
            // The claim stays, and is looked at again.
            Err(NotStarted::Unavailable(why)) => {
                tracing::warn!(schedule = kept.name, %run, why, "cannot be started now");
                Ok(())
            }
        }
    }

    /// Whether whoever put the schedule into force may start its run themselves, now; why not otherwise.
    async fn may(
        &self,
        kept: &ScheduleKept,
        prepared: &Prepared,
    ) -> Result<Result<(), String>, StoreError> {
        let environment = prepared.environment();
        let namespaces = prepared.namespaces();
        let now_us = Timestamp::now().as_microsecond();
        let (who, rights) = match (&kept.owner, &kept.source) {
            (Some(owner), _) => (owner.as_str(), self.store.rights_of(owner, now_us).await?),
            (None, Some(_)) => ("the Git repository", self.git.grants()),
            // From before owners were kept.
            (None, None) => return Ok(Ok(())),
        };
        Ok(match rights.may(Role::Operator, environment, &namespaces) {
            true => Ok(()),
            false => Err(format!(
                "{who}, who put it into force, is no operator of `{environment}` for all namespaces that it hits"
            )),
        })
    }

    /// What became of a start that has not ended.
    async fn open(
        &self,
        kept: &ScheduleKept,
        prepared: &Prepared,
        start: &StartKept,
        now: Timestamp,
    ) -> Result<Open, StoreError> {
        let Some(run) = &start.run else {
            return Ok(Open::Over);
        };
        let end = self.store.end_of(run).await?;
        let claimed = Timestamp::from_microsecond(start.claimed_us).unwrap_or(Timestamp::MIN);
        let age = now.duration_since(claimed);
        match (start.state, end) {
            (_, Some(Some(verdict))) => self.ended(kept, prepared, start, run, verdict).await,
            (StartState::Claimed, None) => self.claimed(kept, prepared, start, run, now).await,
            // A run that has just begun is not among them yet.
            _ => {
                let longest = SignedDuration::try_from(prepared.timetable.length)
                    .unwrap_or(SignedDuration::MAX);
                if age > longest.saturating_add(OVERDUE_MAX) {
                    let because = Some("interrupted: the run has no end");
                    self.store
                        .note_start(&kept.name, start.due_us, StartState::Ended, because)
                        .await?;
                    return Ok(Open::Over);
                }
                if start.state == StartState::Claimed {
                    self.store
                        .note_start(&kept.name, start.due_us, StartState::Started, None)
                        .await?;
                }
                Ok(Open::Running)
            }
        }
    }

    /// A claim without a run: its controller is about to start it, could not, or died.
    async fn claimed(
        &self,
        kept: &ScheduleKept,
        prepared: &Prepared,
        start: &StartKept,
        run: &RunId,
        now: Timestamp,
    ) -> Result<Open, StoreError> {
        let claimed = Timestamp::from_microsecond(start.claimed_us).unwrap_or(Timestamp::MIN);
        let is_fresh = now.duration_since(claimed) < CLAIM_MAX;
        if start.holder != self.holder && is_fresh {
            return Ok(Open::Running);
        }
        if !self
            .store
            .take_over(start, &self.holder, now.as_microsecond())
            .await?
        {
            return Ok(Open::Running);
        }
        let due = Timestamp::from_microsecond(start.due_us).unwrap_or(Timestamp::MIN);
        let late = now.duration_since(due);
        let within = prepared
            .timetable
            .start_within
            .saturating_add(prepared.jitter());
        let is_late = late > SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
        let why = if is_late {
            Some("its controller could not start it in time".to_owned())
        } else if kept.suspended_us.is_some() {
            Some("the schedule is suspended".to_owned())
        } else {
            prepared
                .timetable
                .blocked(now)
                .map(|blocked| blocked.to_string())
        };
        match why {
            Some(why) => {
                self.store
                    .note_start(&kept.name, start.due_us, StartState::PassedOver, Some(&why))
                    .await?;
                Ok(Open::Over)
            }
            None => {
                self.start(kept, prepared, start.due_us, run).await?;
                Ok(Open::Running)
            }
        }
    }

    async fn ended(
        &self,
        kept: &ScheduleKept,
        prepared: &Prepared,
        start: &StartKept,
        run: &RunId,
        verdict: Verdict,
    ) -> Result<Open, StoreError> {
        let suspends = match prepared.schedule.suspend_after {
            SuspendAfter::Broken => verdict == Verdict::Broken,
            SuspendAfter::Inconclusive => {
                matches!(verdict, Verdict::Broken | Verdict::Inconclusive)
            }
            SuspendAfter::Never => false,
        };
        if suspends {
            let because = format!("run {run} was {verdict}");
            // First: who dies in between finds the end once more.
            self.store
                .suspend_schedule(&kept.name, &because, Timestamp::now().as_microsecond())
                .await?;
            let text = format!(
                "Schedule `{}` is suspended: {because}. `squall schedule resume {}` goes on.",
                kept.name, kept.name
            );
            self.notices
                .say(Notice::new(Event::ScheduleSuspended, text).about(&kept.name, Some(run)));
        }
        let because = verdict.to_string();
        self.store
            .note_start(&kept.name, start.due_us, StartState::Ended, Some(&because))
            .await?;
        let text = format!("Run {run} of schedule `{}` was {verdict}.", kept.name);
        self.notices
            .say(Notice::new(Event::RunFinished, text).about(&kept.name, Some(run)));
        Ok(if suspends {
            Open::Suspended
        } else {
            Open::Over
        })
    }
}

/// What schedules and game days of the Git repository may do: `git` in the configuration. Everything where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GitRights {
    /// Only in these environments.
    pub environments: Option<Vec<String>>,
    /// Only for targets in these namespaces.
    pub namespaces: Option<Vec<String>>,
}

impl GitRights {
    /// Whether files of the repository may be run there, for targets in these namespaces.
    #[must_use]
    pub fn let_run(&self, environment: &str, namespaces: &[Option<String>]) -> bool {
        self.grants().may(Role::Operator, environment, namespaces)
    }

    fn grants(&self) -> Grants {
        Grants(vec![Grant {
            role: Role::Operator,
            environments: self.environments.clone(),
            namespaces: self.namespaces.clone(),
        }])
    }
}

impl Prepared {
    /// Where its runs are.
    #[must_use]
    pub fn environment(&self) -> &str {
        let said = self.schedule.environment.as_deref();
        said.unwrap_or(crate::run::desk::ENVIRONMENT)
    }

    /// The namespaces that its targets name; none for one that names none.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Option<String>> {
        crate::stage::namespaces(&self.experiment)
    }

    fn jitter(&self) -> Duration {
        self.schedule
            .jitter
            .map_or(Duration::ZERO, |jitter| jitter.duration())
    }
}

/// What became of a start.
enum Open {
    Running,
    Over,
    Suspended,
}
