//! The faults of one run, as far as the controller knows of them. Pure.

use squall_experiments::dose::Dose;
use squall_experiments::event::{FaultArmed, FaultDosed, FaultEnded, FaultRefused, Happening};
use squall_experiments::fault_life::{FaultEvent, FaultState};
use squall_experiments::ids::{FaultId, RunId};
use squall_experiments::plan::{Plan, PlannedFault};
use squall_experiments::units::Lease;
use squall_experiments::wire::{Arm, EndCause, Ended, FromAgent};
use std::collections::HashMap;

/// One fault of the plan and what became of it.
#[derive(Debug, Clone)]
pub(super) struct FaultInRun {
    pub(super) planned: PlannedFault,
    /// None until it was asked for.
    pub(super) state: Option<FaultState>,
    /// Its stage was over, or the run told to end, before it ended: ending is what was wanted.
    told: bool,
    pub(super) armed_us: Option<u64>,
    pub(super) ended_us: Option<u64>,
    pub(super) dose: Option<Dose>,
    seed: u64,
}

impl FaultInRun {
    pub(super) fn words(&self) -> String {
        format!("{} on {}", self.planned.fault, self.planned.target.label)
    }

    fn may_act(&self) -> bool {
        self.state.is_some_and(FaultState::may_act)
    }

    /// Bad news: trouble for the run, unless the fault was told to end anyhow.
    fn trouble(&self, reason: String, denied: bool, said: Happening) -> Applied {
        Applied {
            said: Some(said),
            trouble: (!self.told).then_some(Trouble { reason, denied }),
        }
    }

    fn ended(&mut self, now_us: u64, ended: &Ended) -> Applied {
        if self.ended_us.is_some() {
            return Applied::default();
        }
        self.ended_us = Some(now_us);
        self.dose = ended.dose.clone().or(self.dose.take());
        let happening = Happening::Ended(FaultEnded {
            id: ended.id.clone(),
            cause: ended.cause.clone(),
            dose: ended.dose.clone(),
            took_us: ended.took_us,
        });
        if ended.cause == EndCause::Done {
            return said(happening);
        }
        let reason = format!("{} ended by itself: {}", self.words(), cause(&ended.cause));
        self.trouble(reason, false, happening)
    }
}

fn unwell(id: &FaultId, reason: &str) -> FaultRefused {
    FaultRefused {
        id: id.clone(),
        reason: reason.to_owned(),
    }
}

/// What a message from the agent means for the run.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// To be said to whoever watches.
    pub(super) said: Option<Happening>,
    /// The run cannot go on as planned, and why.
    pub(super) trouble: Option<Trouble>,
}

/// Why a run cannot go on as planned.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trouble {
    pub(super) reason: String,
    /// The node said no on purpose.
    pub(super) denied: bool,
}

/// All faults of a run, in the plan's order.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    run: RunId,
    lease: Lease,
    all: Vec<FaultInRun>,
    places: HashMap<FaultId, usize>,
    /// Where each stage's faults begin.
    stages: Vec<std::ops::Range<usize>>,
}

