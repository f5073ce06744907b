//! Where runs across nodes are started and stopped: by people, by schedules, by programs. Everything that begins a run on a controller
//! comes here, and nothing else does.
//!
//! ```text
//! Wanted ──▶ read, halted?, gate ──▶ RunId ──▶ resolved, within the budget ──▶ driven ──▶ verdict
//!                    └──── Refused
//! ```

use super::budget::{Bounded, Budget, LastReplica, Limits};
use super::crew::Crew;
use super::drive::{self, By};
use super::halt::{Halt, Who};
use super::planning::{Bounds, Planned, planned};
use super::reach::Reach;
use super::record::Feed;
use super::stand_still::StandStill;
use super::{Order, new_id};
use crate::clock::Clock;
use crate::fleet::Present;
use crate::fleet::registry::Registry;
use crate::metrics::Metrics;
use crate::probe::{self, Observe, ProbeError};
use crate::store::{Started, Store, StoreError};
use futures_util::future::BoxFuture;
use squall_experiments::event::{Event, Happening};
use squall_experiments::experiment::Experiment;
use squall_experiments::ids::RunId;
use squall_experiments::language::{self, Diagnostic};
use squall_experiments::plan::{Plan, PlannedFault};
use squall_experiments::target::Candidate;
use squall_experiments::units::Lease;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// The environment of a run that names none.
pub const ENVIRONMENT: &str = "default";

/// How often it is looked whether runs have ended.
const LOOK: Duration = Duration::from_millis(20);

/// How soon it is asked again what became of a start that was not answered.
const UNKNOWN_AGAIN: Duration = Duration::from_secs(1);

/// A lease is over by then on every node: the kernel's timer has ended the holder.
const GONE_AFTER_LEASE: Duration = Duration::from_secs(1);

pub use crate::stage::{Together, Trigger};

/// A run that somebody wants.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name; a new one where nothing is said. A name that was used is refused, so that a repeated wish starts nothing.
    pub run: Option<RunId>,
    /// The experiment file.
    pub file_text: String,
    /// Where it came from, for people.
    pub file_path: String,
    /// Where it is to run.
    pub environment: String,
    /// Who wants it: a person's name, or a schedule's.
    pub by: String,
    /// How.
    pub trigger: Trigger,
    /// What random decisions start from; drawn where nothing is said.
    pub seed: Option<u64>,
}

/// What a gate is asked.
#[derive(Debug, Clone)]
pub struct Asking {
    /// The run that would be.
    pub run: RunId,
    /// The checked experiment.
    pub experiment: Arc<Experiment>,
    /// Its digest.
    pub digest: String,
    /// Where.
    pub environment: String,
    /// By whom.
    pub by: String,
    /// How.
    pub trigger: Trigger,
    /// Who is there, of the environment.
    pub present: Vec<Present>,
    /// What the other runs of the environment do.
    pub together: Together,
}

/// Says whether a run may start, or every reason why not.
pub type Gate = Arc<dyn Fn(Asking) -> BoxFuture<'static, Result<(), Vec<String>>> + Send + Sync>;

