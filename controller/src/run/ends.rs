//! The end of a fault: what it was, and whether it came before its time. Pure.

use super::faults::FaultInRun;
use super::verdict::seconds;
use squall_experiments::wire::{EndCause, Ended};

/// Two clocks that are kept in step differ by less than this part of what they measure: the kernel slews by a 2,000th at most (adjtimex(2)).
const CLOCKS_DIFFER: u64 = 1_000;

impl FaultInRun {
    /// Of one that was told to end, why it is not shown that it stood until then: the word of an end may come long after that.
    pub(super) fn cut_short(&self, ended: &Ended) -> Option<String> {
        let (armed_us, told_us) = self.armed_us.zip(self.told_us)?;
        // It was in force on the node before we heard so, and was to be until after we said stop: by any clock that runs well it lasted longer.
        let asked_us = told_us.saturating_sub(armed_us);
        let asked_us = asked_us.saturating_sub(asked_us / CLOCKS_DIFFER + 1_000);
        let how = match ended.lasted_us {
            Some(lasted_us) if lasted_us >= asked_us => return None,
            Some(lasted_us) => format!(
                "it was in force for {} of {}",
                seconds(lasted_us),
                seconds(told_us - armed_us)
            ),
            // Older agents do not say how long.
            None if ended.cause == EndCause::Stopped => return None,
            None => "whether that was before it was to end is not known".to_owned(),
        };
        let words = self.words();
        let cause = cause(&ended.cause);
        Some(format!("{words} ended by itself: {cause}; {how}"))
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
