//! A real service that begins to fail once a fault is in force: how many of many runs are stopped, and how soon, beside a threshold
//! over a sliding window on the very same answers.
//!
//! The service alone decides which requests fail: the n-th does when a number drawn from the run's seed and `n` is below the rate of failure
//! of the moment. That rate is raised when the real `squall run` says that its fault is in force, and lowered when it says that it is gone; the
//! fault itself, a delay of a millisecond, hurts nobody. When Squall stops, its requests go on with the rate lowered: what the service
//! would have answered without the stop is known all the same, since it was drawn before, and it is this that the threshold goes on with.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lab::world::Result;
use lab::world::agent::program;
use lab::world::fingerprint;
use lab::world::http::Service;
use lab::world::wire::{Ip, Wire, victim};
use serde_json::Value;
use tempfile::TempDir;

use crate::table::{Row, quantile};

const PORT: u16 = 8080;

/// Requests a second.
const RATE: u32 = 200;

/// How long a fault may stay: a rate of failure twice the tolerated one takes some ten seconds at this pace.
const HOLD: Duration = Duration::from_secs(30);

/// The window of the threshold rule.
const WINDOW: Duration = Duration::from_secs(30);

/// No run takes longer: baseline, hold, recovery, and a busy machine.
const RUN_LIMIT: Duration = Duration::from_secs(180);

/// Rates of failure in parts of a hundred thousand: healthy, and once the fault is in force. The first is exactly what is tolerated,
/// so that whatever stops there stops by chance.
const HEALTHY: u32 = 500;
const TOLERATED: u32 = 1_000;
const FAULTY: [u32; 4] = [1_000, 2_000, 5_000, 10_000];
const ALL: u32 = 100_000;

/// `runs` in all, shared out evenly among the rates of failure.
pub(crate) fn measure(runs: u64, at_once: usize) -> Result<Vec<Row>> {
    let each = usize::try_from(runs)?.div_ceil(FAULTY.len()).max(1);
    eprintln!(
        "measure: {each} runs at each of {} rates of failure, {at_once} at a time; {RATE} requests/s, success >= 99%, falseStop 0.1% a run, a fault of at most {HOLD:?}",
        FAULTY.len()
    );
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= each * FAULTY.len() {
                    return;
                }
                let rate = FAULTY[number % FAULTY.len()];
                let told = one(number as u64, rate).map_err(|error| error.to_string());
                if let Err(error) = &told {
                    eprintln!("measure: run {number}: {error}");
                }
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.push((rate, told));
                eprintln!("measure: {} of {} runs", all.len(), each * FAULTY.len());
            }
        };
        for _ in 0..at_once.max(1) {
            scope.spawn(work);
        }
    });
    let all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(FAULTY.iter().flat_map(|rate| rows(*rate, &all)).collect())
}

/// What became of a run: when Squall stopped, and when the threshold would have, both since the service began to fail.
#[derive(Clone, Debug)]
struct Told {
    squall_s: Option<f64>,
    /// By Squall's own clock, which this program's is held against.
    own_s: Option<f64>,
    requests: f64,
    threshold_s: Option<f64>,
}

type All = [(u32, std::result::Result<Told, String>)];

fn rows(rate: u32, all: &All) -> Vec<Row> {
    let of_rate = all.iter().filter(|(of, _)| *of == rate);
    let told = of_rate.clone().filter_map(|(_, told)| told.as_ref().ok());
    let told: Vec<&Told> = told.collect();
    let failed = of_rate.count() - told.len();
    let name = if rate == TOLERATED {
        format!("{} as tolerated", percent(rate))
    } else {
        percent(rate)
    };
    let mut rows = vec![
        Row::alone(
            format!("{name}: runs that count"),
            "runs",
            count(told.len()),
        ),
        Row::alone(format!("{name}: came to nothing"), "runs", count(failed)),
    ];
    shares(&name, &told, &mut rows);
    times(&name, &told, &mut rows);
    rows
}

fn rule() -> String {
    format!("> 1 % of the last {} s", WINDOW.as_secs())
}

/// How many were stopped, with what that says of all such runs.
fn shares(name: &str, told: &[&Told], rows: &mut Vec<Row>) {
    let of = told.len();
    let ours = told.iter().filter(|told| told.squall_s.is_some()).count();
    let theirs = told
        .iter()
        .filter(|told| told.threshold_s.is_some())
        .count();
    let share = |stopped: usize| count(stopped) / count(of).max(1.0);
    let (own, other) = (interval(ours, of), interval(theirs, of));
    for (what, squall, rival) in [
        ("stopped", share(ours), share(theirs)),
        ("stopped, 95 % sure from", own.0, other.0),
        ("stopped, 95 % sure to", own.1, other.1),
    ] {
        let row = Row::alone(format!("{name}: {what}"), "%", squall * 100.0);
        rows.push(row.beside(rule(), rival * 100.0));
    }
}

