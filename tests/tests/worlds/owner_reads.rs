//! Faults that read what packets say, and a partition that refuses, for one of several processes that share a network namespace:
//! the named one's queries, requests and packets are hit, and nobody else's.

use std::net::SocketAddr;
use std::process::Command;

use lab::world::agent::Agent;
use lab::world::dns::Resolver;
use lab::world::http::Service;
use lab::world::netns::Netns;
use lab::world::talker::Talker;
use lab::world::victim::signal;
use lab::world::wire::{Ip, PORT, named, neighbour, victim};
use lab::world::{Result, output, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;
use squall_experiments::capability::{Capabilities, Means};
use squall_experiments::dose::Dose;
use squall_experiments::fault::FaultKind;

use crate::beside_others;
use crate::owner::{PATIENCE, Shared, WEB, arm, at, filter, prompt, same};

/// Where the web services are: at the other port of the wire's something else listens.
const SHOP: u16 = 8090;

pub(crate) fn trials(capabilities: &Capabilities) -> Vec<Trial> {
    type Body = fn() -> Result<()>;
    let can = |kind, means| {
        let known = capabilities.of(kind);
        known.is_some_and(|c| c.means.contains(&means))
    };
    if !can(FaultKind::Dns, Means::Redirect) || !can(FaultKind::Loss, Means::Queue) {
        return Vec::new();
    }
    let each: [(&str, Body); 5] = [
        ("of_its_names", its_names),
        ("of_its_requests", its_requests),
        ("of_requests_to_it", requests_to_it),
        ("of_its_packets_refused", refused),
        ("of_its_packets_refused_until_killed", refused_until_killed),
    ];
    let each = each.map(|(name, test)| beside_others(format!("dose::owner_{name}"), test));
    each.into_iter().collect()
}

type Said = std::result::Result<u64, String>;

/// Queries over UDP and over TCP: no such name for the one, the truth for the other.
fn its_names() -> Result<()> {
    const NXDOMAIN: Said = Ok(3);
    let mut shared = Shared::new(None)?;
    let resolver = named(Ip::V4);
    let _answers = Resolver::start(&shared.wire.peer, &[resolver])?;
    let on = shared.process();
    let mut agent = Agent::start()?;
    let fault = json!({ "dns": { "effect": "nxdomain", "filter": filter("egress") } });
    let armed = arm(&mut agent, &on, fault)?;
    for over_tcp in [false, true, true, false] {
        same(
            "its query",
            shared.one.look_up(resolver, over_tcp)?,
            NXDOMAIN,
        )?;
        same(
            "another's query",
            shared.other.look_up(resolver, over_tcp)?,
            Ok(0),
        )?;
    }
    match agent.stop(&armed.id)?.dose {
        Some(Dose::Dns(dose)) => same("queries hit", dose.matched, 4)?,
        other => return Err(format!("{other:?} is no dose of queries").into()),
    }
    same("afterwards", shared.one.look_up(resolver, true)?, Ok(0))
}

/// Requests that leave: the one's are aborted, and the other's connections are not even led through the holder.
fn its_requests() -> Result<()> {
    let mut shared = Shared::new(None)?;
    let _shop = Service::start(&shared.wire.peer, named(Ip::V4), SHOP)?;
    let on = shared.process();
    let marks = Marks::set(&shared.wire.victim)?;
    let mut agent = Agent::start()?;
    let to = json!({ "hosts": [named(Ip::V4).to_string()], "ports": [SHOP.to_string()] });
    let fault = json!({ "http": { "effect": { "abort": 503 }, "filter": { "to": to, "direction": "egress" } } });
    let armed = arm(&mut agent, &on, fault)?;
    for _ in 0..4 {
        same("its request", shared.one.get(at(SHOP))?, Ok(503))?;
        same("another's request", shared.other.get(at(SHOP))?, Ok(200))?;
    }
    marks.are_untouched()?;
    match agent.stop(&armed.id)?.dose {
        Some(Dose::Http(dose)) => {
            same("connections led", dose.connections, 4)?;
            same("requests aborted", dose.aborted, 4)?;
        }
        other => return Err(format!("{other:?} is no dose of requests").into()),
    }
    same("afterwards", shared.one.get(at(SHOP))?, Ok(200))
}

/// Requests that arrive, from elsewhere and over `lo`, over IPv6: those to the one that listens, and not to another beside it.
fn requests_to_it() -> Result<()> {
    const BESIDE: u16 = 8091;
    let mut shared = Shared::new(None)?;
    let own = |port| (victim(Ip::V6), port).into();
    shared.one.serve_web(own(SHOP))?;
    shared.other.serve_web(own(BESIDE))?;
    let on = shared.process();
    let mut agent = Agent::start()?;
    let ports = json!([format!("{SHOP}-{BESIDE}")]);
    let fault = json!({ "http": { "effect": { "abort": 503 }, "filter": { "to": { "ports": ports }, "direction": "ingress" } } });
    let armed = arm(&mut agent, &on, fault)?;
    let mut far = Talker::start(&shared.wire.peer, "far", None)?;
    let mut near = Talker::start(&shared.wire.victim, "near", None)?;
    for client in [&mut far, &mut near] {
        same("a request to it", client.get(own(SHOP))?, Ok(503))?;
        same("a request to another", client.get(own(BESIDE))?, Ok(200))?;
    }
    agent.stop(&armed.id)?;
    same("afterwards", far.get(own(SHOP))?, Ok(200))
}

/// TCP and UDP to the named address are refused at once: for the one, there.
fn refused() -> Result<()> {
    let mut shared = Shared::new(None)?;
    let on = shared.process();
    let mut agent = Agent::start()?;
    let Shared { one, other, .. } = &mut shared;
    let (own, others) = (one.tcp(at(WEB))?, other.tcp(at(WEB))?);
    let datagrams = one.udp(at(PORT))?;
    let beside = one.udp((neighbour(Ip::V4), PORT).into())?;
    let fault = json!({ "partition": { "mode": "reject", "filter": filter("egress") } });
    let armed = arm(&mut agent, &on, fault)?;
    // An answer to what was sent comes with the next word on the socket; it is refused at once, not after the patience.
    until("a refused datagram", PATIENCE, || {
        match one.ask(datagrams, PATIENCE) {
            Ok(Err(why)) => why.contains("refused").then_some(()),
            _ => None,
        }
    })?;
    let new = one.tcp(at(WEB)).map_err(|error| error.to_string());
    same(
        "a refused connection",
        new.is_err_and(|e| e.contains("refused")),
        true,
    )?;
    let old = one.ask(own, PATIENCE)?;
    same(
        "a connection that was there",
        old.is_err_and(|e| e.contains("reset")),
        true,
    )?;
    prompt("another's connection", other, others)?;
    other.tcp(at(WEB))?;
    prompt("its own to a neighbour", one, beside)?;
    match agent.stop(&armed.id)?.dose {
        Some(Dose::Network(dose)) if dose.rejected >= 3 && dose.dropped == 0 => {}
        dose => {
            return Err(
                format!("at least three packets were refused, and it says {dose:?}").into(),
            );
        }
    }
    prompt("afterwards", one, datagrams)?;
    one.tcp(at(WEB)).map(drop)
}

/// Over IPv6, and for as long as its holder lives: who is killed refuses nothing more.
fn refused_until_killed() -> Result<()> {
    let mut shared = Shared::new(None)?;
    let on = shared.process();
    let mut agent = Agent::start()?;
    let Shared {
        wire, one, other, ..
    } = &mut shared;
    let marks = Marks::set(&wire.victim)?;
    let (own, others) = (one.udp(far6())?, other.udp(far6())?);
    let to = json!({ "hosts": [named(Ip::V6).to_string()] });
    let fault =
        json!({ "partition": { "mode": "reject", "filter": { "to": to, "direction": "egress" } } });
    let armed = arm(&mut agent, &on, fault)?;
    until("a refused datagram", PATIENCE, || {
        let told = one.ask(own, PATIENCE).ok()?;
        told.is_err_and(|why| why.contains("refused")).then_some(())
    })?;
    prompt("another's datagram", other, others)?;
    marks.are_untouched()?;
    signal(armed.holder, Signal::SIGKILL)?;
    agent.ended(&armed.id)?;
    // The last refusal may still wait on the socket.
    until("an answer once more", PATIENCE, || {
        one.ask(own, PATIENCE).ok()?.ok()
    })?;
    prompt("afterwards", one, own)
}

fn far6() -> SocketAddr {
    (named(Ip::V6), PORT).into()
}

/// Marks on packets and connections, as a CNI sets them, and a count of what leaves without them.
struct Marks<'a>(&'a Netns);

/// What leaves is marked before anything of Squall's meets it, and looked at after all of it has.
const MARKS: &str = "table inet cni {
    chain marks {
        type filter hook output priority -150;
        meta mark set 0x4000 ct mark set 0x4000
    }
    chain seen {
        type filter hook postrouting priority 400;
        meta mark != 0x4000 counter
        ct mark != 0x4000 counter
        meta mark 0x4000 ct mark 0x4000 counter
    }
}";

impl<'a> Marks<'a> {
    fn set(netns: &'a Netns) -> Result<Self> {
        netns.enter(|| output(Command::new("nft").arg(MARKS)))?;
        Ok(Self(netns))
    }

    fn are_untouched(&self) -> Result<()> {
        let list = || output(Command::new("nft").args(["list", "chain", "inet", "cni", "seen"]));
        let seen = self.0.enter(list)?;
        let packets = seen.split("packets ").skip(1);
        let counts = packets.filter_map(|rest| rest.split(' ').next()?.parse().ok());
        match counts.collect::<Vec<u64>>()[..] {
            [0, 0, marked] if marked > 0 => Ok(()),
            _ => Err(format!("not every packet left with its marks:\n{seen}").into()),
        }
    }
}
