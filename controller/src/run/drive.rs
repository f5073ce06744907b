//! The task that owns a run: it hears, asks the machine, and does what the machine says.

use super::awake::Awake;
use super::crew::Crew;
use super::desk::Share;
use super::halt::{Halting, Urgency};
use super::machine::{Effect, Input, Machine};
use super::places;
use super::planning::{Bounds, Planned, planned};
use super::record::{Feed, Record};
use super::turns::Turns;
use super::{Order, Outcome, RunError, watch};
use crate::clock::{self, Clock};
use crate::fleet::{Agent, FleetError, Present, Program};
use crate::probe::{self, Observe, Places, Probes, TRIALS_WAITING_MAX, Trials};
use crate::store::Store;
use squall_experiments::capability::Capabilities;
use squall_experiments::event::{Created, Event, Happening};
use squall_experiments::wire::{FromAgent, FromController, Refused};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc};

/// So many nodes are named; of more their number is.
const NAMED_MAX: usize = 3;

/// So many notes of one kind are written down; the rest is counted.
const NOTES_MAX: usize = 100;

/// Runs an experiment on this node with an agent of its own, from `Created` to `Finished`.
///
/// Every event goes to `feed` as it happens (nobody needs to listen), and to `store` where there is one. `halting` stops the run:
/// once for an orderly stop and a verdict, twice to kill the agent at once, whereupon the kernel takes every fault back.
///
/// # Errors
/// There was no run: a probe cannot begin, or the agent could not be started.
pub async fn here(
    order: Order,
    agent: &Program,
    store: Option<&Store>,
    feed: broadcast::Sender<Event>,
    halting: Halting,
) -> Result<Outcome, RunError> {
    probe::check(&order.experiment.steady_state)?;
    let crew = Crew::here(Agent::start(agent).await?);
    let by = By {
        store,
        share: None,
        begun: None,
        observe: Arc::new(probe::start),
    };
    through(order, crew, by, Feed::through(feed), halting).await
}

/// By what a run is kept, bounded and observed.
pub(super) struct By<'a> {
    /// Where it is kept, if it is.
    pub(super) store: Option<&'a Store>,
    /// Its share of the budget, where it has one.
    pub(super) share: Option<Share>,
    /// Its first event and its clock, where that event is kept already.
    pub(super) begun: Option<(Event, Clock)>,
    /// What its steady state is observed by.
    pub(super) observe: Observe,
}

/// Runs an experiment with a crew.
///
/// # Errors
/// A probe cannot begin.
pub(super) async fn through(
    order: Order,
    mut crew: Crew,
    by: By<'_>,
    feed: Feed,
    mut halting: Halting,
) -> Result<Outcome, RunError> {
    let By {
        store,
        share,
        begun,
        observe,
    } = by;
    let (first, clock) = begun.unzip();
    let (is_new, clock) = (first.is_none(), clock.unwrap_or_else(Clock::start));
    let mut record = Record::new(&order.run, clock, feed, store, first);
    if is_new {
        record.say(created(&order, &crew.present()));
    }
    let spare_last_replica = share.as_ref().is_some_and(Share::spares_last_replica);
    let bounds = Bounds { spare_last_replica };
    let (experiment, seed) = (&order.experiment, order.seed);
    let planned = planned(&mut crew, experiment, &order.run, seed, bounds).await;
    let (machine, first) = prepare(&order, &crew, planned, share.as_ref(), &mut record);
    let (places, first, moves) = places::first(&order.experiment, first).await;
    let (say_trial, hear_trial) = mpsc::channel(TRIALS_WAITING_MAX);
    let run = Running {
        machine,
        clock,
        order: &order,
        observe,
        say_trial,
        probes: None,
        record,
        share,
        awake: Awake::default(),
    };
    let record = run
        .through(
            (places, first),
            &mut crew,
            Turns::new(hear_trial, moves),
            &mut halting,
        )
        .await?;
    // Whoever says stop from here on is told that it is over.
    drop(halting);
    crew.end().await;
    let (events, finished) = record.close().await;
    let finished = finished.ok_or(RunError::NoVerdict)?;
    Ok(Outcome { events, finished })
}

