//! What the view says, as lines. Pure: the moment, the width and the colours are given.

use super::Lengths;
use super::paint::{Paint, clean};
use crate::report::words::{dose_in_words, span_ms, state_in_words, stop_in_words, value_in_words};
use crate::report::{ExpectationReport, FaultOutcome, FaultReport, PhaseKind, Summary, Unit};
use squall_experiments::event::Window;
use squall_experiments::run_life::RunState;
use std::collections::BTreeMap;

/// Windows shown of each expectation: the last forty seconds.
const SPARKS: usize = 40;
/// Faults listed; the rest are counted.
const FAULTS_MOST: usize = 6;
/// Columns of the progress bar.
const BAR: usize = 24;

/// A line of a log.
pub(super) fn plain(at_ms: f64, what: &str) -> String {
    format!("[{:>9.3} s] {}", at_ms / 1000.0, clean(what))
}

/// A probe's figures in its last window.
pub(super) fn figures(window: &Window) -> String {
    let mut said = vec![clean(&window.probe).into_owned() + ":"];
    #[expect(
        clippy::cast_precision_loss,
        reason = "a window has far fewer than 2^53 attempts"
    )]
    if window.attempts > 0 {
        let share = window.successes as f64 / window.attempts as f64;
        said.push(format!("success {}", value_in_words(share, Unit::Fraction)));
        let seconds = window.length_ms.max(1) as f64 / 1000.0;
        said.push(value_in_words(
            window.attempts as f64 / seconds,
            Unit::PerSecond,
        ));
    } else {
        said.push("no answer".into());
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "latencies are at most some minutes"
    )]
    for (name, us) in [
        ("p50", window.p50_us),
        ("p95", window.p95_us),
        ("p99", window.p99_us),
    ] {
        if let Some(us) = us {
            said.push(format!(
                "{name} {}",
                value_in_words(us as f64, Unit::Microseconds)
            ));
        }
    }
    if let Some(value) = window.value {
        said.push(format!("value {}", value_in_words(value, Unit::Number)));
    }
    if let Some(failure) = &window.failure {
        said.push(format!("({})", clean(failure)));
    }
    said.join("  ")
}

/// The whole view.
pub(super) fn frame(
    run: &Summary,
    windows: &BTreeMap<String, Window>,
    lengths: Lengths,
    now_ms: f64,
    paint: &Paint,
) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{}  {}",
            paint.bold(&clean(&run.name)),
            paint.faint(&clean(&run.run))
        ),
        clean(&run.hypothesis).into_owned(),
        phase(run, lengths, now_ms, paint),
        String::new(),
    ];
    let mut last_probe = None;
    for expectation in &run.expectations {
        if last_probe != Some(&expectation.probe) {
            last_probe = Some(&expectation.probe);
            let waiting = || format!("{}: no answer yet", clean(&expectation.probe));
            lines.push(
                windows
                    .get(&expectation.probe)
                    .map_or_else(waiting, figures),
            );
        }
        lines.push(one_expectation(expectation, paint));
    }
    lines.push(String::new());
    lines.extend(faults(&run.faults, paint));
    lines.extend(endings(run, paint));
    lines
}

fn phase(run: &Summary, lengths: Lengths, now_ms: f64, paint: &Paint) -> String {
    if run.verdict.is_some() {
        return paint.bold("finished");
    }
    let Some(phase) = run.phases.last() else {
        return paint.faint("preparing");
    };
    let stage = phase.stage.unwrap_or_default();
    let (state, length_ms) = match phase.kind {
        PhaseKind::Preparing => return paint.faint("preparing"),
        PhaseKind::Baseline => (RunState::Baseline, lengths.baseline_ms),
        PhaseKind::Recovering => (RunState::Recovering, lengths.recovery_ms),
        PhaseKind::Injecting => (RunState::Injecting(stage), hold_ms(run, stage)),
    };
    let mut name = state_in_words(state);
    if phase.kind == PhaseKind::Injecting {
        name = format!("{name} of {}", run.stages.len());
    }
    let since_ms = (now_ms - phase.from_ms).max(0.0);
    let bar = bar(since_ms / length_ms.max(1.0));
    let left = (length_ms - since_ms).max(0.0);
    let most = if phase.kind == PhaseKind::Recovering {
        "at most "
    } else {
        ""
    };
    let name = if phase.kind == PhaseKind::Injecting {
        paint.unsure(&name)
    } else {
        paint.bold(&name)
    };
    format!(
        "{name}  {bar}  {:.0} s, {most}{:.0} s left",
        since_ms / 1000.0,
        left / 1000.0
    )
}

fn hold_ms(run: &Summary, stage: u32) -> f64 {
    let planned = run.stages.iter().find(|s| s.number == stage);
    planned
        .and_then(|s| s.hold.parse::<squall_experiments::units::Hold>().ok())
        .map_or(0.0, |hold| hold.duration().as_secs_f64() * 1000.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share from 0 to 1 of a few columns"
)]
fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    "━".repeat(full) + &"─".repeat(BAR - full)
}

