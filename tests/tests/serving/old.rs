//! What a controller has kept for long enough: what goes, what stays, and who removes it.

use crate::controller::{Controller, LIMIT, join};
use crate::in_flight::InFlight;
use crate::shop::{Shop, root};
use lab::world::service::needing;
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Evidence counts for thirty days, and runs are kept for two.
const POLICY: &str = "apiVersion: squall/v1
kind: Policy
environments:
  - { name: default, stage: 1 }
  - { name: staging, stage: 1 }
  - { name: production, stage: 2, from: [ staging ], needs: { held: 1, within: 30d } }
";
const CONFIG: &str = "environments:
  staging: &all { budget: { lastReplica: hit } }
  production: *all
  default: *all
retention: { runs: 2d }
";

/// All that was until now was five days ago.
const AGE: &str = "
import sqlite3, sys
five_days = 5 * 86_400_000_000
with sqlite3.connect(sys.argv[1], timeout=60) as kept:
    kept.execute('UPDATE runs SET created_us = created_us - ?', (five_days,))
    kept.execute('UPDATE evidence SET ended_us = ended_us - ?', (five_days,))
";

pub(crate) fn trials() -> Vec<Trial> {
    vec![needing(
        root(),
        "root",
        "old::what_is_old_goes_and_what_is_needed_under_way_or_noted_stays",
        goes,
    )]
}

/// The names of the runs that are kept.
fn runs(controller: &Controller) -> Option<BTreeSet<String>> {
    let url = controller.url();
    let listed = controller.squalls(&["runs", "--json", "--controller", &url]);
    let listed: Vec<Value> = serde_json::from_str(&listed.ok()?).ok()?;
    let names = listed
        .iter()
        .map(|run| run["run"].as_str().map(str::to_owned));
    names.collect()
}

/// Runs the shop's experiment; its name.
fn run(controller: &Controller, file: &str, environment: &str, code: i32) -> Result<String> {
    let url = controller.url();
    let at = ["--controller", &url, "--environment", environment];
    let ended = controller.squall(&[&["run", file, "--json"], &at[..]].concat())?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(code), "{said}");
    let report: Value = serde_json::from_slice(&ended.stdout)?;
    Ok(report["run"]
        .as_str()
        .ok_or("a report of no run")?
        .to_owned())
}

fn goes(_: &Path) -> Result<()> {
    let shop = Shop::open()?;
    let (policy, config) = (shop.file("policy.yaml"), shop.file("config.yaml"));
    fs::write(&policy, POLICY)?;
    fs::write(&config, CONFIG)?;
    let mut controller = Controller::start(&["--policy", &policy, "--config", &config])?;
    // Without an agent nothing is found: refused, and no evidence of anything.
    let file = shop.file("e.yaml");
    let refused = run(&controller, &file, "staging", 4)?;
    let agent = join(&[&controller])?;
    let held = run(&controller, &file, "staging", 0)?;
    let in_flight = InFlight::start(&controller)?;
    let database = controller.data().join("runs.sqlite");
    let aged = Command::new("python3")
        .args(["-c", AGE])
        .arg(&database)
        .output()?;
    assert!(
        aged.status.success(),
        "{}",
        String::from_utf8_lossy(&aged.stderr)
    );

    let asked = [
        "retention",
        "--policy",
        &policy,
        "--config",
        &config,
        "--json",
    ];
    let told: Value = serde_json::from_str(&controller.squalls(&asked)?)?;
    assert_eq!(told["runs"], 1, "{told}");
    assert_eq!(told["oldest"][0]["run"], *refused, "{told}");
    assert_eq!(told["needed"], 2, "{told}");
    // Not beside a controller that serves.
    let by_hand = controller.squall(&[&asked[..], &["--remove"]].concat())?;
    assert_eq!(by_hand.status.code(), Some(3));
    let all = BTreeSet::from([refused.clone(), held.clone(), in_flight.run.clone()]);
    assert_eq!(runs(&controller), Some(all));
    assert!(in_flight.is_held(), "what is under way was touched");

    let head = controller.squalls(&["audit", "verify"])?;
    drop(agent);
    controller.end(Signal::SIGTERM)?;
    in_flight.let_go()?;
    // One that begins to lead looks at once, and each hour. What was under way has an end by now, and is as old.
    controller.serve()?;
    let only = BTreeSet::from([held.clone()]);
    let gone = || (runs(&controller)? == only).then_some(());
    until("the end of what is old", LIMIT, gone)?;
    let report = controller.squall(&["report", &refused, "--controller", &controller.url()])?;
    assert!(!report.status.success(), "a run that is gone is told of");
    let evidence =
        controller.squalls(&["evidence", "list", "--environment", "staging", "--json"])?;
    assert!(evidence.contains(&held), "{evidence}");
    let noted = head.trim();
    controller.squalls(&["audit", "verify", "--noted", noted])?;
    // It is noted when the last of it has gone.
    until("what went, in the audit log", LIMIT, || {
        let log = controller.squalls(&["audit", "list", "--json"]).ok()?;
        log.contains("\"retention\"").then_some(())
    })
}