impl Faults {
    pub(super) fn new(run: &RunId, plan: &Plan, lease: Lease) -> Self {
        let mut all = Vec::new();
        let mut stages = Vec::new();
        for stage in &plan.stages {
            let begin = all.len();
            for planned in &stage.arm {
                // Splits one seed into unlike ones, the same in every run with this seed (Weyl's sequence, as splitmix64 has it).
                let place = all.len() as u64 + 1;
                all.push(FaultInRun {
                    planned: planned.clone(),
                    state: None,
                    told: false,
                    armed_us: None,
                    ended_us: None,
                    dose: None,
                    seed: plan.seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                });
            }
            stages.push(begin..all.len());
        }
        let places = all.iter().enumerate();
        let places = places.map(|(place, fault)| (fault.planned.id.clone(), place));
        Self {
            run: run.clone(),
            lease,
            places: places.collect(),
            all,
            stages,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FaultInRun> {
        self.all.iter()
    }

    /// The faults that a stage adds are asked for.
    pub(super) fn arm(&mut self, stage: usize) -> Vec<Arm> {
        let range = self.stages.get(stage).cloned().unwrap_or_default();
        let (run, lease) = (&self.run, self.lease);
        let faults = self.all[range].iter_mut();
        faults
            .map(|fault| {
                fault.state = Some(FaultState::Arming);
                Arm {
                    id: fault.planned.id.clone(),
                    run: run.clone(),
                    fault: fault.planned.fault.clone(),
                    target: fault.planned.target.id.clone(),
                    lease,
                    seed: fault.seed,
                    means: None,
                }
            })
            .collect()
    }

    /// Those still being armed.
    pub(super) fn arming(&self) -> Vec<&FaultInRun> {
        let arming = |fault: &&FaultInRun| fault.state == Some(FaultState::Arming);
        self.all.iter().filter(arming).collect()
    }

    /// Those that may still act on their target.
    pub(super) fn acting(&self) -> Vec<&FaultInRun> {
        self.all.iter().filter(|fault| fault.may_act()).collect()
    }

    pub(super) fn acting_ids(&self) -> Vec<FaultId> {
        let acting = self.acting();
        acting
            .iter()
            .map(|fault| fault.planned.id.clone())
            .collect()
    }

    /// Those whose lease is to be renewed: what was told to end is not among them.
    pub(super) fn to_renew(&self) -> Vec<FaultId> {
        let live =
            |f: &&FaultInRun| matches!(f.state, Some(FaultState::Arming | FaultState::Armed));
        let live = self.all.iter().filter(live);
        live.map(|fault| fault.planned.id.clone()).collect()
    }

    /// Everything that may act is told to end.
    pub(super) fn tell_to_end(&mut self) {
        for fault in &mut self.all {
            if let Some(state) = fault.state.filter(|state| state.may_act()) {
                fault.told = true;
                fault.state = state.next(FaultEvent::Stop).ok().or(fault.state);
            }
        }
    }

    /// Not shown gone in time: said once for each.
    pub(super) fn not_shown_gone(&mut self, reason: &str) -> Vec<Happening> {
        let mut said = Vec::new();
        for fault in &mut self.all {
            if fault.may_act() && fault.state != Some(FaultState::Stuck) {
                fault.state = Some(FaultState::Stuck);
                said.push(Happening::Stuck(FaultRefused {
                    id: fault.planned.id.clone(),
                    reason: reason.to_owned(),
                }));
            }
        }
        said
    }

    /// When the first was in force.
    pub(super) fn first_armed_us(&self) -> Option<u64> {
        self.all.iter().filter_map(|fault| fault.armed_us).min()
    }

    /// When the last was gone.
    pub(super) fn last_ended_us(&self) -> Option<u64> {
        self.all.iter().filter_map(|fault| fault.ended_us).max()
    }

    /// Takes what the agent says of a fault. Repetitions, and words about faults of other runs, change nothing.
    pub(super) fn apply(&mut self, now_us: u64, message: &FromAgent) -> Applied {
        match message {
            FromAgent::Armed(armed) => self.with(&armed.id, FaultEvent::Armed, |fault| {
                if fault.armed_us.replace(now_us).is_some() {
                    return Applied::default();
                }
                said(Happening::Armed(FaultArmed {
                    id: armed.id.clone(),
                    evidence: armed.evidence.clone(),
                    held: armed.held,
                    took_us: armed.took_us,
                }))
            }),
            FromAgent::Refused(refused) => self.with(&refused.id, FaultEvent::Refused, |fault| {
                let words = format!("{} was not injected: {}", fault.words(), refused.reason);
                fault.trouble(
                    words,
                    refused.denied,
                    Happening::Refused(unwell(&refused.id, &refused.reason)),
                )
            }),
            FromAgent::Stuck(stuck) => self.with(&stuck.id, FaultEvent::NotShownGone, |fault| {
                let words = format!("{} is stuck: {}", fault.words(), stuck.reason);
                fault.trouble(
                    words,
                    false,
                    Happening::Stuck(unwell(&stuck.id, &stuck.reason)),
                )
            }),
            FromAgent::Ended(ended) => self.with(&ended.id, FaultEvent::Ended, |fault| {
                fault.ended(now_us, ended)
            }),
            FromAgent::Dosed(dosed) => {
                let place = self.places.get(&dosed.id).copied();
                let Some(fault) = place.and_then(|place| self.all.get_mut(place)) else {
                    return Applied::default();
                };
                fault.dose = Some(dosed.dose.clone());
                said(Happening::Dosed(FaultDosed {
                    id: dosed.id.clone(),
                    dose: dosed.dose.clone(),
                }))
            }
            FromAgent::Hello(_) | FromAgent::Resolved(_) => Applied::default(),
        }
    }

    /// Moves one fault, if it is one of ours and the event is possible, and says what that means.
    fn with(
        &mut self,
        id: &FaultId,
        event: FaultEvent,
        then: impl FnOnce(&mut FaultInRun) -> Applied,
    ) -> Applied {
        let place = self.places.get(id).copied();
        let Some(fault) = place.and_then(|place| self.all.get_mut(place)) else {
            return Applied::default();
        };
        let next = fault.state.map(|state| state.next(event));
        match next {
            Some(Ok(next)) => {
                fault.state = Some(next);
                then(fault)
            }
            Some(Err(illegal)) => said(Happening::Noted(format!("{id}: {illegal}"))),
            None => said(Happening::Noted(format!(
                "{id}: the agent spoke of a fault that was not asked for"
            ))),
        }
    }
}

fn said(happening: Happening) -> Applied {
    Applied {
        said: Some(happening),
        trouble: None,
    }
}

/// What ended a fault, for people.
pub(super) fn cause(cause: &EndCause) -> String {
    match cause {
        EndCause::Stopped => "it was stopped on the node".into(),
        EndCause::LeaseEnded => "its lease ended without a renewal".into(),
        EndCause::HolderKilled(how) => format!("its holder was killed ({how})"),
        EndCause::TargetGone => "its target is gone".into(),
        EndCause::Done => "it was done".into(),
        EndCause::Failed(why) => why.clone(),
    }
}
