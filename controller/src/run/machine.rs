//! What drives a run, without a clock and without I/O: a state, an input, and the effects that follow.
//!
//! Every way out of a run leads through [`Machine::stop`]. Within a stage of the ramp there are three parts:
//!
//! ```text
//!  Clearing ── faults of the step before are gone ──▶ Arming ── all are in force ──▶ Holding ── hold is over ──▶ next stage, or stop
//!     │                                                 │                               │
//!     └── not in time, refused, ended by itself, violated, a person ────────────────────┴──▶ stop
//! ```

use super::faults::{FaultInRun, Faults, Trouble};
use super::follow::Following;
use super::halt::Who;
use super::nodes::{Absent, by_node};
use super::verdict::{self, Facts};
use super::watch::Watch;
use crate::judge::{Confirmed, Trial};
use crate::probe::Places;
use squall_experiments::event::{Happening, StopReason, Violation};
use squall_experiments::experiment::Experiment;
use squall_experiments::ids::RunId;
use squall_experiments::join::Labels;
use squall_experiments::plan::Plan;
use squall_experiments::run_life::{RunEvent, RunState};
use squall_experiments::units::Lease;
use squall_experiments::verdict::Verdict;
use squall_experiments::wire::{FromAgent, FromController, Renew};
use std::collections::BTreeMap;

/// A lease is renewed so many times before it would end: four renewals may be late or lost.
const RENEWALS_PER_LEASE: u64 = 5;

/// A stage's faults must be in force within this. Arming takes milliseconds; a node that needs longer is in no state to
/// be experimented on.
const ARM_US_MAX: u64 = 15_000_000;

/// Stop is said again to what has not ended when for so long none has; saying it twice is saying it once. While the ends of thousands come
/// in, saying it again to those whose turn is yet to come would double what they and this controller have to read, and so make the last later.
const STOP_AGAIN_US: u64 = 500_000;

/// It is said again after so long in any case: who ends at leisure keeps nobody from hearing it.
const STOP_AGAIN_US_MAX: u64 = 4_000_000;

/// A fault that is told to end and not gone a lease and this later is not shown gone: the kernel's timer
/// has ended its holder by then.
const NOT_SHOWN_GONE_AFTER_LEASE_US: u64 = 1_000_000;

/// So long after that the run ends all the same, saying what is not shown gone.
const WAIT_FOR_STUCK_US_MAX: u64 = 10_000_000;

/// What a run hears.
#[derive(Debug, Clone)]
pub enum Input {
    /// The gates said yes: go.
    Begin,
    /// The gates said no, and why.
    Refuse(String),
    /// An attempt of the n-th probe, due then, is under way. The controls' places come after the probes'; see
    /// [`Experiment::place_of_control`].
    Begun(usize, u64),
    /// An attempt of the n-th probe ended.
    Trial(usize, Trial),
    /// The agent of a node spoke.
    Agent(String, FromAgent),
    /// The agent of a node is lost for good, and why.
    AgentLost(String, String),
    /// The link to it is lost, and why; it may be back.
    AgentAway(String, String),
    /// The link stands again.
    AgentBack(String),
    /// What happens is not kept any more, and why: a run without a record is not gone on with.
    Unkept(String),
    /// Somebody wants the run to end.
    Halt(Who),
    /// A person wanted it at once: the agent has been killed, and its faults with it.
    Killed,
    /// This process stood still for so long, and is awake again: what it did not hear meanwhile says nothing.
    StoodStill(std::time::Duration),
    /// Where the ends of conversations are that a cluster names.
    Found(Places),
    /// Time went on.
    Tick,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// To be kept, and shown to whoever watches.
    Say(Happening),
    /// To the agent of a node. A stop overtakes whatever waits.
    Send(String, FromController),
    /// The probes are to begin.
    Observe,
}

/// Where a stage of the ramp is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Faults of the step before are told to end; since when.
    Clearing(u64),
    /// Asked for; since when.
    Arming(u64),
    /// In force until then.
    Holding(u64),
}

