//! One expectation over time, as the geometry of an SVG picture. Text is left to the template, which escapes it.

use super::axis::{Axis, time_ticks};
use super::evidence::Evidence;
use super::summary::{ExpectationReport, PhaseKind, Summary, Unit};
use super::thin::{stretches, thin};
use super::words::{span_ms, value_in_words};
use squall_experiments::event::StopReason;
use std::fmt::Write as _;

/// The picture's size in its own units, and the margins around the plotting area.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 30.0;
/// One column for every three units: finer than the eye, and at most some 1,200 points whatever the run's length.
const COLUMNS: u32 = 292;
/// What a letter of a label takes: labels are left out where they would not fit.
const LETTER: f64 = 6.6;
/// Pulses drawn: more are not told apart in a picture of this width.
const PULSES_MOST: usize = 500;

/// A shaded stretch of time.
pub(super) struct Band {
    pub(super) x: String,
    pub(super) width: String,
    /// Shown above the plotting area, where it fits.
    pub(super) label: String,
    pub(super) label_x: String,
    /// Told when pointed at.
    pub(super) title: String,
    /// Alternates, so that neighbouring stages can be told apart.
    pub(super) odd: bool,
}

/// A line with a name at one place of an axis.
pub(super) struct Tick {
    pub(super) at: String,
    pub(super) label: String,
}

/// A moment marked across the plot.
pub(super) struct Mark {
    pub(super) x: String,
    pub(super) text_x: String,
    pub(super) text_y: String,
    /// Which side of the line the text is on: `start` or `end`.
    pub(super) anchor: &'static str,
    pub(super) text: String,
}

/// Everything the template draws.
pub(super) struct Plot {
    pub(super) number: usize,
    pub(super) probe: String,
    pub(super) text: String,
    pub(super) describe: String,
    pub(super) broken: bool,
    pub(super) logarithmic: bool,
    pub(super) phases: Vec<Band>,
    pub(super) bands: Vec<Band>,
    /// When faults that come and go were in force.
    pub(super) pulses: Vec<Band>,
    pub(super) gaps: Vec<Band>,
    pub(super) lines: Vec<String>,
    pub(super) dots: Vec<(String, String)>,
    pub(super) bounds: Vec<String>,
    pub(super) bound_label: Option<Tick>,
    pub(super) y_ticks: Vec<Tick>,
    pub(super) x_ticks: Vec<Tick>,
    pub(super) violated: Option<Mark>,
    pub(super) stop: Option<Mark>,
    pub(super) empty: bool,
    /// The strip below, of what is judged by e-values.
    pub(super) evidence: Option<Evidence>,
}

/// One decimal: a tenth of a unit is less than a pixel.
fn at(value: f64) -> String {
    format!("{value:.1}")
}

struct Frame<'a> {
    summary: &'a Summary,
    expectation: &'a ExpectationReport,
    end_ms: f64,
    axis: Axis,
}

impl Plot {
    pub(super) fn of(number: usize, summary: &Summary, expectation: &ExpectationReport) -> Self {
        let points = &expectation.points;
        let values: Vec<f64> = points.iter().filter_map(|p| p.measured).collect();
        let bounds: Vec<f64> = points.iter().filter_map(|p| p.bound).collect();
        let frame = Frame {
            summary,
            expectation,
            end_ms: summary.timings.duration_ms.max(1.0),
            axis: Axis::of(&values, &bounds, expectation.unit),
        };
        let (lines, dots, gaps) = frame.measured();
        Self {
            number,
            probe: expectation.probe.clone(),
            text: expectation.text.clone(),
            describe: frame.describe(),
            broken: expectation.violated_at_ms.is_some(),
            logarithmic: frame.axis.logarithmic,
            phases: frame.phases(),
            bands: frame.bands(),
            pulses: frame.pulses(),
            gaps,
            lines,
            dots,
            bounds: frame.bounds(),
            bound_label: frame.bound_label(),
            y_ticks: frame.y_ticks(),
            x_ticks: frame.x_ticks(),
            violated: expectation
                .violated_at_ms
                .map(|ms| frame.mark(ms, &format!("violated at {}", span_ms(ms)), true)),
            stop: summary.stop_at_ms.map(|ms| {
                let word = match summary.stop_reason {
                    Some(StopReason::Done) => "through",
                    _ => "stop",
                };
                frame.mark(ms, &format!("{word} at {}", span_ms(ms)), false)
            }),
            empty: values.is_empty(),
            evidence: Evidence::of(points, |ms| frame.x(ms), (frame.end_ms, COLUMNS)),
        }
    }
}

