//! What the node itself decides, over the real wire: its policy, which units it protects, what a host's name means today.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::cgroup::Cgroup;
use lab::world::check;
use lab::world::victim::Victim;
use lab::world::volley::{Pace, Volley, quantile};
use lab::world::wire::{Ip, Wire, named, neighbour};
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::target::Target;
use squall_experiments::wire::EndCause;
use tempfile::TempDir;

use crate::beside_others;
use crate::dose::{self, LEASE};
use crate::policy::under;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        beside_others("node::a_moved_name_is_followed", a_moved_name),
        beside_others(
            "node::what_the_policy_protects_is_not_hit",
            what_the_policy_protects,
        ),
        beside_others(
            "node::packets_the_policy_protects_pass_untouched",
            protected_packets,
        ),
        beside_others("node::the_policys_limits_win", limits_win),
        beside_others("node::a_unit_is_hit_by_its_name", a_unit),
    ]
}

fn kill() -> Fault {
    written(json!({ "kill": { "signal": "USR1" } }))
}

/// A unit as systemd keeps one: a cgroup that goes by its name.
fn unit(name: &str) -> Result<(String, Cgroup, Victim)> {
    let unit = format!("sqt-{}-{name}.service", std::process::id());
    let group = Cgroup::create(&unit)?;
    let victim = Victim::start(&unit)?;
    group.adopt(victim.pid())?;
    Ok((unit, group, victim))
}

fn what_the_policy_protects() -> Result<()> {
    let (unit, _group, victim) = unit("precious")?;
    // The lab's victims are this very program: its name is the victim's.
    let own = std::env::current_exe()?;
    let own = own
        .file_name()
        .ok_or("a program without a name")?
        .to_string_lossy()
        .into_owned();
    let process: Target = written(json!({ "process": { "pid": victim.pid() } }));
    let in_unit: Target = written(json!({ "unit": unit }));
    let (mut free, _folder) = under("limits: { faults: 5 }")?;
    for target in [&process, &in_unit] {
        free.resolve(target, &kill())?;
    }
    let policy = format!("protect: {{ processes: [ \"{own}\" ], units: [ \"{unit}\" ] }}");
    let (mut bound, _folder) = under(&policy)?;
    for target in [&process, &in_unit] {
        let spared = bound.excluded(target, &kill())?;
        if !spared.iter().any(|told| told.contains("policy protects")) {
            return Err(format!("{target} is protected, but the agent says {spared:?}").into());
        }
        if let Ok(found) = bound.resolve(target, &kill()) {
            return Err(format!("{target} is protected and a candidate: {found:?}").into());
        }
    }
    Ok(())
}

/// A short look at one address.
pub(crate) fn look(wire: &Wire, at: std::net::IpAddr) -> Result<Volley> {
    let pace = Pace {
        count: 60,
        gap: Duration::from_millis(5),
        patience: Duration::from_secs(1),
        size: 64,
    };
    Volley::fire(&wire.udp(at)?, &pace)
}

/// Everything of the namespace is late, but for what the policy names.
fn protected_packets() -> Result<()> {
    let wire = Wire::new()?;
    let policy = format!("protect: {{ addresses: [ \"{}\" ] }}", neighbour(Ip::V4));
    let (mut agent, _folder) = under(&policy)?;
    let means = agent
        .hello()
        .capabilities
        .of(FaultKind::Delay)
        .map(|c| c.means.clone());
    let (before, beside) = (look(&wire, named(Ip::V4))?, look(&wire, neighbour(Ip::V4))?);
    for means in means.unwrap_or_default() {
        let fault = dose::fault(
            FaultKind::Delay,
            json!({ "time": "50ms" }),
            json!({ "protocol": "udp", "direction": "egress" }),
        );
        let armed = dose::inject(&mut agent, &wire, &fault, Some(means))?;
        let late = look(&wire, named(Ip::V4))?;
        check::delayed(&before, &late, Duration::from_millis(50), check::QUEUE)?;
        let spared = look(&wire, neighbour(Ip::V4))?;
        check::untouched(&beside, &spared, dose::wandering())
            .map_err(|e| format!("protected, by {means:?}: {e}"))?;
        agent.stop(&armed.id)?;
    }
    Ok(())
}

