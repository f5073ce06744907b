//! What is known of all faults of a run at once. Pure.

use squall_experiments::fault_life::FaultState;
use std::collections::{BTreeSet, HashMap};

#[cfg(test)]
thread_local! {
    /// How many faults were looked at, one after the other.
    pub(super) static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// One of many was looked at: tests count that, and so see what grows with their number.
#[cfg(test)]
pub(super) fn looked() {
    LOOKS.with(|looks| looks.set(looks.get() + 1));
}

/// One of many was looked at: only tests count that.
#[cfg(not(test))]
pub(super) const fn looked() {}

/// What is asked of all faults at every word of an agent, so that it is not counted each time: with ten thousand faults and a word of
/// each, that would be a hundred million looks, and a stop would wait for them.
#[derive(Debug, Clone, Default)]
pub(super) struct AtHand {
    /// Where those are that may still act.
    pub(super) acting: BTreeSet<usize>,
    /// How many are being armed.
    pub(super) arming: usize,
    /// How many are stuck.
    pub(super) stuck: usize,
    /// Where those are whose holder was killed.
    pub(super) doubted: BTreeSet<usize>,
    pub(super) first_armed_us: Option<u64>,
    pub(super) last_ended_us: Option<u64>,
    /// Where those of each node are.
    pub(super) on: HashMap<String, Vec<usize>>,
}

impl AtHand {
    /// The fault at a place is in another state now.
    pub(super) fn moved(
        &mut self,
        place: usize,
        before: Option<FaultState>,
        after: Option<FaultState>,
    ) {
        let count = |count: &mut usize, state| {
            *count += usize::from(after == Some(state));
            *count -= usize::from(before == Some(state));
        };
        count(&mut self.arming, FaultState::Arming);
        count(&mut self.stuck, FaultState::Stuck);
        if after.is_some_and(FaultState::may_act) {
            self.acting.insert(place);
        } else {
            self.acting.remove(&place);
        }
    }
}
