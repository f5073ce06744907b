//! A run over several agents, of which any may be cut off, come back, start again or be slow, in any order.

use super::fixture::{self, SECOND_US};
use super::halt::Who;
use super::machine::{Effect, Input, Machine};
use super::world::{armed, attempt, dosed, ended};
use proptest::prelude::*;
use squall_experiments::event::{Finished, Happening};
use squall_experiments::experiment::Experiment;
use squall_experiments::follow::Follow;
use squall_experiments::ids::FaultId;
use squall_experiments::plan::plan;
use squall_experiments::run_life::RunState;
use squall_experiments::target::{Candidate, Share};
use squall_experiments::verdict::Verdict;
use squall_experiments::wire::{EndCause, FromAgent, FromController, Refused, Resolved, Stop};
use std::collections::{BTreeMap, VecDeque};

const NODES: [&str; 3] = ["a", "b", "c"];
const STEP_US: u64 = SECOND_US / 50;
/// No run of the fixture lasts longer, whatever happens.
const RUN_US_MAX: u64 = 120 * SECOND_US;

/// An agent as the real one is, but for the kernel: leases, repetition, what it remembers and what it forgets.
#[derive(Debug, Clone)]
struct Agent {
    /// Words pass.
    linked: bool,
    /// The controller knows that it is not.
    missed: bool,
    slow: bool,
    denies: bool,
    live: BTreeMap<FaultId, u64>,
    over: BTreeMap<FaultId, FromAgent>,
    inbox: VecDeque<FromController>,
}

struct Fleet {
    machine: Machine,
    now_us: u64,
    lease_us: u64,
    agents: BTreeMap<String, Agent>,
    said: Vec<Happening>,
    stopped_us: Option<u64>,
    fails: u64,
    attempts: u64,
    observing: bool,
    record: Vec<(u64, Input, Vec<Effect>)>,
    armed_after_stop: bool,
    waiting: VecDeque<Input>,
    busy: bool,
}

fn candidate(node: &str) -> Candidate {
    Candidate {
        node: node.to_owned(),
        // The same on every node, as `host` is.
        ..fixture::candidate("host")
    }
}

fn experiment(follow: bool) -> Experiment {
    let mut experiment = fixture::experiment();
    experiment.method[0].ramp = vec![Share::Count(1), Share::All];
    experiment.method[0].follow = follow.then(Follow::default);
    experiment
}

fn machine(experiment: &Experiment) -> Machine {
    let candidates = vec![NODES.map(candidate).to_vec()];
    let plan = plan(experiment, &candidates, &fixture::run(), 7).unwrap();
    let asked = vec![NODES.map(str::to_owned).to_vec()];
    Machine::new(&fixture::run(), experiment, plan, asked)
}

impl Fleet {
    fn new(experiment: &Experiment) -> Self {
        let agent = Agent {
            linked: true,
            missed: false,
            slow: false,
            denies: false,
            live: BTreeMap::new(),
            over: BTreeMap::new(),
            inbox: VecDeque::new(),
        };
        let lease = u64::try_from(experiment.lease.duration().as_micros()).unwrap();
        let agents = NODES.map(|node| (node.to_owned(), agent.clone()));
        let mut fleet = Self {
            machine: machine(experiment),
            now_us: 1_000_000 * SECOND_US,
            lease_us: lease,
            agents: agents.into(),
            said: Vec::new(),
            stopped_us: None,
            fails: 0,
            attempts: 0,
            observing: false,
            record: Vec::new(),
            armed_after_stop: false,
            waiting: VecDeque::new(),
            busy: false,
        };
        fleet.take(Input::Begin);
        fleet
    }

    /// What agents answer at once is heard when everything that goes before has been done, as by the task that drives a run.
    fn take(&mut self, input: Input) {
        self.waiting.push_back(input);
        if std::mem::replace(&mut self.busy, true) {
            return;
        }
        while let Some(input) = self.waiting.pop_front() {
            self.do_what_follows(input);
        }
        self.busy = false;
    }

    fn do_what_follows(&mut self, input: Input) {
        let effects = self.machine.take(self.now_us, input.clone());
        self.record.push((self.now_us, input, effects.clone()));
        for effect in effects {
            match effect {
                Effect::Say(happening) => {
                    if matches!(happening, Happening::StopDecided(_)) {
                        self.stopped_us.get_or_insert(self.now_us);
                    }
                    self.said.push(happening);
                }
                Effect::Observe => self.observing = true,
                Effect::Send(node, message) => self.send(&node, message),
            }
        }
    }

