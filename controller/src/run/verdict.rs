//! From what happened to a verdict. Pure.

use super::faults::Faults;
use super::halt::Who;
use squall_experiments::event::{Finished, StopReason, Violation};
use squall_experiments::verdict::Verdict;

/// What decides the verdict.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// A gate or the node said no before anything was injected.
    pub(super) refused: Option<String>,
    /// The baseline was not fit to start from.
    pub(super) baseline: Option<String>,
    /// The first violation confirmed while a fault was in force, and when.
    pub(super) broken: Option<(Violation, u64)>,
    /// The controller stood still, and missed what came after.
    pub(super) stood_still: Option<String>,
    /// Why nothing can be said, in the order in which it came up.
    pub(super) inconclusive: Vec<String>,
    /// Somebody ended it.
    pub(super) halted: Option<Who>,
    /// With the agent killed while faults were in force.
    pub(super) killed: bool,
    /// When the last fault was shown gone.
    pub(super) gone_us: Option<u64>,
    /// When it was known of all that they were gone, or never were: from then on the steady state is to come back.
    pub(super) clear_us: Option<u64>,
    /// Faults that nobody could show gone, in words.
    pub(super) not_shown_gone: Vec<String>,
    /// When the steady state was proven back.
    pub(super) recovered_us: Option<u64>,
    pub(super) verdict: Option<Verdict>,
    /// What is missing before the steps show that every expectation held.
    pub(super) unproven: Option<String>,
    /// A fault was aimed at nobody for a while, in words.
    pub(super) nobody: Option<String>,
    first_armed_us: Option<u64>,
    stopped_us: Option<u64>,
}

impl Facts {
    /// The run was told to end.
    pub(super) fn stopped(&mut self, faults: &Faults, now_us: u64) {
        self.stopped_us = Some(now_us);
        self.first_armed_us = faults.first_armed_us();
    }
}

/// The verdict, its reason and the timings.
pub(super) fn finish(
    facts: &Facts,
    faults: &Faults,
    stopped_us: Option<u64>,
    recovery_us: u64,
) -> Finished {
    let (verdict, mut because) = decide(facts, faults, recovery_us);
    if !facts.not_shown_gone.is_empty() {
        because = format!(
            "{because}. NOT SHOWN GONE: {}; look for `squall-agent:` in ps on the node",
            named(&facts.not_shown_gone)
        );
    }
    let first_armed_us = facts.first_armed_us;
    let confirmed_us = facts.broken.as_ref().map(|(_, at_us)| *at_us);
    Finished {
        verdict,
        because,
        detect_ms: ms_between(first_armed_us, confirmed_us),
        revert_ms: ms_between(first_armed_us.and(stopped_us), facts.gone_us),
        recover_ms: ms_between(facts.gone_us.and(facts.clear_us), facts.recovered_us),
    }
}

/// So many faults are named in a sentence. The report has all of them, each with what became of it.
const NAMED_MAX: usize = 10;

/// The first of many, and how many more there are.
fn named(faults: &[String]) -> String {
    let first: Vec<&str> = faults.iter().take(NAMED_MAX).map(String::as_str).collect();
    let first = first.join(", ");
    match faults.len().saturating_sub(NAMED_MAX) {
        0 => first,
        more => format!("{first}, and {more} more"),
    }
}

/// Of a run that somebody said no to. Others may have come into force while that was heard: then it is not so that nothing was injected.
fn refused(facts: &Facts, faults: &Faults) -> Verdict {
    let any_was = faults.first_armed_us().or(faults.last_ended_us()).is_some();
    match any_was || !facts.not_shown_gone.is_empty() {
        true => Verdict::Inconclusive,
        false => Verdict::Refused,
    }
}

