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

use clap::ValueEnum;
use lab::world::Result;
use squall_controller::judge::eprocess::divergence;

use crate::table::{Row, quantile};
use draws::{float, share};
use stops::{ALPHA, ORACLE, RULES};

/// A day at one sample a second.
const DAY: u64 = 86_400;

/// What is tolerated where only one rate is looked at.
const TOLERATED: f64 = 0.01;

/// What does not need as many runs as a rare event gets so many of them less.
const FEWER: u64 = 50;

/// One of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Table {
    /// How often healthy systems are stopped.
    FalseStops,
    /// How soon broken ones are.
    Detection,
    /// What errors in bursts do to the first.
    Bursts,
    /// Expectations of quantiles beside exact order statistics.
    Quantiles,
    /// Baselines that are turned away.
    Baselines,
    /// Groups beside their control.
    Comparisons,
}

/// All tables, or the one that is wanted.
pub(crate) fn measure(runs: u64, only: Option<Table>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let fewer = (runs / FEWER).max(1);
    for table in Table::value_variants() {
        if only.is_some_and(|only| only != *table) {
            continue;
        }
        match table {
            Table::FalseStops => false_stops(runs, &mut rows),
            Table::Detection => detection(fewer, &mut rows),
            Table::Bursts => bursts(fewer, &mut rows),
            Table::Quantiles => quantiles(fewer, &mut rows)?,
            Table::Baselines => baselines(fewer, &mut rows)?,
            Table::Comparisons => comparisons(fewer, &mut rows)?,
        }
    }
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

/// One row for each rival, since each is a figure of its own. After the rules comes the oracle, where there is one.
fn beside_each(rows: &mut Vec<Row>, what: &str, unit: &'static str, figures: &[f64]) {
    let Some((squall, rivals)) = figures.split_first() else {
        return;
    };
    let rules = RULES.iter().skip(1).map(|(name, _)| *name);
    for (name, figure) in rules.chain([ORACLE]).zip(rivals) {
        rows.push(Row::alone(what, unit, *squall).beside(name, *figure));
    }
}

/// A share, and a row for each end of its interval.
fn with_interval(rows: &mut Vec<Row>, row: Row, hits: u64, runs: u64) {
    let (_, low, high) = share(hits, runs);
    rows.push(row);
    rows.push(Row::alone("  95 % interval from", "%", percent(low)));
    rows.push(Row::alone("  95 % interval to", "%", percent(high)));
}

fn of_runs(what: impl Into<String>, hits: u64, runs: u64) -> Row {
    Row::alone(what, "%", percent(share(hits, runs).0))
}

/// A figure of a sample, and its name.
type Figure = (&'static str, fn(&[f64]) -> f64);

/// Of a sample: its median, its 95th percentile, its mean. Wald's bound is one of the mean.
const FIGURES: [Figure; 3] = [
    ("p50", |of| quantile(of, 0.5)),
    ("p95", |of| quantile(of, 0.95)),
    ("mean", mean),
];

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / float(of.len().max(1) as u64)
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
            for (name, of) in FIGURES {
                let what = format!(
                    "{:.1} % where {:.1} % may: samples, {name}",
                    percent(rate),
                    percent(tolerated)
                );
                let figures: Vec<f64> = needed.iter().map(|needed| of(needed) / wald).collect();
                beside_each(rows, &what, "x Wald", &figures);
            }
            for healthy in [3_000, DAY] {
                let late = stops::late_detection(tolerated, rate, healthy, runs);
                for (name, of) in FIGURES {
                    let what = format!("  after {healthy} healthy samples, {name}");
                    rows.push(Row::alone(what, "x Wald", of(&late) / wald));
                }
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
            let row = of_runs(what, blocks, runs)
                .beside("each attempt a trial", percent(share(single, runs).0));
            with_interval(rows, row, blocks, runs);
        }
    }
}

fn baselines(runs: u64, rows: &mut Vec<Row>) -> Result<()> {
    let steady = baselines::steady()?;
    for kind in baselines::KINDS {
        let unfit = baselines::unfit(&steady, kind, runs);
        let what = format!("baseline of 20 s, {}: turned away, {runs} runs", kind.name);
        with_interval(rows, of_runs(what, unfit, runs), unfit, runs);
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
            with_interval(rows, of_runs(what, count, runs), count, runs);
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
                said.iter().filter(|said| which(said)).count() as u64
            };
            let name = format!(
                "{}, {:.1} % above the p99 bound",
                latencies.0,
                percent(slower)
            );
            let attempts = calibration::ATTEMPTS;
            let what = format!("{name}: stopped in {attempts}, {runs} runs");
            let (stopped, shown) = (of(|s| s.confirmed), of(|s| s.shown));
            let row = of_runs(what, stopped, runs).beside(
                "the exact p99 is above",
                percent(share(of(|s| s.exact_above), runs).0),
            );
            with_interval(rows, row, stopped, runs);
            with_interval(rows, of_runs("  shown to hold", shown, runs), shown, runs);
            let worst = said.iter().map(|s| s.p99_error).fold(0.0, f64::max);
            rows.push(Row::alone("  p99 read, worst error", "%", percent(worst)));
        }
    }
    Ok(())
}
