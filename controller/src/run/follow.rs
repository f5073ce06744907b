//! Steps that follow their target: when it is looked for again, and what the answer means. Pure.
//!
//! ```text
//!   due ── ask ──▶ asked ── every agent's answer ──▶ due, `every` later
//!                    └──────── no answer in time ──▶ due at once
//! ```
//! An answer says what matches now. What is hit and no longer matches is let go; of the rest the step's share is hit:
//! more are drawn where there are too few, the latest are let go where there are too many.

use super::planning::place;
use squall_experiments::experiment::Experiment;
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::follow::Follow;
use squall_experiments::join::Labels;
use squall_experiments::plan;
use squall_experiments::target::{Candidate, Share, Target, TargetAt};
use squall_experiments::wire::{Resolve, Resolved};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Questions of a run that is under way, apart from those with which it was planned.
const FIRST_REQUEST: u64 = 1 << 32;

/// An agent that has not answered within this is asked again.
const ANSWER_US_MAX: u64 = 5_000_000;

/// One step that follows.
#[derive(Debug, Clone)]
struct Rule {
    follow: Follow,
    target: Target,
    kinds: Vec<FaultKind>,
}

/// The steps of a run that follow, and the question that is out.
#[derive(Debug, Clone)]
pub(super) struct Following {
    rules: Vec<Option<Rule>>,
    seed: u64,
    request: u64,
    asked_us: Option<u64>,
    due_us: u64,
    /// Who has not answered the question that is out.
    waited_for: BTreeSet<String>,
    /// What each node answered last, of the step it was asked for: who is silent for a while keeps what it has.
    known: BTreeMap<String, Vec<Candidate>>,
    of_step: usize,
    /// One of each group of replicas is never hit.
    spares: bool,
    /// What the nodes are labelled with.
    labels: BTreeMap<String, Labels>,
}

/// What an answer asks for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    /// To be hit.
    pub(super) join: Vec<Candidate>,
    /// Matches no longer.
    pub(super) lost: Vec<TargetAt>,
    /// Matches, and is more than the share now.
    pub(super) surplus: Vec<TargetAt>,
    /// What matches.
    pub(super) matching: Vec<Candidate>,
}

impl Following {
    pub(super) fn new(experiment: &Experiment, seed: u64) -> Self {
        let rules = experiment.method.iter().map(|step| {
            step.follow.map(|follow| Rule {
                follow,
                target: step.on.clone(),
                kinds: step.faults.iter().map(Fault::kind).collect(),
            })
        });
        Self {
            rules: rules.collect(),
            seed,
            request: FIRST_REQUEST,
            asked_us: None,
            due_us: 0,
            waited_for: BTreeSet::new(),
            known: BTreeMap::new(),
            of_step: 0,
            spares: false,
            labels: BTreeMap::new(),
        }
    }

    /// What is found has the zones and groups that its node's labels say; and one of each group is left alone, where it `spares`.
    pub(super) fn bound(&mut self, labels: BTreeMap<String, Labels>, spares: bool) {
        self.labels = labels;
        self.spares = spares;
    }

    /// Whether this step follows its target.
    pub(super) fn is_on(&self, step: usize) -> bool {
        self.rule(step).is_some()
    }

    fn rule(&self, step: usize) -> Option<&Rule> {
        self.rules.get(step).and_then(Option::as_ref)
    }

    /// Look as soon as possible: a stage has begun, or something is in doubt.
    pub(super) const fn hurry(&mut self) {
        self.due_us = 0;
    }

    /// What was asked for another step, or before a stop, is not waited for.
    pub(super) const fn forget(&mut self) {
        self.asked_us = None;
        self.due_us = 0;
    }

