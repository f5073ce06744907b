//! Processes that run out of descriptors: what the kill matrix does not show of it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::cgroup::Cgroup;
use lab::world::victim::{self, Victim, Wanted};
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use rustix::thread::{CapabilitySet, capabilities};
use serde_json::{Value, json};
use squall_experiments::dose::Dose;
use squall_experiments::fault::{Fault, Holding};
use squall_experiments::target::Target;
use squall_experiments::wire::{Armed, EndCause};
use tempfile::TempDir;

use super::{ANSWER, entries, guard_of, kill_everybody, start};
use crate::as_root;
use crate::dose::LEASE;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        as_root("dose::journal::fds", fds),
        as_root(
            "dose::journal::fds_that_are_closed_are_taken_too",
            closed_meanwhile,
        ),
        as_root("journal::fds_of_another_user", fds_of_another_user),
        as_root(
            "journal::fds_of_a_child_come_back_before_the_next_agent_serves",
            fds_of_a_child,
        ),
        as_root(
            "journal::fds_that_somebody_else_sets_are_left_alone",
            fds_of_somebody_else,
        ),
    ]
}

/// A victim in a cgroup of its own that opens files, and an agent that may take its descriptors.
struct Needy {
    agent: Agent,
    victim: Victim,
    group: Cgroup,
    home: TempDir,
}

/// So many are left where the victim is to start another: pipes to it, and what the program opens when it begins.
const LEFT: u64 = 8;

impl Needy {
    fn new(name: &str) -> Result<Self> {
        Self::with(name, Victim::start_taker)
    }

    fn with(name: &str, victim: impl FnOnce(&str) -> Result<Victim>) -> Result<Self> {
        let tag = format!("sqt-{name}-{}", std::process::id());
        let group = Cgroup::create(&tag)?;
        let victim = victim(&tag)?;
        group.adopt(victim.pid())?;
        let home = TempDir::new()?;
        let journal = home.path().join("journal").display().to_string();
        let text = format!("allow: [ fds ]\njournal: {journal}\n");
        fs::write(home.path().join("policy.yaml"), text)?;
        let agent = start(home.path())?;
        Ok(Self {
            agent,
            victim,
            group,
            home,
        })
    }

    fn inject(&mut self, fault: Value) -> Result<Armed> {
        let target: Target = written(json!({ "cgroup": self.group.path() }));
        let fault: Fault = written(json!({ "fds": fault }));
        self.agent
            .inject(&target, &fault, written(json!(LEASE)), None)
    }

    /// The processes that the victim has started.
    fn children(&self) -> Result<Vec<u32>> {
        let pid = self.victim.pid();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        Ok(text
            .split_ascii_whitespace()
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?)
    }
}