/// What a run is whose end somebody wanted. Of the lead nobody decides: who loses it is interrupted, as one that dies is.
fn halted(by: Who) -> (Verdict, String) {
    let (verdict, because) = match by {
        Who::Person => (Verdict::Halted, "a person stopped the run"),
        Who::Ending => (
            Verdict::Halted,
            "the controller that drove the run was told to end",
        ),
        Who::Deposed => (
            Verdict::Inconclusive,
            "interrupted: the controller that drove the run leads no more, and stopped it",
        ),
    };
    (verdict, because.to_owned())
}

/// Why it was stopped then.
pub(super) fn stop_reason(by: Who) -> StopReason {
    match by {
        Who::Person => StopReason::Person,
        Who::Ending | Who::Deposed => StopReason::Fault(halted(by).1),
    }
}

fn decide(facts: &Facts, faults: &Faults, recovery_us: u64) -> (Verdict, String) {
    if let Some((violation, _)) = &facts.broken {
        let probe = &violation.expectation.probe;
        return (Verdict::Broken, format!("{probe}: {}", violation.measured));
    }
    if facts.killed {
        let because = "a person had the agent killed at once; the kernel ends its faults with it, and nobody watched";
        return (Verdict::Halted, because.into());
    }
    if let Some(by) = facts.halted {
        return halted(by);
    }
    if let Some(reason) = &facts.refused {
        return (refused(facts, faults), reason.clone());
    }
    if let Some(reason) = &facts.baseline {
        let because =
            format!("nothing was injected, the steady state did not hold before: {reason}");
        return (Verdict::Inconclusive, because);
    }
    if let Some(reason) = &facts.stood_still {
        return (Verdict::Inconclusive, reason.clone());
    }
    let surely_gone = facts.gone_us.is_some() && facts.not_shown_gone.is_empty();
    if surely_gone && facts.first_armed_us.is_some() && facts.recovered_us.is_none() {
        let because = format!(
            "the steady state was not back within {} after the last fault was gone",
            seconds(recovery_us)
        );
        return (Verdict::Broken, because);
    }
    if let Some(reason) = facts.inconclusive.first().or(facts.nobody.as_ref()) {
        return (Verdict::Inconclusive, reason.clone());
    }
    if !surely_gone {
        return (
            Verdict::Inconclusive,
            "a fault could not be shown gone".into(),
        );
    }
    let idle = faults.idle(facts.stopped_us);
    if !idle.is_empty() {
        let because = format!("in force, but it touched nothing: {}", idle.join("; "));
        return (Verdict::Inconclusive, because);
    }
    if let Some(reason) = &facts.unproven {
        return (Verdict::Inconclusive, reason.clone());
    }
    let count = faults
        .iter()
        .filter(|fault| fault.armed_us.is_some())
        .count();
    let took = ms_between(facts.clear_us, facts.recovered_us).map_or(0.0, |ms| ms / 1e3);
    let because = format!(
        "every expectation stood while {count} fault{} {} in force, and the steady state was proven back {}s after, within {}",
        if count == 1 { "" } else { "s" },
        if count == 1 { "was" } else { "were" },
        crate::judge::check::trimmed(took, 1),
        seconds(recovery_us)
    );
    (Verdict::Held, because)
}

pub(super) fn seconds(us: u64) -> String {
    format!("{}s", crate::judge::check::trimmed(us_to_s(us), 1))
}

#[expect(clippy::cast_precision_loss, reason = "hours in microseconds")]
fn us_to_s(us: u64) -> f64 {
    us as f64 / 1e6
}

fn ms_between(from_us: Option<u64>, to_us: Option<u64>) -> Option<f64> {
    let (from_us, to_us) = from_us.zip(to_us)?;
    Some(us_to_s(to_us.saturating_sub(from_us)) * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_faults_the_first_are_named_and_the_others_counted() {
        let faults: Vec<String> = (0..10_000).map(|number| format!("f{number}")).collect();
        assert_eq!(named(&faults[..2]), "f0, f1");
        assert!(named(&faults).ends_with("f9, and 9990 more"));
    }
}
