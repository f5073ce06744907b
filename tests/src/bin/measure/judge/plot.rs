//! A picture of one simulated run: its success rate second by second, and its e-process below.

use std::fmt::Write as _;

use super::draws::{Draws, float};
use squall_controller::judge::eprocess::EProcess;

/// 50 requests a second, of which 1 % may fail.
const RATE: u64 = 50;
const TOLERATED: f64 = 0.01;
/// The fault comes after a healthy time, is borne for a while, and then is not.
const FAULT_AT: u64 = 20;
const BREAKS_AT: u64 = 35;
const SECONDS: u64 = 60;
/// The shares that fail until then, and from then on.
const HEALTHY: f64 = 0.004;
const BROKEN: f64 = 0.1;
/// The chance of a false stop.
const ALPHA: f64 = 0.001;

/// The picture's geometry.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 20.0;
const UPPER: (f64, f64) = (40.0, 180.0);
const LOWER: (f64, f64) = (230.0, 430.0);

/// Least success rate, and powers of ten of the evidence, that are shown.
const SUCCESS_MIN: f64 = 0.88;
const POWERS: (f64, f64) = (-3.0, 5.0);

struct Run {
    /// Success, second by second.
    success: Vec<f64>,
    /// Seconds and evidence, sample by sample.
    evidence: Vec<(f64, f64)>,
    /// When the evidence reached the stop line, in seconds.
    stopped: Option<f64>,
}

fn run() -> Run {
    let mut draws = Draws::new(11);
    let mut test = EProcess::new(TOLERATED, ALPHA);
    let (mut success, mut evidence, mut stopped) = (Vec::new(), Vec::new(), None);
    for second in 0..SECONDS {
        // Once the run stops, the fault is taken back.
        let broken = second >= BREAKS_AT && stopped.is_none();
        let share = if broken { BROKEN } else { HEALTHY };
        if second == FAULT_AT {
            // A new phase: what was seen before says nothing about it.
            test = EProcess::new(TOLERATED, ALPHA);
        }
        let mut failed = 0;
        for number in 0..RATE {
            let fails = draws.unit() <= share;
            failed += u64::from(fails);
            if stopped.is_some() {
                continue;
            }
            test.take(f64::from(u8::from(fails)));
            let at = float(second) + float(number + 1) / float(RATE);
            evidence.push((at, test.evidence()));
            stopped = test.confirmed().then_some(at);
        }
        success.push(1.0 - float(failed) / float(RATE));
    }
    Run {
        success,
        evidence,
        stopped,
    }
}

fn x(seconds: f64) -> f64 {
    LEFT + seconds / float(SECONDS) * (WIDTH - LEFT - RIGHT)
}

fn y((top, bottom): (f64, f64), place: f64) -> f64 {
    bottom - place.clamp(0.0, 1.0) * (bottom - top)
}

fn success_y(success: f64) -> f64 {
    y(UPPER, (success - SUCCESS_MIN) / (1.0 - SUCCESS_MIN))
}

fn evidence_y(evidence: f64) -> f64 {
    y(LOWER, (evidence.log10() - POWERS.0) / (POWERS.1 - POWERS.0))
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.enumerate() {
        let letter = if index == 0 { 'M' } else { 'L' };
        // Writing to a String cannot fail.
        let _ = write!(path, "{letter}{x:.1} {y:.1}");
    }
    path
}

/// A horizontal line with its name at the axis.
fn level(svg: &mut String, y: f64, label: &str, class: &str) {
    let right = WIDTH - RIGHT;
    let _ = writeln!(
        svg,
        "<path class=\"{class}\" d=\"M{LEFT} {y:.1}L{right} {y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
        LEFT - 8.0,
        y + 4.0
    );
}

/// A vertical line through both panels.
fn moment(svg: &mut String, seconds: f64, label: &str, row: f64) {
    let at = x(seconds);
    let _ = writeln!(
        svg,
        "<path class=\"moment\" d=\"M{at:.1} {}L{at:.1} {}\"/><text x=\"{:.1}\" y=\"{}\">{label}</text>",
        UPPER.0,
        LOWER.1,
        at + 5.0,
        UPPER.1 + 14.0 + row * 14.0
    );
}

/// The picture.
pub(super) fn svg() -> String {
    let run = run();
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 470\" font-family=\"sans-serif\" font-size=\"12\">\n\
        <style>path{fill:none;stroke-width:1.5}.grid{stroke:#ddd}.bound{stroke:#c0392b;stroke-dasharray:6 4}.line{stroke:#1f5fa8}\
        .moment{stroke:#555;stroke-dasharray:2 3}text{fill:#333}.title{font-size:14px;font-weight:bold}</style>\n\
        <rect width=\"860\" height=\"470\" fill=\"#fff\"/>\n",
    );
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"{LEFT}\" y=\"24\">success, each second (50 requests)</text>\n<text class=\"title\" x=\"{LEFT}\" y=\"{}\">evidence against success &gt;= 99%</text>",
        LOWER.0 - 6.0
    );
    for success in [0.9, 0.95, 1.0] {
        level(
            &mut svg,
            success_y(success),
            &format!("{:.0}%", success * 100.0),
            "grid",
        );
    }
    level(&mut svg, success_y(1.0 - TOLERATED), "", "bound");
    for (power, label) in [(-2, "0.01"), (0, "1"), (2, "100"), (4, "10000")] {
        level(&mut svg, evidence_y(10f64.powi(power)), label, "grid");
    }
    level(&mut svg, evidence_y(1.0 / ALPHA), "stop: 1000", "bound");
    for seconds in (0..=SECONDS).step_by(10) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{seconds}s</text>",
            x(float(seconds)),
            LOWER.1 + 20.0
        );
    }
    moment(&mut svg, float(FAULT_AT), "fault in force", 0.0);
    moment(&mut svg, float(BREAKS_AT), "it breaks", 0.0);
    if let Some(stopped) = run.stopped {
        moment(&mut svg, stopped, &format!("stop at {stopped:.1}s"), 1.0);
    }
    let seconds = (0..).map(|n| float(n) + 0.5);
    let success = seconds.zip(&run.success);
    let line = path(success.map(|(at, success)| (x(at), success_y(*success))));
    let _ = writeln!(svg, "<path class=\"line\" d=\"{line}\"/>");
    // One point for each tenth of a second is finer than the eye.
    let points = run.evidence.iter().step_by(5).chain(run.evidence.last());
    let line = path(points.map(|(at, evidence)| (x(*at), evidence_y(*evidence))));
    let _ = writeln!(svg, "<path class=\"line\" d=\"{line}\"/>\n</svg>");
    svg
}
