//! The report of a day as one HTML file, in the style of a run's: nothing in it comes from anywhere else.

use super::{DayReport, Outcome, RunReport, StepReport, at_clock, detected, in_zone, recovered};
use crate::gameday::words::Tone;
use crate::report::ReportError;
use askama::Template;
use jiff::tz::TimeZone;
use squall_experiments::verdict::Verdict;

/// The report of a day as one HTML file.
///
/// # Errors
/// Only if the template cannot be rendered, which no content of a day causes.
pub fn html(day: &DayReport) -> Result<String, ReportError> {
    Page::of(day)
        .render()
        .map_err(|source| ReportError::Render {
            run: day.id.clone(),
            source,
        })
}

#[derive(Template)]
#[template(path = "gameday.html")]
struct Page<'a> {
    day: &'a DayReport,
    squall: &'static str,
    tone: &'static str,
    headline: String,
    outcomes: String,
    held_on: String,
    figures: Vec<(&'static str, String)>,
    strip: Strip,
    steps: Vec<StepRow<'a>>,
    broken: Vec<BrokenRow<'a>>,
    zone: Option<TimeZone>,
}

struct StepRow<'a> {
    of: &'a StepReport,
    word: String,
    tone: &'static str,
    runs: Vec<RunRow<'a>>,
}

struct RunRow<'a> {
    of: &'a RunReport,
    word: String,
    tone: &'static str,
    at: String,
    detected: String,
    recovered: String,
}

/// Something that broke.
struct BrokenRow<'a> {
    step: &'a StepReport,
    run: &'a RunReport,
}

impl<'a> Page<'a> {
    fn of(day: &'a DayReport) -> Self {
        let zone = day.zone();
        let worst = day.worst();
        let is_over = day.ended_us.is_some();
        let headline = match (is_over, worst) {
            (false, _) => "Not over yet",
            (true, Verdict::Broken) => "A weakness was found",
            (true, Verdict::Halted) => "Stopped on the way",
            (true, Verdict::Inconclusive) => "Not all of it was shown",
            (true, _) if day.steps.iter().all(|s| s.outcome() == Outcome::Skipped) => {
                "Nothing was tried"
            }
            (true, _) => "What was tried held",
        };
        let runs = |step: &'a StepReport| step.runs.iter().map(move |run| BrokenRow { step, run });
        let broken = day.steps.iter().flat_map(runs);
        Self {
            squall: env!("CARGO_PKG_VERSION"),
            tone: if is_over {
                Tone::of(Some(worst))
            } else {
                Tone::Unsure
            }
            .word(),
            headline: headline.into(),
            outcomes: day.outcomes(),
            held_on: held_on(day, zone.as_ref()),
            figures: figures(day),
            strip: Strip::of(day, zone.as_ref()),
            steps: day
                .steps
                .iter()
                .map(|s| StepRow::of(s, zone.as_ref()))
                .collect(),
            broken: broken.filter(|row| row.run.broke.is_some()).collect(),
            zone,
            day,
        }
    }

    fn clock(&self, at_us: &u64) -> String {
        at_clock(*at_us, self.zone.as_ref())
    }
}

/// When it was held, and for when it was planned where that is another day.
pub(super) fn held_on(day: &DayReport, zone: Option<&TimeZone>) -> String {
    let opened = in_zone(day.opened_us, zone, "%Y-%m-%d");
    let from = in_zone(day.opened_us, zone, "%H:%M");
    let to = day.ended_us.map(|at| {
        let same = in_zone(at, zone, "%Y-%m-%d") == opened;
        in_zone(at, zone, if same { "%H:%M" } else { "%Y-%m-%d %H:%M" })
    });
    let to = to.unwrap_or_else(|| "now".into());
    let place = if zone.is_some() {
        &day.time_zone
    } else {
        "UTC"
    };
    let held = format!("{opened}, {from} to {to} ({place})");
    match day.date {
        Some(planned) if planned.to_string() != opened => {
            format!("{held}; planned for {planned}")
        }
        _ => held,
    }
}

fn figures(day: &DayReport) -> Vec<(&'static str, String)> {
    let runs = || day.steps.iter().flat_map(|step| &step.runs);
    let longest = |of: fn(&RunReport) -> Option<f64>| {
        let longest = runs().filter_map(of).max_by(f64::total_cmp);
        longest.map(crate::report::words::span_ms)
    };
    let mut figures = vec![
        ("experiments", day.steps.len().to_string()),
        ("runs", runs().count().to_string()),
    ];
    let timed = [
        ("slowest to detect", longest(|run| run.detect_ms)),
        ("slowest to recover", longest(|run| run.recover_ms)),
    ];
    figures.extend(timed.map(|(name, value)| (name, value.unwrap_or_else(|| "–".into()))));
    figures.push(("to be done", day.actions.len().to_string()));
    figures
}

impl<'a> StepRow<'a> {
    fn of(step: &'a StepReport, zone: Option<&TimeZone>) -> Self {
        let outcome = step.outcome();
        let runs = step.runs.iter().map(|run| RunRow {
            word: ending(run).words(),
            tone: ending(run).tone().word(),
            at: at_clock(run.go_us, zone),
            detected: detected(run),
            recovered: recovered(run),
            of: run,
        });
        Self {
            of: step,
            word: outcome.words(),
            tone: outcome.tone().word(),
            runs: runs.collect(),
        }
    }
}

