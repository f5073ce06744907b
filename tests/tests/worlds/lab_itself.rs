//! The lab on trial: it must be still where nothing is injected, and leave nothing behind.

use std::process::Command;
use std::time::Duration;

use lab::world::cgroup::Cgroup;
use lab::world::fingerprint::Fingerprint;
use lab::world::tcp::{Attempt, connect, throughput};
use lab::world::victim::Victim;
use lab::world::volley::{Pace, Volley};
use lab::world::wire::{Ip, Wire, named, neighbour};
use lab::world::{Result, check, output};
use libtest_mimic::Trial;

use crate::as_root;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root(
            "lab::an_untouched_wire_is_still",
            an_untouched_wire_is_still,
        ),
        as_root("lab::tcp_flows_and_is_refused", tcp_flows_and_is_refused),
        as_root(
            "lab::worlds_leave_nothing_behind",
            worlds_leave_nothing_behind,
        ),
        as_root(
            "lab::a_leftover_shows_in_the_fingerprint",
            a_leftover_shows_in_the_fingerprint,
        ),
        as_root(
            "lab::cgroups_count_what_is_used",
            cgroups_count_what_is_used,
        ),
    ]
}

/// A short volley that a still wire answers whole.
const PACE: Pace = Pace {
    count: 100,
    gap: Duration::from_millis(2),
    patience: Duration::from_millis(500),
    size: 64,
};

/// How much the median may wander between two volleys over the same untouched wire.
const WANDERING: Duration = Duration::from_millis(2);

fn an_untouched_wire_is_still() -> Result<()> {
    let wire = Wire::new()?;
    for ip in [Ip::V4, Ip::V6] {
        let before = Volley::fire(&wire.udp(named(ip))?, &PACE)?;
        let now = Volley::fire(&wire.udp(neighbour(ip))?, &PACE)?;
        check::untouched(&before, &now, WANDERING)?;
        if check::delayed(&before, &now, Duration::from_millis(10), check::QUEUE).is_ok() {
            return Err("the checker sees a delay where there is none".into());
        }
    }
    Ok(())
}

fn tcp_flows_and_is_refused() -> Result<()> {
    let wire = Wire::new()?;
    let limit = Duration::from_secs(2);
    let Attempt::Connected(_) = connect(&wire, named(Ip::V4), limit) else {
        return Err("the peer's server does not answer".into());
    };
    let speed = throughput(&wire, named(Ip::V4), Duration::from_millis(400))?;
    if speed < 1e6 {
        return Err(format!("only {speed:.0} B/s over an untouched wire").into());
    }
    match connect(&wire, lab::world::wire::victim(Ip::V4), limit) {
        Attempt::Refused(_) => Ok(()),
        other => Err(format!("a port nobody listens on gave {other:?}").into()),
    }
}

fn worlds_leave_nothing_behind() -> Result<()> {
    let before = Fingerprint::take(&[])?;
    let wire = Wire::new()?;
    let cgroup = Cgroup::create(&format!("sqt-behind-{}", std::process::id()))?;
    if before.difference(&Fingerprint::take(&[])?).is_empty() {
        return Err("a world is there and the fingerprint does not show it".into());
    }
    drop(cgroup);
    drop(wire);
    match before.difference(&Fingerprint::take(&[])?) {
        same if same.is_empty() => Ok(()),
        left => Err(format!("left behind:\n{}", left.join("\n")).into()),
    }
}

fn a_leftover_shows_in_the_fingerprint() -> Result<()> {
    let wire = Wire::new()?;
    let before = Fingerprint::take(&[&wire.victim])?;
    wire.victim.enter(|| {
        output(Command::new("ip").args(["link", "add", "sqleft", "type", "ifb"]))?;
        output(Command::new("nft").args(["add", "table", "inet", "squall_left"]))?;
        Ok(())
    })?;
    let left = before.difference(&Fingerprint::take(&[&wire.victim])?);
    let shows = |what: &str| {
        left.iter()
            .any(|line| line.starts_with('+') && line.contains(what))
    };
    if shows("ip: sqleft") && shows("nft: table inet squall_left") {
        return Ok(());
    }
    Err(format!("an ifb and a table were left, but the fingerprint shows only {left:?}").into())
}

fn cgroups_count_what_is_used() -> Result<()> {
    let cgroup = Cgroup::create(&format!("sqt-count-{}", std::process::id()))?;
    let victim = Victim::start("counted")?;
    cgroup.adopt(victim.pid())?;
    if cgroup.processes() != [victim.pid()] {
        return Err(format!(
            "{:?} instead of the victim is in the cgroup",
            cgroup.processes()
        )
        .into());
    }
    let before = cgroup.cpu_used()?;
    let memory = cgroup.memory_used()?;
    let used = cgroup.cpu_used()?.saturating_sub(before);
    if used > Duration::from_millis(50) || memory > 64 << 20 {
        return Err(format!("a sleeping victim used {used:?} and {memory} bytes").into());
    }
    Ok(())
}
