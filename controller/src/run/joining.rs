//! The faults of a step that follows its target: which targets are hit, who joins and who is let go. Pure.

use super::faults::{FaultInRun, Faults, Trouble};
use super::follow::Change;
use squall_experiments::dose::Dose;
use squall_experiments::event::{Happening, TargetJoined, TargetLeft};
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::fault_life::FaultState;
use squall_experiments::ids::FaultId;
use squall_experiments::plan::PlannedFault;
use squall_experiments::target::{Candidate, TargetAt};
use squall_experiments::wire::Arm;
use std::collections::{BTreeMap, HashSet};

/// A target that joined so shortly before the end need not have shown a dose: the second word of its holder is due by then.
const DOSE_WITHIN_US: u64 = 2_000_000;

/// What is to be said and done for a [`Change`].
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) said: Vec<Happening>,
    /// Node by node.
    pub(super) end: BTreeMap<String, Vec<FaultId>>,
    pub(super) arm: Vec<(String, Arm)>,
    pub(super) trouble: Option<Trouble>,
}

impl Faults {
    /// The targets that a step hits, the earliest first. A kill is no sign: it goes on by itself after its target's end.
    pub(super) fn hit(&self, step: usize) -> Vec<TargetAt> {
        let mut hit: Vec<TargetAt> = Vec::new();
        let mut seen = HashSet::new();
        for fault in self.of_step(step).filter(|fault| fault.stays()) {
            let is_hit = match fault.state() {
                Some(FaultState::Arming | FaultState::Armed) => true,
                // Told to end: it is hit until it has.
                state => state.is_some_and(FaultState::may_act),
            };
            let at = fault.planned.target.at();
            if is_hit && seen.insert(at.clone()) {
                hit.push(at);
            }
        }
        hit
    }

    fn of_step(&self, step: usize) -> impl Iterator<Item = &FaultInRun> {
        self.iter().filter(move |fault| fault.step == step)
    }

    /// What the change makes of a step's faults.
    pub(super) fn change(&mut self, now_us: u64, step: usize, change: &Change) -> Moves {
        let mut moves = Moves::default();
        moves.trouble = self.clear_doubts(step, &change.matching, &mut moves.said);
        for (targets, why) in [
            (&change.lost, "it is not found any more"),
            (
                &change.surplus,
                "fewer match now, and so the share is smaller",
            ),
        ] {
            for target in targets {
                let Some((candidate, faults)) = self.let_go(now_us, step, target) else {
                    continue;
                };
                let there = moves.end.entry(target.node.clone()).or_default();
                there.extend(faults);
                moves.said.push(left(step, &candidate, why));
            }
        }
        // Asked for once: of ten thousand that join, each would look through all of them.
        let mut hit: HashSet<TargetAt> = self.hit(step).into_iter().collect();
        for candidate in &change.join {
            let mut joined = self.join(step, candidate, &mut moves.arm);
            if !joined.faults.is_empty() {
                hit.insert(candidate.at());
            }
            (joined.candidates, joined.hit) = (change.matching.len(), hit.len());
            moves.said.push(Happening::TargetJoined(joined));
        }
        moves
    }

    /// Holders that were killed: with their target, or in its stead.
    fn clear_doubts(
        &mut self,
        step: usize,
        matching: &[Candidate],
        said: &mut Vec<Happening>,
    ) -> Option<Trouble> {
        let mut trouble = None;
        for (fault, reason) in self.take_doubts(step) {
            let target = &fault.planned.target;
            // A process is known by when it started; a group is the same one with other processes in it.
            let is_there = target.pid.is_some() && matching.iter().any(|m| m.at() == target.at());
            if is_there {
                trouble.get_or_insert(Trouble {
                    reason,
                    denied: false,
                });
            } else if !std::mem::replace(&mut fault.left, true) {
                said.push(left(step, target, "it has ended, and the holder with it"));
            }
        }
        trouble
    }

    /// Adds a target's faults, which are to be asked for. Of how many it is one, whoever takes in all of them says.
    fn join(
        &mut self,
        step: usize,
        target: &Candidate,
        arm: &mut Vec<(String, Arm)>,
    ) -> TargetJoined {
        let place = self.take_place(step);
        let faults: Vec<PlannedFault> = self
            .each(step)
            .iter()
            .filter(|planned| stays(&planned.fault))
            .enumerate()
            .map(|(which, planned)| PlannedFault {
                id: FaultId(format!("{}/{step}.{place}.{which}", self.run())),
                target: target.clone(),
                ..planned.clone()
            })
            .collect();
        let begin = self.iter().count();
        for planned in &faults {
            self.add(planned.clone(), step, true);
        }
        arm.extend(self.ask_for(begin..begin + faults.len()));
        TargetJoined {
            step,
            target: target.clone(),
            faults,
            candidates: 0,
            hit: 0,
        }
    }

    /// Faults that were to be in force and did nothing. Of those that follow, one whose target was let go, or that came a moment
    /// before the end, need not have; but of each kind at least one must have. Each with the reason, where its dose tells one.
    pub(super) fn idle(&self, stopped_us: Option<u64>) -> Vec<String> {
        let did = |fault: &FaultInRun| {
            fault.armed_us.is_some() && fault.dose.as_ref().is_some_and(Dose::in_force)
        };
        let late = |fault: &FaultInRun| {
            let armed_us = fault.armed_us.unwrap_or(u64::MAX);
            fault.follows
                && stopped_us.is_some_and(|at| at < armed_us.saturating_add(DOSE_WITHIN_US))
        };
        let idle = |fault: &&FaultInRun| {
            if did(fault) {
                return false;
            }
            let alike = |other: &FaultInRun| {
                other.step == fault.step && other.planned.fault == fault.planned.fault && did(other)
            };
            let excused = fault.left || (fault.follows && late(fault));
            !(excused && self.iter().any(alike))
        };
        let told = |fault: &FaultInRun| {
            let why = fault.dose.as_ref().and_then(Dose::why_idle);
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            format!("{}{why}", fault.words())
        };
        self.iter().filter(idle).map(told).collect()
    }
}

impl FaultInRun {
    /// Whether it is in force until it is ended, and so shows that its target is hit.
    pub(super) fn stays(&self) -> bool {
        stays(&self.planned.fault)
    }
}

fn stays(fault: &Fault) -> bool {
    fault.kind() != FaultKind::Kill
}

fn left(step: usize, target: &Candidate, reason: &str) -> Happening {
    Happening::TargetLeft(TargetLeft {
        step,
        target: target.clone(),
        reason: reason.to_owned(),
    })
}
