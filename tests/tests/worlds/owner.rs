//! Faults on the packets of one of several processes that share a network namespace: the named one's are hit, and nobody
//! else's, whoever they talk to.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::cgroup::Cgroup;
use lab::world::talker::{Line, Talker};
use lab::world::tcp::Echo;
use lab::world::wire::{Ip, PORT, Wire, named, victim};
use lab::world::{Result, output};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use squall_experiments::capability::{Capabilities, Means};
use squall_experiments::dose::{Dose, NetworkDose};
use squall_experiments::fault::FaultKind;
use squall_experiments::wire::{Armed, Ended};

use crate::beside_others;
use crate::dose::{LEASE, emulated};

/// Longer than an answer takes, on an emulated machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long is waited for what should not come.
const SILENCE: Duration = Duration::from_millis(600);
/// How late the hit packets are; on an emulated machine an untouched answer may well take 300 ms.
fn late_by() -> Duration {
    Duration::from_millis(if emulated() { 1000 } else { 400 })
}

/// The same in a fault.
fn time() -> String {
    format!("{}ms", late_by().as_millis())
}

/// What is not hit takes less.
fn prompt_by() -> Duration {
    late_by() / 2
}

/// Where the TCP service is: the wire's own only listen.
pub(crate) const WEB: u16 = 8080;

pub(crate) fn trials(capabilities: &Capabilities) -> Vec<Trial> {
    type Body = fn() -> Result<()>;
    let queues = |kind| {
        capabilities
            .of(kind)
            .is_some_and(|c| c.means.contains(&Means::Queue))
    };
    if !queues(FaultKind::Delay) || !queues(FaultKind::Tcp) {
        return Vec::new();
    }
    let each: [(&str, Body); 6] = [
        ("of_a_process_both_ways", a_process),
        ("of_a_cgroup_and_of_a_user", a_cgroup_and_a_user),
        ("of_a_server", a_server),
        ("of_a_client_of_a_service", a_client_of_a_service),
        ("of_a_server_of_a_service", a_server_of_a_service),
        ("of_its_connections", its_connections),
    ];
    let each = each.map(|(name, test)| beside_others(format!("dose::owner_{name}"), test));
    each.into_iter().collect()
}

/// Two processes in one namespace, and what they talk to.
pub(crate) struct Shared {
    pub(crate) wire: Wire,
    echo: Echo,
    pub(crate) one: Talker,
    pub(crate) other: Talker,
    tag: String,
}

impl Shared {
    pub(crate) fn new(user: Option<u32>) -> Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tag = format!("sqt-owner-{}-{number}", std::process::id());
        let wire = Wire::new()?;
        Ok(Self {
            echo: Echo::start(&wire.peer, at(WEB))?,
            one: Talker::start(&wire.victim, &tag, user)?,
            other: Talker::start(&wire.victim, "another", None)?,
            wire,
            tag,
        })
    }

    pub(crate) fn process(&self) -> Value {
        json!({ "process": { "command": self.tag } })
    }
}

pub(crate) fn at(port: u16) -> SocketAddr {
    (named(Ip::V4), port).into()
}

/// From or to the named address alone.
pub(crate) fn filter(direction: &str) -> Value {
    let end = if direction == "egress" { "to" } else { "from" };
    json!({ end: { "hosts": [named(Ip::V4).to_string()] }, "direction": direction })
}

pub(crate) fn arm(agent: &mut Agent, on: &Value, fault: Value) -> Result<Armed> {
    agent.inject(
        &written(on.clone()),
        &written(fault),
        written(json!(LEASE)),
        None,
    )
}

fn delayed(agent: &mut Agent, on: &Value, direction: &str) -> Result<Armed> {
    let fault = json!({ "delay": { "time": time(), "filter": filter(direction) } });
    arm(agent, on, fault)
}

fn dose(ended: Ended) -> Result<NetworkDose> {
    match ended.dose {
        Some(Dose::Network(dose)) => Ok(dose),
        other => Err(format!("{other:?} is no dose of packets").into()),
    }
}

pub(crate) fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    found: T,
    expected: T,
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?} instead of {expected:?}").into())
}

