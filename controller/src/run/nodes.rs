//! Agents that are lost and agents that come back, as a run sees it. Pure.
//!
//! ```text
//!   there ── its link is gone ──▶ away ── back ──▶ there: whatever it was asked for is said again
//!                                  └── its faults' leases come close ──▶ lost: the run stops
//! ```
//! A lost agent that comes back is told to stop and asked what became of its faults: then they are shown gone. Only where faults may
//! act does an absence end a run; an agent without any may be away in between.

use super::faults::FaultInRun;
use super::machine::{Effect, Machine, us};
use squall_experiments::event::{Happening, StopReason};
use squall_experiments::ids::FaultId;
use squall_experiments::wire::{FromController, Stop};
use std::collections::{BTreeMap, BTreeSet};

/// Of a lease, so much may go by without a link: the last renewal came a fifth of one before it was lost, and a tenth is
/// for the next to arrive.
const AWAY_PER_LEASE: (u64, u64) = (1, 2);

/// An absent agent.
#[derive(Debug, Clone)]
struct Away {
    since_us: u64,
    why: String,
}

/// Who is not there.
#[derive(Debug, Clone, Default)]
pub(super) struct Absent {
    away: BTreeMap<String, Away>,
    lost: BTreeSet<String>,
}

impl Absent {
    /// Whether nobody is heard there now.
    pub(super) fn is(&self, node: &str) -> bool {
        self.away.contains_key(node) || self.lost.contains(node)
    }
}

/// Names of faults, node by node.
pub(super) fn by_node<'a>(
    faults: impl IntoIterator<Item = &'a FaultInRun>,
) -> BTreeMap<String, Vec<FaultId>> {
    let mut nodes: BTreeMap<String, Vec<FaultId>> = BTreeMap::new();
    for fault in faults {
        let node = fault.planned.target.node.clone();
        nodes
            .entry(node)
            .or_default()
            .push(fault.planned.id.clone());
    }
    nodes
}

impl Machine {
    /// A node's link is gone; it may come back.
    pub(super) fn away(&mut self, now_us: u64, node: &str, why: &str, out: &mut Vec<Effect>) {
        if self.absent.is(node) || !self.is_on(node) {
            return;
        }
        let acting = self.faults.on(node).filter(|fault| fault.may_act()).count();
        let faults = match acting {
            0 => "nothing is in force there".to_owned(),
            1 => "its fault ends with its lease, unless it is back before".to_owned(),
            many => format!("its {many} faults end with their leases, unless it is back before"),
        };
        let note = format!("the link to {node} is lost: {why}; {faults}");
        out.push(Effect::Say(Happening::Noted(note)));
        let (why, since_us) = (why.to_owned(), now_us);
        self.absent
            .away
            .insert(node.to_owned(), Away { since_us, why });
    }

    /// It is back, or another agent of the same name is.
    pub(super) fn back(&mut self, now_us: u64, node: &str, out: &mut Vec<Effect>) {
        let away = self.absent.away.remove(node);
        let late = self.absent.lost.remove(node);
        if away.is_none() && !late {
            return;
        }
        let after = away.map(|away| now_us.saturating_sub(away.since_us) / 1000);
        let after = after.map_or_else(String::new, |ms| format!(" after {ms} ms"));
        let told = if late { ", and is told to stop" } else { "" };
        let note = format!("the agent of {node} is back{after}{told}");
        out.push(Effect::Say(Happening::Noted(note)));
        // What was said and not heard is said again; it says what became of each.
        let ending = self.faults.ending_on(node);
        if !ending.is_empty() {
            self.send(node, FromController::Stop(Stop::Faults(ending)), out);
        }
        for arm in self.faults.asked_on(node) {
            self.send(node, FromController::Arm(arm), out);
        }
        self.following.forget();
    }

    /// Who has been away for too long is lost.
    pub(super) fn lose_the_late(&mut self, now_us: u64, out: &mut Vec<Effect>) {
        let (parts, of) = AWAY_PER_LEASE;
        let most_us = us(self.lease.duration()) * parts / of;
        let late = |(node, away): (&String, &Away)| {
            (now_us >= away.since_us + most_us).then(|| (node.clone(), away.why.clone()))
        };
        let late: Vec<(String, String)> = self.absent.away.iter().filter_map(late).collect();
        for (node, why) in late {
            if self.faults.any_acting_on(&node) {
                self.lost(now_us, &node, &why, out);
            }
        }
    }

    /// A node's agent will not be back, or not in time.
    pub(super) fn lost(&mut self, now_us: u64, node: &str, why: &str, out: &mut Vec<Effect>) {
        self.absent.away.remove(node);
        if !self.is_on(node) || !self.absent.lost.insert(node.to_owned()) {
            return;
        }
        let reason = format!("the agent of {node} was lost: {why}");
        if self.stopping.is_some() {
            out.push(Effect::Say(Happening::Noted(reason.clone())));
        }
        self.facts.inconclusive.push(reason.clone());
        self.stop(now_us, StopReason::Fault(reason), out);
    }

    /// Whether the run has, or will have, anything to do with a node.
    fn is_on(&self, node: &str) -> bool {
        let mut asked = self.asked.iter().flatten();
        self.faults.on(node).next().is_some() || asked.any(|asked| asked == node)
    }

    pub(super) fn send(&self, node: &str, message: FromController, out: &mut Vec<Effect>) {
        out.push(Effect::Send(node.to_owned(), message));
    }

    /// One message to each node that was asked for anything.
    pub(super) fn stop_everywhere(&self, out: &mut Vec<Effect>) {
        let asked = self.faults.iter().filter(|fault| fault.state().is_some());
        for node in by_node(asked).keys() {
            self.send(node, FromController::Stop(Stop::Run(self.run.clone())), out);
        }
    }

    /// What may still act is named, so that the end of each is told.
    pub(super) fn stop_again(&self, out: &mut Vec<Effect>) {
        for (node, faults) in by_node(self.faults.acting()) {
            self.send(&node, FromController::Stop(Stop::Faults(faults)), out);
        }
    }
}