/// A stay longer than this the policy does not allow, whatever is renewed.
const STAY: Duration = Duration::from_secs(2);

fn limits_win() -> Result<()> {
    let victim = Victim::start("limits")?;
    let target: Target = written(json!({ "process": { "pid": victim.pid() } }));
    let policy = "limits: { faults: 1, lease: 30s, hold: 2s }";
    let (mut agent, _folder) = under(policy)?;
    let burn: Fault = written(json!({ "cpu": { "load": "1%" } }));
    let refused = |arming: Result<_>, word: &str| match arming {
        Err(error) if error.to_string().contains(word) => Ok(()),
        other => Err(format!(
            "a refusal with `{word}` was expected, not {other:?}"
        )),
    };
    let too_long = agent.inject(&target, &burn, written(json!("31s")), None);
    refused(too_long.map(drop), "leases up to 30s")?;
    let armed = agent.inject(&target, &burn, written(json!("20s")), None)?;
    let begun = Instant::now();
    let second = agent.inject(&target, &burn, written(json!("20s")), None);
    refused(second.map(drop), "1 faults at once")?;
    agent.renew(&armed.id, written(json!("30s")))?;
    let ended = agent.ended(&armed.id)?;
    let stayed = begun.elapsed();
    let because = matches!(&ended.cause, EndCause::Failed(why) if why.contains("policy"));
    if because && stayed > STAY / 2 && stayed < STAY * 4 {
        return Ok(());
    }
    Err(format!("it stayed {stayed:?} where {STAY:?} are allowed: {ended:?}").into())
}

fn a_unit() -> Result<()> {
    let (unit, group, mut victim) = unit("plain")?;
    let mut agent = Agent::start()?;
    let target: Target = written(json!({ "unit": unit }));
    let burn: Fault = written(json!({ "cpu": { "load": "30%" } }));
    let armed = agent.inject(&target, &burn, written(json!(LEASE)), None)?;
    let before = group.cpu_used()?;
    until(
        "processor time in the unit",
        Duration::from_secs(10),
        || {
            let used = group.cpu_used().ok()?.saturating_sub(before);
            (used > Duration::from_millis(200)).then_some(())
        },
    )?;
    agent.stop(&armed.id)?;
    let kill: Fault = written(json!({ "kill": {} }));
    agent.inject(&target, &kill, written(json!(LEASE)), None)?;
    until(
        "the end of the unit's process",
        Duration::from_secs(10),
        || (!victim.lives()).then_some(()),
    )
}

/// The agent looks names up again this often, and a little later the victim feels it.
const RENAMED: Duration = Duration::from_secs(30);

/// A name that moves from one address to another takes its fault along.
fn a_moved_name() -> Result<()> {
    let wire = Wire::new()?;
    let folder = TempDir::new()?;
    let hosts = folder.path().join("hosts");
    let name = "shifting.squall-lab.example";
    fs::write(&hosts, format!("{} {name}\n", named(Ip::V4)))?;
    let mut agent = with_hosts(&hosts)?;
    let to: Value = json!({ "to": { "hosts": [name] }, "direction": "egress" });
    let fault = dose::fault(FaultKind::Delay, json!({ "time": "300ms" }), to);
    dose::inject(&mut agent, &wire, &fault, None)?;
    let slow =
        |at| look(&wire, at).is_ok_and(|v| quantile(&v.times(), 0.5) > Duration::from_millis(200));
    if !slow(named(Ip::V4)) || slow(neighbour(Ip::V4)) {
        return Err("before the move, not the named address alone is late".into());
    }
    fs::write(&hosts, format!("{} {name}\n", neighbour(Ip::V4)))?;
    until("the fault at the name's new address", RENAMED, || {
        (slow(neighbour(Ip::V4)) && !slow(named(Ip::V4))).then_some(())
    })
}

/// An agent for which `hosts` is /etc/hosts, in a mount namespace of its own.
fn with_hosts(hosts: &std::path::Path) -> Result<Agent> {
    let started = thread::scope(|scope| {
        let apart = scope.spawn(|| -> Result<Agent> {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            mount(none, "/", none, private, none)?;
            mount(Some(hosts), "/etc/hosts", none, MsFlags::MS_BIND, none)?;
            Agent::start()
        });
        apart.join().map_err(|_| "the thread apart panicked")
    });
    started?
}