pub(crate) fn prompt(what: &str, talker: &mut Talker, line: Line) -> Result<()> {
    match talker.ask(line, PATIENCE)? {
        Ok(took) if took < prompt_by() => Ok(()),
        told => Err(format!("{what}: {told:?} is not prompt").into()),
    }
}

fn late(what: &str, talker: &mut Talker, line: Line) -> Result<()> {
    match talker.ask(line, PATIENCE)? {
        Ok(took) if took >= late_by() => Ok(()),
        told => Err(format!("{what}: {told:?} is not {:?} late", late_by()).into()),
    }
}

fn silent(what: &str, talker: &mut Talker, line: Line) -> Result<()> {
    match talker.ask(line, SILENCE)? {
        Err(_) => Ok(()),
        told => Err(format!("{what}: {told:?} where nothing should come").into()),
    }
}

/// TCP and UDP, connections that were there and new ones, what leaves and what arrives.
fn a_process() -> Result<()> {
    let mut shared = Shared::new(None)?;
    let on = shared.process();
    let mut agent = Agent::start()?;
    let Shared { one, other, .. } = &mut shared;
    let own = [one.udp(at(PORT))?, one.tcp(at(WEB))?];
    let others = [other.udp(at(PORT))?, other.tcp(at(WEB))?];
    for direction in ["egress", "ingress"] {
        let armed = delayed(&mut agent, &on, direction)?;
        for (own, others) in own.iter().zip(&others) {
            late(direction, one, *own)?;
            prompt(direction, other, *others)?;
        }
        let begun = Instant::now();
        let new = one.tcp(at(WEB))?;
        if begun.elapsed() < late_by() {
            return Err(format!("{direction}: a handshake took {:?}", begun.elapsed()).into());
        }
        late(direction, one, new)?;
        let begun = Instant::now();
        let new = other.tcp(at(WEB))?;
        if begun.elapsed() > prompt_by() {
            return Err(format!(
                "{direction}: another's handshake took {:?}",
                begun.elapsed()
            )
            .into());
        }
        prompt(direction, other, new)?;
        if direction == "egress" {
            agent.stop(&armed.id)?;
        } else {
            lab::world::victim::signal(armed.holder, Signal::SIGKILL)?;
            agent.ended(&armed.id)?;
        }
        for own in own {
            prompt("afterwards", one, own)?;
        }
    }
    // Counted are the owner's packets alone.
    let only_udp =
        json!({ "to": { "ports": [PORT.to_string()] }, "protocol": "udp", "direction": "egress" });
    let fault =
        json!({ "loss": { "model": { "random": { "probability": "100%" } }, "filter": only_udp } });
    let armed = arm(&mut agent, &on, fault)?;
    for _ in 0..3 {
        silent("lost", one, own[0])?;
        prompt("another's", other, others[0])?;
    }
    let dose = dose(agent.stop(&armed.id)?)?;
    same("dose", (dose.matched, dose.dropped), (3, 3))
}

/// By the cgroup that it was put into after it had opened its sockets, and by the user it runs as.
fn a_cgroup_and_a_user() -> Result<()> {
    const NOBODY: u32 = 65_534;
    // Dropped last: it must be empty to go.
    let group = Cgroup::create(&format!("sqt-owner-{}", std::process::id()))?;
    let mut shared = Shared::new(Some(NOBODY))?;
    let mut agent = Agent::start()?;
    let user = json!({ "process": { "command": shared.tag, "user": NOBODY.to_string() } });
    group.adopt(shared.one.pid())?;
    let group_on = json!({ "cgroup": group.path() });
    let Shared { one, other, .. } = &mut shared;
    let (own, others) = (one.udp(at(PORT))?, other.udp(at(PORT))?);
    let loss = json!({ "loss": { "model": { "random": { "probability": "100%" } }, "filter": filter("ingress") } });
    let partition = json!({ "partition": { "filter": filter("ingress") } });
    for (on, fault) in [(group_on, loss), (user, partition)] {
        let armed = arm(&mut agent, &on, fault)?;
        silent("lost", one, own)?;
        let new = one.udp(at(PORT))?;
        silent("lost, new", one, new)?;
        prompt("another's", other, others)?;
        let dose = dose(agent.stop(&armed.id)?)?;
        same("dose", dose.dropped, 2)?;
        prompt("afterwards", one, own)?;
    }
    Ok(())
}

