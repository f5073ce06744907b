//! Stops: short runs beside each other, each on agents of its own and a moment after the one before, so that there are many stops in little time and
//! seldom two at once.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use hyper::Method;
use lab::world::Result;
use serde_json::{Value, json};

use super::door::{Connection, Door};
use crate::fleet::PORT;

/// Runs beside each other.
pub(super) const SLOTS: usize = 16;
/// Agents in each.
pub(super) const AGENTS: usize = 10;
/// Each begins so much after the one before.
const APART: Duration = Duration::from_millis(400);
/// How often it is asked what became of a run. Seldom: this is a load, too, though the same one all along.
const LOOK: Duration = Duration::from_millis(250);
/// How long a run may take from one state to the next.
const LIMIT: Duration = Duration::from_secs(60);

/// What stops took, in milliseconds.
#[derive(Default)]
pub(super) struct Stops {
    /// From the decision to the last confirmation.
    decided: Vec<f64>,
    /// From when somebody begins to ask for it over the API to the last confirmation.
    asked: Vec<f64>,
    /// Why there was no stop to be measured, of each run in which there was none.
    lost: Vec<String>,
}

impl Stops {
    pub(super) fn decided(&self) -> &[f64] {
        &self.decided
    }

    pub(super) fn asked(&self) -> &[f64] {
        &self.asked
    }

    pub(super) fn lost(&self) -> &[String] {
        &self.lost
    }

    pub(super) fn count(&self) -> usize {
        self.decided.len()
    }

    pub(super) fn take(&mut self, other: &Self) {
        self.decided.extend(&other.decided);
        self.asked.extend(&other.asked);
        self.lost.extend(other.lost.iter().cloned());
    }
}

/// Starts and stops a run in each slot.
pub(super) async fn made(door: &Arc<Door>) -> Result<Stops> {
    let slots = (0..SLOTS).map(|number| tokio::spawn(slot(Arc::clone(door), number)));
    let mut all = Stops::default();
    for slot in slots.collect::<Vec<_>>() {
        all.take(&slot.await??);
    }
    Ok(all)
}

async fn slot(door: Arc<Door>, number: usize) -> Result<Stops> {
    tokio::time::sleep(APART * u32::try_from(number)?).await;
    let mut connection = door.connect().await?;
    let mut stops = Stops::default();
    // Every second run a person ends, and the others their own time.
    let by_hand = number % 2 == 1;
    let file = experiment(number, if by_hand { "1min" } else { "1s" });
    let body = json!({ "file": file }).to_string();
    let made = door.ask(&mut connection, Method::POST, "/runs", body);
    let made: Value = serde_json::from_slice(&made.await?)?;
    let run = made["run"].as_str().ok_or("a run without a name")?;
    let asked_us = match by_hand {
        true => stopped_by_hand(&door, &mut connection, run).await?,
        false => None,
    };
    let (path, over) = (format!("/runs/{run}"), |run: &Value| {
        run["underWay"] == false
    });
    let seen = until_it(&door, &mut connection, &path, over).await?;
    let created_us = seen["createdUs"].as_f64().ok_or("no time")?;
    let report = door
        .json(&mut connection, &format!("{path}/report"))
        .await?;
    let (decided, last) = (report["timings"]["revertMs"].as_f64(), last_end(&report));
    let (Some(decided), Some(last)) = (decided, last) else {
        stops.lost.push(report["because"].to_string());
        return Ok(stops);
    };
    stops.decided.push(decided);
    if let Some(asked_us) = asked_us {
        stops.asked.push(created_us / 1e3 + last - asked_us / 1e3);
    }
    Ok(stops)
}

/// Waits until its faults are in force everywhere, and says stop; when that was begun to be said, in microseconds since the Unix epoch. None
/// where the run has ended before.
async fn stopped_by_hand(
    door: &Door,
    connection: &mut Connection,
    run: &str,
) -> Result<Option<f64>> {
    let armed_or_over = |report: &Value| {
        let faults = report["faults"].as_array().into_iter().flatten();
        let armed = faults.filter(|fault| fault["armedAtMs"].is_number());
        armed.count() == AGENTS || report["verdict"].is_string()
    };
    let path = format!("/runs/{run}/report");
    let report = until_it(door, connection, &path, armed_or_over).await?;
    if report["verdict"].is_string() {
        return Ok(None);
    }
    let asked = UNIX_EPOCH.elapsed()?;
    let stop = format!("/runs/{run}/stop");
    door.ask(connection, Method::POST, &stop, String::new())
        .await?;
    Ok(Some(asked.as_secs_f64() * 1e6))
}

/// When the last fault was gone, in milliseconds since the run began.
fn last_end(report: &Value) -> Option<f64> {
    let faults = report["faults"].as_array()?.iter();
    let ends: Option<Vec<f64>> = faults.map(|fault| fault["endedAtMs"].as_f64()).collect();
    ends?.into_iter().reduce(f64::max)
}

/// Asks until what is answered is so.
async fn until_it(
    door: &Door,
    connection: &mut Connection,
    path: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let answer = door.json(connection, path).await?;
        if is_so(&answer) {
            return Ok(answer);
        }
        if begun.elapsed() > LIMIT {
            return Err(format!("{path}: nothing new for {LIMIT:?}: {answer}").into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn experiment(slot: usize, hold: &str) -> String {
    let nodes = (0..AGENTS).map(|one| format!("node-{}", slot * AGENTS + one));
    let nodes = nodes.collect::<Vec<_>>().join(", ");
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: slot-{slot} }}
hypothesis: The controller is there while some agents are busy.
steadyState: [ {{ name: controller, probe: {{ tcp: {{ address: \"127.0.0.1:{PORT}\", every: 100ms }} }}, expect: [ success >= 50% ] }} ]
method: [ {{ fault: {{ delay: {{ time: 1ms }} }}, on: {{ host: {{}} }}, nodes: {{ names: [ {nodes} ] }}, hold: {hold} }} ]
baseline: 4s
recovery: 10s
"
    )
}
