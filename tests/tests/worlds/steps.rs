//! Steps of more than one fault that stays: faults that follow what restarts, and many at once on one service.

use lab::world::Result;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::{as_root, library};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root("steps::what_restarts_is_hit_again", what_restarts),
        as_root("steps::six_faults_at_once_on_one_service", six_at_once),
    ]
}

/// Apart from the worlds of the library.
const WORLD: usize = 900;

/// What every file of these tests begins with: the verdict is not their subject, so that little is expected.
const HEAD: &str = "apiVersion: squall/v1
kind: Experiment
metadata: { name: steps }
hypothesis: Whatever happens is told.
steadyState:
  - name: users are served
    probe: { load: { url: \"http://127.0.0.1:8080/\", rate: 20/s, timeout: 2s } }
    expect: success >= 2%
baseline: 5s
recovery: 30s
method:
";

fn verdict(told: &Value) -> Result<()> {
    let (verdict, because) = (&told["verdict"], &told["because"]);
    if verdict == "held" {
        return Ok(());
    }
    Err(format!("{verdict}: {because}\n{:#}", told["timeline"]).into())
}

fn faults(told: &Value) -> Result<&Vec<Value>> {
    Ok(told["faults"]
        .as_array()
        .ok_or("the report has no faults")?)
}

/// The timeline's moments that say this, in milliseconds.
fn moments(told: &Value, what: &str) -> Vec<f64> {
    let all = told["timeline"].as_array().into_iter().flatten();
    let said = all.filter(|moment| {
        moment["what"]
            .as_str()
            .is_some_and(|said| said.contains(what))
    });
    said.filter_map(|moment| moment["atMs"].as_f64()).collect()
}

/// How late a restarted instance may be hit: the pace of the looks, and a busy machine's delay.
const HIT_WITHIN_MS: f64 = 2_000.0;

/// The run itself kills the instances every three seconds, and their supervisor starts them again.
fn what_restarts() -> Result<()> {
    let method = "  - faults: [ { cpu: { load: 5% } }, { kill: { every: 3s } } ]
    on: { process: { name: my-service } }
    follow: { every: 300ms }
    hold: 10s
";
    let told = library::told(&format!("{HEAD}{method}"), WORLD)?;
    verdict(&told)?;
    let wrong = |what: String| Err(format!("{what}\n{:#}", told["timeline"]).into());
    let (let_go, joined) = (moments(&told, "is let go"), moments(&told, " joins: "));
    let over = moments(&told, "stop: ").first().copied().unwrap_or(0.0);
    // All three at once, and then at least one of them at 3, 6 and 9 s.
    if let_go.len() < 5 {
        return wrong(format!("let go only at {let_go:?}"));
    }
    for gone in let_go.iter().filter(|gone| **gone + HIT_WITHIN_MS < over) {
        let within = |at: &&f64| *at >= gone && **at <= gone + HIT_WITHIN_MS;
        if !joined.iter().any(|at| within(&at)) {
            return wrong(format!(
                "what ended at {gone:.0} ms has no successor in {joined:?}"
            ));
        }
    }
    let pressed = faults(&told)?.iter().filter(|f| {
        f["dose"]["cpu"]["seconds"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0)
    });
    let pressed = pressed.count();
    if pressed + 1 < joined.len() {
        return wrong(format!(
            "only {pressed} of {} were pressed on",
            joined.len()
        ));
    }
    Ok(())
}

/// Packets late, names wrong and requests aborted in one step; processor time, memory and a pause that comes and goes on top.
fn six_at_once() -> Result<()> {
    let method = "  - faults:
      - { delay: { time: 5ms, to: { port: 8080 }, direction: ingress } }
      - { dns: { answer: nxdomain, names: \"payment.shop*\", direction: egress } }
      - { http: { abort: 503, share: 50%, to: { port: 9090 }, direction: egress } }
    on: { netns: { process: { name: my-service } } }
    hold: 200ms
  - faults:
      - { cpu: { load: 10% } }
      - { memory: { size: 16MiB } }
      - pause
    on: { process: { name: my-service } }
    share: 1
    keepPrevious: true
    pulse: { on: 300ms, off: 1200ms }
    hold: 6s
";
    let told = library::told(&format!("{HEAD}{method}"), WORLD + 1)?;
    verdict(&told)?;
    let all = faults(&told)?;
    let did = |path: &[&str]| {
        all.iter().any(|fault| {
            let found = path.iter().fold(&fault["dose"], |value, key| &value[key]);
            found.as_f64().is_some_and(|number| number > 0.0)
        })
    };
    let wanted: [&[&str]; 6] = [
        &["network", "delayed"],
        &["dns", "matched"],
        &["http", "aborted"],
        &["pulsed", "of", "cpu", "seconds"],
        &["pulsed", "of", "memory", "residentBytes"],
        &["pulsed", "of", "pause", "seconds"],
    ];
    for path in wanted {
        if !did(path) {
            return Err(format!("nothing of {path:?}: {:#}", told["faults"]).into());
        }
    }
    // At once: the last came before the first was gone, and each pulsed at least twice.
    let at = |fault: &Value, key: &str| fault[key].as_f64().unwrap_or(f64::NAN);
    let armed = all.iter().map(|f| at(f, "armedAtMs")).fold(0.0, f64::max);
    let ended = all
        .iter()
        .map(|f| at(f, "endedAtMs"))
        .fold(f64::MAX, f64::min);
    let pulses = |fault: &Value| fault["pulses"].as_array().map_or(0, Vec::len);
    let few = all[3..].iter().any(|fault| pulses(fault) < 2);
    if all.len() != 6 || armed >= ended || few {
        return Err(format!("not at once, or without pulses: {:#}", told["faults"]).into());
    }
    Ok(())
}
