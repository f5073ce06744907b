//! Faults that a journal holds: a frozen cgroup, and processes without descriptors. What the kill matrix does not show of them: that the next agent puts back
//! before it serves what nobody was left to put back, who is never frozen, and that a node forbids it unless it says otherwise.

mod fds;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::cgroup::Cgroup;
use lab::world::victim::{self, Victim};
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use squall_experiments::dose::Dose;
use squall_experiments::fault::{Fault, Holding};
use squall_experiments::target::Target;
use squall_experiments::wire::{Armed, EndCause};
use tempfile::TempDir;

use crate::as_root;
use crate::dose::LEASE;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = fds::trials();
    trials.extend([
        as_root("dose::journal::freeze", freeze),
        as_root(
            "journal::a_guard_that_is_killed_ends_its_fault",
            guard_killed,
        ),
        as_root(
            "journal::the_agent_puts_back_without_a_guard",
            holder_and_guard_killed,
        ),
        as_root(
            "journal::the_next_agent_puts_back_before_it_serves",
            everything_killed,
        ),
        as_root("journal::who_must_not_be_hit_is_not_frozen", spared),
        as_root("journal::a_node_forbids_it_by_default", forbidden),
    ]);
    trials
}

/// How long an answer may take from a victim that runs; and how long one is waited for that should not come.
const ANSWER: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(300);

/// Kills whoever could give something back: guard, holder and agent, at once.
pub(crate) fn kill_everybody(agent: &Agent, guard: u32, holder: u32) -> Result<()> {
    // A stopped process does nothing more before it is killed: a holder that sees its agent go would give it back.
    victim::signal(guard, Signal::SIGSTOP)?;
    victim::signal(holder, Signal::SIGSTOP)?;
    agent.signal(Signal::SIGKILL)?;
    victim::signal(guard, Signal::SIGKILL)?;
    until("the guard's end", ANSWER, || {
        let status = fs::read_to_string(format!("/proc/{guard}/stat")).unwrap_or_default();
        (status.is_empty() || status.contains(") Z ")).then_some(())
    })
}

/// A cgroup with a victim in it and another below, and an agent that may freeze them.
struct Frosty {
    agent: Agent,
    victims: [Victim; 2],
    inner: Cgroup,
    outer: Cgroup,
    home: TempDir,
}

impl Frosty {
    fn new(name: &str) -> Result<Self> {
        let tag = format!("sqt-{name}-{}", std::process::id());
        let outer = Cgroup::create(&tag)?;
        let inner = outer.below("inner")?;
        let victims = [Victim::start(&tag)?, Victim::start(&tag)?];
        outer.adopt(victims[0].pid())?;
        inner.adopt(victims[1].pid())?;
        let home = TempDir::new()?;
        let text = format!(
            "allow: [ freeze ]\njournal: {}\n",
            home.path().join("journal").display()
        );
        fs::write(home.path().join("policy.yaml"), text)?;
        Ok(Self {
            agent: start(home.path())?,
            victims,
            inner,
            outer,
            home,
        })
    }

    fn inject(&mut self) -> Result<Armed> {
        let target: Target = written(json!({ "cgroup": self.outer.path() }));
        self.agent
            .inject(&target, &freezing(), written(json!(LEASE)), None)
    }

    fn stands_still(&mut self) -> Result<()> {
        for victim in &mut self.victims {
            if let Ok(took) = victim.ask(SILENCE) {
                return Err(format!("a frozen victim answered after {took:?}").into());
            }
        }
        Ok(())
    }

    fn runs(&mut self) -> Result<()> {
        for victim in &mut self.victims {
            victim.ask(ANSWER)?;
        }
        Ok(())
    }

    fn entries(&self) -> Vec<PathBuf> {
        entries(self.home.path())
    }

    fn guard(&self) -> Result<u32> {
        guard_of(self.home.path())
    }
}

/// What stands in the journal in that home.
fn entries(home: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(home.join("journal"));
    listed
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

/// The guard of the one fault there is.
fn guard_of(home: &Path) -> Result<u32> {
    let entries = entries(home);
    let [entry] = entries.as_slice() else {
        return Err(format!("one entry was expected, and there are {entries:?}").into());
    };
    for process in fs::read_dir("/proc")?.flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.starts_with("squall-guard:") && line.contains(&*entry.to_string_lossy()) {
            return Ok(process.file_name().to_string_lossy().parse()?);
        }
    }
    Err("nothing guards the journal's entry".into())
}

impl Drop for Frosty {
    fn drop(&mut self) {
        self.outer.thaw();
    }
}

fn start(home: &Path) -> Result<Agent> {
    let policy = home.join("policy.yaml");
    Agent::start_with(&["--policy", &policy.display().to_string()])
}

