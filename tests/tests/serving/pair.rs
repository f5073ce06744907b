//! Two controllers on one PostgreSQL: one leads, and the other does when that one dies, stands still or ends.

mod day;

use crate::controller::{Controller, LIMIT, join, linked};
use crate::in_flight::InFlight;
use crate::shop::{ENVIRONMENTS, SCHEDULE, Shop, root};
use lab::world::postgres::{open_to_all, programs};
use lab::world::service::{Service, needing};
use lab::world::{Ended, Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// How soon another leads.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(5);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        needing(
            programs(),
            "postgresql",
            "pair::one_leads_whatever_happens_to_the_other",
            one_leads,
        ),
        needing(
            programs().filter(|_| root().is_some()),
            "postgresql, and root",
            "pair::a_time_is_started_once_though_its_leader_dies",
            a_time_is_started_once,
        ),
        needing(
            programs().filter(|_| root().is_some()),
            "postgresql, and root",
            "pair::a_leader_that_stood_still_in_a_run_says_and_writes_nothing_when_it_wakes",
            stands_still_in_a_run,
        ),
        needing(
            programs().filter(|_| root().is_some()),
            "postgresql, and root",
            "pair::a_game_day_is_gone_on_with_by_the_next_leader",
            day::gone_on_with,
        ),
    ]
}

struct Pair {
    database: Service,
    first: Controller,
    second: Controller,
    agent: Option<Ended>,
}

impl Pair {
    fn start(programs: &Path, args: &[&str]) -> Result<Self> {
        let (database, url) = open_to_all(programs)?;
        let args = [&["--store", &url], args].concat();
        let first = Controller::start(&args)?;
        until("the first leader", LIMIT, || first.leads().then_some(()))?;
        let second = Controller::start(&args)?;
        let follows = || second.follows().filter(|leader| *leader == first.url());
        until("the second's following", LIMIT, follows)?;
        Ok(Self {
            database,
            first,
            second,
            agent: None,
        })
    }

    /// An agent that knows both, and none of which leads: it is sent on.
    fn join(&mut self) -> Result<()> {
        self.agent = Some(join(&[&self.first, &self.second])?);
        Ok(())
    }
}

/// Waits until it leads, which must be soon after `since`.
fn leads_soon(controller: &Controller, since: Instant) -> Result<()> {
    until("another leader", LIMIT, || controller.leads().then_some(()))?;
    let took = since.elapsed();
    if took > TAKEN_OVER_MAX {
        return Err(format!("another leads only after {took:?}").into());
    }
    Ok(())
}

/// The run ends with its lease, the next leader says how, and the first one changes nothing when it wakes.
fn stands_still_in_a_run(programs: &Path) -> Result<()> {
    let mut pair = Pair::start(programs, &[])?;
    pair.join()?;
    let mut run = InFlight::start(&pair.first)?;
    let stopped = Instant::now();
    pair.first.signal(Signal::SIGSTOP)?;
    leads_soon(&pair.second, stopped)?;
    run.let_go()?;
    let ended = || run.end(&pair.first, &pair.second.url());
    let (verdict, because) = until("the run's end", LIMIT, ended)?;
    assert_eq!(verdict, "inconclusive", "{because}");
    assert!(because.starts_with("interrupted"), "{because}");

    pair.first.signal(Signal::SIGCONT)?;
    // Whoever watched hears what is kept, and nothing of what the first one thought.
    assert_eq!(run.watched()?.code(), Some(3));
    let follows = || {
        pair.first
            .follows()
            .filter(|leader| *leader == pair.second.url())
    };
    until("the first's following", LIMIT, follows)?;
    assert!(!run.is_held(), "it was armed again");
    assert_eq!(
        run.end(&pair.first, &pair.second.url()),
        Some((verdict, because))
    );
    Ok(())
}

