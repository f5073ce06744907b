//! What ends an agent that hangs, long before its leases do.

use std::fs;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::victim::{self, Victim};
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;
use squall_experiments::fault::Fault;
use squall_experiments::target::Target;

use crate::as_root;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root("watchdog::ends_an_agent_that_hangs_and_its_faults", hangs),
        as_root("watchdog::takes_the_agent_along_when_it_is_killed", killed),
    ]
}

/// A fault that its lease would let stay for a minute.
fn burn(agent: &mut Agent, victim: &Victim) -> Result<u32> {
    let target: Target = written(json!({ "process": { "pid": victim.pid() } }));
    let fault: Fault = written(json!({ "cpu": { "load": "1%" } }));
    Ok(agent
        .inject(&target, &fault, written(json!("60s")), None)?
        .holder)
}

fn is_there(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

fn watchdog_of(agent: &Agent) -> Result<u32> {
    let pid = agent.hello().pid;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let comm = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut pids = children
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok());
    let found = pids.find(|pid| comm(pid).trim() == "squall-watchdog");
    found.ok_or_else(|| format!("no watchdog among the children {children}").into())
}

/// How long it may be silent here.
const SILENCE: Duration = Duration::from_secs(3);

fn hangs() -> Result<()> {
    let victim = Victim::start("hung")?;
    let mut agent = Agent::start_with(&["--watchdog", "3s"])?;
    // With nothing to watch for, an agent may take its time.
    agent.signal(Signal::SIGSTOP)?;
    std::thread::sleep(SILENCE + SILENCE / 4);
    agent.signal(Signal::SIGCONT)?;
    let holder = burn(&mut agent, &victim)?;
    // It is watched and it speaks: it stays.
    std::thread::sleep(SILENCE + SILENCE / 4);
    if !agent.lives() || !is_there(holder) {
        return Err("an agent that speaks was ended".into());
    }
    agent.signal(Signal::SIGSTOP)?;
    let begun = Instant::now();
    until("the end of the agent that hangs", SILENCE * 3, || {
        (!agent.lives()).then_some(())
    })?;
    until("the end of its holder", Duration::from_millis(100), || {
        (!is_there(holder)).then_some(())
    })?;
    let took = begun.elapsed();
    // It spoke half that time before, or now.
    if took > SILENCE / 2 - Duration::from_millis(100) && took < SILENCE * 2 {
        return Ok(());
    }
    Err(format!("it was ended after {took:?}, and may be silent for {SILENCE:?}").into())
}

fn killed() -> Result<()> {
    let victim = Victim::start("unwatched")?;
    let mut agent = Agent::start()?;
    let holder = burn(&mut agent, &victim)?;
    victim::signal(watchdog_of(&agent)?, Signal::SIGKILL)?;
    until(
        "the end of an unwatched agent",
        Duration::from_secs(5),
        || (!agent.lives() && !is_there(holder)).then_some(()),
    )
}
