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

/// What could be left, in which section it must show, and as what: names as they are, addresses in hexadecimal.
const LEFTOVERS: [(&str, &str, &str); 10] = [
    ("ip link add sqleft type ifb", "link", "sqleft"),
    (
        "ip address add 192.0.2.9/32 dev eth0",
        "address",
        "c0000209",
    ),
    ("ip route add 198.51.100.0/24 dev eth0", "route", "c6336400"),
    ("ip rule add fwmark 9 lookup 99", "rule", ":"),
    ("tc qdisc add dev eth0 root pfifo limit 7", "qdisc", "pfifo"),
    ("nft add table inet left", "nft table", "left"),
    (
        "nft add chain inet left c { type filter hook output priority 0; }",
        "nft chain",
        "left",
    ),
    (
        "nft add rule inet left c counter accept",
        "nft rule",
        "[counter]",
    ),
    (
        "nft add set inet left s { type ipv4_addr; }",
        "nft set",
        "left",
    ),
    (
        "nft add element inet left s { 192.0.2.7 }",
        "nft element",
        "c0000207",
    ),
];

fn a_leftover_shows_in_the_fingerprint() -> Result<()> {
    let wire = Wire::new()?;
    let take = || Fingerprint::take(&[&wire.victim]);
    let mut before = take()?;
    for (command, section, what) in LEFTOVERS {
        let words: Vec<&str> = command.split(' ').collect();
        wire.victim
            .enter(|| output(Command::new(words[0]).args(&words[1..])))?;
        let now = take()?;
        let left = before.difference(&now);
        let section = format!("{} {section}: ", wire.victim.name());
        let shows = |line: &String| {
            line.strip_prefix("+ ")
                .and_then(|line| line.strip_prefix(&section))
                .is_some_and(|line| line.contains(what))
        };
        if !left.iter().any(shows) {
            return Err(format!("`{command}` shows only as {left:?}").into());
        }
        before = now;
    }
    // What only counts is nothing that was left.
    Volley::fire(&wire.udp(named(Ip::V4))?, &PACE)?;
    match before.difference(&take()?) {
        same if same.is_empty() => Ok(()),
        left => Err(format!("traffic alone shows as {left:?}").into()),
    }
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
