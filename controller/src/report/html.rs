//! The report as one HTML file: no script, no style sheet, no font and no picture from anywhere else.
//!
//! Every text goes through the template's escaping; pictures are inline SVG whose geometry alone is computed here.

use super::ReportError;
use super::plot::Plot;
use super::summary::{ExpectationReport, FaultOutcome, FaultReport, Summary};
use super::words::{
    counted, outcome_in_words, span_ms, stop_in_words, value_in_words, worst_in_words,
};
use askama::Template;
use squall_experiments::verdict::Verdict;

/// The report of a run as one HTML file.
///
/// # Errors
/// Only if the template cannot be rendered, which no content of a run causes.
pub fn html(summary: &Summary) -> Result<String, ReportError> {
    Page::of(summary)
        .render()
        .map_err(|source| ReportError::Render {
            run: summary.run.clone(),
            source,
        })
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    run: &'a Summary,
    title: String,
    /// A class of the style sheet.
    tone: &'static str,
    verdict: String,
    figures: Vec<Figure>,
    plots: Vec<Plot>,
    expectations: Vec<ExpectationRow<'a>>,
    faults: Vec<FaultRow<'a>>,
    timeline: Vec<(String, &'a str)>,
    stop: Option<String>,
    started: Option<String>,
    because: String,
    broke_after: Option<String>,
}

/// A number worth a glance.
struct Figure {
    name: &'static str,
    value: String,
    explain: &'static str,
}

struct ExpectationRow<'a> {
    of: &'a ExpectationReport,
    baseline: String,
    worst: String,
    last: String,
    result: String,
    tone: &'static str,
}

struct FaultRow<'a> {
    of: &'a FaultReport,
    stage: u32,
    armed: String,
    gone: String,
    outcome: String,
    tone: &'static str,
}

impl<'a> Page<'a> {
    fn of(run: &'a Summary) -> Self {
        let verdict = run
            .verdict
            .map_or("no verdict".to_owned(), |v| v.to_string());
        let plots = run.expectations.iter().zip(1..);
        let name = if run.name.is_empty() {
            "a run"
        } else {
            &run.name
        };
        Self {
            title: format!("{verdict}: {name}"),
            tone: tone(run.verdict),
            verdict,
            figures: figures(run),
            plots: plots.map(|(e, number)| Plot::of(number, run, e)).collect(),
            expectations: run.expectations.iter().map(ExpectationRow::of).collect(),
            faults: run.faults.iter().map(FaultRow::of).collect(),
            timeline: run
                .timeline
                .iter()
                .map(|m| (span_ms(m.at_ms), m.what.as_str()))
                .collect(),
            stop: run.stop_reason.as_ref().map(stop_in_words),
            broke_after: run.timings.detect_ms.map(span_ms),
            because: sentence(&run.because),
            // To the second: what matters within the run is told in milliseconds below.
            started: run
                .timings
                .started_at
                .as_deref()
                .and_then(|t| t.get(..19))
                .map(|t| format!("{} UTC", t.replace('T', " "))),
            run,
        }
    }
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next().map(char::to_uppercase);
    first
        .into_iter()
        .flatten()
        .chain(letters)
        .chain(['.'])
        .collect()
}

const fn tone(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Held) => "good",
        Some(Verdict::Broken) => "bad",
        Some(Verdict::Inconclusive | Verdict::Halted) | None => "unsure",
        Some(Verdict::Refused) => "quiet",
    }
}

fn figures(run: &Summary) -> Vec<Figure> {
    let timed = [
        (
            "detected in",
            run.timings.detect_ms,
            "from the first fault in force to the confirmed violation",
        ),
        (
            "reverted in",
            run.timings.revert_ms,
            "from the decision to stop to the last fault gone",
        ),
        (
            "recovered in",
            run.timings.recover_ms,
            "from the last fault gone to the steady state proven back",
        ),
    ];
    let mut figures: Vec<Figure> = timed
        .into_iter()
        .filter_map(|(name, ms, explain)| {
            Some(Figure {
                name,
                value: span_ms(ms?),
                explain,
            })
        })
        .collect();
    let armed = run
        .faults
        .iter()
        .filter(|f| f.armed_at_ms.is_some())
        .count();
    figures.push(Figure {
        name: "injected",
        value: counted(armed as u64, "fault"),
        explain: "faults that the kernel confirmed to be in force",
    });
    figures.push(Figure {
        name: "run time",
        value: span_ms(run.timings.duration_ms),
        explain: "from the run's first event to its last",
    });
    figures
}

/// What became of an expectation, in a word, and its tone.
pub(super) fn result_of(expectation: &ExpectationReport) -> (String, &'static str) {
    match expectation.violated_at_ms {
        Some(ms) => (format!("violated at {}", span_ms(ms)), "bad"),
        None if expectation.windows_under_fault == 0 => ("not put to the test".into(), "quiet"),
        // A few short windows are chance, or too few samples to tell; the reader should know of them.
        None if expectation.windows_unsatisfied > 0 => ("not confirmed violated".into(), "unsure"),
        None => ("kept".into(), "good"),
    }
}

impl<'a> ExpectationRow<'a> {
    fn of(of: &'a ExpectationReport) -> Self {
        let show =
            |value: Option<f64>| value.map_or("no data".to_owned(), |v| value_in_words(v, of.unit));
        let (result, tone) = result_of(of);
        Self {
            of,
            baseline: show(of.baseline),
            worst: worst_in_words(of),
            last: show(of.last),
            result,
            tone,
        }
    }
}

impl<'a> FaultRow<'a> {
    fn of(of: &'a FaultReport) -> Self {
        let since = |ms: Option<f64>| ms.map_or("–".to_owned(), span_ms);
        #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
        let after = |us: Option<u64>, word: &str| {
            us.map_or(String::new(), |us| {
                format!(" ({word} {})", span_ms(us as f64 / 1000.0))
            })
        };
        let tone = match &of.outcome {
            FaultOutcome::Stuck(_) => "bad",
            FaultOutcome::Refused(_) | FaultOutcome::InForce => "unsure",
            FaultOutcome::NotReached | FaultOutcome::Ended(_) => "quiet",
        };
        Self {
            of,
            stage: of.stage + 1,
            armed: since(of.armed_at_ms) + &after(of.arm_took_us, "took"),
            gone: since(of.ended_at_ms) + &after(of.end_took_us, "took"),
            outcome: outcome_in_words(&of.outcome),
            tone,
        }
    }
}