    fn send(&mut self, node: &str, message: FromController) {
        let grows = matches!(message, FromController::Arm(_) | FromController::Renew(_));
        self.armed_after_stop |= grows && self.stopped_us.is_some();
        let agent = self.agents.get_mut(node).unwrap();
        if agent.missed {
            return self.take(Input::AgentAway(node.to_owned(), "no link".into()));
        }
        // A stop overtakes, as on the way of the real link; what it makes void is not asked for any more.
        if let FromController::Stop(stop) = &message {
            agent.inbox.retain(|waiting| match (waiting, stop) {
                (FromController::Arm(arm), Stop::Faults(ids)) => !ids.contains(&arm.id),
                (FromController::Arm(_), _) => false,
                _ => true,
            });
            agent.inbox.push_front(message);
        } else {
            agent.inbox.push_back(message);
        }
        self.serve(node);
    }

    /// What waits for an agent reaches it, or is lost.
    fn serve(&mut self, node: &str) {
        let agent = self.agents.get_mut(node).unwrap();
        if agent.slow {
            return;
        }
        let linked = agent.linked;
        let mut words = Vec::new();
        for message in std::mem::take(&mut agent.inbox) {
            if linked {
                words.extend(agent.hear(node, message, self.now_us, self.lease_us));
            }
        }
        words.into_iter().for_each(|word| self.say(node, word));
    }

    fn say(&mut self, node: &str, word: FromAgent) {
        if self.agents[node].linked {
            self.take(Input::Agent(node.to_owned(), word));
        }
    }

    fn back(&mut self, node: &str, restarted: bool) {
        let agent = self.agents.get_mut(node).unwrap();
        if restarted {
            agent.live.clear();
            agent.over.clear();
        }
        agent.inbox.clear();
        (agent.linked, agent.missed) = (true, false);
        self.take(Input::AgentAway(
            node.to_owned(),
            "another took its place".into(),
        ));
        self.take(Input::AgentBack(node.to_owned()));
    }

    fn live(&self) -> usize {
        self.agents.values().map(|agent| agent.live.len()).sum()
    }

    fn step(&mut self) {
        self.now_us += STEP_US;
        if self.observing {
            self.attempts += 1;
            let fails = self.live() > 0 && (self.attempts * self.fails) % 100 < self.fails;
            let attempt = attempt(self.now_us, fails);
            self.take(Input::Begun(0, attempt.due_us));
            self.take(Input::Trial(0, attempt));
        }
        for node in NODES {
            self.serve(node);
            let now_us = self.now_us;
            let agent = self.agents.get_mut(node).unwrap();
            let over = agent.live.iter().filter(|(_, until)| **until <= now_us);
            let over: Vec<FaultId> = over.map(|(id, _)| id.clone()).collect();
            for id in over {
                let word = self
                    .agents
                    .get_mut(node)
                    .unwrap()
                    .end(&id, EndCause::LeaseEnded);
                self.say(node, word);
            }
            if now_us.is_multiple_of(SECOND_US) {
                let live: Vec<FaultId> = self.agents[node].live.keys().cloned().collect();
                live.iter().for_each(|id| self.say(node, dosed(id, 10)));
            }
        }
        self.take(Input::Tick);
    }

    fn seconds(&mut self, seconds: usize) {
        (0..seconds * 50).for_each(|_| self.step());
    }

    fn until(&mut self, state: RunState) {
        let limit = self.now_us + RUN_US_MAX;
        while self.machine.state() != state {
            assert!(self.now_us < limit, "never {state:?}");
            self.step();
        }
    }

    fn finished(&mut self) -> Finished {
        self.until(RunState::Finished);
        match self.said.last() {
            Some(Happening::Finished(finished)) => finished.clone(),
            other => panic!("the last word was {other:?}"),
        }
    }

    /// Whether any fault was, as far as was heard.
    fn was_in_force(&self) -> bool {
        let was = |what: &Happening| matches!(what, Happening::Armed(_) | Happening::Ended(_));
        self.said.iter().any(was)
    }

    fn noted(&self, text: &str) -> bool {
        let has = |what: &Happening| matches!(what, Happening::Noted(note) if note.contains(text));
        self.said.iter().any(has)
    }
}

