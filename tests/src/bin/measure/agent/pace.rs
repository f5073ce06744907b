//! How fast one fault comes and goes, beside the command lines of others.

use std::time::Instant;

use lab::world::Result;
use lab::world::agent::Agent;
use lab::world::wire::Wire;
use squall_experiments::capability::Means;

use super::rivals::Rival;
use super::{delay, lease, ms, ms_of, netns, word};
use crate::table::{Row, quantile};

/// How often a fault comes and goes.
const REPEATED: usize = 200;
/// How often a rival's does: each is some tens of processes.
const RIVAL_REPEATED: usize = 40;
/// Not counted: the first one loads modules and fills caches.
const WARMING: usize = 3;

/// Milliseconds of coming and of going.
#[derive(Default)]
struct Times {
    come: Vec<f64>,
    go: Vec<f64>,
}

pub(super) fn measure(means: &[Means], rows: &mut Vec<Row>) -> Result<()> {
    let wire = Wire::new()?;
    let mut rivals = Vec::new();
    for rival in Rival::all(wire.victim.name(), "eth0") {
        let mut times = Times::default();
        for turn in 0..WARMING + RIVAL_REPEATED {
            let (come, go) = (rival.come()?, rival.go()?);
            if turn >= WARMING {
                times.come.push(come);
                times.go.push(go);
            }
        }
        rivals.push((rival.name, times));
    }
    for means in means {
        let (ours, confirmed) = ours(&wire, *means)?;
        for (name, theirs) in &rivals {
            for (label, share) in [("p50", 0.5), ("p99", 0.99)] {
                let row = |what: &str, ours: &[f64], theirs: &[f64]| {
                    Row::alone(
                        format!("{}: {what}, {label}", word(*means)),
                        "ms",
                        quantile(ours, share),
                    )
                    .beside(name, quantile(theirs, share))
                };
                rows.push(row("command to armed", &ours.come, &theirs.come));
                rows.push(row("stop to gone", &ours.go, &theirs.go));
            }
        }
        for (label, share) in [("p50", 0.5), ("p99", 0.99)] {
            rows.push(Row::alone(
                format!(
                    "{}: stop to the word that all is gone, {label}",
                    word(*means)
                ),
                "ms",
                quantile(&confirmed, share),
            ));
        }
    }
    Ok(())
}

/// The agent's own account of each, and from the stop's sending to the arrival of the last word about it.
fn ours(wire: &Wire, means: Means) -> Result<(Times, Vec<f64>)> {
    let mut agent = Agent::start()?;
    let fault = delay("100ms");
    let target = agent
        .resolve(&netns(wire.victim.name()), &fault)?
        .swap_remove(0)
        .id;
    let (mut times, mut confirmed) = (Times::default(), Vec::new());
    for turn in 0..WARMING + REPEATED {
        let armed = agent.arm(target.clone(), &fault, lease(), Some(means))?;
        let begun = Instant::now();
        let ended = agent.stop(&armed.id)?;
        if turn >= WARMING {
            confirmed.push(ms(begun.elapsed()));
            times.come.push(ms_of(armed.took_us));
            let took = ended
                .took_us
                .ok_or("the agent does not say how long the stop took")?;
            times.go.push(ms_of(took));
        }
    }
    Ok((times, confirmed))
}
