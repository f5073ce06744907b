//! Two controllers on one PostgreSQL: one leads, and the other does when that one dies, stands still or ends.

use crate::controller::{Controller, Ended, LIMIT};
use lab::world::agent::program;
use lab::world::postgres::{open_to_all, programs};
use lab::world::service::{Service, needing};
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How soon another leads.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(5);

pub(crate) fn trials() -> Vec<Trial> {
    vec![needing(
        programs(),
        "postgresql",
        "pair::one_leads_whatever_happens_to_the_other",
        one_leads,
    )]
}

struct Pair {
    database: Service,
    first: Controller,
    second: Controller,
    agent: Option<Ended>,
}

impl Pair {
    fn start(programs: &Path) -> Result<Self> {
        let (database, url) = open_to_all(programs)?;
        let first = Controller::start(&["--store", &url])?;
        until("the first leader", LIMIT, || first.leads().then_some(()))?;
        let second = Controller::start(&["--store", &url])?;
        let follows = || second.follows().filter(|leader| *leader == first.url());
        until("the second's following", LIMIT, follows)?;
        Ok(Self {
            database,
            first,
            second,
            agent: None,
        })
    }

    /// An agent that knows both, and none of which leads.
    fn join(&mut self) -> Result<()> {
        let token = self.first.home.path().join("token");
        fs::write(&token, self.first.squalls(&["token", "create"])?)?;
        // The one that stands by first: the agent is sent on.
        let agent = Command::new(program("squall-agent")?)
            .args(["run", "--node", "node-7"])
            .args(["--controller", &self.second.url()])
            .args(["--controller", &self.first.url()])
            .arg("--state")
            .arg(self.first.home.path().join("agent"))
            .arg("--join-token-file")
            .arg(token)
            .stderr(Stdio::null())
            .spawn()?;
        self.agent = Some(Ended(agent));
        self.linked()
    }

    /// Waits until the leader has the agent's link, whomever is asked.
    fn linked(&self) -> Result<()> {
        let connected = || {
            let agents = self.first.squalls(&["agents", "--json"]).ok()?;
            let agents: Value = serde_json::from_str(&agents).ok()?;
            agents[0]["connected"]["sinceUs"].as_i64()
        };
        until("the agent's link to the leader", LIMIT, connected).map(drop)
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

fn one_leads(programs: &Path) -> Result<()> {
    let mut pair = Pair::start(programs)?;
    pair.join()?;

    // Killed: the other leads, has the agent, and takes what is said to the first once that is back.
    let killed = Instant::now();
    pair.first.end(Signal::SIGKILL)?;
    leads_soon(&pair.second, killed)?;
    pair.first.serve()?;
    let leader = until("the first's following", LIMIT, || pair.first.follows())?;
    assert_eq!(leader, pair.second.url());
    pair.linked()?;
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
    pair.linked()?;

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