fn ending(run: &RunReport) -> Outcome {
    match run.ended_us {
        Some(_) => Outcome::Ended(run.verdict),
        None => Outcome::UnderWay,
    }
}

/// The day as a picture: a lane for each experiment.
struct Strip {
    height: u32,
    axis_y: u32,
    lanes: Vec<Lane>,
    /// Where, what, and how it is anchored: the last one must not stand out of the picture.
    ticks: Vec<(f64, String, &'static str)>,
    /// Hand-overs.
    marks: Vec<(f64, String)>,
}

struct Lane {
    y: u32,
    text_y: u32,
    name: String,
    blocks: Vec<Block>,
    no_gos: Vec<(f64, String)>,
    /// What stands beside the last block.
    word: String,
    word_x: f64,
    anchor: &'static str,
    tone: &'static str,
}

struct Block {
    x: f64,
    width: f64,
    tone: &'static str,
    title: String,
    /// Where its faults were in force.
    faults: Option<(f64, f64)>,
}

const LEFT: f64 = 232.0;
const RIGHT: f64 = 944.0;
const LANE: u32 = 34;
/// Beyond this a word stands before its block, not behind it.
const WORD_X_MAX: f64 = 860.0;
const TICKS: u32 = 5;
const NAME_LETTERS_MAX: usize = 30;

/// A span of time over the picture's width.
#[derive(Clone, Copy)]
struct Scale {
    from: u64,
    to: u64,
}

impl Scale {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a day has far fewer than 2^53 microseconds"
    )]
    fn x(self, at_us: u64) -> f64 {
        let at = at_us.clamp(self.from, self.to) - self.from;
        let share = at as f64 / (self.to - self.from) as f64;
        ((LEFT + share * (RIGHT - LEFT)) * 10.0).round() / 10.0
    }
}

impl Strip {
    fn of(day: &DayReport, zone: Option<&TimeZone>) -> Self {
        let last = day.timeline.last().map_or(day.opened_us, |last| last.at_us);
        // What is written down days later does not belong in the picture.
        let to = day.ended_us.unwrap_or(last).max(day.opened_us + 1_000_000);
        let scale = Scale {
            from: day.opened_us,
            to,
        };
        let lanes = (0..).zip(&day.steps);
        let lanes: Vec<Lane> = lanes
            .map(|(n, step)| Lane::of(n, step, day, scale))
            .collect();
        let axis_y = LANE * u32::try_from(lanes.len()).unwrap_or_default() + 6;
        let format = if to - scale.from < 600_000_000 {
            "%H:%M:%S"
        } else {
            "%H:%M"
        };
        let ticks = (0..=TICKS).map(|n| {
            let at = scale.from + (to - scale.from) / u64::from(TICKS) * u64::from(n);
            let anchor = if n == TICKS { "end" } else { "middle" };
            (scale.x(at), in_zone(at, zone, format), anchor)
        });
        let marks = day.hand_overs.iter().map(|handed| {
            let title = format!("{} has the lead", handed.to);
            (scale.x(handed.at_us), title)
        });
        Self {
            height: axis_y + 40,
            axis_y,
            lanes,
            ticks: ticks.collect(),
            marks: marks.collect(),
        }
    }
}

impl Lane {
    fn of(number: u32, step: &StepReport, day: &DayReport, scale: Scale) -> Self {
        let outcome = step.outcome();
        let blocks: Vec<Block> = step.runs.iter().map(|run| Block::of(run, scale)).collect();
        let no_gos = day.no_gos.iter().filter(|said| said.step == step.step);
        let no_gos: Vec<(f64, String)> = no_gos
            .map(|said| {
                let by = said.by.as_deref().unwrap_or("a gate");
                (scale.x(said.at_us), format!("{by}: {}", said.because))
            })
            .collect();
        let starts = blocks.iter().map(|block| block.x);
        let starts = starts.chain(no_gos.iter().map(|(x, _)| x - 8.0));
        let ends = blocks.iter().map(|block| block.x + block.width);
        let ends = ends.chain(no_gos.iter().map(|(x, _)| x + 8.0));
        let end = ends.fold(LEFT, f64::max) + 8.0;
        let (word_x, anchor) = if end < WORD_X_MAX {
            (end, "start")
        } else {
            (starts.fold(RIGHT, f64::min) - 8.0, "end")
        };
        let mut name: String = step.name.chars().take(NAME_LETTERS_MAX).collect();
        if name.len() < step.name.len() {
            name.push('…');
        }
        Self {
            y: number * LANE + 4,
            text_y: number * LANE + 23,
            name: format!("{}. {name}", step.step),
            blocks,
            no_gos,
            word: outcome.words(),
            word_x,
            anchor,
            tone: outcome.tone().word(),
        }
    }
}

impl Block {
    fn of(run: &RunReport, scale: Scale) -> Self {
        let end_us = run.ended_us.unwrap_or(scale.to);
        let x = scale.x(run.go_us);
        let span = |from: u64, to: u64| (scale.x(from), (scale.x(to) - scale.x(from)).max(2.0));
        let faults = run.fault_in_us;
        let faults = faults.map(|from| span(from, run.fault_gone_us.unwrap_or(end_us)));
        Self {
            x,
            width: (scale.x(end_us) - x).max(3.0),
            tone: ending(run).tone().word(),
            title: format!("run {}: {}", run.run, ending(run).words()),
            faults,
        }
    }
}