/// A decided stop.
#[derive(Debug, Clone)]
pub(super) struct Stopping {
    at_us: u64,
    said_us: u64,
    /// When the last fault was gone, or was given up on.
    gone_us: Option<u64>,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) run: RunId,
    pub(super) lease: Lease,
    baseline_us: u64,
    recovery_us: u64,
    pub(super) plan: Plan,
    pub(super) state: RunState,
    since_us: u64,
    pub(super) part: Part,
    renew_us: u64,
    pub(super) faults: Faults,
    pub(super) following: Following,
    watch: Watch,
    pub(super) stopping: Option<Stopping>,
    /// The nodes on which each step looks for its target.
    pub(super) asked: Vec<Vec<String>>,
    pub(super) absent: Absent,
    pub(super) facts: Facts,
}

impl Machine {
    /// A run that is planned. `asked` are the nodes on which each step of the method looks for its target.
    #[must_use]
    pub fn new(run: &RunId, experiment: &Experiment, plan: Plan, asked: Vec<Vec<String>>) -> Self {
        let following = Following::new(experiment, plan.seed);
        Self {
            run: run.clone(),
            lease: experiment.lease,
            baseline_us: us(experiment.baseline.duration()),
            recovery_us: us(experiment.recovery.duration()),
            faults: Faults::new(run, &plan, experiment.lease, &following),
            following,
            watch: Watch::new(experiment, plan.stages.len()),
            plan,
            state: RunState::Planned,
            since_us: 0,
            part: Part::Clearing(0),
            renew_us: 0,
            stopping: None,
            asked,
            absent: Absent::default(),
            facts: Facts::default(),
        }
    }

    /// What the nodes are labelled with, and whether one of each group of replicas is never hit, also of those that join later.
    pub fn bound(&mut self, labels: BTreeMap<String, Labels>, spares: bool) {
        self.following.bound(labels, spares);
    }

    /// Where the run is.
    #[must_use]
    pub const fn state(&self) -> RunState {
        self.state
    }

    /// The verdict, once there is one.
    #[must_use]
    pub const fn verdict(&self) -> Option<Verdict> {
        self.facts.verdict
    }

    /// Takes one input. `now_us` (microseconds since the Unix epoch) never goes back.
    pub fn take(&mut self, now_us: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let out = &mut effects;
        if self.state == RunState::Finished {
            return effects;
        }
        match input {
            Input::Begin => self.begin(now_us, out),
            Input::Refuse(reason) => {
                self.facts.refused = Some(reason);
                self.go(now_us, RunEvent::Refused, out);
                self.finish(now_us, out);
            }
            Input::Trial(probe, trial) => {
                let confirmed = self.watch.take(probe, &trial);
                self.judge(now_us, confirmed, out);
            }
            Input::Begun(probe, due_us) => self.watch.begun(probe, due_us),
            Input::Agent(node, message) => self.agent(now_us, &node, &message, out),
            Input::AgentLost(node, why) => self.lost(now_us, &node, &why, out),
            Input::AgentAway(node, why) => self.away(now_us, &node, &why, out),
            Input::AgentBack(node) => self.back(now_us, &node, out),
            Input::Unkept(why) => self.trouble(
                now_us,
                Trouble {
                    reason: why,
                    denied: false,
                },
                out,
            ),
            Input::Halt(by) => self.halt(now_us, by, out),
            Input::Killed => self.killed(now_us, out),
            Input::StoodStill(still) => self.stood_still(now_us, still, out),
            Input::Found(places) => self.moved(places, out),
            Input::Tick => self.tick(now_us, out),
        }
        effects
    }

    fn begin(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        self.go(now_us, RunEvent::Allowed, out);
        self.go(now_us, RunEvent::Observing, out);
        if self.state == RunState::Baseline {
            self.watch.start(now_us);
            out.push(Effect::Observe);
        }
    }

    fn agent(&mut self, now_us: u64, node: &str, message: &FromAgent, out: &mut Vec<Effect>) {
        let applied = self.faults.apply(now_us, node, message);
        out.extend(applied.said.into_iter().map(Effect::Say));
        if let Some(trouble) = applied.trouble {
            self.trouble(now_us, trouble, out);
        }
        if let Some(reason) = applied.cut_short {
            self.cut_short(now_us, reason, out);
        }
        if let FromAgent::Resolved(resolved) = message {
            if self.following.hears(node, resolved) {
                self.found(now_us, out);
            }
        } else if self.faults.doubted().is_some() {
            self.following.hurry();
        }
        self.advance(now_us, out);
    }

