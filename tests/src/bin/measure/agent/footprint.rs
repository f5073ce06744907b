//! What the agent and a holder keep in memory, and how often they wake up, while nothing happens.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use lab::world::Result;
use lab::world::agent::{Agent, written};
use lab::world::wire::Wire;
use serde_json::json;
use squall_experiments::capability::Means;
use squall_experiments::units::Lease;

use super::{delay, netns, word};
use crate::table::Row;

/// How long an agent without faults is looked at.
const IDLE: Duration = Duration::from_secs(4);

/// Leases are renewed this often by a controller: a fifth of the usual ten seconds.
const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// After a renewal, and before the next, this much is left out of what counts as quiet.
const RENEWAL_TAKES: Duration = Duration::from_millis(500);
/// Renewals after which the quiet is measured.
const RENEWALS: usize = 4;

pub(super) fn measure(means: &[Means], rows: &mut Vec<Row>) -> Result<()> {
    let agent = Agent::start()?;
    thread::sleep(IDLE / 4);
    let memory = Memory::of(agent.pid())?;
    rows.push(Row::alone("idle agent, resident", "MiB", memory.resident));
    rows.push(Row::alone(
        "idle agent, private",
        "MiB",
        memory.dirty + memory.clean,
    ));
    rows.push(Row::alone(
        "idle agent, wake-ups",
        "1/s",
        wakeups_per_s(agent.pid(), IDLE)?,
    ));
    drop(agent);
    for means in means {
        holder(*means, rows)?;
    }
    Ok(())
}

fn holder(means: Means, rows: &mut Vec<Row>) -> Result<()> {
    let wire = Wire::new()?;
    let mut agent = Agent::start()?;
    let lease: Lease = written(json!("10s"));
    let target = netns(wire.victim.name());
    let armed = agent.inject(&target, &delay("100ms"), lease, Some(means))?;
    let (mut holder_woke, mut agent_woke, mut quiet) = (0, 0, Duration::ZERO);
    for renewal in 0..=RENEWALS {
        agent.renew(&armed.id, lease)?;
        thread::sleep(RENEWAL_TAKES);
        let before = (wakeups(armed.holder)?, wakeups(agent.pid())?);
        let begun = Instant::now();
        thread::sleep(RENEWED_EVERY - 2 * RENEWAL_TAKES);
        // The first two renewals only say how often they come.
        if renewal > 1 {
            holder_woke += wakeups(armed.holder)? - before.0;
            agent_woke += wakeups(agent.pid())? - before.1;
            quiet += begun.elapsed();
        }
        thread::sleep(RENEWAL_TAKES);
    }
    let memory = Memory::of(armed.holder)?;
    let by = word(means);
    #[allow(clippy::cast_precision_loss, reason = "a few wake-ups")]
    let per_s = |count: u64| count as f64 / quiet.as_secs_f64();
    for (what, figure) in [
        ("private", memory.dirty + memory.clean),
        ("of it dirty", memory.dirty),
        ("its share of all it maps (PSS)", memory.share),
        ("resident, the agent's own pages too", memory.resident),
    ] {
        rows.push(Row::alone(format!("{by}: holder, {what}"), "MiB", figure));
    }
    rows.push(Row::alone(
        format!("{by}: holder, wake-ups between renewals"),
        "1/s",
        per_s(holder_woke),
    ));
    rows.push(Row::alone(
        format!("{by}: agent, wake-ups between renewals"),
        "1/s",
        per_s(agent_woke),
    ));
    Ok(())
}

/// A process's memory in MiB (proc_pid_smaps(5), `smaps_rollup`).
pub(super) struct Memory {
    /// All pages it maps that are in memory, whoever else maps them.
    pub(super) resident: f64,
    /// The same with each page divided by the number of those that map it.
    pub(super) share: f64,
    /// Pages that nobody else maps and that it has written to.
    pub(super) dirty: f64,
    /// Pages that nobody else maps and that could be read from their file again.
    pub(super) clean: f64,
}

impl Memory {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {path}: {e}"))?;
        let mib = |name: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let line = line.ok_or_else(|| format!("{path} has no {name}"))?;
            let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
            Ok(kib / 1024.0)
        };
        Ok(Self {
            resident: mib("Rss:")?,
            share: mib("Pss:")?,
            dirty: mib("Private_Dirty:")?,
            clean: mib("Private_Clean:")?,
        })
    }
}

/// How often the threads of a process have gone to sleep so far, which is how often they woke up.
pub(super) fn wakeups(pid: u32) -> Result<u64> {
    let mut all = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))
            .ok_or("a thread's status names no voluntary_ctxt_switches")?;
        all += line.trim().parse::<u64>()?;
    }
    Ok(all)
}

#[allow(clippy::cast_precision_loss, reason = "a few wake-ups")]
fn wakeups_per_s(pid: u32, time: Duration) -> Result<f64> {
    let (before, begun) = (wakeups(pid)?, Instant::now());
    thread::sleep(time);
    Ok((wakeups(pid)? - before) as f64 / begun.elapsed().as_secs_f64())
}
