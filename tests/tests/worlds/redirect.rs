//! Doses of the faults on names and requests, as a client in the target's namespace, or one outside it, meets them.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::dns::{A, AAAA, Client, Resolver, TRUE_V4, TRUE_V6, Told};
use lab::world::http::{Service, get, get_on};
use lab::world::wire::{Ip, Wire, named, neighbour, victim};
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use squall_experiments::capability::Capabilities;
use squall_experiments::dose::{DnsDose, Dose, HttpDose};
use squall_experiments::fault::FaultKind;
use squall_experiments::wire::{Armed, Ended};

use crate::beside_others;
use crate::dose::inject;

/// Longer than an answer takes, on an emulated machine too.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long is waited for an answer that should not come.
const SILENCE: Duration = Duration::from_millis(600);

const PORT: u16 = 8080;

type Body = fn() -> Result<()>;

pub(crate) fn trials(capabilities: &Capabilities) -> Vec<Trial> {
    let able = |kind| capabilities.of(kind).is_some_and(|c| !c.means.is_empty());
    let mut trials = Vec::new();
    if able(FaultKind::Dns) {
        let each: [(&str, Body); 4] = [
            ("names_that_are_named_and_no_others", named_names),
            ("over_tcp_and_ipv6", tcp_and_ipv6),
            ("late_silent_or_false", late_silent_or_false),
            ("of_a_resolver", asked_of_a_resolver),
        ];
        trials.extend(
            each.map(|(name, test)| beside_others(format!("dose::redirect::dns_{name}"), test)),
        );
    }
    if able(FaultKind::Http) {
        let each: [(&str, Body); 3] = [
            ("out_to_a_port", out_to_a_port),
            ("in_from_elsewhere", in_from_elsewhere),
            ("straight_again", straight_again),
        ];
        trials.extend(
            each.map(|(name, test)| beside_others(format!("dose::redirect::http_{name}"), test)),
        );
    }
    trials
}

fn armed(agent: &mut Agent, wire: &Wire, fault: Value) -> Result<Armed> {
    inject(agent, wire, &written(fault), None)
}

fn dns_dose(ended: Ended) -> Result<DnsDose> {
    match ended.dose {
        Some(Dose::Dns(dose)) => Ok(dose),
        other => Err(format!("{other:?} is no dose of queries").into()),
    }
}

