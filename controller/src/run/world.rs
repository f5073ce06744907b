//! An agent and a service for tests of the machine: they answer at once, and do as they are set.

use super::fixture::{self, SECOND_US};
use super::machine::{Effect, Input, Machine};
use crate::judge::{Outcome, Trial};
use squall_experiments::dose::{Dose, Evidence, NetworkDose};
use squall_experiments::event::{Finished, Happening, StopReason};
use squall_experiments::experiment::Experiment;
use squall_experiments::fault::Holding;
use squall_experiments::ids::FaultId;
use squall_experiments::run_life::RunState;
use squall_experiments::wire::{
    Armed, Dosed, EndCause, Ended, FromAgent, FromController, Refused, Resolved, Stop,
};
use std::collections::HashMap;

const BEGAN_US: u64 = 1_000_000 * SECOND_US;
/// 50 attempts a second.
const TRIAL_EVERY_US: u64 = SECOND_US / 50;
/// No run of the fixture lasts longer.
const RUN_US_MAX: u64 = 120 * SECOND_US;

/// How an agent and a service of the tests behave.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) now_us: u64,
    pub(super) said: Vec<Happening>,
    pub(super) sent: Vec<FromController>,
    /// What was asked for and is not yet gone.
    pub(super) live: Vec<FaultId>,
    /// The share of attempts that fail, in percent, while a fault is live.
    pub(super) fails_under_fault: u64,
    /// The same without one.
    pub(super) fails: u64,
    /// The share of the control's attempts that fail, in percent, while a fault is live; no control where there is none.
    pub(super) control_fails_under_fault: Option<u64>,
    /// By so much the control's failures are out of step with the group's.
    pub(super) control_out_of_step: u64,
    /// What the faults say that they did, once a second.
    pub(super) did: Dose,
    /// The agent answers.
    pub(super) answers: bool,
    /// The agent ends faults.
    pub(super) ends: bool,
    /// The probes report.
    pub(super) reports: bool,
    /// Of so many attempts under a fault, over and over, which begin and are never heard of again, and which nobody hears of at all.
    pub(super) lost: Vec<bool>,
    pub(super) left_out: Vec<bool>,
    /// Of those that fail under a fault none is heard of again.
    pub(super) loses_failures: bool,
    /// What the machine was told and what it did about it, in order.
    pub(super) record: Vec<(u64, Input, Vec<Effect>)>,
    /// What there is to hit, and what each fault was aimed at.
    pub(super) there: Vec<String>,
    pub(super) aims: HashMap<FaultId, String>,
    attempts: u64,
    observing: bool,
}

impl World {
    pub(super) fn new(experiment: &Experiment) -> Self {
        Self {
            machine: Machine::new(
                &fixture::run(),
                experiment,
                fixture::planned(experiment),
                vec![vec![NODE.into()]; experiment.method.len()],
            ),
            now_us: BEGAN_US,
            said: Vec::new(),
            sent: Vec::new(),
            live: Vec::new(),
            fails_under_fault: 0,
            fails: 0,
            control_fails_under_fault: None,
            control_out_of_step: 37,
            did: packets(10),
            answers: true,
            ends: true,
            reports: true,
            lost: vec![false],
            left_out: vec![false],
            loses_failures: false,
            record: Vec::new(),
            there: vec!["a".into(), "b".into()],
            aims: HashMap::new(),
            attempts: 0,
            observing: false,
        }
    }

    pub(super) fn take(&mut self, input: Input) {
        let effects = self.machine.take(self.now_us, input.clone());
        self.record.push((self.now_us, input, effects.clone()));
        for effect in effects {
            match effect {
                Effect::Say(happening) => self.said.push(happening),
                Effect::Observe => self.observing = true,
                Effect::Send(_, message) => {
                    self.sent.push(message.clone());
                    self.answer(message);
                }
            }
        }
    }

    fn answer(&mut self, message: FromController) {
        match message {
            FromController::Arm(arm) => {
                self.aims.insert(arm.id.clone(), arm.target.0.clone());
                if self.answers && !self.there.contains(&arm.target.0) {
                    return self.take(heard(no_longer_there(&arm.id)));
                }
                self.live.push(arm.id.clone());
                if self.answers {
                    self.take(heard(armed(&arm.id)));
                }
            }
            FromController::Resolve(question) if self.answers => {
                let there = self.there.iter();
                let answer = FromAgent::Resolved(Resolved {
                    request: question.request,
                    candidates: there.map(|name| fixture::candidate(name)).collect(),
                    excluded: Vec::new(),
                });
                self.take(heard(answer));
            }
            FromController::Stop(stop) if self.ends => {
                let gone: Vec<FaultId> = match stop {
                    Stop::Faults(ids) => ids,
                    Stop::Run(_) | Stop::All | Stop::Others(_) => self.live.clone(),
                };
                for id in gone {
                    self.live.retain(|live| *live != id);
                    self.take(heard(ended(&id, EndCause::Stopped)));
                }
            }
            _ => {}
        }
    }