/// A run's first event.
pub(super) fn created(order: &Order, present: &[Present]) -> Happening {
    let (node, capabilities) = nodes(present);
    Happening::Created(Box::new(Created {
        run: order.run.clone(),
        name: order.experiment.metadata.name.clone(),
        hypothesis: order.experiment.hypothesis.clone(),
        file_text: order.file_text.clone(),
        file_path: order.file_path.clone(),
        digest: order.digest.clone(),
        seed: order.seed,
        node,
        capabilities,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        expectations: watch::expectations(&order.experiment),
        environment: order.environment.clone(),
        by: order.by.clone(),
    }))
}

/// The nodes in words, and what they can do: of several, what they have in common is not worked out.
fn nodes(present: &[Present]) -> (String, Capabilities) {
    if let [one] = present {
        return (one.node.clone(), (*one.capabilities).clone());
    }
    let some = |all: BTreeSet<&str>, what: &str| {
        if all.len() <= NAMED_MAX {
            all.into_iter().collect::<Vec<_>>().join(", ")
        } else {
            format!("{} {what}", all.len())
        }
    };
    let named = present.iter().map(|one| one.node.as_str()).collect();
    let can = present.iter().map(|one| &one.capabilities);
    let cluster_ends = can.clone().all(|can| can.cluster_ends);
    let capabilities = Capabilities {
        kernel: some(
            can.clone().map(|can| can.kernel.as_str()).collect(),
            "kernels",
        ),
        cgroup: some(can.map(|can| can.cgroup.as_str()).collect(), "kinds"),
        faults: Vec::new(),
        cluster_ends,
    };
    (some(named, "nodes"), capabilities)
}

/// Says what is planned, takes its share of the budget, and says with what the machine is to begin.
fn prepare(
    order: &Order,
    crew: &Crew,
    planned: Planned,
    share: Option<&Share>,
    record: &mut Record,
) -> (Machine, Input) {
    let left = planned.excluded.iter();
    let left = left.map(|left| format!("{} is left alone: {}", left.label, left.reason));
    let notes: Vec<String> = left.chain(planned.notes).collect();
    let more = notes.len().saturating_sub(NOTES_MAX);
    for note in notes.into_iter().take(NOTES_MAX) {
        record.say(Happening::Noted(note));
    }
    if more > 0 {
        record.say(Happening::Noted(format!("and {more} more like these")));
    }
    record.say(Happening::Planned(planned.plan.clone()));
    let first = match (planned.refused, planned.silent) {
        (Some(why), _) => Input::Refuse(why),
        (None, Some((node, why))) => Input::AgentLost(node, why),
        (None, None) => match share.map(|share| share.take(&planned.plan)) {
            Some(Err(why)) => Input::Refuse(why.join("; ")),
            Some(Ok(())) | None => Input::Begin,
        },
    };
    let plan = planned.plan;
    let mut machine = Machine::new(&order.run, &order.experiment, plan, planned.asked);
    let labels = crew.present().into_iter().map(|one| (one.node, one.labels));
    let spares = share.is_some_and(Share::spares_last_replica);
    machine.bound(labels.collect(), spares);
    (machine, first)
}

/// A run under way.
struct Running<'a> {
    machine: Machine,
    clock: Clock,
    order: &'a Order,
    observe: Observe,
    say_trial: Trials,
    probes: Option<Probes>,
    record: Record,
    share: Option<Share>,
    awake: Awake,
}