fn http_dose(ended: Ended) -> Result<HttpDose> {
    match ended.dose {
        Some(Dose::Http(dose)) => Ok(dose),
        other => Err(format!("{other:?} is no dose of requests").into()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?} instead of {expected:?}").into())
}

/// The code and the addresses; a sentence where nothing was told.
fn said(told: Option<Told>) -> Result<(u8, Vec<IpAddr>)> {
    let told = told.ok_or("no answer came")?;
    Ok((told.code, told.addresses))
}

const NXDOMAIN: (u8, Vec<IpAddr>) = (3, Vec::new());

fn truth(kind: u16) -> (u8, Vec<IpAddr>) {
    let address: IpAddr = if kind == A {
        TRUE_V4.into()
    } else {
        TRUE_V6.into()
    };
    (0, vec![address])
}

/// One socket before, under and after the fault: it is no new flow that is hit.
fn named_names() -> Result<()> {
    let wire = Wire::new()?;
    let resolver = Resolver::start(&wire.peer, &[named(Ip::V4), neighbour(Ip::V4)])?;
    let mut agent = Agent::start()?;
    let mut client = Client::new(&wire.victim, named(Ip::V4))?;
    let mut beside = Client::new(&wire.victim, neighbour(Ip::V4))?;
    same(
        "before",
        said(client.ask("db.payment.svc", A, PATIENCE)?)?,
        truth(A),
    )?;
    let filter = json!({ "to": { "hosts": [named(Ip::V4).to_string()] } });
    let fault = json!({ "dns": { "effect": "nxdomain", "names": ["*.payment.svc"], "types": ["A"], "filter": filter } });
    let armed = armed(&mut agent, &wire, fault)?;
    let before = resolver.answered();
    same(
        "named",
        said(client.ask("DB.payment.svc", A, PATIENCE)?)?,
        NXDOMAIN,
    )?;
    same("asked of the resolver", resolver.answered() - before, 0)?;
    let other = client.ask("db.orders.svc", A, PATIENCE)?;
    same("another name", said(other)?, truth(A))?;
    let other = client.ask("db.payment.svc", AAAA, PATIENCE)?;
    same("another type", said(other)?, truth(AAAA))?;
    let other = beside.ask("db.payment.svc", A, PATIENCE)?;
    same("another resolver", said(other)?, truth(A))?;
    let dose = dns_dose(agent.stop(&armed.id)?)?;
    same(
        "dose",
        (dose.seen, dose.answered, dose.forwarded),
        (3, 1, 2),
    )?;
    same(
        "after",
        said(client.ask("db.payment.svc", A, PATIENCE)?)?,
        truth(A),
    )
}

fn tcp_and_ipv6() -> Result<()> {
    let wire = Wire::new()?;
    let _resolver = Resolver::start(&wire.peer, &[named(Ip::V4), named(Ip::V6)])?;
    let mut agent = Agent::start()?;
    let fault = json!({ "dns": { "effect": "servfail", "names": ["*.payment.svc"] } });
    let armed = armed(&mut agent, &wire, fault)?;
    for ip in [Ip::V4, Ip::V6] {
        let mut client = Client::new(&wire.victim, named(ip))?;
        let what = |how| format!("{how} over {ip:?}");
        let hit = client.ask("db.payment.svc", AAAA, PATIENCE)?;
        same(&what("a datagram"), said(hit)?, (2, Vec::new()))?;
        let passed = client.ask("db.orders.svc", AAAA, PATIENCE)?;
        same(&what("another name's"), said(passed)?, truth(AAAA))?;
        let hit = client.ask_by_tcp(&wire.victim, "db.payment.svc", A, PATIENCE)?;
        same(&what("a stream"), said(hit)?, (2, Vec::new()))?;
        let passed = client.ask_by_tcp(&wire.victim, "db.orders.svc", A, PATIENCE)?;
        same(&what("another name's stream"), said(passed)?, truth(A))?;
    }
    let dose = dns_dose(agent.stop(&armed.id)?)?;
    same("dose", (dose.seen, dose.matched), (8, 4))
}

fn late_silent_or_false() -> Result<()> {
    let wire = Wire::new()?;
    let _resolver = Resolver::start(&wire.peer, &[named(Ip::V4)])?;
    let mut agent = Agent::start()?;
    let mut client = Client::new(&wire.victim, named(Ip::V4))?;
    let each = [
        json!({ "effect": { "delay": "300ms" }, "names": ["late.*"] }),
        json!({ "effect": "timeout", "names": ["silent.*"] }),
        json!({ "effect": { "address": ["10.9.9.9", "fd09::9"] }, "names": ["false.*"] }),
    ];
    // One after another: two that may meet one query are refused.
    let late = armed(&mut agent, &wire, json!({ "dns": each[0] }))?;
    let told = client
        .ask("late.svc", A, PATIENCE)?
        .ok_or("no late answer")?;
    same("late", (told.code, told.addresses), truth(A))?;
    let limits = Duration::from_millis(300)..Duration::from_millis(900);
    if !limits.contains(&told.after) {
        return Err(format!("300 ms late was {:?}", told.after).into());
    }
    if armed(&mut agent, &wire, json!({ "dns": each[1] })).is_ok() {
        return Err("a second fault on the same queries was armed, and would never see one".into());
    }
    same("dose", dns_dose(agent.stop(&late.id)?)?.delayed, 1)?;
    let silent = armed(&mut agent, &wire, json!({ "dns": each[1] }))?;
    same("silent", client.ask("silent.svc", A, SILENCE)?, None)?;
    same("dose", dns_dose(agent.stop(&silent.id)?)?.dropped, 1)?;
    armed(&mut agent, &wire, json!({ "dns": each[2] }))?;
    let (v4, v6) = ("10.9.9.9".parse()?, "fd09::9".parse()?);
    same(
        "false",
        said(client.ask("false.svc", A, PATIENCE)?)?,
        (0, vec![v4]),
    )?;
    same(
        "false",
        said(client.ask("false.svc", AAAA, PATIENCE)?)?,
        (0, vec![v6]),
    )
}

/// The target is itself a resolver, and its clients are elsewhere.
fn asked_of_a_resolver() -> Result<()> {
    let wire = Wire::new()?;
    let _resolver = Resolver::start(&wire.victim, &[victim(Ip::V4)])?;
    let mut agent = Agent::start()?;
    let fault = json!({ "dns": { "effect": "nxdomain", "names": ["*.payment.svc"], "filter": { "direction": "ingress" } } });
    armed(&mut agent, &wire, fault)?;
    for netns in [&wire.peer, &wire.victim] {
        let mut client = Client::new(netns, victim(Ip::V4))?;
        let hit = client.ask("db.payment.svc", A, PATIENCE)?;
        same("a client", said(hit)?, NXDOMAIN)?;
        let hit = client.ask_by_tcp(netns, "db.payment.svc", A, PATIENCE)?;
        same("a client's stream", said(hit)?, NXDOMAIN)?;
        let passed = client.ask("db.orders.svc", A, PATIENCE)?;
        same("another name", said(passed)?, truth(A))?;
    }
    Ok(())
}

fn at(address: IpAddr) -> SocketAddr {
    (address, PORT).into()
}

fn out_to_a_port() -> Result<()> {
    let wire = Wire::new()?;
    let services = [Ip::V4, Ip::V6].map(|ip| Service::start(&wire.peer, named(ip), PORT));
    let _beside = Service::start(&wire.peer, neighbour(Ip::V4), PORT)?;
    let mut agent = Agent::start()?;
    let to = json!({ "hosts": [named(Ip::V4).to_string(), named(Ip::V6).to_string()], "ports": ["8080"] });
    let fault = json!({ "http": {
        "effect": { "abort": 503 },
        "requests": { "paths": ["/orders/*"], "hosts": ["orders.shop"] },
        "filter": { "to": to, "direction": "egress" },
    } });
    let armed = armed(&mut agent, &wire, fault)?;
    for (ip, service) in [Ip::V4, Ip::V6].into_iter().zip(&services) {
        let service = service.as_ref().map_err(ToString::to_string)?;
        let status = |path| get(&wire.victim, at(named(ip)), path, PATIENCE).map(|got| got.status);
        same("hit", status("/orders/1")?, 503)?;
        same("asked of the service", service.answered(), 0)?;
        same("another path", status("/carts")?, 200)?;
    }
    let got = get(&wire.victim, at(neighbour(Ip::V4)), "/orders/1", PATIENCE)?;
    same("another service", got.status, 200)?;
    let dose = http_dose(agent.stop(&armed.id)?)?;
    let counts = (dose.connections, dose.requests, dose.matched, dose.aborted);
    same("dose", counts, (4, 4, 2, 2))?;
    let got = get(&wire.victim, at(named(Ip::V4)), "/orders/1", PATIENCE)?;
    same("after", got.status, 200)
}

fn in_from_elsewhere() -> Result<()> {
    let wire = Wire::new()?;
    let _service = Service::start(&wire.victim, victim(Ip::V4), PORT)?;
    let mut agent = Agent::start()?;
    let fault = json!({ "http": {
        "effect": { "truncate": "4B" },
        "filter": { "to": { "ports": ["8080"] }, "direction": "ingress" },
    } });
    let armed = armed(&mut agent, &wire, fault)?;
    for netns in [&wire.peer, &wire.victim] {
        let got = get(netns, at(victim(Ip::V4)), "/", PATIENCE)?;
        same("the status", got.status, 200)?;
        same(
            "what came",
            (got.body.as_slice(), got.whole),
            (&b"{\"ok"[..], false),
        )?;
    }
    let dose = http_dose(agent.stop(&armed.id)?)?;
    same("dose", (dose.matched, dose.truncated), (2, 2))
}

/// A connection from before goes on all along; one of the proxy's ends with its holder; a new one goes straight.
fn straight_again() -> Result<()> {
    let wire = Wire::new()?;
    let _service = Service::start(&wire.peer, named(Ip::V4), PORT)?;
    let mut agent = Agent::start()?;
    let connect = || {
        let to = at(named(Ip::V4));
        wire.victim
            .enter(|| Ok(std::net::TcpStream::connect_timeout(&to, PATIENCE)?))
    };
    let ask = |what: &str, on: &std::net::TcpStream, expected| {
        let got = get_on(on, "/", PATIENCE).map_err(|e| format!("{what}: {e}"))?;
        same(what, got.status, expected)
    };
    let earlier = connect()?;
    ask("earlier", &earlier, 200)?;
    let filter = json!({ "to": { "ports": ["8080"] }, "direction": "egress" });
    let fault = json!({ "http": { "effect": { "abort": 503 }, "filter": filter } });
    let armed = armed(&mut agent, &wire, fault)?;
    ask("earlier, under the fault", &earlier, 200)?;
    let led = connect()?;
    ask("led", &led, 503)?;
    let mut silence = false;
    lab::world::victim::signal(armed.holder, Signal::SIGKILL)?;
    until("the end of what was led", PATIENCE, || {
        let ended = get_on(&led, "/", PATIENCE);
        ended.is_err().then_some(())
    })?;
    // In the very moment of its death a connection may still be led, but never into silence.
    until("a new connection straight to the service", PATIENCE, || {
        let begun = Instant::now();
        let asked = connect().and_then(|new| ask("new", &new, 200));
        silence |= begun.elapsed() >= PATIENCE;
        asked.is_ok().then_some(())
    })?;
    if silence {
        return Err("a client was left waiting for a holder that had gone".into());
    }
    ask("earlier, afterwards", &earlier, 200)
}