    pub(super) fn trouble(&mut self, now_us: u64, trouble: Trouble, out: &mut Vec<Effect>) {
        if self.stopping.is_some() {
            return;
        }
        if trouble.denied && self.faults.first_armed_us().is_none() {
            self.facts.refused = Some(trouble.reason.clone());
        } else {
            self.facts.inconclusive.push(trouble.reason.clone());
        }
        self.stop(now_us, StopReason::Fault(trouble.reason), out);
    }

    /// It is heard only now, perhaps after everything was told to end; it counts all the same.
    fn cut_short(&mut self, now_us: u64, reason: String, out: &mut Vec<Effect>) {
        let denied = false;
        match self.stopping {
            Some(_) => self.facts.inconclusive.push(reason),
            None => self.trouble(now_us, Trouble { reason, denied }, out),
        }
    }

    fn halt(&mut self, now_us: u64, by: Who, out: &mut Vec<Effect>) {
        let by = *self.facts.halted.get_or_insert(by);
        let reason = verdict::stop_reason(by);
        if let Some(stopping) = &mut self.stopping {
            // Already ending: say it again to the agent, and do not wait for the steady state.
            stopping.said_us = now_us;
            out.push(Effect::Say(Happening::StopDecided(reason)));
            self.stop_everywhere(out);
        } else {
            self.stop(now_us, reason, out);
        }
        self.advance(now_us, out);
    }

    fn killed(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        self.facts.halted = Some(Who::Person);
        self.stop(now_us, StopReason::Person, out);
        if self.state != RunState::Finished {
            if self.faults.any_acting() {
                self.facts.killed = true;
            }
            self.finish(now_us, out);
        }
    }

    /// Confirmed violations. The first ends the run; what it means depends on what was in force.
    fn judge(&mut self, now_us: u64, confirmed: Vec<Confirmed>, out: &mut Vec<Effect>) {
        if self.facts.stood_still.is_some() {
            return;
        }
        for confirmed in confirmed {
            let during = self.state;
            // In recovery the steady state is not yet expected: only what was due under a fault comes here.
            let violation = Violation {
                expectation: confirmed.expectation,
                during,
                measured: confirmed.measured,
                samples: confirmed.samples,
                no_data: confirmed.no_data,
            };
            out.push(Effect::Say(Happening::Violated(violation.clone())));
            let in_force = self.faults.first_armed_us().is_some();
            match during {
                RunState::Baseline => {
                    let reason = violation.measured.clone();
                    self.facts.baseline = Some(reason.clone());
                    self.stop(now_us, StopReason::Baseline(reason), out);
                }
                RunState::Injecting(_) | RunState::Recovering if in_force => {
                    if self.facts.broken.is_none() {
                        self.facts.broken = Some((violation, now_us));
                    }
                    self.stop(now_us, StopReason::Violated, out);
                }
                RunState::Injecting(_) => {
                    let reason = format!("before any fault was in force: {}", violation.measured);
                    self.facts.inconclusive.push(reason);
                    self.stop(now_us, StopReason::Violated, out);
                }
                _ => {}
            }
        }
    }

    fn tick(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        if matches!(self.state, RunState::Planned | RunState::Gated) {
            return;
        }
        let confirmed = self.watch.tick(now_us, out);
        self.judge(now_us, confirmed, out);
        self.lose_the_late(now_us, out);
        self.renew(now_us, out);
        self.look(now_us, out);
        self.facts.note_nobody(&self.faults);
        self.advance(now_us, out);
    }

    fn renew(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        if self.stopping.is_some() || now_us < self.renew_us {
            return;
        }
        let nodes = by_node(self.faults.to_renew());
        if !nodes.is_empty() {
            self.renew_us = now_us + us(self.lease.duration()) / RENEWALS_PER_LEASE;
        }
        let lease = self.lease;
        for (node, faults) in nodes {
            self.send(&node, FromController::Renew(Renew { faults, lease }), out);
        }
    }

    /// Does what time and the faults' states allow.
    fn advance(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        match self.state {
            RunState::Baseline if now_us >= self.since_us + self.baseline_us => {
                self.baseline_over(now_us, out);
            }
            RunState::Injecting(stage) => self.injecting(now_us, stage as usize, out),
            RunState::Recovering => self.recovering(now_us, out),
            _ => {}
        }
    }