fn one_leads(programs: &Path) -> Result<()> {
    let mut pair = Pair::start(programs, &[])?;
    pair.join()?;

    // Killed: the other leads, has the agent, and takes what is said to the first once that is back.
    let killed = Instant::now();
    pair.first.end(Signal::SIGKILL)?;
    leads_soon(&pair.second, killed)?;
    pair.first.serve()?;
    let leader = until("the first's following", LIMIT, || pair.first.follows())?;
    assert_eq!(leader, pair.second.url());
    linked(&pair.first)?;
    let made = pair
        .first
        .squalls(&["token", "create", "--note", "by the other"])?;
    assert!(!made.trim().is_empty());

    // Stopped, and woken: its first word is that it does not lead.
    let stopped = Instant::now();
    pair.second.signal(Signal::SIGSTOP)?;
    leads_soon(&pair.first, stopped)?;
    pair.second.signal(Signal::SIGCONT)?;
    let answer = pair.second.get("/readyz")?;
    assert!(!answer.contains("ready: leads"), "{answer}");
    let leader = until("the second's following", LIMIT, || pair.second.follows())?;
    assert_eq!(leader, pair.first.url());
    linked(&pair.first)?;

    // Ended in order: nobody waits for its time to be over.
    pair.first.end(Signal::SIGTERM)?;
    until("the second's lead", LIMIT, || {
        pair.second.leads().then_some(())
    })?;
    pair.first.serve()?;
    until("the first's following", LIMIT, || pair.first.follows())?;

    // Without the database nobody leads, and nobody says so; with it, one does again.
    pair.database.stopped(|| {
        let none = || (!pair.first.leads() && !pair.second.leads()).then_some(());
        until("the end of all leads", LIMIT, none)?;
        let answer = pair.second.get("/readyz")?;
        assert!(answer.contains("503"), "{answer}");
        Ok(())
    })?;
    let one = || (pair.first.leads() != pair.second.leads()).then_some(());
    until("a leader", LIMIT, one)
}

/// The seconds of the minute that is under way, by the clock of both.
fn seconds() -> i64 {
    jiff::Timestamp::now().as_second().rem_euclid(60)
}

/// The leader dies just before a time is due; the one that takes over starts what was missed, and nobody starts anything twice.
fn a_time_is_started_once(programs: &Path) -> Result<()> {
    let shop = Shop::open()?;
    fs::write(shop.file("config.yaml"), ENVIRONMENTS)?;
    fs::write(
        shop.file("nightly.yaml"),
        format!("{SCHEDULE}suspendAfter: never\n"),
    )?;
    let (policy, config) = (shop.file("policy.yaml"), shop.file("config.yaml"));
    let mut pair = Pair::start(programs, &["--policy", &policy, "--config", &config])?;
    pair.join()?;
    // Commands on the other's machine, too.
    let token = |of: &Controller| of.data().join("admin.token");
    fs::copy(token(&pair.first), token(&pair.second))?;
    shop.earn(&pair.first)?;
    // Not so late that the first time could be due before the leader is dead.
    until("the second half of a minute", LIMIT, || {
        (30..50).contains(&seconds()).then_some(())
    })?;
    pair.first
        .squalls(&["schedule", "add", &shop.file("nightly.yaml")])?;
    let due = jiff::Timestamp::now().as_second() / 60 * 60 + 60;
    until("the moment before", LIMIT, || {
        (seconds() >= 57).then_some(())
    })?;
    pair.first.end(Signal::SIGKILL)?;
    let starts = |of: &Controller| -> Option<Vec<Value>> {
        let said = of
            .squalls(&["schedule", "starts", "nightly", "--json"])
            .ok()?;
        serde_json::from_str(&said).ok()
    };
    let begun = || {
        starts(&pair.second)?
            .into_iter()
            .find(|one| one["run"].is_string())
    };
    let first = until("the run of a time that its leader missed", LIMIT, begun)?;
    assert_eq!(first["dueUs"], due * 1_000_000, "{first}");
    // Back again, beside the one that leads now.
    pair.first.serve()?;
    until("the first's following", LIMIT, || pair.first.follows())?;
    let all = starts(&pair.first).ok_or("no list of starts")?;
    let dues: BTreeSet<i64> = all.iter().filter_map(|one| one["dueUs"].as_i64()).collect();
    assert_eq!(dues.len(), all.len(), "{all:?}");
    let listed = pair
        .second
        .squalls(&["runs", "--controller", &pair.second.url(), "--json"])?;
    let listed: Vec<Value> = serde_json::from_str(&listed)?;
    let by_itself = listed.iter().filter(|run| run["by"] == "schedule nightly");
    let started = all.iter().filter(|one| one["run"].is_string());
    assert_eq!(by_itself.count(), started.count(), "{listed:?} {all:?}");
    Ok(())
}
