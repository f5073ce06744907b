//! The API under load: how long reads take while 10,000 runs are kept and many watch a run; and whether a run's stop is later for it.
//!
//! The controller is the real `squall serve`, a process of its own. So are the agents, and so is the load (who reads and who watches), at the lowest
//! priority: on machines of their own they would not take the controller's processors. Halves with and without the load follow each other, and
//! the halves without it are compared with each other, too: what those differ by is noise.
//!
//! A stop is measured from its decision to the last agent's confirmation, as the run's own record says; and where a person asked for it over the API,
//! from before the first byte of that.

mod agents;
mod child;
mod door;
mod kept;
mod load;
mod stops;

use std::sync::Arc;

use lab::world::Result;
use tempfile::TempDir;

use crate::compare::Compared;
use crate::fleet::Controller;
use crate::table::{Row, quantile};
use child::{Beside, Part};
use door::Door;
use kept::{KEPT, keep_many};
use load::{Done, RATE, WATCHERS};
use stops::Stops;

pub(crate) use child::main_if_child;

pub(crate) fn measure(rounds: usize) -> Result<Vec<Row>> {
    tokio::runtime::Runtime::new()?.block_on(measured(rounds))
}

async fn measured(rounds: usize) -> Result<Vec<Row>> {
    let home = TempDir::new()?;
    keep_many(home.path()).await?;
    let controller = Controller::serve_in(home)?;
    let directory = controller.home.path();
    let mut agents = Beside::start(Part::Agents, directory)?;
    agents.hear()?;
    let door = Arc::new(Door::open(directory)?);
    let mut load = Beside::start(Part::Load, directory)?;
    let (mut quiet, mut loaded, mut reads) = (Vec::new(), Stops::default(), Done::default());
    for round in 1..=rounds {
        quiet.push(stops::made(&door).await?);
        load.tell("begin")?;
        load.hear()?;
        loaded.take(&stops::made(&door).await?);
        load.tell("end")?;
        let done: Done = serde_json::from_str(&load.hear()?)?;
        reads.take(done);
        let (quiet, loaded) = (quiet.last().map_or(0, Stops::count), loaded.count());
        eprintln!(
            "measure: round {round} of {rounds}: {quiet} stops without load, {loaded} with it so far"
        );
    }
    let mut rows = of_reads(&reads);
    rows.extend(of_stops(&quiet, &loaded));
    Ok(rows)
}

#[allow(clippy::cast_precision_loss, reason = "thousands")]
fn of_reads(reads: &Done) -> Vec<Row> {
    let read = |what: &str, share| {
        Row::alone(
            format!("read at {RATE}/s, {KEPT} runs kept: {what}"),
            "ms",
            quantile(&reads.ms, share),
        )
    };
    vec![
        Row::alone(
            "reads answered",
            "1/s",
            reads.ms.len() as f64 / reads.seconds,
        ),
        Row::alone("reads that failed", "", reads.failed as f64),
        read("p50", 0.5),
        read("p99", 0.99),
        read("worst", 1.0),
        Row::alone(
            format!("of {WATCHERS} who watch: told the verdict"),
            "",
            reads.told as f64 / reads.runs as f64,
        ),
        Row::alone(
            "events told to each",
            "",
            reads.events as f64 / reads.told.max(1) as f64,
        ),
    ]
}

fn of_stops(quiet: &[Stops], loaded: &Stops) -> Vec<Row> {
    // Every second half without load beside the others.
    let (mut one, mut other, mut both) = (Stops::default(), Stops::default(), Stops::default());
    for (number, half) in quiet.iter().enumerate() {
        both.take(half);
        match number % 2 {
            0 => one.take(half),
            _ => other.take(half),
        }
    }
    let mut rows = Vec::new();
    for why in both.lost().iter().chain(loaded.lost()) {
        eprintln!("measure: a run without a stop: {why}");
    }
    #[allow(clippy::cast_precision_loss, reason = "tens")]
    let lost = |of: &Stops| of.lost().len() as f64;
    let name = "nobody else asks";
    rows.push(Row::alone("runs without a stop", "", lost(loaded)).beside(name, lost(&both)));
    for (what, of) in [
        ("stop decided", Stops::decided as fn(&Stops) -> &[f64]),
        ("stop asked for", Stops::asked),
    ] {
        rows.extend(Compared::new(of(loaded), of(&both)).rows(what, "nobody else asks"));
        let noise = Compared::new(of(&one), of(&other));
        rows.extend(noise.rows(&format!("noise of {what}"), "the same, without load twice"));
    }
    rows
}