impl Agent {
    fn hear(
        &mut self,
        node: &str,
        message: FromController,
        now_us: u64,
        lease_us: u64,
    ) -> Vec<FromAgent> {
        match message {
            FromController::Arm(arm) => {
                if let Some(over) = self.over.get(&arm.id) {
                    return vec![over.clone()];
                }
                if self.denies {
                    let refused = FromAgent::Refused(Refused {
                        id: arm.id.clone(),
                        reason: "no".into(),
                        denied: true,
                        gone: false,
                    });
                    self.over.insert(arm.id, refused.clone());
                    return vec![refused];
                }
                self.live.entry(arm.id.clone()).or_insert(now_us + lease_us);
                vec![armed(&arm.id)]
            }
            FromController::Renew(renew) => {
                for id in renew.faults {
                    if let Some(until) = self.live.get_mut(&id) {
                        *until = now_us + lease_us;
                    }
                }
                Vec::new()
            }
            FromController::Stop(stop) => {
                let ids = match stop {
                    Stop::Faults(ids) => ids,
                    _ => self.live.keys().cloned().collect(),
                };
                let end = |id| self.end(id, EndCause::Stopped);
                ids.iter().map(end).collect()
            }
            FromController::Resolve(question) => vec![FromAgent::Resolved(Resolved {
                request: question.request,
                candidates: vec![candidate(node)],
                excluded: Vec::new(),
            })],
            FromController::Welcome(_) | FromController::Moved(_) => Vec::new(),
        }
    }

    fn end(&mut self, id: &FaultId, cause: EndCause) -> FromAgent {
        self.live.remove(id);
        let word = self.over.get(id).cloned();
        let word = word.unwrap_or_else(|| ended(id, cause));
        self.over.insert(id.clone(), word.clone());
        word
    }
}

#[test]
fn all_nodes_are_hit_and_each_is_stopped_with_one_message() {
    let mut fleet = Fleet::new(&experiment(false));
    fleet.until(RunState::Injecting(0));
    fleet.seconds(1);
    assert_eq!(fleet.live(), 1);
    fleet.until(RunState::Injecting(1));
    fleet.seconds(1);
    assert_eq!(fleet.live(), 3);
    let before = fleet.record.len();
    fleet.take(Input::Halt(Who::Person));
    let stops = fleet.record[before]
        .2
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send(node, FromController::Stop(Stop::Run(_))) => Some(node.as_str()),
            _ => None,
        });
    assert_eq!(stops.collect::<Vec<_>>(), NODES);
    assert_eq!(fleet.live(), 0);
    assert_eq!(fleet.finished().verdict, Verdict::Halted);
}

#[test]
fn an_agent_that_is_back_within_half_a_lease_goes_on() {
    let mut fleet = Fleet::new(&experiment(false));
    fleet.until(RunState::Injecting(1));
    fleet.seconds(1);
    fleet.agents.get_mut("b").unwrap().linked = false;
    fleet.seconds(3);
    fleet.back("b", false);
    let finished = fleet.finished();
    assert_eq!(finished.verdict, Verdict::Held, "{}", finished.because);
    assert!(fleet.noted("the agent of b is back"));
}

#[test]
fn an_agent_that_stays_away_ends_the_run_and_is_named() {
    for late in [false, true] {
        let mut fleet = Fleet::new(&experiment(false));
        fleet.until(RunState::Injecting(1));
        fleet.seconds(1);
        let agent = fleet.agents.get_mut("b").unwrap();
        (agent.linked, agent.missed) = (false, true);
        fleet.take(Input::AgentAway("b".into(), "it closed the link".into()));
        fleet.seconds(6);
        // Those that are there are clean at once; it is not known of the other.
        assert_eq!(fleet.live(), 1);
        if late {
            fleet.seconds(5);
            fleet.back("b", false);
        }
        let finished = fleet.finished();
        assert_eq!(finished.verdict, Verdict::Inconclusive);
        assert!(
            finished.because.contains("the agent of b was lost"),
            "{}",
            finished.because
        );
        let gone = !finished.because.contains("NOT SHOWN GONE");
        assert_eq!(gone, late, "{}", finished.because);
        assert_eq!(fleet.live(), 0);
    }
}

#[test]
fn an_agent_that_was_started_again_has_lost_its_fault() {
    let mut fleet = Fleet::new(&experiment(false));
    fleet.until(RunState::Injecting(1));
    fleet.seconds(1);
    let agent = fleet.agents.get_mut("c").unwrap();
    agent.live.clear();
    agent.denies = true;
    fleet.back("c", true);
    let finished = fleet.finished();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    assert!(
        finished.because.contains("started again"),
        "{}",
        finished.because
    );
}