/// How soon those were that were.
fn times(name: &str, told: &[&Told], rows: &mut Vec<Row>) {
    let ours: Vec<f64> = told.iter().filter_map(|told| told.squall_s).collect();
    let theirs: Vec<f64> = told.iter().filter_map(|told| told.threshold_s).collect();
    if ours.is_empty() {
        return;
    }
    for (what, part) in [("median", 0.5), ("p95", 0.95)] {
        let row = Row::alone(
            format!("{name}: to a stop, {what}"),
            "s",
            quantile(&ours, part),
        );
        rows.push(if theirs.is_empty() {
            row
        } else {
            row.beside(rule(), quantile(&theirs, part))
        });
    }
    let stopped = told.iter().filter(|told| told.squall_s.is_some());
    let requests: Vec<f64> = stopped.map(|told| told.requests).collect();
    let what = format!("{name}: to a stop, median");
    rows.push(Row::alone(what, "requests", quantile(&requests, 0.5)));
    let apart = told
        .iter()
        .filter_map(|told| Some((told.squall_s? - told.own_s?).abs()));
    let what = format!("{name}: two clocks apart, at most");
    rows.push(Row::alone(what, "ms", apart.fold(0.0, f64::max) * 1e3));
}

/// The service's dice and its memory.
struct Odds {
    seed: u64,
    failing: AtomicU32,
    asked: AtomicU64,
    /// The number of the first request after the rate was raised.
    raised_at: AtomicU64,
}

