//! Steps that follow their target: when it is looked for again, and what the answer means. Pure.
//!
//! ```text
//!   due ── ask ──▶ asked ── the agent's answer ──▶ due, `every` later
//!                    └──────── no answer in time ──▶ due at once
//! ```
//! An answer says what matches now. What is hit and no longer matches is let go; of the rest the step's share is hit:
//! more are drawn where there are too few, the latest are let go where there are too many.

use squall_experiments::experiment::Experiment;
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::follow::Follow;
use squall_experiments::ids::TargetId;
use squall_experiments::plan;
use squall_experiments::target::{Candidate, Share, Target};
use squall_experiments::wire::{Resolve, Resolved};
use std::collections::HashSet;

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
}

/// What an answer asks for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    /// To be hit.
    pub(super) join: Vec<Candidate>,
    /// Matches no longer.
    pub(super) lost: Vec<TargetId>,
    /// Matches, and is more than the share now.
    pub(super) surplus: Vec<TargetId>,
    /// How many match.
    pub(super) candidates: usize,
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
        }
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

    /// The question that is due, if one is.
    pub(super) fn ask(&mut self, now_us: u64, step: usize) -> Option<Resolve> {
        let waits = |since| now_us < since + ANSWER_US_MAX;
        if now_us < self.due_us || self.asked_us.is_some_and(waits) {
            return None;
        }
        let rule = self.rule(step)?;
        let (target, faults) = (rule.target.clone(), rule.kinds.clone());
        self.asked_us = Some(now_us);
        self.request += 1;
        Some(Resolve {
            request: self.request,
            target,
            faults,
        })
    }

    /// What the answer means for a step of which `hit` are hit, the earliest first. `None` for an answer to another question.
    pub(super) fn answer(
        &mut self,
        now_us: u64,
        resolved: &Resolved,
        (step, share): (usize, Share),
        hit: &[TargetId],
    ) -> Option<Change> {
        if self.asked_us.is_none() || resolved.request != self.request {
            return None;
        }
        let follow = self.rule(step)?.follow;
        self.asked_us = None;
        self.due_us = now_us + super::machine::us(follow.every.duration());
        // Another draw at each answer, and the same in a replay.
        let seed = self.seed.wrapping_add(self.request);
        let mut matching = plan::draw(&resolved.candidates, seed, step);
        let most = follow.at_most.map_or(usize::MAX, |most| most as usize);
        let wanted = share.of(matching.len()).min(most);
        let ids: HashSet<&TargetId> = matching.iter().map(|c| &c.id).collect();
        let (still, lost): (Vec<&TargetId>, Vec<&TargetId>) =
            hit.iter().partition(|id| ids.contains(id));
        let surplus = still.get(wanted..).unwrap_or_default();
        let candidates = matching.len();
        matching.retain(|candidate| !hit.contains(&candidate.id));
        let missing = wanted.saturating_sub(still.len());
        Some(Change {
            join: matching.into_iter().take(missing).cloned().collect(),
            lost: lost.into_iter().cloned().collect(),
            surplus: surplus.iter().copied().cloned().collect(),
            candidates,
        })
    }
}