#[test]
fn a_partial_arm_ends_what_was_armed() {
    let mut verdicts = Vec::new();
    for node in NODES {
        let mut fleet = Fleet::new(&experiment(false));
        fleet.agents.get_mut(node).unwrap().denies = true;
        let finished = fleet.finished();
        let told = format!("({node}) was not injected: no");
        assert!(finished.because.contains(&told), "{}", finished.because);
        assert_eq!(fleet.live(), 0);
        // The others' words came before this one's, or after it.
        assert_eq!(finished.verdict == Verdict::Refused, !fleet.was_in_force());
        verdicts.push(finished.verdict);
    }
    assert!(verdicts.contains(&Verdict::Inconclusive), "{verdicts:?}");
}

#[test]
fn nobody_speaks_for_another_node() {
    let mut fleet = Fleet::new(&experiment(false));
    fleet.until(RunState::Injecting(1));
    fleet.seconds(1);
    let id = fleet.agents["a"].live.keys().next().unwrap().clone();
    fleet.take(Input::Agent(
        "b".into(),
        ended(&id, EndCause::Failed("a lie".into())),
    ));
    assert_eq!(fleet.finished().verdict, Verdict::Held);
}

/// Anything that can happen to a fleet.
#[derive(Debug, Clone)]
enum Any {
    Steps(u8),
    Fails(u8),
    Cut(usize),
    Notice(usize),
    Back(usize),
    Restart(usize),
    Slow(usize, bool),
    Deny(usize),
    Halt,
}

fn anything() -> impl Strategy<Value = Any> {
    let node = || 0..NODES.len();
    prop_oneof![
        10 => any::<u8>().prop_map(Any::Steps),
        1 => (0..100u8).prop_map(Any::Fails),
        2 => node().prop_map(Any::Cut),
        2 => node().prop_map(Any::Notice),
        2 => node().prop_map(Any::Back),
        1 => node().prop_map(Any::Restart),
        1 => (node(), any::<bool>()).prop_map(|(node, slow)| Any::Slow(node, slow)),
        1 => node().prop_map(Any::Deny),
        1 => Just(Any::Halt),
    ]
}

fn happen(fleet: &mut Fleet, any: &Any) {
    match any {
        Any::Steps(count) => (0..*count).for_each(|_| fleet.step()),
        Any::Fails(share) => fleet.fails = u64::from(*share),
        Any::Cut(node) => fleet.agents.get_mut(NODES[*node]).unwrap().linked = false,
        Any::Notice(node) => {
            let agent = fleet.agents.get_mut(NODES[*node]).unwrap();
            if !agent.linked {
                agent.missed = true;
                fleet.take(Input::AgentAway(NODES[*node].into(), "noticed".into()));
            }
        }
        Any::Back(node) => fleet.back(NODES[*node], false),
        Any::Restart(node) => fleet.back(NODES[*node], true),
        Any::Slow(node, slow) => fleet.agents.get_mut(NODES[*node]).unwrap().slow = *slow,
        Any::Deny(node) => fleet.agents.get_mut(NODES[*node]).unwrap().denies = true,
        Any::Halt => fleet.take(Input::Halt(Who::Person)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every run ends, once, with a verdict; nothing is asked for or kept alive once a stop is decided, so that a lease later nothing
    /// is in force anywhere; a held run had every fault in force; and a replay of what it heard comes to the same.
    #[test]
    fn every_run_ends_and_leaves_nothing(
        follow: bool,
        happenings in proptest::collection::vec(anything(), 0..40),
    ) {
        let experiment = experiment(follow);
        let mut fleet = Fleet::new(&experiment);
        let check = |fleet: &Fleet| {
            let over = fleet.stopped_us.map(|at| at + fleet.lease_us + STEP_US);
            assert!(over.is_none_or(|over| fleet.now_us < over || fleet.live() == 0));
        };
        for any in &happenings {
            happen(&mut fleet, any);
            check(&fleet);
        }
        let finished = fleet.finished();
        check(&fleet);
        prop_assert!(finished.verdict != Verdict::Refused || !fleet.was_in_force());
        prop_assert!(!fleet.armed_after_stop);
        let ends = fleet.said.iter().filter(|h| matches!(h, Happening::Finished(_))).count();
        prop_assert_eq!(ends, 1);
        let armed = fleet.said.iter().filter(|h| matches!(h, Happening::Armed(_))).count();
        if finished.verdict == Verdict::Held {
            prop_assert!(armed >= 3, "{armed} of 3 were in force");
            prop_assert_eq!(fleet.live(), 0);
        }
        let mut again = machine(&experiment);
        for (now_us, input, effects) in std::mem::take(&mut fleet.record) {
            prop_assert_eq!(again.take(now_us, input), effects);
        }
    }
}