impl Odds {
    /// From 0 to 99,999, the same for the same seed and number (Steele, Lea & Flood 2014).
    fn draw(&self, number: u64) -> u32 {
        let mut mixed = self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9_u64), (27, 0x94d0_49bb_1331_11eb)] {
            mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
        }
        u32::try_from((mixed ^ (mixed >> 31)) % u64::from(ALL)).unwrap_or(0)
    }

    fn succeeds(&self, number: u64) -> bool {
        self.asked.fetch_max(number + 1, Ordering::Relaxed);
        self.draw(number) >= self.failing.load(Ordering::Relaxed)
    }

    fn raise(&self, to: u32) {
        self.failing.store(to, Ordering::Relaxed);
        self.raised_at
            .store(self.asked.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// When more than the tolerated share of a window would first have failed, had nobody stopped; its window is full of healthy
    /// answers of the same service when the rate is raised.
    fn threshold_s(&self, rate: u32) -> Option<f64> {
        let length = usize::try_from(u64::from(RATE) * WINDOW.as_secs()).ok()?;
        let raised_at = self.raised_at.load(Ordering::Relaxed);
        // What was asked before the raise, and before that what the dice say of requests that were never made.
        let healthy =
            (0..length as u64).map(|back| raised_at.wrapping_sub(length as u64).wrapping_add(back));
        let mut window: VecDeque<bool> =
            healthy.map(|number| self.draw(number) < HEALTHY).collect();
        let mut failed = u64::try_from(window.iter().filter(|failed| **failed).count()).ok()?;
        let most = u64::try_from(length).ok()? * u64::from(TOLERATED) / u64::from(ALL);
        let asked = u64::from(RATE) * HOLD.as_secs();
        (0..asked).find_map(|number| {
            let fails = self.draw(raised_at + number) < rate;
            window.push_back(fails);
            failed = failed + u64::from(fails) - u64::from(window.pop_front().unwrap_or(false));
            (failed > most).then(|| seconds_of(number + 1))
        })
    }
}

/// One run of the real program against a service of its own, in namespaces of its own.
fn one(number: u64, rate: u32) -> Result<Told> {
    let wire = Wire::new()?;
    let odds = Arc::new(Odds {
        seed: number.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5fa1,
        failing: AtomicU32::new(HEALTHY),
        asked: AtomicU64::new(0),
        raised_at: AtomicU64::new(0),
    });
    let dice = Arc::clone(&odds);
    let at = victim(Ip::V4);
    let _service =
        Service::start_with(&wire.victim, at, PORT, Arc::new(move |n| dice.succeeds(n)))?;
    let home = TempDir::new()?;
    let file = home.path().join("experiment.yaml");
    fs::write(&file, experiment(&wire))?;
    let mut command = Command::new(program("squall")?);
    command
        .args(["run", "--json"])
        .arg(&file)
        .current_dir(home.path())
        .env(fingerprint::MARK, fingerprint::mark())
        .env("HOME", home.path())
        .env("XDG_STATE_HOME", home.path())
        .env("XDG_DATA_HOME", home.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(home.path().join("report.json"))?)
        .stderr(Stdio::piped());
    let running = Running(wire.peer.enter(|| Ok(command.spawn()?))?);
    let squall_s = watch(running, &odds, rate)?;
    let report: Value = serde_json::from_slice(&fs::read(home.path().join("report.json"))?)?;
    told(&report, squall_s, odds.threshold_s(rate))
}

fn experiment(wire: &Wire) -> String {
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: failing-service, owner: lab, runbook: \"https://wiki.example/failing\" }}
hypothesis: No more than one request in a hundred fails.
steadyState:
  - name: service
    probe: {{ load: {{ url: \"http://{}:{PORT}/\", rate: {RATE}/s, timeout: 2s }} }}
    expect: [ success >= 99% ]
method:
  - fault: {{ delay: {{ time: 1ms, direction: egress, from: {{ port: {PORT} }} }} }}
    on: {{ netns: {} }}
    hold: {}s
baseline: 5s
recovery: 20s
",
        victim(Ip::V4),
        wire.victim.name(),
        HOLD.as_secs()
    )
}

/// A `squall` that is ended with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads what `squall` says until it ends, and does to the service what the fault is said to do. The time from the raise to the stop.
fn watch(mut running: Running, odds: &Odds, rate: u32) -> Result<Option<f64>> {
    let said = running
        .0
        .stderr
        .take()
        .ok_or("squall's words cannot be read")?;
    let begun = Instant::now();
    let (mut raised, mut stopped) = (None, None);
    for line in BufReader::new(said).lines() {
        let line = line?;
        if line.contains(" in force on ") {
            odds.raise(rate);
            raised = Some(Instant::now());
        } else if line.contains(" is violated: ") {
            stopped = stopped.or_else(|| raised.map(|at| at.elapsed().as_secs_f64()));
        } else if line.contains("] stop: ") {
            odds.failing.store(HEALTHY, Ordering::Relaxed);
        }
        if begun.elapsed() > RUN_LIMIT {
            return Err(format!("squall has not ended within {RUN_LIMIT:?}").into());
        }
    }
    running.0.wait()?;
    Ok(stopped)
}

fn told(report: &Value, squall_s: Option<f64>, threshold_s: Option<f64>) -> Result<Told> {
    let verdict = report["verdict"].as_str().unwrap_or("none");
    if report["stages"][0]["fromMs"].is_null() {
        let because = report["because"].as_str().unwrap_or_default();
        return Err(format!("no fault was in force: {verdict}, {because}").into());
    }
    let own_s = report["timings"]["detectMs"].as_f64().map(|ms| ms / 1e3);
    if squall_s.is_some() != own_s.is_some() {
        return Err(format!(
            "{verdict}, detected in {own_s:?} s, but its words were read as {squall_s:?}"
        )
        .into());
    }
    Ok(Told {
        squall_s,
        own_s,
        requests: report["violations"][0]["samples"]
            .as_f64()
            .unwrap_or(f64::NAN),
        threshold_s,
    })
}

/// The exact interval of Clopper and Pearson (1934) for a share, by bisection.
fn interval(hits: usize, of: usize) -> (f64, f64) {
    const TAIL: f64 = 0.025;
    /// The chance of at most so many hits.
    fn at_most(hits: usize, of: usize, share: f64) -> f64 {
        let mut term = (1.0 - share).powf(count(of));
        let mut sum = term;
        for number in 1..=hits {
            term *= count(of - number + 1) / count(number) * share / (1.0 - share);
            sum += term;
        }
        sum
    }
    let bisect = |too_low: &dyn Fn(f64) -> bool| {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if too_low(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low
    };
    let from = match hits {
        0 => 0.0,
        hits => bisect(&|share| 1.0 - at_most(hits - 1, of, share) < TAIL),
    };
    let to = if hits >= of {
        1.0
    } else {
        bisect(&|share| at_most(hits, of, share) > TAIL)
    };
    (from, to)
}

fn percent(rate: u32) -> String {
    format!("{} %", f64::from(rate) / f64::from(ALL) * 100.0)
}

#[allow(clippy::cast_precision_loss, reason = "counts of runs and requests")]
fn count(number: usize) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss, reason = "counts of requests")]
fn seconds_of(requests: u64) -> f64 {
    requests as f64 / f64::from(RATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_tables() {
        let near = |(from, to): (f64, f64), a: f64, b: f64| {
            (from - a).abs() < 5e-4 && (to - b).abs() < 5e-4
        };
        assert!(near(interval(0, 50), 0.0, 0.0711));
        assert!(near(interval(50, 50), 0.9289, 1.0));
        assert!(near(interval(5, 50), 0.0333, 0.2181));
    }

    #[test]
    fn the_dice_are_fair() {
        let odds = Odds {
            seed: 7,
            failing: AtomicU32::new(HEALTHY),
            asked: AtomicU64::new(0),
            raised_at: AtomicU64::new(10_000),
        };
        for rate in [HEALTHY, 5_000] {
            let failed = (0..100_000)
                .filter(|number| odds.draw(*number) < rate)
                .count();
            let expected = f64::from(rate);
            assert!(
                (count(failed) - expected).abs() < 5.0 * expected.sqrt(),
                "{rate}: {failed}"
            );
        }
        let after = odds.threshold_s(10_000).unwrap_or(f64::INFINITY);
        assert!((0.5..4.0).contains(&after), "{after}");
    }
}
