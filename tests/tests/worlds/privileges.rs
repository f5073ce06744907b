//! What the agent and its holders may do, held against what the README says of it.

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use lab::world::agent::{Agent, written};
use lab::world::victim::Victim;
use lab::world::wire::{Ip, Wire, named};
use lab::world::{Result, until};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use squall_experiments::fault::{Exhausted, Fault, FaultKind};
use squall_experiments::target::Target;
use squall_experiments::wire::Armed;

use crate::as_root;
use crate::dose::LEASE;

pub(crate) fn trials() -> Vec<Trial> {
    vec![as_root(
        "privileges::agent_and_holders_have_what_the_readme_says",
        privileges,
    )]
}

/// One line of /proc/PID/status.
fn status(pid: u32, key: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line
        .ok_or_else(|| format!("/proc/{pid}/status has no {key}"))?
        .trim()
        .to_owned())
}

/// Numbers in capability.h, of the README's list.
const CAPABILITIES: [(&str, u32); 7] = [
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_KILL", 5),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_RESOURCE", 24),
];

fn mask(names: &str) -> u64 {
    let bits = CAPABILITIES.iter().filter(|(name, _)| names.contains(name));
    bits.fold(0, |mask, (_, bit)| mask | 1 << bit)
}

/// Permitted and effective are exactly what is documented, as far as this test itself has it; nothing more can be had
/// by executing anything.
fn has_only(pid: u32, documented: u64, what: &str) -> Result<()> {
    let own = u64::from_str_radix(&status(std::process::id(), "CapPrm")?, 16)?;
    for key in ["CapPrm", "CapEff"] {
        let has = u64::from_str_radix(&status(pid, key)?, 16)?;
        if has != documented & own {
            return Err(format!("{what}: {key} is {has:x}, documented is {documented:x}").into());
        }
    }
    let bounding = u64::from_str_radix(&status(pid, "CapBnd")?, 16)?;
    let own = status(std::process::id(), "CapBnd")?;
    if bounding & !mask(&readme_names(README)) != 0
        || u64::from_str_radix(&own, 16)? & bounding != bounding
    {
        return Err(format!("{what}: CapBnd is {bounding:x}").into());
    }
    match (
        status(pid, "NoNewPrivs")?.as_str(),
        status(pid, "CapAmb")?.trim_matches('0'),
    ) {
        ("1", "") => Ok(()),
        other => Err(format!("{what}: NoNewPrivs and CapAmb are {other:?}").into()),
    }
}

const README: &str = include_str!("../../../agent/README.md");

/// The names in the first column of the table of capabilities.
fn readme_names(readme: &str) -> String {
    let rows = readme.lines().filter(|line| line.starts_with("| CAP_"));
    let names = rows.filter_map(|row| row.split('|').nth(1));
    names.collect::<Vec<_>>().join(" ")
}

/// What the README's table of holders says of a fault; of some it says more by their target, or by what is exhausted.
fn readme_holder(fault: &Fault, target: &Target) -> Result<u64> {
    readme_row(match fault {
        Fault::Exhaust(exhaust) if exhaust.what == Exhausted::Conntrack => "exhaust: conntrack",
        _ if fault.kind().is_network() && matches!(target, Target::Process(_)) => "process",
        _ => fault.kind().word(),
    })
}

fn readme_row(word: &str) -> Result<u64> {
    let mut rows = README
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains("| keeps "));
    let quoted = format!("`{word}`");
    let row = rows.find(|row| {
        row.split('|')
            .nth(1)
            .is_some_and(|cell| cell.contains(&quoted))
    });
    Ok(mask(row.ok_or_else(|| {
        format!("agent/README.md does not say what a holder of {word} keeps")
    })?))
}