    fn baseline_over(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        match self.watch.baseline(now_us, out) {
            Ok(()) => self.inject(now_us, 0, out),
            Err(reason) => {
                self.facts.baseline = Some(reason.clone());
                self.stop(now_us, StopReason::Baseline(reason), out);
            }
        }
    }

    fn inject(&mut self, now_us: u64, stage: usize, out: &mut Vec<Effect>) {
        if let Some(reason) = self.faults.doubted().cloned() {
            let denied = false;
            return self.trouble(now_us, Trouble { reason, denied }, out);
        }
        let Some(planned) = self.plan.stages.get(stage) else {
            self.stop(now_us, StopReason::Done, out);
            return;
        };
        let ends_previous = planned.ends_previous;
        self.go(now_us, RunEvent::Inject(stage_number(stage)), out);
        self.watch.injecting(now_us, out);
        if ends_previous && self.faults.any_acting() {
            self.stop_again(out);
            self.faults.tell_to_end(now_us);
            self.part = Part::Clearing(now_us);
        } else {
            self.arm(now_us, stage, out);
        }
    }

    fn arm(&mut self, now_us: u64, stage: usize, out: &mut Vec<Effect>) {
        self.following.forget();
        for (node, arm) in self.faults.arm(stage) {
            self.send(&node, FromController::Arm(arm), out);
        }
        self.part = Part::Arming(now_us);
        self.renew_us = now_us + us(self.lease.duration()) / RENEWALS_PER_LEASE;
    }

    fn injecting(&mut self, now_us: u64, stage: usize, out: &mut Vec<Effect>) {
        match self.part {
            Part::Clearing(since) => {
                if !self.faults.any_acting() {
                    self.arm(now_us, stage, out);
                } else if now_us > since + self.not_shown_gone_us() {
                    let faults: Vec<_> = self.faults.acting().collect();
                    let reason = names("was not gone in time", &faults);
                    self.trouble(
                        now_us,
                        Trouble {
                            reason,
                            denied: false,
                        },
                        out,
                    );
                }
            }
            Part::Arming(since) => {
                if !self.faults.any_arming() {
                    let hold = self
                        .plan
                        .stages
                        .get(stage)
                        .map(|stage| stage.hold.duration());
                    self.part = Part::Holding(now_us + us(hold.unwrap_or_default()));
                } else if now_us > since + ARM_US_MAX {
                    let reason = names("was not in force in time", &self.faults.arming());
                    self.trouble(
                        now_us,
                        Trouble {
                            reason,
                            denied: false,
                        },
                        out,
                    );
                }
            }
            Part::Holding(until) if now_us >= until => {
                let mut later = self.plan.stages.iter().skip(stage);
                let held = later.next();
                // What is held next belongs to this step, unless it ends its faults first.
                if later.next().is_none_or(|next| next.ends_previous)
                    && let Some(held) = held
                {
                    self.watch.held(now_us, &held.name);
                }
                self.inject(now_us, stage + 1, out);
            }
            Part::Holding(_) => {}
        }
    }

    /// The run is to end, whatever it is doing. Never refused; the first reason stands.
    pub(super) fn stop(&mut self, now_us: u64, reason: StopReason, out: &mut Vec<Effect>) {
        if self.stopping.is_some() {
            return;
        }
        let nothing_was_asked_for = self.faults.iter().all(|fault| fault.state().is_none());
        out.push(Effect::Say(Happening::StopDecided(reason)));
        // First the word to the agents, then everything else.
        self.stop_everywhere(out);
        self.facts.stopped(&self.faults, now_us);
        self.faults.tell_to_end(now_us);
        self.stopping = Some(Stopping {
            at_us: now_us,
            said_us: now_us,
            gone_us: nothing_was_asked_for.then_some(now_us),
        });
        self.watch.stop(now_us);
        self.go(now_us, RunEvent::Stop, out);
        if nothing_was_asked_for {
            self.finish(now_us, out);
        }
    }

    fn not_shown_gone_us(&self) -> u64 {
        us(self.lease.duration()) + NOT_SHOWN_GONE_AFTER_LEASE_US
    }

