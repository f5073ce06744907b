//! The agent beside what other fault injectors run: Chaos Mesh's daemon, pumba, nsenter with tc and nft, stress-ng.

mod cores;
mod crowd;
mod footprint;
mod neighbour;
mod pace;
mod path;
mod pressure;
mod rivals;
mod talks;
mod traffic;

use std::fs;
use std::time::Duration;

use clap::ValueEnum;
use lab::world::Result;
use lab::world::agent::{Agent, written};
use lab::world::wire::{Ip, named};
use serde_json::json;
use squall_experiments::capability::Means;
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::target::Target;
use squall_experiments::units::Lease;

use crate::table::Row;

/// A part of the benchmark; each takes at most seven minutes where there is no netem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// What the agent and its holders cost while nothing happens.
    Footprint,
    /// How fast one fault comes and goes.
    Pace,
    /// A hundred targets at once, and five hundred faults on one node.
    Crowd,
    /// What steered traffic still gets.
    Traffic,
    /// What the untouched traffic beside it gets.
    Neighbour,
    /// How much longer the way of the untouched traffic is.
    Path,
    /// Processor and memory.
    Pressure,
}

/// Measures all parts, or one.
pub(crate) fn measure(only: Option<Part>) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let agent = Agent::start()?;
    let means = agent
        .hello()
        .capabilities
        .of(FaultKind::Delay)
        .map(|c| c.means.clone())
        .unwrap_or_default();
    drop(agent);
    for part in Part::value_variants() {
        if only.is_some_and(|only| only != *part) {
            continue;
        }
        eprintln!("measure: {part:?}");
        match part {
            Part::Footprint => footprint::measure(&means, &mut rows)?,
            Part::Pace => pace::measure(&means, &mut rows)?,
            Part::Crowd => crowd::measure(&mut rows)?,
            Part::Traffic => traffic::measure(&means, &mut rows)?,
            Part::Neighbour => neighbour::measure(&means, &mut rows)?,
            Part::Path => path::measure(&means, &mut rows)?,
            Part::Pressure => pressure::measure(&mut rows)?,
        }
    }
    Ok(rows)
}

fn lease() -> Lease {
    written(json!("60s"))
}

/// A delay of what goes to the wire's named address.
fn delay(time: &str) -> Fault {
    written(
        json!({ "delay": { "time": time, "filter": { "to": { "hosts": [named(Ip::V4).to_string()] } } } }),
    )
}

fn netns(name: &str) -> Target {
    written(json!({ "netns": { "name": name } }))
}

fn word(means: Means) -> String {
    format!("{means:?}").to_lowercase()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a second")]
fn ms_of(us: u64) -> f64 {
    us as f64 / 1e3
}

/// Processor time of a process's first thread so far (`/proc/PID/schedstat`, the first figure). A holder of packets has no other.
fn processor_time(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let first = text.split_whitespace().next().ok_or("empty schedstat")?;
    Ok(Duration::from_nanos(first.parse()?))
}
