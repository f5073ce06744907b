//! The end of a node, done in a machine of its own: what was refused, stopped or orphaned leaves the machine as it is, and what was
//! ordered ends it.
//!
//! This program is the machine's first process, and by [`WORD`] the command that runs in it.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use lab::vm::{Boot, Job, Machine, VmError};
use lab::world::agent::{Agent, program, written};
use lab::world::{Result, victim};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;
use squall_experiments::dose::Dose;
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::target::Target;
use squall_experiments::wire::{Armed, EndCause, Ended};

use crate::{as_root, dose};

/// The argument by which this program plays the part that is played inside the machine; the kind of fault follows.
const WORD: &str = "--end-this-machine";

/// How long a machine may take from its boot to its end; some 20 s, emulated.
const LIMIT: Duration = Duration::from_secs(180);

/// How long it is looked whether a machine is still there that should be: what is ordered is done after a second.
const STILL_THERE: Duration = Duration::from_secs(3);

const LEASE: &str = "30s";

pub(crate) fn trials() -> Vec<Trial> {
    // A machine within the machine is none, and the machine around the tests is not theirs to end.
    if dose::emulated() {
        return Vec::new();
    }
    vec![as_root(
        "node_end::what_is_ordered_ends_the_machine_and_nothing_else",
        both,
    )]
}

/// Two machines, one for each way: beside anything else they would take its processors.
fn both() -> Result<()> {
    let ways = [
        (FaultKind::Reboot, "Restarting system"),
        (FaultKind::Shutdown, "Power down"),
    ];
    thread::scope(|scope| {
        let ended = |(kind, says)| scope.spawn(move || ends(kind, says).map_err(|e| e.to_string()));
        ways.map(ended).into_iter().try_for_each(|way| {
            let told = way.join().map_err(|_| "it panicked".to_owned());
            Ok(told.flatten()?)
        })
    })
}

/// Boots a machine, has it ended, and looks at what was said before.
fn ends(kind: FaultKind, kernel_says: &str) -> Result<()> {
    let me = std::env::current_exe()?;
    let files: Vec<PathBuf> = vec![me.clone(), program("squall-agent")?];
    let mut machine = Machine::boot(&Boot {
        files,
        ..Boot::default()
    })?;
    let mut job = Job::new(vec![
        me.display().to_string(),
        WORD.to_owned(),
        kind.word().to_owned(),
    ]);
    job.env.insert("SQUALL_WORLD".to_owned(), "vm".to_owned());
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let ended = machine.run(&job, &mut said, &mut complained, LIMIT);
    let said = String::from_utf8_lossy(&said).into_owned();
    let told = format!("{said}{}", String::from_utf8_lossy(&complained));
    match ended {
        Err(VmError::Died { console, .. }) if console.contains(kernel_says) => {}
        other => {
            return Err(
                format!("the machine should have ended, and {other:?}; it said:\n{told}").into(),
            );
        }
    }
    for line in [
        "forbidden: still there",
        "stopped: still there",
        "orphaned: still there",
        "ordered",
    ] {
        if !said.lines().any(|said| said == line) {
            return Err(format!("`{line}` is missing in what it said:\n{told}").into());
        }
    }
    if said.contains("ordered: still there") {
        return Err(format!("it was still there after the order:\n{told}").into());
    }
    Ok(())
}

/// Runs the part inside the machine, where this process was started for that.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command speaks to whoever runs it"
)]
pub(crate) fn main_if_inside() -> Option<ExitCode> {
    let mut words = std::env::args().skip(1);
    if words.next()? != WORD {
        return None;
    }
    // Nothing but a machine of the lab's is ever ended by this.
    let ours =
        std::fs::read_to_string("/proc/sys/kernel/hostname").is_ok_and(|name| name.trim() == "vm");
    if !ours || !dose::emulated() {
        eprintln!("this is not a machine that may be ended");
        return Some(ExitCode::FAILURE);
    }
    let kind = words.next().unwrap_or_default();
    Some(match inside(&kind, |line| println!("{line}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn inside(kind: &str, say: impl Fn(&str)) -> Result<()> {
    let fault: Fault = written(json!({ kind: { "irreversible": true } }));
    let refused = match arm(&mut Agent::start()?, &fault) {
        Ok(armed) => return Err(format!("the default policy let it through: {armed:?}").into()),
        Err(error) => error.to_string(),
    };
    if !refused.contains(&format!("allow: [ {kind} ]")) {
        return Err(format!("it was refused with {refused:?}").into());
    }
    still_there("forbidden", &say);

    let policy = PathBuf::from("/run/policy.yaml");
    fs::write(&policy, format!("allow: [ {kind} ]\n"))?;
    let mut agent = Agent::start_with(&["--policy", &policy.display().to_string()])?;
    let armed = arm(&mut agent, &fault)?;
    let ended = agent.stop(&armed.id)?;
    not_ordered(&ended)?;
    still_there("stopped", &say);

    let armed = arm(&mut agent, &fault)?;
    victim::signal(armed.holder, Signal::SIGKILL)?;
    agent.ended(&armed.id)?;
    still_there("orphaned", &say);

    let armed = arm(&mut agent, &fault)?;
    let begun = Instant::now();
    // A renewal that comes at once is not the one that orders it; one that comes later is.
    agent.renew(&armed.id, written(json!(LEASE)))?;
    thread::sleep(Duration::from_secs(2));
    agent.renew(&armed.id, written(json!(LEASE)))?;
    let ended = agent.ended(&armed.id)?;
    match (&ended.cause, &ended.dose) {
        (EndCause::Done, Some(Dose::NodeEnd(dose)))
            if dose.ordered && begun.elapsed() > Duration::from_secs(2) =>
        {
            say("ordered");
        }
        _ => return Err(format!("it ended by {ended:?}").into()),
    }
    thread::sleep(STILL_THERE * 10);
    say("ordered: still there");
    Ok(())
}

fn arm(agent: &mut Agent, fault: &Fault) -> Result<Armed> {
    let host: Target = written(json!({ "host": {} }));
    agent.inject(&host, fault, written(json!(LEASE)), None)
}

fn not_ordered(ended: &Ended) -> Result<()> {
    match &ended.dose {
        Some(Dose::NodeEnd(dose)) if !dose.ordered => Ok(()),
        other => Err(format!("it was stopped in time, and reported {other:?}").into()),
    }
}

fn still_there(after: &str, say: &impl Fn(&str)) {
    thread::sleep(STILL_THERE);
    say(&format!("{after}: still there"));
}
