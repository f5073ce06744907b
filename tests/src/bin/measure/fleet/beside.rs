//! Other runs, in progress on the same agents while one is measured: each on its share of them, and on another target than that one's.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lab::world::Result;
use lab::world::serve::exchange;
use squall_experiments::join::Labels;
use squall_experiments::target::Target;
use tokio::sync::mpsc;

use super::{Controller, LIMIT, PORT, Told};

/// How many are in progress.
pub(crate) const RUNS: usize = 100;
/// Who has not ended its fault by then had none.
const HALT_LIMIT: Duration = Duration::from_secs(30);
/// Says which of them an agent is for.
const LABEL: &str = "share";
/// What they hit, as it is called on every node.
const TARGET: &str = "beside";

/// What an agent is labelled with.
pub(crate) fn labels(agent: usize) -> Labels {
    let zone = ("zone".to_owned(), format!("z{}", agent % 3));
    let share = (LABEL.to_owned(), format!("s{}", agent % RUNS));
    Labels::from([zone, share])
}

/// What an agent finds of a target, as it calls that.
pub(crate) fn found(target: &Target) -> &'static str {
    match target {
        Target::Host(_) => "host",
        _ => TARGET,
    }
}

fn experiment(number: usize) -> String {
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: beside-{number} }}
hypothesis: The controller is there while others run.
steadyState: [ {{ name: controller, probe: {{ tcp: {{ address: \"127.0.0.1:{PORT}\", every: 1s }} }}, expect: [ success >= 50% ] }} ]
method: [ {{ fault: {{ delay: {{ time: 1ms }} }}, on: {{ netns: {{ process: {{ name: {TARGET} }} }} }}, nodes: {{ labels: {{ {LABEL}: s{number} }} }}, hold: 30min }} ]
baseline: 5s
recovery: 10s
"
    )
}

fn ask(controller: &Controller, path: &str, body: &serde_json::Value) -> Result<()> {
    let token = std::fs::read_to_string(controller.home.path().join("admin.token"))?;
    let body = body.to_string();
    let headers = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        token.trim(),
        body.len()
    );
    let at = SocketAddr::from(([127, 0, 0, 1], PORT));
    let answer = exchange(at, controller.home.path(), "POST", path, &headers, &body)?;
    match answer.split_whitespace().nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(format!("{path}: {answer}").into()),
    }
}

/// Starts them, and waits until the fault of each is in force on all agents of its share.
pub(crate) async fn begin(
    controller: &Controller,
    agents: usize,
    tell: &mut mpsc::UnboundedReceiver<Told>,
) -> Result<()> {
    for number in 0..RUNS {
        let body = serde_json::json!({ "file": experiment(number) });
        tokio::task::block_in_place(|| ask(controller, "/api/v1/runs", &body))?;
    }
    let mut asked = 0;
    while asked < agents {
        let word = tokio::time::timeout(LIMIT, tell.recv()).await?;
        asked += usize::from(matches!(word.ok_or("no agents")?, Told::Asked));
    }
    // Their last words are on the way still.
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// Halts everything; milliseconds from the request until the last agent has ended its last fault.
pub(crate) async fn halt(
    controller: &Controller,
    agents: usize,
    tell: &mut mpsc::UnboundedReceiver<Told>,
) -> Result<f64> {
    while tell.try_recv().is_ok() {}
    let begun = Instant::now();
    let because = serde_json::json!({ "because": "measured" });
    tokio::task::block_in_place(|| ask(controller, "/api/v1/halt", &because))?;
    let mut ended = Vec::new();
    while ended.len() < agents {
        // Less than all: a run has ended before it was halted.
        let word = tokio::time::timeout(HALT_LIMIT, tell.recv()).await;
        let word = word.map_err(|_| format!("{} of {agents} were halted", ended.len()))?;
        if let Told::Ended(at) = word.ok_or("no agents")? {
            ended.push(at);
        }
    }
    let last = ended.into_iter().max().unwrap_or(begun);
    Ok((last - begun).as_secs_f64() * 1e3)
}