impl Frame<'_> {
    fn x(&self, ms: f64) -> f64 {
        LEFT + (ms / self.end_ms).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.axis.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn band(&self, from: f64, to: f64, label: &str, title: String, odd: bool) -> Band {
        let (left, right) = (self.x(from), self.x(to.max(from)));
        #[expect(clippy::cast_precision_loss, reason = "a label is short")]
        let fits = label.chars().count() as f64 * LETTER <= right - left;
        Band {
            x: at(left),
            // A band of a few milliseconds must still be seen.
            width: at((right - left).max(1.0)),
            label: if fits {
                label.to_owned()
            } else {
                String::new()
            },
            label_x: at(f64::midpoint(left, right)),
            title,
            odd,
        }
    }

    fn phases(&self) -> Vec<Band> {
        let shown = self.summary.phases.iter().filter_map(|phase| {
            let name = match phase.kind {
                PhaseKind::Preparing => return None,
                PhaseKind::Baseline => "baseline".to_owned(),
                PhaseKind::Recovering => "recovery".to_owned(),
                PhaseKind::Injecting => format!("stage {}", phase.stage.unwrap_or_default() + 1),
            };
            let title = format!("{name}, {}", span_ms(phase.to_ms - phase.from_ms));
            let odd = phase.kind == PhaseKind::Injecting;
            Some(self.band(phase.from_ms, phase.to_ms, &name, title, odd))
        });
        shown.collect()
    }

    fn bands(&self) -> Vec<Band> {
        let shown = self.summary.stages.iter().filter_map(|stage| {
            let (from, to) = (stage.from_ms?, stage.to_ms?);
            let label = stage.faults.join(" + ");
            let title = format!(
                "stage {}: {label} on {} of {} ({})",
                stage.number + 1,
                stage.hit,
                stage.candidates,
                stage.share
            );
            Some(self.band(from, to, &label, title, stage.number % 2 == 1))
        });
        shown.collect()
    }

    fn pulses(&self) -> Vec<Band> {
        let pulsed = self.summary.faults.iter().filter(|f| !f.pulses.is_empty());
        let drawn = pulsed.flat_map(|fault| {
            let spans = fault.spans(self.end_ms).into_iter().enumerate();
            spans.map(|(number, (from, to))| {
                let (what, lasted) = (&fault.fault, span_ms(to - from));
                let title = format!("pulse {} of {what}, {lasted} in force", number + 1);
                self.band(from, to, "", title, false)
            })
        });
        drawn.take(PULSES_MOST).collect()
    }

    fn measured(&self) -> (Vec<String>, Vec<(String, String)>, Vec<Band>) {
        let (stretches, gaps) = stretches(&self.expectation.points);
        let mut lines = Vec::new();
        let mut dots = Vec::new();
        for stretch in &stretches {
            let kept = thin(stretch, 0.0, self.end_ms, COLUMNS);
            if let [(ms, value)] = kept[..] {
                // A line of one point would not be seen.
                dots.push((at(self.x(ms)), at(self.y(value))));
            } else {
                lines.push(self.path(&kept));
            }
        }
        let gaps = gaps
            .iter()
            .map(|(from, to)| {
                let title = format!("no data from {} to {}", span_ms(*from), span_ms(*to));
                self.band(*from, *to, "no data", title, false)
            })
            .collect();
        (lines, dots, gaps)
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::with_capacity(points.len() * 12);
        for (index, (ms, value)) in points.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            // Writing to a String cannot fail.
            let _ = write!(path, "{letter}{:.1} {:.1}", self.x(*ms), self.y(*value));
        }
        path
    }

    /// The bound: one horizontal stretch for each value it had, or a control's own line.
    fn bounds(&self) -> Vec<String> {
        if self.expectation.is_beside_control() {
            let known = self.expectation.points.iter();
            let known: Vec<(f64, f64)> = known.filter_map(|p| Some((p.at_ms, p.bound?))).collect();
            return vec![self.path(&thin(&known, 0.0, self.end_ms, COLUMNS))];
        }
        let known: Vec<(f64, f64, f64)> = self
            .expectation
            .points
            .iter()
            .filter_map(|p| p.bound.map(|b| (p.at_ms - p.length_ms, p.at_ms, b)))
            .collect();
        known
            .chunk_by(|a, b| a.2.total_cmp(&b.2).is_eq())
            .filter_map(|same| {
                let (first, last) = (same.first()?, same.last()?);
                let y = self.y(first.2);
                Some(format!(
                    "M{:.1} {y:.1}L{:.1} {y:.1}",
                    self.x(first.0),
                    self.x(last.1)
                ))
            })
            .collect()
    }

    fn bound_label(&self) -> Option<Tick> {
        let bound = self.expectation.points.iter().rev().find_map(|p| p.bound)?;
        let y = self.y(bound);
        // Above the line, but under it where the line is at the top.
        let y = if y < TOP + 14.0 { y + 13.0 } else { y - 5.0 };
        let name = if self.expectation.is_beside_control() {
            "by the control, lately"
        } else {
            "bound"
        };
        Some(Tick {
            at: at(y),
            label: format!("{name} {}", value_in_words(bound, self.expectation.unit)),
        })
    }

    fn y_ticks(&self) -> Vec<Tick> {
        let ticks = self.axis.ticks.iter();
        ticks
            .map(|(value, label)| Tick {
                at: at(self.y(*value)),
                label: label.clone(),
            })
            .collect()
    }

    fn x_ticks(&self) -> Vec<Tick> {
        time_ticks(self.end_ms)
            .into_iter()
            .map(|(ms, label)| Tick {
                at: at(self.x(ms)),
                label,
            })
            .collect()
    }

    fn mark(&self, ms: f64, text: &str, violation: bool) -> Mark {
        let x = self.x(ms);
        #[expect(clippy::cast_precision_loss, reason = "a label is short")]
        let length = text.chars().count() as f64 * LETTER;
        // A violation is told before its line, a stop after it, unless the text would leave the picture there.
        let left = (violation && x - length > LEFT) || x + length > WIDTH - RIGHT;
        Mark {
            x: at(x),
            text_x: at(if left { x - 5.0 } else { x + 5.0 }),
            // Where the line is least: latencies live at the floor, shares of success at the ceiling.
            text_y: at(match self.expectation.unit {
                Unit::Fraction => HEIGHT - BOTTOM - if violation { 23.0 } else { 8.0 },
                _ => TOP + if violation { 27.0 } else { 12.0 },
            }),
            anchor: if left { "end" } else { "start" },
            text: text.to_owned(),
        }
    }

    /// The picture in words, for who cannot see it.
    fn describe(&self) -> String {
        let e = self.expectation;
        let show =
            |value: Option<f64>| value.map_or("no data".to_owned(), |v| value_in_words(v, e.unit));
        let end = match e.violated_at_ms {
            Some(ms) => format!("Violated at {}.", span_ms(ms)),
            None => "Never confirmed violated.".to_owned(),
        };
        format!(
            "{} of {} over {}: {} in the baseline, {} at worst under fault, {} at the end. {end}",
            e.text,
            e.probe,
            span_ms(self.end_ms),
            show(e.baseline),
            show(e.worst_under_fault),
            show(e.last)
        )
    }
}