/// Hears of each run that ended, with all that happened in it, before it counts as ended.
pub type Ended = Arc<dyn Fn(RunId, Vec<Event>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Why a run was not started.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file.
    #[error("the experiment file cannot be used: {} mistakes", .0.len())]
    File(Vec<Diagnostic>),
    /// Its probes.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// There is no such environment.
    #[error("there is no environment `{name}`; there are: {}", .known.join(", "))]
    Environment {
        /// What was said.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It would use what of the controller's machine is not for it.
    #[error("{}", .0.join("; "))]
    Reach(Vec<String>),
    /// A run of this name was there before.
    #[error("there has been a run {0} already")]
    Taken(RunId),
    /// Everything is to stand still.
    #[error("{0}; `squall halt --lift` lifts it")]
    Halted(String),
    /// Another controller leads.
    #[error("this controller does not lead: ask the one that does")]
    StandsBy,
    /// The gate.
    #[error("{}", .0.join("; "))]
    Gate(Vec<String>),
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a controller's configuration says of runs.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// Which agents belong to each environment, and how much of it may be hit at once. Where there is none, every name is one,
    /// unbounded.
    pub environments: BTreeMap<String, Bounded>,
    /// What probes may use of the controller's own machine.
    pub reach: Reach,
}

/// A run that is under way.
struct UnderWay {
    halt: Halt,
    feed: Feed,
}

struct Inner {
    store: Store,
    registry: Registry,
    rules: Rules,
    gate: Mutex<Option<Gate>>,
    ended: Mutex<Option<Ended>>,
    observe: Mutex<Observe>,
    budget: Arc<Mutex<Budget>>,
    metrics: Metrics,
    under_way: Mutex<BTreeMap<RunId, UnderWay>>,
    still: StandStill,
    threads: Handle,
}

/// Starts and stops runs. Cloning it is another handle to the same.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Opens it. All runs are driven on the threads of the runtime that this is called on, whoever starts them.
    ///
    /// # Panics
    /// It is called outside of a runtime.
    #[must_use]
    pub fn new(store: Store, registry: Registry, rules: Rules, still: StandStill) -> Self {
        Self(Arc::new(Inner {
            store,
            registry,
            rules,
            gate: Mutex::new(None),
            ended: Mutex::new(None),
            observe: Mutex::new(Arc::new(probe::start)),
            budget: Arc::default(),
            metrics: Metrics::default(),
            under_way: Mutex::default(),
            still,
            threads: Handle::current(),
        }))
    }

    /// Where runs are kept, by connections that are for them.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The threads on which runs are driven. Whatever a stop waits for belongs there, and nothing else that takes long.
    #[must_use]
    pub fn threads(&self) -> &Handle {
        &self.0.threads
    }

    /// Whom to ask before a run starts.
    pub fn set_gate(&self, gate: Gate) {
        *lock(&self.0.gate) = Some(gate);
    }

    /// Whom to tell of each run that ended.
    pub fn set_ended(&self, ended: Ended) {
        *lock(&self.0.ended) = Some(ended);
    }

    /// By what steady states are observed instead.
    #[cfg(test)]
    pub(crate) fn set_observe(&self, observe: Observe) {
        *lock(&self.0.observe) = observe;
    }

    /// What runs are and were, in figures.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What makes everything stand still.
    #[must_use]
    pub fn still(&self) -> &StandStill {
        &self.0.still
    }

    /// Starts a run. It has a name at once; what it finds and does is told by its events.
    ///
    /// # Errors
    /// It may not start, with every reason.
    pub async fn start(&self, wanted: Wanted) -> Result<RunId, Refused> {
        if !self.0.registry.leads() {
            return Err(Refused::StandsBy);
        }
        let (experiment, digest) = read(&wanted)?;
        self.within_reach(&experiment)?;
        probe::check(&experiment.steady_state)?;
        let bounded = self.environment(&wanted.environment)?;
        self.stands_still()?;
        let run = wanted.run.clone().unwrap_or_else(new_id);
        let belongs = |one: &Present| has(&bounded, one);
        let mut present = self.0.registry.present();
        present.retain(belongs);
        let gate = lock(&self.0.gate).clone();
        if let Some(gate) = gate {
            let asking = Asking {
                run: run.clone(),
                experiment: Arc::new(experiment.clone()),
                digest: digest.clone(),
                environment: wanted.environment.clone(),
                by: wanted.by.clone(),
                trigger: wanted.trigger,
                present: present.clone(),
                together: self.with_budget(|budget| budget.together(&wanted.environment)),
            };
            gate(asking).await.map_err(Refused::Gate)?;
        }
        let order = Order {
            run: run.clone(),
            experiment,
            file_text: wanted.file_text,
            file_path: wanted.file_path,
            digest,
            seed: wanted.seed.unwrap_or_else(super::drawn_seed),
            environment: Some(wanted.environment),
            by: Some(wanted.by),
        };
        let begun = self.keep(&order, &present).await?;
        tracing::info!(%run, by = order.by, environment = order.environment, "a run starts");
        self.begin(order, begun, bounded);
        // Somebody may have said halt since it was asked, and not have seen this run.
        if self.0.still.is().is_some() {
            self.stop(&run);
        }
        Ok(run)
    }

    /// What a run would hit: asks the agents, and touches nothing. The gate is not asked.
    ///
    /// # Errors
    /// It could not start, whatever is there to hit.
    pub async fn plan(&self, wanted: &Wanted) -> Result<(Experiment, String, Planned), Refused> {
        if !self.0.registry.leads() {
            return Err(Refused::StandsBy);
        }
        let (experiment, digest) = read(wanted)?;
        self.within_reach(&experiment)?;
        probe::check(&experiment.steady_state)?;
        let bounded = self.environment(&wanted.environment)?;
        let run = new_id();
        let lent = self.0.registry.lend(&run);
        let mut crew = Crew::lent(lent, |one| has(&bounded, one));
        let bounds = Bounds {
            spare_last_replica: bounded.budget.last_replica == LastReplica::Spare,
        };
        let seed = wanted.seed.unwrap_or_else(super::drawn_seed);
        let mut planned = planned(&mut crew, &experiment, &run, seed, bounds).await;
        if let Some((node, why)) = planned.silent.take() {
            planned.refused.get_or_insert(format!("{node}: {why}"));
        }
        Ok((experiment, digest, planned))
    }

    /// Keeps that a run starts, and its first event: from then on it has begun, and must end.
    async fn keep(&self, order: &Order, present: &[Present]) -> Result<(Event, Clock), Refused> {
        let clock = Clock::start();
        let created = Event {
            at_us: clock.now_us(),
            what: drive::created(order, present),
        };
        let started = Started {
            run: order.run.clone(),
            environment: order.environment.clone().unwrap_or_default(),
            by: order.by.clone().unwrap_or_default(),
            at_us: crate::clock::kept_us(),
        };
        match self.0.store.start_run(&started, &created).await {
            Ok(true) => Ok((created, clock)),
            Ok(false) => Err(Refused::Taken(started.run)),
            Err(error) if error.is_superseded() => Err(Refused::StandsBy),
            Err(error) => {
                // Kept or not: nobody drives it.
                self.0
                    .threads
                    .spawn(never_begun(self.0.store.clone(), started, created));
                Err(error.into())
            }
        }
    }

    fn begin(&self, order: Order, begun: (Event, Clock), bounded: Bounded) {
        let run = order.run.clone();
        let lent = self.0.registry.lend(&run);
        let crew = Crew::lent(lent, |one| has(&bounded, one));
        let (halt, halting) = Halt::new();
        let feed = Feed::new();
        let under_way = UnderWay {
            halt,
            feed: feed.clone(),
        };
        lock(&self.0.under_way).insert(run.clone(), under_way);
        let share = Share {
            run: run.clone(),
            environment: order.environment.clone().unwrap_or_default(),
            limits: bounded.budget,
            budget: Arc::clone(&self.0.budget),
            metrics: self.0.metrics.clone(),
        };
        let desk = self.clone();
        self.0.threads.spawn(async move {
            let by = By {
                store: Some(&desk.0.store),
                share: Some(share),
                begun: Some(begun),
                observe: Arc::clone(&lock(&desk.0.observe)),
            };
            let ended = drive::through(order, crew, by, feed, halting).await;
            match ended {
                Ok(outcome) => {
                    let finished = outcome.finished;
                    tracing::info!(%run, verdict = %finished.verdict, because = finished.because, "a run ended");
                    let told = lock(&desk.0.ended).clone();
                    if let Some(told) = told {
                        told(run.clone(), outcome.events).await;
                    }
                }
                Err(error) => tracing::error!(%run, %error, "a run ended without a verdict"),
            }
            lock(&desk.0.under_way).remove(&run);
        });
    }

    /// Stops a run: an orderly end and a verdict. `false` where it is not under way, or has its verdict.
    pub fn stop(&self, run: &RunId) -> bool {
        let under_way = lock(&self.0.under_way);
        let found = under_way.get(run);
        found.is_some_and(|one| one.halt.say())
    }

    /// Stops everything, and everything on every node. What starts it again is not said here: see [`StandStill`].
    pub fn stop_all(&self) {
        let nodes = self.0.registry.stop_all();
        let under_way = lock(&self.0.under_way);
        for one in under_way.values() {
            let _or_it_is_over = one.halt.say();
        }
        tracing::warn!(nodes, runs = under_way.len(), "everything was told to stop");
    }

    /// Stops everything, as a controller that leads no more: another may, and decides about it.
    pub fn depose(&self) {
        self.0.registry.stop_all();
        for one in lock(&self.0.under_way).values() {
            let _or_it_is_over = one.halt.say_by(Who::Deposed);
        }
    }

    /// Stops every run, since this controller ends, and waits until each has its verdict, but not longer than `most`.
    pub async fn end(&self, most: Duration) {
        for one in lock(&self.0.under_way).values() {
            let _or_it_is_over = one.halt.say_by(Who::Ending);
        }
        let ended = async {
            while !lock(&self.0.under_way).is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(most, ended).await.is_err() {
            tracing::warn!("runs are under way still; their faults end with their leases");
        }
    }

    /// A run's events as they happen, while it is under way.
    #[must_use]
    pub fn subscribe(&self, run: &RunId) -> Option<Feed> {
        let under_way = lock(&self.0.under_way);
        under_way.get(run).map(|one| one.feed.clone())
    }

    /// The runs that are under way.
    #[must_use]
    pub fn under_way(&self) -> Vec<RunId> {
        lock(&self.0.under_way).keys().cloned().collect()
    }

    /// What runs have taken of the budget.
    pub fn with_budget<T>(&self, look: impl FnOnce(&Budget) -> T) -> T {
        look(&lock(&self.0.budget))
    }

    /// Leaves in the budget what runs of an earlier leader may still hit, until their leases are over: their agents renew nothing any more, and
    /// may not have heard of a stop.
    pub async fn inherit(&self, runs: Vec<RunId>) {
        for run in runs {
            let kept = async {
                let started = self.0.store.started(&run).await?;
                Ok::<_, StoreError>((started, self.0.store.events(&run).await?))
            };
            let (environment, events) = match kept.await {
                Ok((Some(started), events)) => (started.environment, events),
                Ok((None, _)) => continue,
                // Who leads is of more weight than what acts for a lease.
                Err(error) => {
                    let error = crate::words::chain(&error);
                    tracing::error!(%run, error, "what an interrupted run may still hit is not in the budget");
                    continue;
                }
            };
            if lock(&self.0.budget).inherit(&run, &environment, &events) {
                let budget = Arc::clone(&self.0.budget);
                tokio::spawn(async move {
                    tokio::time::sleep(lease(&events) + GONE_AFTER_LEASE).await;
                    lock(&budget).release(&run);
                });
            }
        }
    }

    fn environment(&self, name: &str) -> Result<Bounded, Refused> {
        let environments = &self.0.rules.environments;
        if environments.is_empty() {
            return Ok(Bounded::default());
        }
        let unknown = || Refused::Environment {
            name: name.to_owned(),
            known: environments.keys().cloned().collect(),
        };
        environments.get(name).cloned().ok_or_else(unknown)
    }

    /// Asked before anything of the file is looked at on this machine: even whether a path is there is not for everybody to learn.
    fn within_reach(&self, experiment: &Experiment) -> Result<(), Refused> {
        let refused = self.0.rules.reach.refuses(experiment);
        if refused.is_empty() {
            Ok(())
        } else {
            Err(Refused::Reach(refused))
        }
    }

    fn stands_still(&self) -> Result<(), Refused> {
        match self.0.still.is() {
            Some(halted) => Err(Refused::Halted(halted.to_string())),
            None => Ok(()),
        }
    }
}

/// The lease of a run's faults, as its file says.
fn lease(events: &[Event]) -> Duration {
    let created = events.iter().find_map(|event| match &event.what {
        Happening::Created(created) => Some(created),
        _ => None,
    });
    let experiment = created
        .and_then(|created| language::read(&created.file_path, &created.file_text).experiment);
    let lease = experiment.map_or(Lease::clamped(Duration::MAX), |experiment| experiment.lease);
    lease.duration()
}

/// Ends a run that may be kept as started, and is not: for want of an answer that is not known.
async fn never_begun(store: Store, started: Started, created: Event) {
    let end = async || {
        // Kept now, unless another run has its name.
        if store.start_run(&started, &created).await? {
            let now_us = crate::clock::kept_us();
            store.interrupt_run(&started.run, now_us).await?;
        }
        Ok::<_, StoreError>(())
    };
    loop {
        tokio::time::sleep(UNKNOWN_AGAIN).await;
        match end().await {
            Ok(()) => return,
            Err(error) if error.is_superseded() => return,
            Err(error) => {
                tracing::warn!(run = %started.run, %error, "a run that did not begin cannot be ended; it is tried again")
            }
        }
    }
}

fn has(bounded: &Bounded, one: &Present) -> bool {
    let mut labels = bounded.nodes.iter();
    labels.all(|(name, value)| one.labels.get(name) == Some(value))
}

fn read(wanted: &Wanted) -> Result<(Experiment, String), Refused> {
    let reading = language::read(&wanted.file_path, &wanted.file_text);
    match (reading.experiment, reading.digest) {
        (Some(experiment), Some(digest)) => Ok((experiment, digest)),
        _ => Err(Refused::File(reading.diagnostics)),
    }
}

/// A run's share of the budget, given back when it is dropped.
pub(super) struct Share {
    run: RunId,
    environment: String,
    limits: Limits,
    budget: Arc<Mutex<Budget>>,
    metrics: Metrics,
}

impl Share {
    pub(super) fn spares_last_replica(&self) -> bool {
        self.limits.last_replica == LastReplica::Spare
    }

    pub(super) fn take(&self, plan: &Plan) -> Result<(), Vec<String>> {
        lock(&self.budget).take(&self.run, &self.environment, &self.limits, plan)
    }

    pub(super) fn add(&self, target: &Candidate, faults: &[PlannedFault]) -> Result<(), String> {
        lock(&self.budget).add(&self.run, &self.limits, target, faults)
    }

    pub(super) fn heard(&self, what: &Happening) {
        self.metrics.heard(&self.run, what);
        if matches!(what, Happening::Ended(_) | Happening::Refused(_)) {
            lock(&self.budget).heard(&self.run, what);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        lock(&self.budget).release(&self.run);
        self.metrics.over(&self.run);
    }
}
