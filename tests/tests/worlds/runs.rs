//! Runs across nodes: a controller, and three agents that have joined it over TLS.

use std::path::Path;

use lab::world::Result;
use lab::world::kills::Campaign;
use lab::world::town::{LIMIT, Running, Town};
use lab::world::{postgres, until};
use libtest_mimic::Trial;

use crate::as_root;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![as_root(
        "fleet::a_run_spans_three_nodes_and_nothing_outlives_anything",
        spans_three_nodes,
    )];
    if let Some(programs) = postgres::programs() {
        trials.push(as_root(
            "fleet::kills_at_any_moment_leave_nothing_and_no_run_without_its_end",
            move || kills(&programs),
        ));
    }
    trials
}

/// The leader, the database, an agent: one run each. `cargo measure kills` does as many as one has time for.
fn kills(programs: &Path) -> Result<()> {
    const RUNS: usize = 3;
    const NODES: u8 = 3;
    const SEED: u64 = 5;
    let mut campaign = Campaign::new(programs, NODES, SEED)?;
    for _ in 0..RUNS {
        let outcome = campaign.one_more()?;
        expect(
            "all is well",
            outcome.wrong.is_empty(),
            &outcome.to_string(),
        )?;
    }
    Ok(())
}

fn start(town: &Town, ramp: &str, hold: &str) -> Result<Running> {
    town.start(&town.late(ramp, hold)?)
}

fn expect(what: &str, is: bool, seen: &impl std::fmt::Debug) -> Result<()> {
    if is {
        Ok(())
    } else {
        Err(format!("not so: {what}: {seen:?}").into())
    }
}

fn spans_three_nodes() -> Result<()> {
    let mut town = Town::new(3)?;

    // Through to the end: held, with the faults and the doses of all three nodes in the report.
    let (code, report) = start(&town, "[ 1, all ]", "5s")?.end()?;
    expect(
        "a run over three nodes is held",
        code == Some(0),
        &report["because"],
    )?;
    let nodes: std::collections::BTreeSet<&str> = report["faults"]
        .as_array()
        .map(|faults| {
            faults
                .iter()
                .filter_map(|fault| fault["node"].as_str())
                .collect()
        })
        .unwrap_or_default();
    expect("three nodes in the report", nodes.len() == 3, &nodes)?;
    expect("nothing is left", town.felt()? == 0, &())?;

    // A person's stop reaches all of them.
    let run = start(&town, "[ all ]", "60s")?;
    town.until_felt(3)?;
    let other = start(&town, "[ all ]", "60s")?.end()?;
    let because = other.1["because"].as_str().unwrap_or_default().to_owned();
    expect(
        "a second run on the same targets is refused",
        other.0 == Some(4),
        &because,
    )?;
    expect(
        "and names the first",
        because.contains("is hit by run"),
        &because,
    )?;
    let first = until("a run that is under way", LIMIT, || {
        let runs = town.kept(&["runs", "--json"]).ok()?;
        let all = runs.as_array()?.iter();
        all.filter(|one| one["underWay"] == true)
            .find_map(|one| one["run"].as_str().map(str::to_owned))
    })?;
    town.squall(&["stop", &first])?;
    let (code, report) = run.end()?;
    expect(
        "a stopped run is halted",
        code == Some(5),
        &report["because"],
    )?;
    expect("and nothing is left", town.felt()? == 0, &())?;

    an_agent_is_lost(&mut town)?;
    the_controller_is_lost(&mut town)?;
    everything_is_halted(&town)
}

/// SIGKILL of one agent: the kernel takes its fault back, the others are told, and the run says whose it was.
fn an_agent_is_lost(town: &mut Town) -> Result<()> {
    let run = start(town, "[ all ]", "60s")?;
    town.until_felt(3)?;
    town.kill_agent(1)?;
    let (code, report) = run.end()?;
    let because = report["because"].as_str().unwrap_or_default();
    expect("a lost agent is inconclusive", code == Some(3), &because)?;
    expect(
        "and is named",
        because.contains("the agent of node-1 was lost"),
        &because,
    )?;
    expect("and nothing is left", town.felt()? == 0, &())?;
    town.join(1)?;
    town.until_whole()
}

/// SIGKILL of the controller: the leases end the faults; the controller that comes back says that the run was interrupted.
fn the_controller_is_lost(town: &mut Town) -> Result<()> {
    let run = start(town, "[ all ]", "60s")?;
    town.until_felt(3)?;
    town.kill_controller(0)?;
    town.until_felt(0)?;
    town.serve(0)?;
    run.wait()?;
    let runs = town.kept(&["runs", "--json"])?;
    let because = runs[0]["because"].as_str().unwrap_or_default();
    expect(
        "the run was interrupted",
        because.starts_with("interrupted"),
        &runs,
    )?;
    town.until_whole()
}

/// Halted, everything stops and nothing starts, also after a restart.
fn everything_is_halted(town: &Town) -> Result<()> {
    let run = start(town, "[ all ]", "60s")?;
    town.until_felt(3)?;
    let halted = town.squall(&["halt", "--because", "the test says so"])?;
    expect("halt is taken", halted.status.success(), &halted)?;
    let (code, report) = run.end()?;
    expect(
        "a halted run is halted",
        code == Some(5),
        &report["because"],
    )?;
    expect("and nothing is left", town.felt()? == 0, &())?;
    let (code, _, said) = start(town, "[ all ]", "60s")?.wait()?;
    expect("nothing starts", code == Some(4), &said)?;
    expect(
        "and it is said why",
        said.contains("the test says so"),
        &said,
    )?;
    let lifted = town.squall(&["halt", "--lift"])?;
    expect("the halt is lifted", lifted.status.success(), &lifted)
}
