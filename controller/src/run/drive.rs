//! The task that owns a run: it hears, asks the machine, and does what the machine says.

use super::halt::{Halting, Urgency};
use super::machine::{Effect, Input, Machine};
use super::planning::planned;
use super::record::Record;
use super::{Order, Outcome, RunError, watch};
use crate::clock::Clock;
use crate::fleet::{Agent, Heard, Program};
use crate::probe::{self, Probes, Report, TRIALS_WAITING_MAX};
use crate::store::Store;
use squall_experiments::event::{Created, Event, Happening};
use squall_experiments::plan::Plan;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};
use tokio::time::MissedTickBehavior;

/// How often time is looked at: half of the shortest renewal (a fifth of a 200 ms lease).
const TICK: Duration = Duration::from_millis(20);

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
    mut halting: Halting,
) -> Result<Outcome, RunError> {
    let clock = Clock::start();
    probe::check(&order.experiment.steady_state)?;
    let mut agent = Agent::start(agent).await?;
    let mut record = Record::new(&order.run, clock, feed, store);
    record.say(Happening::Created(Box::new(created(&order, &agent))));
    let (machine, first) = prepare(&order, &mut agent, &mut record).await;
    let (say_trial, hear_trial) = mpsc::channel(TRIALS_WAITING_MAX);
    let run = Running {
        machine,
        clock,
        order: &order,
        say_trial,
        probes: None,
        record,
    };
    let record = run
        .through(first, &mut agent, hear_trial, &mut halting)
        .await?;
    agent.end().await;
    let finished = record.finished().cloned();
    let events = record.close().await;
    let finished = finished.ok_or(RunError::NoVerdict)?;
    Ok(Outcome { events, finished })
}

fn created(order: &Order, agent: &Agent) -> Created {
    let hello = &agent.session.hello;
    Created {
        run: order.run.clone(),
        name: order.experiment.metadata.name.clone(),
        hypothesis: order.experiment.hypothesis.clone(),
        file_text: order.file_text.clone(),
        file_path: order.file_path.clone(),
        digest: order.digest.clone(),
        seed: order.seed,
        node: hello.node.clone(),
        capabilities: hello.capabilities.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        expectations: watch::expectations(&order.experiment),
    }
}

/// Plans, and says with what the machine is to begin.
async fn prepare(order: &Order, agent: &mut Agent, record: &mut Record) -> (Machine, Input) {
    let experiment = &order.experiment;
    let planned = planned(&mut agent.session, experiment, &order.run, order.seed).await;
    match planned {
        Ok(planned) => {
            for left in planned.excluded {
                let note = format!("{} is left alone: {}", left.label, left.reason);
                record.say(Happening::Noted(note));
            }
            record.say(Happening::Planned(planned.plan.clone()));
            let machine = Machine::new(&order.run, experiment, planned.plan);
            (machine, planned.refused.map_or(Input::Begin, Input::Refuse))
        }
        Err(error) => {
            let (seed, stages) = (order.seed, Vec::new());
            let machine = Machine::new(&order.run, experiment, Plan { seed, stages });
            (machine, Input::AgentLost(error.to_string()))
        }
    }
}

/// A run under way.
struct Running<'a> {
    machine: Machine,
    clock: Clock,
    order: &'a Order,
    say_trial: mpsc::Sender<(usize, Report)>,
    probes: Option<Probes>,
    record: Record,
}

impl Running<'_> {
    /// From the first input to the verdict.
    async fn through(
        mut self,
        first: Input,
        agent: &mut Agent,
        mut trials: mpsc::Receiver<(usize, Report)>,
        halting: &mut Halting,
    ) -> Result<Record, RunError> {
        self.take(first, agent)?;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut halted, mut lost) = (Urgency::None, false);
        while self.record.finished().is_none() {
            let input = tokio::select! {
                biased;
                () = halting.until(next(halted)), if halted < Urgency::Kill => {
                    halted = next(halted);
                    if halted == Urgency::Kill {
                        agent.kill().await;
                        Input::Killed
                    } else {
                        Input::Halt
                    }
                }
                heard = agent.session.hear(), if !lost => match heard {
                    Heard::Message(message) => Input::Agent(*message),
                    Heard::Lost(why) => {
                        lost = true;
                        Input::AgentLost(why)
                    }
                },
                _ = ticks.tick() => Input::Tick,
                Some((probe, report)) = trials.recv() => match report {
                    Report::Begun(due_us) => Input::Begun(probe, due_us),
                    Report::Ended(trial) => Input::Trial(probe, *trial),
                },
            };
            self.take(input, agent)?;
        }
        Ok(self.record)
    }

    fn take(&mut self, input: Input, agent: &Agent) -> Result<(), RunError> {
        let effects = self.machine.take(self.clock.now_us(), input);
        let mut unheard = false;
        // First what the agent is to do, then what is written about it.
        for effect in &effects {
            if let Effect::Send(message) = effect {
                unheard |= !agent.session.say(message.clone());
            }
        }
        for effect in effects {
            match effect {
                Effect::Say(happening) => self.record.say(happening),
                Effect::Observe => {
                    let steady = &self.order.experiment.steady_state;
                    self.probes = Some(probe::start(steady, self.clock, &self.say_trial)?);
                }
                Effect::Send(_) => {}
            }
        }
        if unheard && self.record.finished().is_none() {
            let lost = Input::AgentLost("it takes no messages any more".into());
            for effect in self.machine.take(self.clock.now_us(), lost) {
                if let Effect::Say(happening) = effect {
                    self.record.say(happening);
                }
            }
        }
        Ok(())
    }
}

const fn next(said: Urgency) -> Urgency {
    match said {
        Urgency::None => Urgency::Stop,
        Urgency::Stop | Urgency::Kill => Urgency::Kill,
    }
}
