//! The faults of one run, as far as the controller knows of them. Pure.

use super::at_hand::{AtHand, looked};
use super::ends::cause;
use super::follow::Following;
use super::places;
use squall_experiments::dose::Dose;
use squall_experiments::event::{
    FaultArmed, FaultDosed, FaultEnded, FaultRefused, Happening, TargetLeft,
};
use squall_experiments::fault_life::{FaultEvent, FaultState};
use squall_experiments::filter::Found;
use squall_experiments::ids::{FaultId, RunId};
use squall_experiments::plan::{Plan, PlannedFault};
use squall_experiments::target::{Candidate, TargetAt};
use squall_experiments::units::Lease;
use squall_experiments::wire::{Arm, EndCause, Ended, FromAgent};
use std::collections::HashMap;

/// Why a target is let go that has ended.
const GONE: &str = "it has ended";

/// One fault of the plan and what became of it.
#[derive(Debug, Clone)]
pub(super) struct FaultInRun {
    pub(super) planned: PlannedFault,
    /// None until it was asked for. Changed by [`Faults::set`] alone.
    state: Option<FaultState>,
    /// When its stage was over, or the run told to end: from then on ending is what is wanted.
    pub(super) told_us: Option<u64>,
    pub(super) armed_us: Option<u64>,
    pub(super) ended_us: Option<u64>,
    pub(super) dose: Option<Dose>,
    seed: u64,
    /// Which step of the method it belongs to, and whether that follows its target.
    pub(super) step: usize,
    pub(super) follows: bool,
    /// Its target was let go, or another fault of the step had it already: no dose is asked of it.
    pub(super) left: bool,
    /// Its holder was killed; with its target, perhaps.
    doubt: Option<String>,
}

impl FaultInRun {
    /// What it is and where: the node is named, as many have a host, and some have pods of one name.
    pub(super) fn words(&self) -> String {
        let target = &self.planned.target;
        format!(
            "{} on {} ({})",
            self.planned.what(),
            target.label,
            target.node
        )
    }

    fn is_on(&self, node: &str) -> bool {
        self.planned.target.node == node
    }

    /// It is to be in force, now or in a moment.
    pub(super) const fn is_renewed(&self) -> bool {
        matches!(self.state, Some(FaultState::Arming | FaultState::Armed))
    }

    fn as_asked(&self, run: &RunId, lease: Lease, found: &[Found]) -> Arm {
        Arm {
            id: self.planned.id.clone(),
            run: run.clone(),
            fault: self.planned.fault.clone(),
            target: self.planned.target.id.clone(),
            lease,
            seed: self.seed,
            means: None,
            pulse: self.planned.pulse,
            found: places::of(&self.planned.fault, found),
        }
    }

    /// Where it is in its life; nowhere until it was asked for.
    pub(super) const fn state(&self) -> Option<FaultState> {
        self.state
    }

    pub(super) fn may_act(&self) -> bool {
        self.state.is_some_and(FaultState::may_act)
    }

    /// Bad news: trouble for the run, unless the fault was told to end anyhow.
    fn trouble(&self, reason: String, denied: bool, said: Happening) -> Applied {
        Applied {
            said: vec![said],
            trouble: (!self.is_told()).then_some(Trouble { reason, denied }),
            cut_short: None,
        }
    }

    /// Whether it is to end.
    pub(super) const fn is_told(&self) -> bool {
        self.told_us.is_some()
    }