    /// The question that is due, if one is, and who is asked: who is there.
    pub(super) fn ask(
        &mut self,
        now_us: u64,
        step: usize,
        there: BTreeSet<String>,
    ) -> Option<(Resolve, BTreeSet<String>)> {
        let waits = |since| now_us < since + ANSWER_US_MAX;
        if now_us < self.due_us || self.asked_us.is_some_and(waits) {
            return None;
        }
        let rule = self.rule(step)?;
        let (target, faults) = (rule.target.clone(), rule.kinds.clone());
        if std::mem::replace(&mut self.of_step, step) != step {
            self.known.clear();
        }
        self.asked_us = Some(now_us);
        self.request += 1;
        self.waited_for.clone_from(&there);
        let question = Resolve {
            request: self.request,
            target,
            faults,
        };
        Some((question, there))
    }

    /// Takes a node's answer; whether it was the last that is waited for.
    pub(super) fn hears(&mut self, node: &str, resolved: &Resolved) -> bool {
        let ours = self.asked_us.is_some() && resolved.request == self.request;
        if !ours || !self.waited_for.remove(node) {
            return false;
        }
        // Nobody speaks for another's.
        let own = resolved.candidates.iter().filter(|one| one.node == node);
        let (labels, rule) = (self.labels.get(node), self.rule(self.of_step));
        let candidates = own
            .cloned()
            .filter_map(|one| Some(place(&rule?.target, labels, one)));
        let candidates = candidates.collect();
        self.known.insert(node.to_owned(), candidates);
        self.waited_for.is_empty()
    }

    /// Some have answered, and the others are not waited for any longer.
    pub(super) fn is_late(&self, now_us: u64) -> bool {
        let late = |since: u64| now_us >= since + ANSWER_US_MAX;
        self.asked_us.is_some_and(late) && !self.known.is_empty()
    }

    /// What the answers mean for a step of which `hit` are hit, the earliest first.
    pub(super) fn change(
        &mut self,
        now_us: u64,
        (step, share): (usize, Share),
        hit: &[TargetAt],
    ) -> Option<Change> {
        let follow = self.rule(step)?.follow;
        self.asked_us = None;
        self.due_us = now_us + super::machine::us(follow.every.duration());
        // Another draw at each answer, and the same in a replay.
        let seed = self.seed.wrapping_add(self.request);
        let known: Vec<Candidate> = self.known.values().flatten().cloned().collect();
        let matching: Vec<Candidate> = plan::draw(&known, seed, step)
            .into_iter()
            .cloned()
            .collect();
        let most = follow.at_most.map_or(usize::MAX, |most| most as usize);
        let wanted = share.of(matching.len()).min(most);
        let ids: HashSet<TargetAt> = matching.iter().map(Candidate::at).collect();
        // Of a node that was never heard nothing is known; what is hit there stays.
        let silent = |at: &TargetAt| !self.known.contains_key(&at.node);
        let (still, lost): (Vec<&TargetAt>, Vec<&TargetAt>) =
            hit.iter().partition(|at| ids.contains(at) || silent(at));
        let surplus: Vec<TargetAt> = still.iter().skip(wanted).map(|at| (*at).clone()).collect();
        let missing = wanted.saturating_sub(still.len());
        let still: HashSet<&TargetAt> = still.iter().copied().collect();
        Some(Change {
            join: self.joining(&matching, &still, missing),
            lost: lost.into_iter().cloned().collect(),
            surplus,
            matching,
        })
    }

    /// The first of those that are not hit, but for the last of each group where that is spared.
    fn joining(
        &self,
        matching: &[Candidate],
        hit: &HashSet<&TargetAt>,
        missing: usize,
    ) -> Vec<Candidate> {
        let mut left: HashMap<&str, usize> = HashMap::new();
        let (hit, free): (Vec<&Candidate>, Vec<&Candidate>) =
            matching.iter().partition(|one| hit.contains(&one.at()));
        drop(hit);
        for group in free.iter().filter_map(|one| one.group.as_deref()) {
            *left.entry(group).or_default() += 1;
        }
        let may = |one: &&Candidate| match one.group.as_deref().and_then(|g| left.get_mut(g)) {
            Some(1) if self.spares => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        };
        free.into_iter()
            .filter(may)
            .take(missing)
            .cloned()
            .collect()
    }
}
