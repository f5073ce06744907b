//! The verdict's statistics, by simulation with fixed seeds: how often a healthy system is stopped, how soon a broken one, what
//! bursts do, and whether quantiles are read right. The rivals see the same samples.

mod baselines;
mod calibration;
mod dependence;
mod draws;
mod pairs;
mod plot;
mod rules;
mod stops;

use std::path::Path;

use lab::world::Result;
use squall_controller::judge::eprocess::divergence;

use crate::table::{Row, quantile};
use draws::{float, share};
use stops::{ALPHA, RULES};

/// A day at one sample a second.
const DAY: u64 = 86_400;

/// What is tolerated where only one rate is looked at.
const TOLERATED: f64 = 0.01;

/// What does not need as many runs as a rare event gets so many of them less.
const FEWER: u64 = 50;

pub(crate) fn measure(runs: u64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    false_stops(runs, &mut rows);
    detection((runs / FEWER).max(1), &mut rows);
    bursts((runs / FEWER).max(1), &mut rows);
    quantiles((runs / FEWER).max(1), &mut rows)?;
    baselines((runs / FEWER).max(1), &mut rows)?;
    comparisons((runs / FEWER).max(1), &mut rows)?;
    Ok(rows)
}

/// A run and its e-process, as a picture.
pub(crate) fn plot(file: &Path) -> Result<()> {
    std::fs::write(file, plot::svg())
        .map_err(|error| format!("writing the plot to {}: {error}", file.display()).into())
}

fn percent(share: f64) -> f64 {
    share * 100.0
}

/// One row for each rival, since each is a figure of its own.
fn beside_each(rows: &mut Vec<Row>, what: &str, unit: &'static str, figures: &[f64]) {
    let Some((squall, rivals)) = figures.split_first() else {
        return;
    };
    for ((name, _), figure) in RULES.iter().skip(1).zip(rivals) {
        rows.push(Row::alone(what, unit, *squall).beside(*name, *figure));
    }
}

fn false_stops(runs: u64, rows: &mut Vec<Row>) {
    let counts = stops::false_stops(TOLERATED, DAY, runs);
    let shares = counts.map(|count| share(count, runs));
    let what = format!("false stops in 24 h at a 1 % bound, {runs} runs");
    beside_each(rows, &what, "%", &shares.map(|s| percent(s.0)));
    beside_each(
        rows,
        "  95 % interval from",
        "%",
        &shares.map(|s| percent(s.1)),
    );
    beside_each(
        rows,
        "  95 % interval to",
        "%",
        &shares.map(|s| percent(s.2)),
    );
    rows.push(Row::alone("  promised: at most", "%", percent(ALPHA)));
}

fn detection(runs: u64, rows: &mut Vec<Row>) {
    for tolerated in [0.001, 0.01, 0.05, 0.2] {
        for times in [3.0, 5.0, 10.0, 30.0] {
            let rate: f64 = tolerated * times;
            if rate > 0.95 {
                continue;
            }
            let wald = (1.0 / ALPHA).ln() / divergence(rate, tolerated);
            let needed = stops::detection(tolerated, rate, DAY, runs);
            for (name, at) in [("p50", 0.5), ("p95", 0.95)] {
                let what = format!(
                    "{:.1} % where {:.1} % may: samples, {name}",
                    percent(rate),
                    percent(tolerated)
                );
                let figures: Vec<f64> = needed
                    .iter()
                    .map(|needed| quantile(needed, at) / wald)
                    .collect();
                beside_each(rows, &what, "x Wald", &figures);
            }
            for healthy in [3_000, DAY] {
                let late = stops::late_detection(tolerated, rate, healthy, runs);
                let what = format!("  after {healthy} healthy samples, p50");
                rows.push(Row::alone(what, "x Wald", quantile(&late, 0.5) / wald));
            }
            let what = "  Wald's bound itself".to_owned();
            rows.push(Row::alone(what, "samples", wald));
        }
    }
}

fn bursts(runs: u64, rows: &mut Vec<Row>) {
    for burst in [1.0, 3.0, 10.0, 30.0] {
        for block in [60, 300] {
            let (single, blocks) = dependence::stopped(TOLERATED, burst, block, DAY, runs);
            let what =
                format!("errors in bursts of {burst}: false stops, blocks of {block}, {runs} runs");
            let (middle, low, high) = share(blocks, runs);
            rows.push(
                Row::alone(what, "%", percent(middle))
                    .beside("each attempt a trial", percent(share(single, runs).0)),
            );
            rows.push(Row::alone("  95 % interval from", "%", percent(low)));
            rows.push(Row::alone("  95 % interval to", "%", percent(high)));
        }
    }
}

fn baselines(runs: u64, rows: &mut Vec<Row>) -> Result<()> {
    let steady = baselines::steady()?;
    for kind in baselines::KINDS {
        let (middle, low, high) = share(baselines::unfit(&steady, kind, runs), runs);
        let what = format!("baseline of 20 s, {}: turned away, {runs} runs", kind.name);
        rows.push(Row::alone(what, "%", percent(middle)));
        rows.push(Row::alone("  95 % interval from", "%", percent(low)));
        rows.push(Row::alone("  95 % interval to", "%", percent(high)));
    }
    Ok(())
}

/// A group beside its control: at the edge of what is allowed, and as good as it.
fn comparisons(runs: u64, rows: &mut Vec<Row>) -> Result<()> {
    for kind in pairs::KINDS {
        let edge = pairs::at_the_edge(kind, runs)?;
        let name = kind.name;
        let figures = [
            (
                format!(
                    "{name}, worse by all that is allowed: stopped in {} pairs, {runs} runs",
                    pairs::PAIRS
                ),
                edge.0,
            ),
            ("  shown to be within, at 95 %".to_owned(), edge.1),
        ];
        for (what, count) in figures {
            let (middle, low, high) = share(count, runs);
            rows.push(Row::alone(what, "%", percent(middle)));
            rows.push(Row::alone("  95 % interval from", "%", percent(low)));
            rows.push(Row::alone("  95 % interval to", "%", percent(high)));
        }
        let alike = pairs::alike(kind, runs)?;
        for (at, name) in [(0.5, "p50"), (0.95, "p95")] {
            let what = format!("  as good as it: pairs until it is shown, {name}");
            rows.push(Row::alone(what, "pairs", quantile(&alike, at)));
        }
    }
    Ok(())
}

fn quantiles(runs: u64, rows: &mut Vec<Row>) -> Result<()> {
    let steady = calibration::steady()?;
    for latencies in calibration::LATENCIES {
        for slower in [0.002, 0.005, 0.01, 0.02, 0.04] {
            let said = calibration::said(&steady, latencies, slower, runs);
            let of = |which: fn(&calibration::Said) -> bool| {
                percent(float(said.iter().filter(|said| which(said)).count() as u64) / float(runs))
            };
            let name = format!(
                "{}, {:.1} % above the p99 bound",
                latencies.0,
                percent(slower)
            );
            let attempts = calibration::ATTEMPTS;
            rows.push(
                Row::alone(
                    format!("{name}: stopped in {attempts}"),
                    "%",
                    of(|s| s.confirmed),
                )
                .beside("the exact p99 is above", of(|s| s.exact_above)),
            );
            rows.push(Row::alone("  shown to hold", "%", of(|s| s.shown)));
            let worst = said.iter().map(|s| s.p99_error).fold(0.0, f64::max);
            rows.push(Row::alone("  p99 read, worst error", "%", percent(worst)));
        }
    }
    Ok(())
}