    /// Its target is gone, in a step that follows: no trouble, and said once.
    fn leave(&mut self, reason: &str, happening: Happening) -> Applied {
        let mut said = vec![happening];
        if !std::mem::replace(&mut self.left, true) && !self.is_told() {
            said.push(Happening::TargetLeft(TargetLeft {
                step: self.step,
                target: self.planned.target.clone(),
                reason: reason.to_owned(),
            }));
        }
        Applied {
            said,
            ..Applied::default()
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
        if self.follows && ended.cause == EndCause::TargetGone {
            return self.leave(GONE, happening);
        }
        if self.follows && !self.is_told() && matches!(ended.cause, EndCause::HolderKilled(_)) {
            // What ends a container ends all that is in it, the holder of a pressure too: the next look tells.
            self.doubt = Some(reason);
            return said(happening);
        }
        if self.is_told() && !self.left {
            return Applied {
                cut_short: self.cut_short(ended),
                ..said(happening)
            };
        }
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
    pub(super) said: Vec<Happening>,
    /// The run cannot go on as planned, and why.
    pub(super) trouble: Option<Trouble>,
    /// A fault that was to end had ended before that, as far as its node knows, and why.
    pub(super) cut_short: Option<String>,
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
    at_hand: AtHand,
    /// Where each stage's faults begin.
    stages: Vec<std::ops::Range<usize>>,
    /// The place of the next target that joins a step: its number in the names of its faults.
    next_place: HashMap<usize, usize>,
    plan_seed: u64,
    /// Where the ends of conversations are that a cluster names.
    pub(super) found: Vec<Found>,
    /// What each step injects into a target, as it was planned for its first.
    each: HashMap<usize, Vec<PlannedFault>>,
}

impl Faults {
    pub(super) fn new(run: &RunId, plan: &Plan, lease: Lease, following: &Following) -> Self {
        let mut faults = Self {
            run: run.clone(),
            lease,
            all: Vec::new(),
            places: HashMap::new(),
            at_hand: AtHand::default(),
            stages: Vec::new(),
            next_place: HashMap::new(),
            plan_seed: plan.seed,
            found: Vec::new(),
            each: HashMap::new(),
        };
        for stage in &plan.stages {
            let begin = faults.all.len();
            for planned in &stage.arm {
                faults.add(planned.clone(), stage.step, following.is_on(stage.step));
                let each = faults.each.entry(stage.step).or_default();
                if each
                    .first()
                    .is_none_or(|first| first.target.at() == planned.target.at())
                {
                    each.push(planned.clone());
                }
            }
            faults.stages.push(begin..faults.all.len());
            let taken = faults.next_place.entry(stage.step).or_default();
            *taken = stage.candidates.max(*taken);
        }
        faults
    }

    /// One more, not asked for yet.
    pub(super) fn add(&mut self, planned: PlannedFault, step: usize, follows: bool) {
        // Splits one seed into unlike ones, the same in every run with this seed (Weyl's sequence, as splitmix64 has it).
        let place = self.all.len() as u64 + 1;
        self.places.insert(planned.id.clone(), self.all.len());
        let on = self.at_hand.on.entry(planned.target.node.clone());
        on.or_default().push(self.all.len());
        self.all.push(FaultInRun {
            planned,
            state: None,
            told_us: None,
            armed_us: None,
            ended_us: None,
            dose: None,
            seed: self.plan_seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            step,
            follows,
            left: false,
            doubt: None,
        });
    }

    /// What a step injects into each of its targets.
    pub(super) fn each(&self, step: usize) -> &[PlannedFault] {
        self.each.get(&step).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) const fn run(&self) -> &RunId {
        &self.run
    }

    /// The number of the next target of a step, for the names of its faults.
    pub(super) fn take_place(&mut self, step: usize) -> usize {
        let next = self.next_place.entry(step).or_default();
        *next += 1;
        *next - 1
    }

    /// All of them, one after the other: not at every word of an agent.
    pub(super) fn iter(&self) -> impl Iterator<Item = &FaultInRun> {
        self.all.iter().inspect(|_| looked())
    }

    /// The faults that a stage adds are asked for.
    pub(super) fn arm(&mut self, stage: usize) -> Vec<(String, Arm)> {
        let range = self.stages.get(stage).cloned().unwrap_or_default();
        // What joined an earlier stage of the step is hit already.
        let step = self.all.get(range.start).map_or(0, |fault| fault.step);
        let hit = self.hit(step);
        for fault in &mut self.all[range.clone()] {
            fault.left |= fault.follows && hit.contains(&fault.planned.target.at());
        }
        self.ask_for(range)
    }

    /// These faults are asked for, but for those whose target is let alone.
    pub(super) fn ask_for(&mut self, range: std::ops::Range<usize>) -> Vec<(String, Arm)> {
        let mut asked = Vec::new();
        for place in range {
            if !self.all[place].left {
                self.set(place, FaultState::Arming);
                let fault = &self.all[place];
                let node = fault.planned.target.node.clone();
                asked.push((node, fault.as_asked(&self.run, self.lease, &self.found)));
            }
        }
        asked
    }

    /// The only place where a fault's state changes.
    fn set(&mut self, place: usize, state: FaultState) {
        if let Some(fault) = self.all.get_mut(place) {
            let before = fault.state.replace(state);
            self.at_hand.moved(place, before, Some(state));
        }
    }

    /// Those on a node, in the plan's order, whatever became of them.
    pub(super) fn on(&self, node: &str) -> impl Iterator<Item = &FaultInRun> {
        let places = self.at_hand.on.get(node).into_iter().flatten();
        places.filter_map(|place| self.all.get(*place))
    }

    /// What is to be in force on a node, as it was asked for.
    pub(super) fn asked_on(&self, node: &str) -> Vec<Arm> {
        // What nothing takes back is asked for once, whoever comes back after it.
        let once = |f: &FaultInRun| f.planned.fault.kind().is_for_good() && f.armed_us.is_some();
        let live = self.on(node).filter(|f| f.is_renewed() && !once(f));
        live.map(|fault| fault.as_asked(&self.run, self.lease, &self.found))
            .collect()
    }

    /// What was told to end on a node, and may still act.
    pub(super) fn ending_on(&self, node: &str) -> Vec<FaultId> {
        let ending = self.on(node).filter(|f| f.may_act() && f.is_told());
        ending.map(|fault| fault.planned.id.clone()).collect()
    }

    /// Those still being armed.
    pub(super) fn arming(&self) -> Vec<&FaultInRun> {
        let arming = |fault: &&FaultInRun| fault.state == Some(FaultState::Arming);
        self.acting().filter(arming).collect()
    }

    /// Whether any is being armed.
    pub(super) const fn any_arming(&self) -> bool {
        self.at_hand.arming > 0
    }

    /// Those that may still act on their target.
    pub(super) fn acting(&self) -> impl Iterator<Item = &FaultInRun> {
        let places = self.at_hand.acting.iter();
        let acting = places.filter_map(|place| self.all.get(*place));
        acting.inspect(|_| looked())
    }

    /// Whether any may.
    pub(super) fn any_acting(&self) -> bool {
        !self.at_hand.acting.is_empty()
    }

    /// Whether any on a node may.
    pub(super) fn any_acting_on(&self, node: &str) -> bool {
        self.on(node).any(FaultInRun::may_act)
    }

    /// Those whose lease is to be renewed: what was told to end is not among them.
    pub(super) fn to_renew(&self) -> Vec<&FaultInRun> {
        self.acting().filter(|fault| fault.is_renewed()).collect()
    }

    /// Everything that may act is told to end.
    pub(super) fn tell_to_end(&mut self, now_us: u64) {
        for place in self.at_hand.acting.clone() {
            self.end(now_us, place);
        }
    }

    /// One that may act is told to end.
    fn end(&mut self, now_us: u64, place: usize) {
        let Some(fault) = self.all.get_mut(place) else {
            return;
        };
        fault.told_us.get_or_insert(now_us);
        let next = fault.state.map(|state| state.next(FaultEvent::Stop));
        if let Some(Ok(next)) = next {
            self.set(place, next);
        }
    }

    /// Of a step, those that stay on a target until they are ended, and were not told to: told now, and let go. The target, where there were any.
    pub(super) fn let_go(
        &mut self,
        now_us: u64,
        step: usize,
        at: &TargetAt,
    ) -> Option<(Candidate, Vec<FaultId>)> {
        let mut of = None;
        for place in self.at_hand.on.get(&at.node).cloned().unwrap_or_default() {
            let fault = &mut self.all[place];
            // A crash loop finds by itself what came in its target's place.
            let stays = fault.stays() && fault.may_act() && !fault.is_told();
            if fault.step != step || fault.planned.target.at() != *at || !stays {
                continue;
            }
            fault.left = true;
            let planned = &fault.planned;
            let (_, faults) = of.get_or_insert_with(|| (planned.target.clone(), Vec::new()));
            faults.push(planned.id.clone());
            self.end(now_us, place);
        }
        of
    }

    /// The first whose holder was killed, and of which nobody has looked since whether its target was too.
    pub(super) fn doubted(&self) -> Option<&String> {
        let first = self.at_hand.doubted.first()?;
        self.all.get(*first)?.doubt.as_ref()
    }

    /// Those of a step, each with what is in doubt of it, which is not any more.
    pub(super) fn take_doubts(&mut self, step: usize) -> Vec<(&mut FaultInRun, String)> {
        let all = &self.all;
        let of_step = |place: &usize| all.get(*place).is_some_and(|fault| fault.step == step);
        self.at_hand.doubted.retain(|place| !of_step(place));
        let of_step = self.all.iter_mut().filter(|fault| fault.step == step);
        of_step
            .filter_map(|fault| fault.doubt.take().map(|doubt| (fault, doubt)))
            .collect()
    }

    /// Not shown gone in time: said once for each.
    pub(super) fn not_shown_gone(&mut self, why: impl Fn(&str) -> &'static str) -> Vec<Happening> {
        let mut said = Vec::new();
        if self.at_hand.stuck == self.at_hand.acting.len() {
            return said;
        }
        for place in self.at_hand.acting.clone() {
            let fault = &self.all[place];
            if fault.state != Some(FaultState::Stuck) {
                said.push(Happening::Stuck(FaultRefused {
                    id: fault.planned.id.clone(),
                    reason: why(&fault.planned.target.node).to_owned(),
                }));
                self.set(place, FaultState::Stuck);
            }
        }
        said
    }

    /// When the first was in force.
    pub(super) const fn first_armed_us(&self) -> Option<u64> {
        self.at_hand.first_armed_us
    }

    /// When the last was gone.
    pub(super) const fn last_ended_us(&self) -> Option<u64> {
        self.at_hand.last_ended_us
    }

    /// Takes what a node's agent says of a fault. Repetitions, and words about faults of other runs or other nodes, change nothing.
    pub(super) fn apply(&mut self, now_us: u64, node: &str, message: &FromAgent) -> Applied {
        match message {
            FromAgent::Armed(armed) => self.with(node, &armed.id, FaultEvent::Armed, |fault| {
                if fault.armed_us.is_some() {
                    return Applied::default();
                }
                fault.armed_us = Some(now_us);
                said(Happening::Armed(FaultArmed {
                    id: armed.id.clone(),
                    evidence: armed.evidence.clone(),
                    held: armed.held,
                    took_us: armed.took_us,
                }))
            }),
            FromAgent::Refused(refused) if self.is_forgotten(&refused.id) => {
                self.apply(now_us, node, &forgotten(now_us, node, &refused.id))
            }
            FromAgent::Refused(refused) => {
                self.with(node, &refused.id, FaultEvent::Refused, |fault| {
                    if fault.follows && refused.gone {
                        let said = Happening::Refused(unwell(&refused.id, &refused.reason));
                        return fault.leave(GONE, said);
                    }
                    let words = format!("{} was not injected: {}", fault.words(), refused.reason);
                    fault.trouble(
                        words,
                        refused.denied,
                        Happening::Refused(unwell(&refused.id, &refused.reason)),
                    )
                })
            }
            FromAgent::Stuck(stuck) => {
                self.with(node, &stuck.id, FaultEvent::NotShownGone, |fault| {
                    let words = format!("{} is stuck: {}", fault.words(), stuck.reason);
                    fault.trouble(
                        words,
                        false,
                        Happening::Stuck(unwell(&stuck.id, &stuck.reason)),
                    )
                })
            }
            FromAgent::Ended(ended) => self.with(node, &ended.id, FaultEvent::Ended, |fault| {
                fault.ended(now_us, ended)
            }),
            FromAgent::Dosed(dosed) => {
                let Some(fault) = self.of(node, &dosed.id) else {
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

    /// It was in force, and its agent has never heard of it: that is another one than before, and the kernel ended the fault with that.
    fn is_forgotten(&self, id: &FaultId) -> bool {
        let fault = self.places.get(id).and_then(|place| self.all.get(*place));
        fault.is_some_and(|fault| fault.armed_us.is_some())
    }

    /// One of ours on a node: nobody speaks for another's.
    fn of(&mut self, node: &str, id: &FaultId) -> Option<&mut FaultInRun> {
        let place = self.places.get(id).copied();
        let fault = place.and_then(|place| self.all.get_mut(place));
        fault.filter(|fault| fault.is_on(node))
    }

    /// Moves one fault, if it is one of ours and the event is possible, and says what that means.
    fn with(
        &mut self,
        node: &str,
        id: &FaultId,
        event: FaultEvent,
        then: impl FnOnce(&mut FaultInRun) -> Applied,
    ) -> Applied {
        let Some(fault) = self.of(node, id) else {
            return Applied::default();
        };
        let next = fault.state.map(|state| state.next(event));
        match next {
            Some(Ok(next)) => {
                let applied = then(fault);
                self.keep_at_hand(id, next);
                applied
            }
            Some(Err(illegal)) => said(Happening::Noted(format!("{id}: {illegal}"))),
            None => said(Happening::Noted(format!(
                "{id}: the agent spoke of a fault that was not asked for"
            ))),
        }
    }
}

impl Faults {
    /// A word moved a fault.
    fn keep_at_hand(&mut self, id: &FaultId, next: FaultState) {
        let Some(place) = self.places.get(id).copied() else {
            return;
        };
        self.set(place, next);
        let (at_hand, fault) = (&mut self.at_hand, &self.all[place]);
        if fault.doubt.is_some() {
            at_hand.doubted.insert(place);
        }
        // Time does not go back.
        at_hand.first_armed_us = at_hand.first_armed_us.or(fault.armed_us);
        at_hand.last_ended_us = at_hand.last_ended_us.max(fault.ended_us);
    }
}

fn forgotten(now_us: u64, node: &str, id: &FaultId) -> FromAgent {
    FromAgent::Ended(Ended {
        id: id.clone(),
        cause: EndCause::HolderKilled(format!("with the agent of {node}, which was started again")),
        dose: None,
        at_us: now_us,
        took_us: None,
        lasted_us: None,
    })
}

fn said(happening: Happening) -> Applied {
    Applied {
        said: vec![happening],
        ..Applied::default()
    }
}
