//! What the demo says around the runs, and what it concludes.
#![allow(
    clippy::print_stdout,
    reason = "the words of a command that is started to be read"
)]

use super::service::{Stats, Version};
use crate::report::Summary;
use crate::report::words::{count, counted, span_ms};
use console::style;
use squall_experiments::event::StopReason;
use squall_experiments::verdict::Verdict;
use std::path::{Path, PathBuf};

/// One run, played.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) version: Version,
    pub(super) summary: Summary,
    /// What the order service counted; not asked after a person's stop.
    pub(super) stats: Option<Stats>,
    pub(super) report: PathBuf,
}

impl Played {
    /// Whether the baseline was not fit to start from: nothing was injected, and nothing was learned.
    pub(super) fn never_began(&self) -> bool {
        matches!(self.summary.stop_reason, Some(StopReason::Baseline(_)))
            && self.summary.faults.iter().all(|f| f.armed_at_ms.is_none())
    }
}

/// 0 if v1 was broken and v2 held; 5 if a person stopped it; else 3, since the demo then showed nothing.
pub(super) fn exit_code(played: &[Played]) -> u8 {
    let verdicts: Vec<Option<Verdict>> = played.iter().map(|p| p.summary.verdict).collect();
    if verdicts == [Some(Verdict::Broken), Some(Verdict::Held)] {
        0
    } else if verdicts.contains(&Some(Verdict::Halted)) {
        Verdict::Halted.exit_code()
    } else {
        Verdict::Inconclusive.exit_code()
    }
}

/// Writes to standard output. Colours as `NO_COLOR` and the terminal want them.
#[derive(Debug, Default)]
pub(super) struct Words {}

impl Words {
    pub(super) fn opening(&self, file: &Path) {
        println!(
            "{}",
            style("Orders keep succeeding while payment answers 300 ms late: true or not?").bold()
        );
        println!(
            "An order service and its payment service start in network namespaces of their own, 50 orders a second"
        );
        println!(
            "come in, and one experiment file is run against two versions of the order service:"
        );
        println!("{}\n", file.display());
    }

    pub(super) fn version(&self, version: Version) {
        let (name, what) = match version {
            Version::V1 => ("v1", "waits for payment, however long it takes"),
            Version::V2 => (
                "v2",
                "gives payment 100 ms, then accepts the order as payment-pending",
            ),
        };
        println!(
            "{}",
            style(format!("── order service {name}: {what} ──"))
                .bold()
                .cyan()
        );
    }

    pub(super) fn again(&self) {
        println!(
            "This machine was too busy for a steady state, and nothing was injected: once more."
        );
    }

    pub(super) fn closing(&self, played: &[Played]) {
        println!("\n{}", style("What was shown").bold());
        for one in played {
            for line in told(one) {
                println!("{line}");
            }
        }
        match exit_code(played) {
            0 => println!(
                "\nSame file, same fault, one decision apart: v1 waits for a service that is slow, v2 does not.\n\
                 Nothing was left on this machine but the reports."
            ),
            5 => println!("\nStopped by hand; every fault went with it."),
            _ => println!(
                "\nThis is not what the demo should show (v1 broken, v2 held). The reports say what was measured; a \
                 machine that is busy with something else is the usual reason."
            ),
        }
        for one in played {
            println!("  report: {}", one.report.display());
        }
    }
}

fn told(one: &Played) -> Vec<String> {
    let run = &one.summary;
    let name = match one.version {
        Version::V1 => "v1",
        Version::V2 => "v2",
    };
    let verdict = run
        .verdict
        .map_or("no verdict".to_owned(), |v| v.to_string());
    let mut lines = vec![format!(
        "  {name} {}: {}",
        style(verdict).bold(),
        run.because
    )];
    let timings = [
        ("noticed after", run.timings.detect_ms),
        ("fault gone after", run.timings.revert_ms),
        ("orders well again after", run.timings.recover_ms),
    ];
    let timings: Vec<String> = timings
        .iter()
        .filter_map(|(what, ms)| Some(format!("{what} {}", span_ms((*ms)?))))
        .collect();
    if !timings.is_empty() {
        lines.push(format!("     {}", timings.join(", ")));
    }
    for fault in run.faults.iter().filter(|f| f.dose.is_some()) {
        lines.push(format!("     {}: {}", fault.fault, fault.dose_in_words));
    }
    if let Some(stats) = &one.stats {
        lines.push(format!("     {}", counts(stats)));
    }
    lines
}

fn counts(stats: &Stats) -> String {
    let mut said = vec![format!("{} paid", counted(stats.paid, "order"))];
    if stats.pending > 0 {
        said.push(format!(
            "{} accepted as payment-pending, {} of them charged since",
            counted(stats.pending, "order"),
            count(stats.settled)
        ));
    }
    if stats.refused > 0 {
        said.push(format!("{} refused", counted(stats.refused, "order")));
    }
    said.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(version: Version, verdict: Verdict) -> Played {
        Played {
            version,
            summary: Summary {
                verdict: Some(verdict),
                ..Summary::default()
            },
            stats: None,
            report: PathBuf::new(),
        }
    }

    #[test]
    fn only_a_baseline_is_tried_again() {
        let mut one = played(Version::V1, Verdict::Inconclusive);
        assert!(!one.never_began());
        one.summary.stop_reason = Some(StopReason::Violated);
        assert!(!one.never_began());
        one.summary.stop_reason = Some(StopReason::Baseline("busy".into()));
        assert!(one.never_began());
        one.summary.faults = crate::report::Summary::of(&crate::report::sample::broken()).faults;
        assert!(!one.never_began(), "a fault was in force");
    }

    #[test]
    fn only_broken_then_held_is_success() {
        let all = [
            Verdict::Held,
            Verdict::Broken,
            Verdict::Inconclusive,
            Verdict::Refused,
            Verdict::Halted,
        ];
        for v1 in all {
            for v2 in all {
                let code = exit_code(&[played(Version::V1, v1), played(Version::V2, v2)]);
                let shown = v1 == Verdict::Broken && v2 == Verdict::Held;
                assert_eq!(code == 0, shown, "{v1} {v2}");
            }
            assert_ne!(exit_code(&[played(Version::V1, v1)]), 0);
        }
        assert_eq!(exit_code(&[played(Version::V1, Verdict::Halted)]), 5);
    }
}