/// The target serves, and its clients are elsewhere: the first packet that reaches it is hit already. Over IPv6.
fn a_server() -> Result<()> {
    const OTHER: u16 = 8081;
    let mut shared = Shared::new(None)?;
    let on = shared.process();
    let mut agent = Agent::start()?;
    let own = |port| SocketAddr::new(victim(Ip::V6), port);
    shared.one.serve(own(WEB))?;
    shared.other.serve(own(OTHER))?;
    let mut client = Talker::start(&shared.wire.peer, "client", None)?;
    let fault = json!({ "delay": { "time": time(), "filter": { "direction": "ingress" } } });
    let armed = arm(&mut agent, &on, fault)?;
    let begun = Instant::now();
    let line = client.tcp(own(WEB))?;
    if begun.elapsed() < late_by() {
        return Err(format!("a handshake took {:?}", begun.elapsed()).into());
    }
    late("served", &mut client, line)?;
    let line = client.tcp(own(OTHER))?;
    prompt("served by another", &mut client, line)?;
    agent.stop(&armed.id).map(drop)
}

/// An address that is nobody's and led to the named one, as kube-proxy does it for a service: on the wire it is not seen.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

fn open_service(wire: &Wire) -> Result<()> {
    let table = format!(
        "table ip kube {{ chain services {{ type nat hook output priority -100; ip daddr {SERVICE} dnat to {}; }}; }}",
        named(Ip::V4)
    );
    wire.victim.enter(|| {
        let route = format!("route add {SERVICE} dev eth0");
        output(Command::new("ip").args(route.split(' ')))?;
        output(Command::new("nft").arg(&table)).map(drop)
    })
}

/// Whose a packet is, is told though it has other ends than its socket.
fn a_client_of_a_service() -> Result<()> {
    let mut shared = Shared::new(None)?;
    open_service(&shared.wire)?;
    let service = |port| SocketAddr::from((SERVICE, port));
    let on = shared.process();
    let mut agent = Agent::start()?;
    let Shared { one, other, .. } = &mut shared;
    let own = [one.udp(service(PORT))?, one.tcp(service(WEB))?];
    let others = [other.udp(service(PORT))?, other.tcp(service(WEB))?];
    for (own, others) in own.iter().zip(&others) {
        prompt("before", one, *own)?;
        prompt("before", other, *others)?;
    }
    for direction in ["egress", "ingress"] {
        let armed = delayed(&mut agent, &on, direction)?;
        for (own, others) in own.iter().zip(&others) {
            late(direction, one, *own)?;
            prompt(direction, other, *others)?;
        }
        let begun = Instant::now();
        let new = one.tcp(service(WEB))?;
        // Of a first packet that leaves, Debian's kernel tells the connection; this one was built without that.
        let told = direction == "ingress" || emulated();
        if told && begun.elapsed() < late_by() {
            return Err(format!("{direction}: a handshake took {:?}", begun.elapsed()).into());
        }
        late(direction, one, new)?;
        let new = other.tcp(service(WEB))?;
        prompt("another's, new", other, new)?;
        agent.stop(&armed.id)?;
        prompt("afterwards", one, own[0])?;
    }
    Ok(())
}

/// Ports of this node that are led to others, as kube-proxy does it for a service with node ports.
fn open_node_ports(wire: &Wire, led: [(u16, u16); 2]) -> Result<()> {
    let to = |(from, to)| format!("tcp dport {from} dnat to {}:{to};", victim(Ip::V4));
    let table = format!(
        "table ip kube {{ chain ports {{ type nat hook prerouting priority -100; {} }}; }}",
        led.map(to).join(" ")
    );
    wire.victim
        .enter(|| output(Command::new("nft").arg(&table)).map(drop))
}