/// The victim can open nothing while the fault lasts, and as much as before afterwards; the dose says for how long.
fn fds() -> Result<()> {
    let mut needy = Needy::new("fds")?;
    let before = victim::open_files(needy.victim.pid())?;
    let armed = needy.inject(json!({}))?;
    let begun = Instant::now();
    if armed.held != Holding::Journal {
        return Err(format!("it is held by a journal, and this was told: {armed:?}").into());
    }
    while begun.elapsed() < Duration::from_secs(1) {
        if needy.victim.takes(Wanted::Descriptor, ANSWER)? {
            return Err("the victim opened a file, and none was to be left".into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let least = begun.elapsed();
    let ended = needy.agent.stop(&armed.id)?;
    let most = begun.elapsed();
    if !needy.victim.takes(Wanted::Descriptor, ANSWER)? {
        return Err("the fault is over, and the victim can open no file".into());
    }
    let after = victim::open_files(needy.victim.pid())?;
    if after != before {
        return Err(format!("its limit was {before}, and is {after}").into());
    }
    match &ended.dose {
        Some(Dose::Fds(dose))
            if dose.processes == 1
                && dose.left == 0
                && dose.seconds >= least.as_secs_f64() * 0.98
                && dose.seconds <= most.as_secs_f64() + 0.5 =>
        {
            Ok(())
        }
        _ => {
            Err(format!("short for {least:?} to {most:?}, and this was reported: {ended:?}").into())
        }
    }
}

/// What the victim closes while the fault lasts is not to be opened again, but for the second in which nobody looked.
fn closed_meanwhile() -> Result<()> {
    const KEPT: usize = 4;
    let mut needy = Needy::new("closing")?;
    let before = victim::open_files(needy.victim.pid())?;
    for _ in 0..KEPT {
        if !needy.victim.takes(Wanted::KeptDescriptor, ANSWER)? {
            return Err("nothing is wrong yet, and the victim can open no file".into());
        }
    }
    let armed = needy.inject(json!({}))?;
    if needy.victim.takes(Wanted::Descriptor, ANSWER)? {
        return Err("the victim opened a file, and none was to be left".into());
    }
    needy.victim.takes(Wanted::NoDescriptor, ANSWER)?;
    until("an end of what was let go", ANSWER, || {
        needy
            .victim
            .takes(Wanted::Descriptor, ANSWER)
            .is_ok_and(|opens| !opens)
            .then_some(())
    })?;
    let short = victim::open_files(needy.victim.pid())?;
    needy.agent.stop(&armed.id)?;
    let after = victim::open_files(needy.victim.pid())?;
    if after == before && short != before && needy.victim.takes(Wanted::Descriptor, ANSWER)? {
        return Ok(());
    }
    Err(format!("its limit was {before}, then {short}, and is {after}").into())
}

/// The limits of another user's process are lowered and given back by who may do that, and are not touched by who may not.
fn fds_of_another_user() -> Result<()> {
    const NOBODY: u32 = 65534;
    let mut needy = Needy::with("nobody", |tag| Victim::start_taker_of(tag, NOBODY))?;
    let before = victim::open_files(needy.victim.pid())?;
    let may = capabilities(None)?
        .permitted
        .contains(CapabilitySet::SYS_RESOURCE);
    let armed = match (needy.inject(json!({})), may) {
        (Ok(armed), true) => armed,
        (Err(error), false) if error.to_string().contains("CAP_SYS_RESOURCE") => {
            let after = victim::open_files(needy.victim.pid())?;
            let opens = needy.victim.takes(Wanted::Descriptor, ANSWER)?;
            let told = format!(
                "it was refused, its limit was {before} and is {after}; it opens a file: {opens}"
            );
            return (opens && after == before).then_some(()).ok_or(told.into());
        }
        (other, may) => {
            return Err(format!("may it be done: {may}; and this was told: {other:?}").into());
        }
    };
    if needy.victim.takes(Wanted::Descriptor, ANSWER)? {
        return Err("the victim opened a file, and none was to be left".into());
    }
    victim::signal(armed.holder, Signal::SIGKILL)?;
    until("a file that is opened again", ANSWER, || {
        needy
            .victim
            .takes(Wanted::Descriptor, ANSWER)
            .is_ok_and(|opens| opens)
            .then_some(())
    })?;
    let after = victim::open_files(needy.victim.pid())?;
    (after == before)
        .then_some(())
        .ok_or_else(|| format!("its limit was {before}, and is {after}").into())
}

/// A child that was forked while the limit was low has its parent's limit again, after guard, holder and agent were killed at once, before
/// the next agent's first word.
fn fds_of_a_child() -> Result<()> {
    let mut needy = Needy::new("forked")?;
    let before = victim::open_files(needy.victim.pid())?;
    let armed = needy.inject(json!({ "goal": { "leave": LEFT } }))?;
    if !needy.victim.takes(Wanted::Descriptor, ANSWER)?
        || !needy.victim.takes(Wanted::Child, ANSWER)?
    {
        return Err(
            format!("with {LEFT} descriptors left it can open a file and start a process").into(),
        );
    }
    let children = needy.children()?;
    let [child] = children.as_slice() else {
        return Err(format!("it started one process, and these are there: {children:?}").into());
    };
    let inherited = victim::open_files(*child)?;
    if inherited == before {
        return Err(format!("the child's limit is {inherited}, as if nothing were lowered").into());
    }
    let guard = guard_of(needy.home.path())?;
    kill_everybody(&needy.agent, guard, armed.holder)?;
    if victim::open_files(needy.victim.pid())? == before {
        return Err("nobody is left, and the limit has come back: what did it?".into());
    }
    needy.agent = start(needy.home.path())?;
    for pid in [needy.victim.pid(), *child] {
        let after = victim::open_files(pid)?;
        if after != before {
            return Err(format!("the limit of {pid} was {before}, and is {after}").into());
        }
    }
    let left = entries(needy.home.path());
    left.is_empty()
        .then_some(())
        .ok_or_else(|| format!("the journal still says {left:?}").into())
}

/// Whoever sets the limit anew while it is lowered keeps what they set, and is not hit any more.
fn fds_of_somebody_else() -> Result<()> {
    const THEIRS: u64 = 333;
    let mut needy = Needy::new("theirs")?;
    let armed = needy.inject(json!({}))?;
    let pid = rustix::process::Pid::from_raw(needy.victim.pid().cast_signed());
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    let limit = rustix::process::Rlimit {
        current: Some(THEIRS),
        maximum: Some(hard),
    };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit)?;
    let ended = needy.agent.ended(&armed.id)?;
    let after = victim::open_files(needy.victim.pid())?;
    match ended.cause {
        EndCause::Failed(reason)
            if reason.contains("somebody else") && after == format!("{THEIRS} {hard}") =>
        {
            Ok(())
        }
        other => Err(format!("its limit is {after}, and it ended by {other:?}").into()),
    }
}
