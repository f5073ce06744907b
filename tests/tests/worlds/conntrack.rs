//! A full table of tracked connections, as the clients of a service behind it meet it.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::tcp::{Echo, ask};
use lab::world::victim::Victim;
use lab::world::wire::{Ip, Wire, named};
use lab::world::{Result, until, wire};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use squall_experiments::capability::Capabilities;
use squall_experiments::dose::Dose;
use squall_experiments::fault::FaultKind;
use squall_experiments::target::Target;
use squall_experiments::wire::{Armed, EndCause};

use crate::beside_others;
use crate::dose::{LEASE, emulated};

const PORT: u16 = 7400;

/// Longer than an answer takes, on an emulated machine too.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long is waited for a connection that should not come about.
const SILENCE: Duration = Duration::from_millis(600);

/// The lease with which the fault ends.
const LAST_LEASE: Duration = Duration::from_millis(1500);

/// How long the fault may last after its end: as in the kill matrix.
fn gone() -> Duration {
    Duration::from_millis(if emulated() { 300 } else { 100 })
}

pub(crate) fn trials(capabilities: &Capabilities) -> Vec<Trial> {
    // What has connections tracked in these tests is Squall's own translation of addresses.
    let able = capabilities
        .of(FaultKind::Http)
        .is_some_and(|c| !c.means.is_empty());
    let mut trials = vec![beside_others(
        "dose::conntrack::refused_where_nothing_is_tracked",
        untracked,
    )];
    if able {
        trials.push(beside_others(
            "dose::conntrack::full_until_the_lease_ends",
            full,
        ));
        trials.push(beside_others(
            "dose::conntrack::but_for_a_few",
            but_for_a_few,
        ));
    }
    trials
}

/// A service in a namespace that tracks connections, and an agent.
struct Tracked {
    agent: Agent,
    echo: Echo,
    target: Target,
    // Last, so that the agent ends before its target.
    _victim: Victim,
    wire: Wire,
}

impl Tracked {
    fn new(tag: &str) -> Result<Self> {
        let wire = Wire::new()?;
        let victim = wire.victim.enter(|| Victim::start(tag))?;
        let echo = Echo::start(&wire.victim, SocketAddr::new(wire::victim(Ip::V4), PORT))?;
        Ok(Self {
            agent: Agent::start()?,
            echo,
            target: written(json!({ "process": { "pid": victim.pid() } })),
            _victim: victim,
            wire,
        })
    }

    fn inject(&mut self, fault: Value) -> Result<Armed> {
        self.agent
            .inject(&self.target, &written(fault), written(json!(LEASE)), None)
    }

    /// Has somebody translate addresses: from then on the kernel tracks connections here.
    fn track(&mut self) -> Result<()> {
        let unused = json!({ "http": {
            "filter": { "to": { "ports": ["1"] } }, "effect": { "abort": 503 },
        } });
        self.inject(unused).map(drop)
    }

    fn connect(&self, limit: Duration) -> Result<TcpStream> {
        self.echo.connect(&self.wire.peer, limit)
    }

    /// Whether a local sender of something new is let.
    fn may_send_from_inside(&self) -> Result<bool> {
        let to: IpAddr = named(Ip::V4);
        self.wire.victim.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            Ok(socket.send_to(b"?", (to, PORT)).is_ok())
        })
    }
}

fn untracked() -> Result<()> {
    let mut world = Tracked::new("untracked")?;
    let stream = world.connect(PATIENCE)?;
    let refused = world.inject(json!({ "exhaust": { "what": "conntrack" } }));
    match refused {
        Ok(_) => Err("it was armed where no connection is tracked".into()),
        Err(error) if error.to_string().contains("no connection is tracked") => {
            ask(&stream, b"still?", PATIENCE)?;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Nothing new, in whichever direction, for TCP or UDP; what is open goes on; and all is as before when the end comes.
fn full() -> Result<()> {
    let mut world = Tracked::new("tracked")?;
    world.track()?;
    let open = world.connect(PATIENCE)?;
    ask(&open, b"before", PATIENCE)?;
    if !world.may_send_from_inside()? {
        return Err("nothing could be sent before the fault".into());
    }
    let armed = world.inject(json!({ "exhaust": { "what": "conntrack" } }))?;
    if world.connect(SILENCE).is_ok() {
        return Err("a connection came about though none could be tracked".into());
    }
    ask(&open, b"meanwhile", PATIENCE)?;
    let lease = format!("{}ms", LAST_LEASE.as_millis());
    world.agent.renew(&armed.id, written(json!(lease)))?;
    let (due, begun) = (LAST_LEASE, Instant::now());
    if world.may_send_from_inside()? {
        return Err("something new was sent from inside though it could not be tracked".into());
    }
    until("something that is sent again", due + PATIENCE, || {
        world.may_send_from_inside().ok()?.then_some(())
    })?;
    let took = begun.elapsed();
    if took > due + gone() {
        return Err(format!("it was over after {took:?}, and {due:?} were due").into());
    }
    world.connect(PATIENCE)?;
    match world.agent.ended(&armed.id)?.cause {
        EndCause::LeaseEnded => Ok(()),
        cause => Err(format!("the agent says that it ended by {cause:?}").into()),
    }
}

/// As many as are left over can be open at once, and no more; when one is closed and forgotten, another can be.
fn but_for_a_few() -> Result<()> {
    const LEFT: usize = 4;
    let mut world = Tracked::new("few")?;
    world.track()?;
    let open = world.connect(PATIENCE)?;
    let fault = json!({ "exhaust": { "what": "conntrack", "goal": { "leave": LEFT } } });
    let armed = world.inject(fault)?;
    let streams: Vec<TcpStream> = (0..LEFT)
        .map(|_| world.connect(PATIENCE))
        .collect::<Result<_>>()
        .map_err(|error| format!("one of the {LEFT} that were left: {error}"))?;
    for more in 0..2 {
        if world.connect(SILENCE).is_ok() {
            return Err(format!("{} came about of {LEFT}", LEFT + 1 + more).into());
        }
    }
    for stream in streams.iter().chain([&open]) {
        ask(stream, b"and you?", PATIENCE)?;
    }
    thread::sleep(Duration::from_millis(1200));
    let ended = world.agent.stop(&armed.id)?;
    world.connect(PATIENCE)?;
    match ended.dose {
        Some(Dose::Exhaust(dose)) if dose.dropped >= Some(2) && dose.left == 0 => Ok(()),
        other => {
            Err(format!("{LEFT} were left, more were tried, and this was told: {other:?}").into())
        }
    }
}