/// The target serves at another port than its clients ask. Its answer to the first packet of a connection is known as its own, before
/// there is a connection to accept.
fn a_server_of_a_service() -> Result<()> {
    const NODE: [u16; 2] = [30080, 30081];
    const OTHER: u16 = 8081;
    let mut shared = Shared::new(None)?;
    open_node_ports(&shared.wire, [(NODE[0], WEB), (NODE[1], OTHER)])?;
    let on = shared.process();
    let mut agent = Agent::start()?;
    let here = |port| SocketAddr::new(victim(Ip::V4), port);
    shared.one.serve(here(WEB))?;
    shared.other.serve(here(OTHER))?;
    let mut client = Talker::start(&shared.wire.peer, "client", None)?;
    let lines = [client.tcp(here(NODE[0]))?, client.tcp(here(NODE[1]))?];
    for line in lines {
        prompt("before", &mut client, line)?;
    }
    for direction in ["egress", "ingress"] {
        let fault = json!({ "delay": { "time": time(), "filter": { "direction": direction } } });
        let armed = arm(&mut agent, &on, fault)?;
        late(direction, &mut client, lines[0])?;
        prompt(direction, &mut client, lines[1])?;
        let begun = Instant::now();
        let new = client.tcp(here(NODE[0]))?;
        // What arrives first is not tracked yet.
        if direction == "egress" && begun.elapsed() < late_by() {
            return Err(format!("{direction}: a handshake took {:?}", begun.elapsed()).into());
        }
        late(direction, &mut client, new)?;
        let new = client.tcp(here(NODE[1]))?;
        prompt("another's, new", &mut client, new)?;
        agent.stop(&armed.id)?;
        prompt("afterwards", &mut client, lines[0])?;
    }
    Ok(())
}

/// How many connections a fault with this effect met while `act` went on.
fn under(
    agent: &mut Agent,
    on: &Value,
    effect: Value,
    act: &mut dyn FnMut() -> Result<()>,
) -> Result<u64> {
    let fault = json!({ "tcp": { "effect": effect, "filter": filter("egress") } });
    let armed = arm(agent, on, fault)?;
    act()?;
    match agent.stop(&armed.id)?.dose {
        Some(Dose::Tcp(dose)) => Ok(dose.matched),
        other => Err(format!("{other:?} is no dose of connections").into()),
    }
}

/// The fault on connections: an idle one is reset, a new one refused, an end late, and only the owner's.
fn its_connections() -> Result<()> {
    let mut shared = Shared::new(None)?;
    let on = shared.process();
    let mut agent = Agent::start()?;
    let Shared {
        one, other, echo, ..
    } = &mut shared;
    let (own, others) = (one.tcp(at(WEB))?, other.tcp(at(WEB))?);
    let hit = under(&mut agent, &on, json!("reset"), &mut || {
        lab::world::until("the reset at the other end", PATIENCE, || {
            (echo.reset() == 1).then_some(())
        })?;
        silent("reset", one, own)?;
        prompt("another's", other, others)
    })?;
    same("reset", hit, 1)?;
    let hit = under(&mut agent, &on, json!("refuse"), &mut || {
        let refused = one.tcp(at(WEB)).map_err(|e| e.to_string());
        same(
            "refused",
            refused.is_err_and(|e| e.contains("refused")),
            true,
        )?;
        other.tcp(at(WEB)).map(drop)
    })?;
    same("refused", hit, 1)?;
    let there = one.tcp(at(WEB))?;
    let hit = under(&mut agent, &on, json!({ "close": time() }), &mut || {
        let new = one.tcp(at(WEB))?;
        for line in [there, new] {
            let before = echo.closed();
            let begun = Instant::now();
            one.close(line)?;
            lab::world::until("an end", PATIENCE, || {
                (echo.closed() > before).then_some(())
            })?;
            if begun.elapsed() < late_by() {
                return Err(format!("an end took {:?}", begun.elapsed()).into());
            }
        }
        let (before, begun) = (echo.closed(), Instant::now());
        other.close(others)?;
        lab::world::until("an end", PATIENCE, || {
            (echo.closed() > before).then_some(())
        })?;
        same(
            "another's end is prompt",
            begun.elapsed() < prompt_by(),
            true,
        )
    })?;
    same("closed late", hit, 2)
}