    /// One step of 20 ms: an attempt, a tick, and each second the doses.
    pub(super) fn step(&mut self) {
        self.now_us += TRIAL_EVERY_US;
        if self.observing && self.reports {
            self.attempts += 1;
            let share = if self.live.is_empty() {
                self.fails
            } else {
                self.fails_under_fault
            };
            let fails = (self.attempts * share) % 100 < share;
            let attempt = attempt(self.now_us, fails);
            let of = |list: &[bool]| {
                let place = usize::try_from(self.attempts).unwrap() % list.len();
                list[place] && !self.live.is_empty()
            };
            let left_out = of(&self.left_out);
            let lost = of(&self.lost) || (fails && self.loses_failures && !self.live.is_empty());
            if !left_out {
                self.take(Input::Begun(0, attempt.due_us));
            }
            if !lost && !left_out {
                self.take(Input::Trial(0, attempt));
            }
            if let Some(share) = self.control_fails_under_fault {
                let place = self.attempts * share + self.control_out_of_step;
                let fails = !self.live.is_empty() && place % 100 < share;
                self.take(Input::Trial(1, self::attempt(self.now_us, fails)));
            }
        }
        if self.now_us.is_multiple_of(SECOND_US) {
            for id in self.live.clone() {
                self.take(heard(did_so_far(&id, self.did.clone())));
            }
        }
        self.take(Input::Tick);
    }

    pub(super) fn until(&mut self, state: RunState) {
        let limit = self.now_us + RUN_US_MAX;
        while self.machine.state() != state {
            assert!(
                self.now_us < limit,
                "never {state:?}: {:?}",
                self.machine.state()
            );
            self.step();
        }
    }

    pub(super) fn through(&mut self) -> Finished {
        self.take(Input::Begin);
        self.until(RunState::Finished);
        self.finished()
    }

    pub(super) fn finished(&self) -> Finished {
        match self.said.last() {
            Some(Happening::Finished(finished)) => finished.clone(),
            other => panic!("the last word was {other:?}"),
        }
    }

    pub(super) fn decided(&self) -> Option<&StopReason> {
        self.said.iter().find_map(|happening| match happening {
            Happening::StopDecided(reason) => Some(reason),
            _ => None,
        })
    }

    pub(super) fn stops_sent(&self) -> usize {
        let stop = |message: &&FromController| matches!(message, FromController::Stop(_));
        self.sent.iter().filter(stop).count()
    }
}

pub(super) fn attempt(now_us: u64, fails: bool) -> Trial {
    Trial {
        due_us: now_us - 10_000,
        ended_us: now_us,
        outcome: if fails {
            Outcome::Failed("status 503".into())
        } else {
            Outcome::Success
        },
        status: Some(if fails { 503 } else { 200 }),
        value: None,
        exit: None,
        bodies: Vec::new(),
    }
}

/// The one node of these tests.
pub(super) const NODE: &str = "node";

/// Its agent spoke.
pub(super) fn heard(message: FromAgent) -> Input {
    Input::Agent(NODE.into(), message)
}

pub(super) fn armed(id: &FaultId) -> FromAgent {
    FromAgent::Armed(Armed {
        id: id.clone(),
        holder: 1,
        evidence: Evidence::default(),
        held: Holding::Kernel,
        at_us: 0,
        took_us: 1,
    })
}

fn no_longer_there(id: &FaultId) -> FromAgent {
    FromAgent::Refused(Refused {
        id: id.clone(),
        reason: "its target has ended".into(),
        denied: true,
        gone: true,
    })
}

pub(super) fn ended(id: &FaultId, cause: EndCause) -> FromAgent {
    FromAgent::Ended(Ended {
        id: id.clone(),
        cause,
        dose: None,
        at_us: 0,
        took_us: Some(1),
        lasted_us: None,
    })
}

pub(super) fn packets(matched: u64) -> Dose {
    Dose::Network(NetworkDose {
        matched,
        ..NetworkDose::default()
    })
}

pub(super) fn dosed(id: &FaultId, matched: u64) -> FromAgent {
    did_so_far(id, packets(matched))
}

fn did_so_far(id: &FaultId, dose: Dose) -> FromAgent {
    FromAgent::Dosed(Dosed {
        id: id.clone(),
        dose,
        at_us: 0,
    })
}