    fn recovering(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        let patience_us = self.not_shown_gone_us();
        let Some(stopping) = &mut self.stopping else {
            return;
        };
        if let Some(gone_us) = stopping.gone_us {
            if self.facts.recovered_us.is_none() && self.watch.recovered() {
                out.push(Effect::Say(Happening::Recovered));
                self.facts.recovered_us = Some(now_us);
            }
            // What was due under the fault is waited for: it may be what breaks the run.
            let through = self.facts.recovered_us.is_some() && self.watch.heard();
            if through || self.facts.halted.is_some() || now_us >= gone_us + self.recovery_us {
                self.finish(now_us, out);
            }
            return;
        }
        let waited_us = now_us.saturating_sub(stopping.at_us);
        let word_us = stopping
            .said_us
            .max(self.faults.last_ended_us().unwrap_or(0));
        if !self.faults.any_acting() {
            // Which is known from now on: the last word may be that a fault never was.
            stopping.gone_us = Some(now_us);
            self.facts.gone_us = self.faults.last_ended_us();
            self.facts.clear_us = Some(now_us);
            self.watch.recovering(now_us, out);
        } else if waited_us >= patience_us + WAIT_FOR_STUCK_US_MAX
            || (waited_us >= patience_us && nobody_is_left_to_ask(&self.faults, &self.absent))
        {
            stopping.gone_us = Some(now_us);
            let acting = self.faults.acting();
            self.facts.not_shown_gone = acting.map(FaultInRun::words).collect();
            self.watch.recovering(now_us, out);
        } else if now_us >= (word_us + STOP_AGAIN_US).min(stopping.said_us + STOP_AGAIN_US_MAX) {
            stopping.said_us = now_us;
            self.stop_again(out);
        }
        if waited_us >= patience_us {
            let absent = &self.absent;
            let why = |node: &str| {
                if absent.is(node) {
                    "the agent that could show it gone was lost; the kernel ends its faults with it or with their leases"
                } else {
                    "it was told to end and its lease is over, and the agent has not shown it gone: see `squall-agent:` in ps on the node"
                }
            };
            let said = self.faults.not_shown_gone(why).into_iter();
            out.extend(said.map(Effect::Say));
        }
    }

    fn finish(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        let stopped_us = self.stopping.as_ref().map(|stopping| stopping.at_us);
        if self.facts.recovered_us.is_some() && self.facts.halted.is_none() {
            let lost = self.watch.lost();
            self.judge(now_us, lost, out);
        }
        self.facts.unproven = self.watch.unproven();
        if self.state != RunState::Finished {
            self.go(now_us, RunEvent::Finish, out);
        }
        let finished = verdict::finish(&self.facts, &self.faults, stopped_us, self.recovery_us);
        self.facts.verdict = Some(finished.verdict);
        if finished.verdict == Verdict::Held {
            let shown = self.watch.shown().into_iter();
            out.extend(shown.map(|what| Effect::Say(Happening::Noted(what))));
        }
        out.push(Effect::Say(Happening::Finished(finished)));
    }

    /// The only place where the state changes. An illegal change is a mistake of this file; it is said and the
    /// state stays, so that a stop still goes through.
    fn go(&mut self, now_us: u64, event: RunEvent, out: &mut Vec<Effect>) {
        match self.state.next(event) {
            Ok(next) => {
                if next != self.state {
                    self.state = next;
                    self.since_us = now_us;
                    out.push(Effect::Say(Happening::Entered(next)));
                }
            }
            Err(illegal) => out.push(Effect::Say(Happening::Noted(illegal.to_string()))),
        }
    }
}

/// Whatever may still act is on nodes whose agents are gone.
fn nobody_is_left_to_ask(faults: &Faults, absent: &Absent) -> bool {
    let mut nodes = faults.acting().map(|fault| &fault.planned.target.node);
    nodes.all(|node| absent.is(node))
}

fn names(what: &str, faults: &[&FaultInRun]) -> String {
    let names: Vec<String> = faults.iter().map(|fault| fault.words()).collect();
    format!("{} {what}", names.join(", "))
}

fn stage_number(stage: usize) -> u32 {
    u32::try_from(stage).unwrap_or(u32::MAX)
}

/// A duration as the machine counts time.
pub(super) fn us(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