fn freezing() -> Fault {
    written(json!({ "freeze": {} }))
}

/// Victims that answer within milliseconds do not answer while they are frozen, which is as long as the dose says.
fn freeze() -> Result<()> {
    let mut frosty = Frosty::new("freeze")?;
    frosty.runs()?;
    let armed = frosty.inject()?;
    let begun = Instant::now();
    if armed.held != Holding::Journal {
        return Err(format!("it is held by a journal, and this was told: {armed:?}").into());
    }
    thread::sleep(Duration::from_secs(1));
    frosty.stands_still()?;
    let least = begun.elapsed();
    let ended = frosty.agent.stop(&armed.id)?;
    let most = begun.elapsed();
    frosty.runs()?;
    if !frosty.entries().is_empty() {
        return Err(format!("the journal still says {:?}", frosty.entries()).into());
    }
    match &ended.dose {
        Some(Dose::Freeze(dose))
            if dose.processes == 2
                && dose.seconds >= least.as_secs_f64() * 0.98
                && dose.seconds <= most.as_secs_f64() + 0.5 =>
        {
            Ok(())
        }
        _ => Err(
            format!("frozen for {least:?} to {most:?}, and this was reported: {ended:?}").into(),
        ),
    }
}

fn guard_killed() -> Result<()> {
    let mut frosty = Frosty::new("guard")?;
    let armed = frosty.inject()?;
    victim::signal(frosty.guard()?, Signal::SIGKILL)?;
    let ended = frosty.agent.ended(&armed.id)?;
    frosty.runs()?;
    match ended.cause {
        EndCause::Failed(reason) if reason.contains("guard") => Ok(()),
        other => Err(format!("its guard was killed, and it ended by {other:?}").into()),
    }
}

/// The guard is stopped first, so that it is the agent alone that can put back.
fn holder_and_guard_killed() -> Result<()> {
    let mut frosty = Frosty::new("both")?;
    let armed = frosty.inject()?;
    let guard = frosty.guard()?;
    victim::signal(guard, Signal::SIGSTOP)?;
    victim::signal(armed.holder, Signal::SIGKILL)?;
    frosty.agent.ended(&armed.id)?;
    victim::signal(guard, Signal::SIGKILL)?;
    frosty.runs()
}

/// With agent, holder and guard killed at once nothing is left that could thaw, which is what a journal cannot promise; the next
/// agent has thawed before its first word.
fn everything_killed() -> Result<()> {
    let mut frosty = Frosty::new("all")?;
    let armed = frosty.inject()?;
    let guard = frosty.guard()?;
    kill_everybody(&frosty.agent, guard, armed.holder)?;
    frosty.stands_still()?;
    if frosty.entries().len() != 1 {
        return Err(format!("the journal says {:?}", frosty.entries()).into());
    }
    // Its first word has come when this returns.
    frosty.agent = start(frosty.home.path())?;
    if !frosty.entries().is_empty() {
        return Err("the agent serves, and has not put back what stands in its journal".into());
    }
    frosty.runs()
}

/// The agent itself, below what is named: a victim beside it must go on running.
fn spared() -> Result<()> {
    let mut frosty = Frosty::new("spared")?;
    frosty.inner.adopt(frosty.agent.pid())?;
    let said = match frosty.inject() {
        Ok(armed) => return Err(format!("the agent froze itself: {armed:?}").into()),
        Err(error) => error.to_string(),
    };
    frosty.runs()?;
    if said.contains("must not be hit") && frosty.entries().is_empty() {
        Ok(())
    } else {
        Err(format!("it said {said:?}, and the journal {:?}", frosty.entries()).into())
    }
}

fn forbidden() -> Result<()> {
    let group = Cgroup::create(&format!("sqt-forbidden-{}", std::process::id()))?;
    let mut victim = Victim::start("forbidden")?;
    group.adopt(victim.pid())?;
    let mut agent = Agent::start()?;
    let told: Value = serde_json::to_value(&agent.hello().capabilities)?;
    let faults = told["faults"].as_array().ok_or("no capabilities")?;
    let labelled = faults
        .iter()
        .any(|can| can["fault"] == "freeze" && can["held"] == "journal");
    if !labelled {
        return Err(format!("the capabilities do not say `held: journal`: {told}").into());
    }
    let target: Target = written(json!({ "cgroup": group.path() }));
    let said = match agent.inject(&target, &freezing(), written(json!(LEASE)), None) {
        Ok(armed) => return Err(format!("the default policy let it through: {armed:?}").into()),
        Err(error) => error.to_string(),
    };
    victim.ask(ANSWER)?;
    if said.contains("allow: [ freeze ]") {
        Ok(())
    } else {
        Err(format!("it was refused with {said:?}").into())
    }
}