impl Running<'_> {
    /// From the first input to the verdict.
    async fn through(
        mut self,
        (places, first): (Places, Input),
        crew: &mut Crew,
        mut turns: Turns,
        halting: &mut Halting,
    ) -> Result<Record, RunError> {
        self.take(Input::Found(places), crew)?;
        self.take(first, crew)?;
        let (mut halted, mut kept) = (Urgency::None, true);
        while !self.record.has_ended() {
            if kept && let Some(why) = self.record.trouble() {
                kept = false;
                self.take(Input::Unkept(why), crew)?;
                continue;
            }
            let input = tokio::select! {
                biased;
                () = halting.until(next(halted)), if halted < Urgency::Kill => {
                    halted = next(halted);
                    if halted == Urgency::Kill {
                        crew.kill().await
                    } else {
                        Input::Halt(halting.by())
                    }
                }
                input = turns.next(crew) => input,
            };
            self.take(input, crew)?;
        }
        Ok(self.record)
    }

    /// Takes an input, and whatever follows from it at once.
    fn take(&mut self, input: Input, crew: &Crew) -> Result<(), RunError> {
        let mut inputs = vec![input];
        // Known before anything is judged that came in meanwhile, or did not.
        let still = self.awake.look(clock::since_boot());
        inputs.extend(still.map(Input::StoodStill));
        while let Some(input) = inputs.pop() {
            let effects = self.machine.take(self.clock.now_us(), input);
            let (unfit, refused) = self.unfit(&effects);
            inputs.extend(refused);
            // First what the agents are to do, then what is written about it.
            for effect in &effects {
                let Effect::Send(node, message) = effect else {
                    continue;
                };
                let is_unfit =
                    matches!(message, FromController::Arm(arm) if unfit.contains(&arm.id));
                if !is_unfit {
                    inputs.extend(crew.say(node, message.clone()));
                }
            }
            for effect in effects {
                match effect {
                    Effect::Say(happening) => {
                        if let Some(share) = &self.share {
                            share.heard(&happening);
                        }
                        self.record.say(happening);
                    }
                    Effect::Observe => {
                        let steady = &self.order.experiment.steady_state;
                        self.probes = Some((self.observe)(steady, self.clock, &self.say_trial)?);
                    }
                    Effect::Send(..) => {}
                }
            }
        }
        Ok(())
    }

    /// What would join, and does not fit into the budget: not asked for, and refused in the agent's stead.
    fn unfit(&self, effects: &[Effect]) -> (HashSet<squall_experiments::ids::FaultId>, Vec<Input>) {
        let (mut unfit, mut refused) = (HashSet::new(), Vec::new());
        let Some(share) = &self.share else {
            return (unfit, refused);
        };
        for effect in effects {
            let Effect::Say(Happening::TargetJoined(joined)) = effect else {
                continue;
            };
            let Err(reason) = share.add(&joined.target, &joined.faults) else {
                continue;
            };
            for planned in &joined.faults {
                unfit.insert(planned.id.clone());
                let message = FromAgent::Refused(Refused {
                    id: planned.id.clone(),
                    reason: reason.clone(),
                    denied: true,
                    gone: false,
                });
                refused.push(Input::Agent(joined.target.node.clone(), message));
            }
        }
        (unfit, refused)
    }
}

const fn next(said: Urgency) -> Urgency {
    match said {
        Urgency::None => Urgency::Stop,
        Urgency::Stop | Urgency::Kill => Urgency::Kill,
    }
}

/// What `squall plan` shows: what a run on this node would do.
///
/// # Errors
/// The agent could not be started, or did not answer.
pub async fn plan_here(
    agent: &Program,
    experiment: &squall_experiments::experiment::Experiment,
    seed: u64,
) -> Result<(Planned, String, Capabilities), FleetError> {
    let mut crew = Crew::here(Agent::start(agent).await?);
    let planned = planned(
        &mut crew,
        experiment,
        &super::new_id(),
        seed,
        Bounds::default(),
    )
    .await;
    let (node, capabilities) = nodes(&crew.present());
    crew.end().await;
    match planned.silent {
        Some((node, why)) => Err(FleetError::Silent { node, why }),
        None => Ok((planned, node, capabilities)),
    }
}
