//! Hosts of a cluster that moved: the faults that are aimed at them go along.

use super::{Agent, Entry};
use crate::arming::aim_anew;
use squall_experiments::ids::RunId;
use squall_experiments::wire::{Arm, EndCause, Moved};
use tokio::time::Instant;

impl Agent {
    /// The run's live faults are aimed anew, those that are still being armed too.
    pub(super) fn moved(&mut self, moved: &Moved) {
        for entry in self.faults.values() {
            if entry.run == moved.run {
                entry.go_to(&moved.found);
            }
        }
    }

    /// A fault that is asked for again is aimed as it is asked for now: what was said before may not have been heard.
    pub(super) fn aim_again(&mut self, arm: &Arm) {
        if let Some(entry) = self.faults.get(&arm.id) {
            entry.go_to(&arm.found);
        }
    }

    /// It was said where hosts of a cluster are, and not understood: what was aimed at them may hit whoever is there now, and ends.
    pub(super) fn moved_somewhere(&self, run: &RunId, reason: &str) {
        for entry in self.faults.values() {
            let filter = entry.live.fault.filter();
            let named = filter.is_some_and(|filter| filter.cluster_hosts().next().is_some());
            if entry.run == *run && named {
                entry.end(Instant::now(), Some(EndCause::Failed(reason.to_owned())));
            }
        }
    }
}

impl Entry {
    fn go_to(&self, found: &[squall_experiments::filter::Found]) {
        let Some(aim) = &self.aim else { return };
        let news = aim.lock().moved(found);
        if news {
            aim_anew(aim, &self.wish);
        }
    }
}