fn one_expectation(expectation: &ExpectationReport, paint: &Paint) -> String {
    let last = expectation.points.last();
    let now = last.and_then(|p| p.measured);
    let value = now.map_or("no data".to_owned(), |v| {
        value_in_words(v, expectation.unit)
    });
    // What the control allows is another in each window, and the value says little without it.
    let bound = last.and_then(|p| p.bound);
    let value = match bound.filter(|_| expectation.is_beside_control()) {
        Some(bound) => format!("{value} beside {}", value_in_words(bound, expectation.unit)),
        None => value,
    };
    let value = match (expectation.violated_at_ms, last) {
        (Some(_), _) => paint.bad(&format!("{value}  violated")),
        (None, Some(point)) if !point.satisfied => paint.unsure(&value),
        (None, Some(_)) => paint.good(&value),
        (None, None) => paint.faint("waiting"),
    };
    let text = clean(&expectation.text);
    format!("  {text:<22} {} {value}", paint.line(&sparks(expectation)))
}

/// The last windows as a line of blocks, from the least to the greatest of them and of the bound.
fn sparks(expectation: &ExpectationReport) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let from = expectation.points.len().saturating_sub(SPARKS);
    let shown = &expectation.points[from..];
    let values = || shown.iter().flat_map(|p| [p.measured, p.bound]).flatten();
    let high = values().fold(f64::MIN, f64::max);
    let low = match expectation.unit {
        // Latencies and rates are told from nothing up.
        Unit::Microseconds | Unit::PerSecond => 0.0,
        Unit::Fraction | Unit::Number => values().fold(f64::MAX, f64::min),
    };
    let mut line: String = shown
        .iter()
        .map(|point| match point.measured {
            None => '×',
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "from 0 to 7"
            )]
            Some(value) if high > low => {
                BLOCKS[((value - low) / (high - low) * 7.0).round().clamp(0.0, 7.0) as usize]
            }
            Some(_) => '▄',
        })
        .collect();
    line.extend(std::iter::repeat_n(' ', SPARKS - shown.len()));
    line
}

fn faults(all: &[FaultReport], paint: &Paint) -> Vec<String> {
    let told: Vec<&FaultReport> = all
        .iter()
        .filter(|f| f.outcome != FaultOutcome::NotReached)
        .collect();
    let mut lines: Vec<String> = told
        .iter()
        .take(FAULTS_MOST)
        .map(|fault| {
            let what = format!("{} on {}", clean(&fault.fault), clean(&fault.target));
            let dose = fault
                .dose
                .as_ref()
                .map_or("no dose yet".into(), dose_in_words);
            match &fault.outcome {
                FaultOutcome::InForce => format!("{} {what}: {dose}", paint.unsure("in force")),
                FaultOutcome::Refused(why) => {
                    format!("{} {what}: {}", paint.bad("refused "), clean(why))
                }
                FaultOutcome::Stuck(why) => {
                    format!("{} {what}: {}", paint.bad("STUCK   "), clean(why))
                }
                FaultOutcome::Ended(_) | FaultOutcome::NotReached => {
                    format!("{} {what}: {dose}", paint.good("gone    "))
                }
            }
        })
        .collect();
    if let Some(more) = told.len().checked_sub(FAULTS_MOST).filter(|m| *m > 0) {
        lines.push(paint.faint(&format!("… and {more} more faults")));
    }
    lines
}

fn endings(run: &Summary, paint: &Paint) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(first) = &run.first_broken {
        let armed = run
            .faults
            .iter()
            .filter_map(|f| f.armed_at_ms)
            .min_by(f64::total_cmp);
        let after = armed
            .filter(|armed| *armed <= first.at_ms)
            .map_or(String::new(), |armed| {
                format!(" {} after the fault", span_ms(first.at_ms - armed))
            });
        lines.push(format!(
            "{}{after}: {} of {}: {}",
            paint.bad("violated"),
            clean(&first.expectation),
            clean(&first.probe),
            clean(&first.measured)
        ));
    }
    if let (Some(at), Some(reason)) = (run.stop_at_ms, &run.stop_reason) {
        let gone = run
            .faults
            .iter()
            .filter_map(|f| f.ended_at_ms)
            .max_by(f64::total_cmp);
        let all_gone = run
            .faults
            .iter()
            .all(|f| f.outcome != FaultOutcome::InForce);
        let gone = match gone {
            Some(gone) if all_gone => {
                format!("; all faults gone {} later", span_ms((gone - at).max(0.0)))
            }
            _ => String::new(),
        };
        lines.push(format!(
            "{} {}{gone}",
            paint.bold("stop    "),
            clean(&stop_in_words(reason))
        ));
    }
    lines
}
