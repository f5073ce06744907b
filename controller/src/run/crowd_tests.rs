//! A run over thousands of agents: what each costs does not grow with their number, and who has yet to answer is not asked over and over.

use super::at_hand::LOOKS;
use super::fixture::{self, SECOND_US};
use super::halt::Who;
use super::machine::{Effect, Input, Machine};
use super::world::{armed, attempt, dosed, ended};
use squall_experiments::event::{Finished, Happening};
use squall_experiments::ids::FaultId;
use squall_experiments::plan::plan;
use squall_experiments::run_life::RunState;
use squall_experiments::target::{Candidate, Share};
use squall_experiments::verdict::Verdict;
use squall_experiments::wire::{EndCause, FromAgent, FromController, Stop};
use std::collections::{HashMap, VecDeque};

const STEP_US: u64 = SECOND_US / 50;
/// No run of these tests lasts longer.
const STEPS_MAX: usize = 120 * 50;

/// A run, and what its agents have to say.
struct Crowd {
    machine: Machine,
    now_us: u64,
    /// Waits to be heard, in order.
    words: VecDeque<(String, FromAgent)>,
    /// So many of those are heard in a step.
    pace: usize,
    /// Says nothing to a stop.
    deaf: Option<String>,
    stops: HashMap<String, usize>,
    finished: Option<Finished>,
}

fn node(number: usize) -> String {
    format!("node-{number}")
}

impl Crowd {
    fn new(agents: usize) -> Self {
        let mut experiment = fixture::experiment();
        experiment.method[0].ramp = vec![Share::All];
        let candidates = (0..agents).map(|number| Candidate {
            node: node(number),
            ..fixture::candidate("host")
        });
        let plan = plan(&experiment, &[candidates.collect()], &fixture::run(), 7).unwrap();
        let asked = vec![(0..agents).map(node).collect()];
        let mut crowd = Self {
            machine: Machine::new(&fixture::run(), &experiment, plan, asked),
            now_us: 1_000_000 * SECOND_US,
            words: VecDeque::new(),
            pace: usize::MAX,
            deaf: None,
            stops: HashMap::new(),
            finished: None,
        };
        crowd.take(Input::Begin);
        crowd
    }

    fn take(&mut self, input: Input) {
        for effect in self.machine.take(self.now_us, input) {
            match effect {
                Effect::Send(node, message) => self.answer(node, message),
                Effect::Say(Happening::Finished(finished)) => self.finished = Some(finished),
                Effect::Say(_) | Effect::Observe => {}
            }
        }
    }

    fn answer(&mut self, node: String, message: FromController) {
        match message {
            FromController::Arm(arm) => {
                self.words.push_back((node.clone(), armed(&arm.id)));
                self.words.push_back((node, dosed(&arm.id, 10)));
            }
            FromController::Stop(stop) => {
                *self.stops.entry(node.clone()).or_default() += 1;
                if self.deaf.as_ref() == Some(&node) {
                    return;
                }
                let ids = match stop {
                    Stop::Faults(ids) => ids,
                    _ => self
                        .machine
                        .faults
                        .on(&node)
                        .map(|f| f.planned.id.clone())
                        .collect(),
                };
                let end = |id: &FaultId| (node.clone(), ended(id, EndCause::Stopped));
                self.words.extend(ids.iter().map(end));
            }
            _ => {}
        }
    }

    fn step(&mut self) {
        self.now_us += STEP_US;
        let attempt = attempt(self.now_us, false);
        self.take(Input::Begun(0, attempt.due_us));
        self.take(Input::Trial(0, attempt));
        for _ in 0..self.pace.min(self.words.len()) {
            let (node, word) = self.words.pop_front().unwrap();
            self.take(Input::Agent(node, word));
        }
        self.take(Input::Tick);
    }

    fn until(&mut self, state: RunState) {
        for _ in 0..STEPS_MAX {
            if self.machine.state() == state {
                return;
            }
            self.step();
        }
        panic!("never {state:?}: {:?}", self.machine.state());
    }

    /// How many faults were looked at while every agent said that its own is in force, and when each said that it is gone.
    fn looks(mut self) -> (usize, usize) {
        let looks = || LOOKS.with(std::cell::Cell::get);
        let hear = |crowd: &mut Self| {
            let before = looks();
            while let Some((node, word)) = crowd.words.pop_front() {
                crowd.take(Input::Agent(node, word));
            }
            looks() - before
        };
        self.until(RunState::Injecting(0));
        let arming = hear(&mut self);
        self.take(Input::Halt(Who::Person));
        (arming, hear(&mut self))
    }
}

#[test]
fn what_an_agent_says_costs_the_same_however_many_there_are() {
    let (few, many) = (Crowd::new(100).looks(), Crowd::new(2_000).looks());
    // The words of twenty times as many; that they are all in force, and all gone, is looked at once.
    assert!(many.0 <= few.0 * 25 + 100, "{few:?} {many:?}");
    assert!(many.1 <= few.1 * 25 + 100, "{few:?} {many:?}");
}

#[test]
fn agents_that_take_seconds_to_answer_all_are_told_to_stop_once() {
    const AGENTS: usize = 3_000;
    let mut crowd = Crowd::new(AGENTS);
    crowd.until(RunState::Injecting(0));
    crowd.until(RunState::Recovering);
    // Three seconds' worth of answers.
    crowd.pace = AGENTS / 150;
    crowd.until(RunState::Finished);
    let told: usize = crowd.stops.values().sum();
    assert_eq!((crowd.stops.len(), told), (AGENTS, AGENTS));
    let finished = crowd.finished.unwrap();
    assert_eq!(finished.verdict, Verdict::Held, "{}", finished.because);
    let revert_ms = finished.revert_ms.unwrap();
    assert!((2_000.0..4_000.0).contains(&revert_ms), "{revert_ms}");
}

#[test]
fn who_has_not_heard_a_stop_is_told_again_while_others_still_answer() {
    const AGENTS: usize = 300;
    let mut crowd = Crowd::new(AGENTS);
    crowd.deaf = Some(node(0));
    crowd.until(RunState::Injecting(0));
    crowd.until(RunState::Recovering);
    // Six seconds of answers without a pause.
    crowd.pace = 1;
    for _ in 0..5 * 50 {
        crowd.step();
    }
    assert!(!crowd.words.is_empty());
    assert_eq!(crowd.stops[&node(0)], 2);
}