/// Nothing is armed of what this kernel cannot do; the matrix says which those are.
fn holds_as_documented(agent: &mut Agent, target: Value, fault: Value) -> Result<Option<Armed>> {
    let (target, fault): (Target, Fault) = (written(target), written(fault));
    match agent.inject(&target, &fault, written(json!(LEASE)), None) {
        Ok(armed) => {
            let documented = readme_holder(&fault, &target)?;
            has_only(armed.holder, documented, &format!("{fault} of {target:?}"))?;
            Ok(Some(armed))
        }
        Err(error) if error.to_string().contains("this node cannot") => Ok(None),
        Err(error) => Err(format!("{fault}: {error}").into()),
    }
}

fn privileges() -> Result<()> {
    let victim = Victim::start_on_disk("privileges", 128 << 20)?;
    let mut agent = Agent::start()?;
    let (pid, all) = (agent.hello().pid, mask(&readme_names(README)));
    has_only(pid, all, "the agent")?;
    // Also of those that this node does not allow.
    for kind in FaultKind::ALL {
        readme_row(kind.word())?;
    }
    let process = json!({ "process": { "pid": victim.pid() } });
    for fault in [
        json!({ "cpu": { "load": "1%" } }),
        json!({ "memory": { "size": "1MiB" } }),
        json!({ "pause": {} }),
        json!({ "fill": { "path": "/tmp", "goal": { "size": "1MiB" }, "reserve": "1MiB" } }),
        json!({ "io": { "path": "/tmp", "read": "1/s", "file": "1MiB" } }),
        json!({ "exhaust": { "what": "inodes", "path": "/tmp", "goal": { "leave": 990 } } }),
    ] {
        if let Some(armed) = holds_as_documented(&mut agent, process.clone(), fault)? {
            agent.stop(&armed.id)?;
        }
    }
    privileges_on_packets(&mut agent)?;
    let mut deaf = Command::new("sh")
        .args(["-c", "trap '' USR1; exec sleep 60"])
        .spawn()?;
    let target: Target = written(json!({ "process": { "pid": deaf.id() } }));
    let result = until("a process that is deaf", Duration::from_secs(5), || {
        let comm = fs::read_to_string(format!("/proc/{}/comm", deaf.id())).ok()?;
        (comm.trim() == "sleep").then_some(())
    })
    .and_then(|()| {
        let kill: Fault = written(json!({ "kill": { "signal": "USR1", "every": "60s" } }));
        let armed = agent.inject(&target, &kill, written(json!(LEASE)), None)?;
        has_only(armed.holder, readme_holder(&kill, &target)?, "kill")
    });
    deaf.kill()?;
    deaf.wait()?;
    result?;
    until(
        "an agent that is still there",
        Duration::from_secs(1),
        || agent.lives().then_some(()),
    )
}

fn privileges_on_packets(agent: &mut Agent) -> Result<()> {
    let wire = Wire::new()?;
    let victim = wire.victim.enter(|| Victim::start("privileges-inside"))?;
    let process = json!({ "process": { "pid": victim.pid() } });
    let all = json!({ "netns": process });
    let filter = json!({ "to": { "ports": ["1"] } });
    for (target, fault) in [
        (&all, json!({ "delay": { "time": "1ms" } })),
        (
            &process,
            json!({ "delay": { "time": "1ms", "filter": filter } }),
        ),
        (&all, json!({ "partition": {} })),
        (
            &all,
            json!({ "tcp": { "effect": "refuse", "filter": filter } }),
        ),
        (&all, json!({ "dns": { "effect": "nxdomain" } })),
        // It has the kernel track connections there.
        (
            &all,
            json!({ "http": { "effect": { "abort": 503 }, "filter": filter } }),
        ),
    ] {
        holds_as_documented(agent, target.clone(), fault)?;
    }
    // What fills the table is refused where there is none of them.
    wire.victim.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        Ok(socket.send_to(b"tracked", (named(Ip::V4), 1))?)
    })?;
    let full = json!({ "exhaust": { "what": "conntrack" } });
    holds_as_documented(agent, process, full).map(drop)
}
