//! The times of schedules against a second implementation: Python's zoneinfo and croniter.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use lab::world::Result;
use lab::world::service::needing;
use libtest_mimic::Trial;
use serde::Deserialize;
use squall_controller::calendar::Times;
use squall_experiments::schedule::{Cron, CronError};
use std::path::PathBuf;
use std::process::Command;

/// Debian's own Python, which finds Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

const PEER: &str = include_str!("cron_times.py");

/// Places with a change of the clock, expressions at each, and expressions where clocks never change.
const CASES: [usize; 3] = [200, 50, 2_000];

pub(crate) fn trials() -> Vec<Trial> {
    let module = PathBuf::from("/usr/lib/python3/dist-packages/croniter/__init__.py");
    vec![needing(
        Some(module).filter(|module| module.exists()),
        "python3-croniter",
        "calendar::times_are_those_of_a_second_implementation",
        |_| compared(),
    )]
}

/// When an expression is due, as the peer has it.
#[derive(Debug, Deserialize)]
struct Case {
    zone: String,
    cron: String,
    from: i64,
    until: i64,
    due: Vec<i64>,
}

fn compared() -> Result<()> {
    // Another draw each day; what failed names it.
    let seed = Timestamp::now().as_second() / 86_400;
    let mut command = Command::new(PYTHON);
    command.args(["-c", PEER, &seed.to_string()]);
    let answer = command
        .args(CASES.map(|count| count.to_string()))
        .output()?;
    if !answer.status.success() {
        return Err(String::from_utf8_lossy(&answer.stderr).into_owned().into());
    }
    let (mut seen, mut due) = (0, 0);
    for line in answer
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let case: Case = serde_json::from_slice(line)?;
        let ours = ours(&case)?;
        if ours != case.due {
            return Err(format!("seed {seed}: {case:?}, but here it is due at {ours:?}").into());
        }
        seen += 1;
        due += ours.len();
    }
    if seen != CASES[0] * CASES[1] + CASES[2] || due < 100_000 {
        return Err(format!("only {seen} expressions, due {due} times").into());
    }
    Ok(())
}

fn ours(case: &Case) -> Result<Vec<i64>> {
    let cron: Cron = match case.cron.parse() {
        Ok(cron) => cron,
        // The thirtieth of February.
        Err(CronError::Never(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let zone = TimeZone::get(&case.zone)?;
    let times = Times::new(&cron, zone).ok_or("the expression is not read")?;
    let until = Timestamp::from_second(case.until)?;
    let all = std::iter::successors(times.after(Timestamp::from_second(case.from)?), |last| {
        times.after(*last)
    });
    Ok(all
        .take_while(|due| *due <= until)
        .map(Timestamp::as_second)
        .collect())
}
