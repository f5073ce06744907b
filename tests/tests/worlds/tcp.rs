//! The fault on connections, as both of their ends meet it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::tcp::{Echo, ask, hear};
use lab::world::wire::{Ip, Wire, named, neighbour, victim};
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send};
use serde_json::{Value, json};
use squall_experiments::capability::Capabilities;
use squall_experiments::dose::{Dose, TcpDose};
use squall_experiments::fault::FaultKind;
use squall_experiments::wire::{Armed, Ended};

use crate::dose::{emulated, inject};
use crate::{as_root, beside_others};

/// Longer than an answer takes, on an emulated machine too.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long is waited for what should not come.
const SILENCE: Duration = Duration::from_millis(600);

const PORT: u16 = 8080;

/// More is to come (send(2)), which `nix` does not name.
const MSG_MORE: i32 = 0x8000;

pub(crate) fn trials(capabilities: &Capabilities) -> Vec<Trial> {
    type Body = fn() -> Result<()>;
    let able = capabilities
        .of(FaultKind::Tcp)
        .is_some_and(|c| !c.means.is_empty());
    if !able {
        return Vec::new();
    }
    let beside: [(&str, Body); 3] = [
        ("reset_at_both_ends", reset),
        ("reset_of_a_share", share),
        ("refused_but_for_those_there", refuse),
    ];
    // These look at how long things take.
    let alone: [(&str, Body); 2] = [("closed_late", close), ("stalled_and_going_on", stall)];
    let named = |name| format!("dose::tcp_{name}");
    let beside = beside.map(|(name, test)| beside_others(named(name), test));
    let alone = alone.map(|(name, test)| as_root(named(name), test));
    beside.into_iter().chain(alone).collect()
}

/// The named service over both IP versions, and its neighbour.
fn services(wire: &Wire) -> Result<[Echo; 3]> {
    let start = |at| Echo::start(&wire.peer, (at, PORT).into());
    Ok([
        start(named(Ip::V4))?,
        start(named(Ip::V6))?,
        start(neighbour(Ip::V4))?,
    ])
}

/// To the named service, and to nobody else.
fn to_named(direction: &str) -> Value {
    let hosts = [named(Ip::V4).to_string(), named(Ip::V6).to_string()];
    json!({ "to": { "hosts": hosts, "ports": [PORT.to_string()] }, "direction": direction })
}

fn armed(agent: &mut Agent, wire: &Wire, parameters: Value) -> Result<Armed> {
    inject(agent, wire, &written(json!({ "tcp": parameters })), None)
}

fn dose(ended: Ended) -> Result<TcpDose> {
    match ended.dose {
        Some(Dose::Tcp(dose)) => Ok(dose),
        other => Err(format!("{other:?} is no dose of connections").into()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?} instead of {expected:?}").into())
}

fn lives(what: &str, stream: &TcpStream) -> Result<()> {
    ask(stream, b"?", PATIENCE)
        .map(drop)
        .map_err(|e| format!("{what} does not live: {e}").into())
}

/// Whether a connection is over, and how it is told.
fn end_of(mut stream: &TcpStream, patience: Duration) -> Result<Option<ErrorKind>> {
    stream.set_read_timeout(Some(patience))?;
    match stream.read(&mut [0; 1]) {
        Ok(0) => Ok(None),
        Ok(_) => Err("data came where an end should".into()),
        Err(error) => Ok(Some(error.kind())),
    }
}

/// Idle connections and busy ones, those there and new ones, over IPv4 and IPv6; the neighbour's go on.
fn reset() -> Result<()> {
    let wire = Wire::new()?;
    let echoes = services(&wire)?;
    let connect = |echo: &Echo| echo.connect(&wire.victim, PATIENCE);
    let idle = [connect(&echoes[0])?, connect(&echoes[1])?];
    let beside = connect(&echoes[2])?;
    for stream in idle.iter().chain([&beside]) {
        lives("before", stream)?;
    }
    let mut agent = Agent::start()?;
    let armed = armed(
        &mut agent,
        &wire,
        json!({ "effect": "reset", "filter": to_named("egress") }),
    )?;
    let told = Some(ErrorKind::ConnectionReset);
    for stream in &idle {
        same("an idle connection", end_of(stream, PATIENCE)?, told)?;
    }
    for echo in &echoes[..2] {
        // The handshake is no part of the connection that is reset: it may be told of the reset before or after its end.
        if let Ok(stream) = connect(echo) {
            let asked = ask(&stream, b"?", PATIENCE).map_err(|e| e.kind());
            let reset = matches!(
                asked,
                Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
            );
            same("a new connection is reset", reset, true)?;
        }
    }
    lives("the neighbour's", &beside)?;
    lives("the neighbour's new one", &connect(&echoes[2])?)?;
    until("the news of a reset at the other end", PATIENCE, || {
        echoes[..2]
            .iter()
            .all(|echo| echo.reset() > 0)
            .then_some(())
    })?;
    let dose = dose(agent.stop(&armed.id)?)?;
    same(
        "dose",
        (dose.connections, dose.matched, dose.overflowed),
        (4, 4, 0),
    )?;
    for echo in &echoes[..2] {
        lives("afterwards, a new one", &connect(echo)?)?;
    }
    same("the neighbour's resets", echoes[2].reset(), 0)?;
    lives("afterwards, the neighbour's", &beside)
}

/// Of many connections so many as the share says, and exactly those that the dose counts.
fn share() -> Result<()> {
    const MANY: u64 = 100;
    let wire = Wire::new()?;
    // The target is the server: its clients are elsewhere.
    let echo = Echo::start(&wire.victim, (victim(Ip::V4), PORT).into())?;
    let connect = || echo.connect(&wire.peer, PATIENCE);
    let streams = (0..MANY).map(|_| connect()).collect::<Result<Vec<_>>>()?;
    for stream in &streams {
        lives("before", stream)?;
    }
    let mut agent = Agent::start()?;
    let filter = json!({ "to": { "ports": [PORT.to_string()] }, "direction": "ingress" });
    let armed = armed(
        &mut agent,
        &wire,
        json!({ "effect": "reset", "share": "30%", "filter": filter }),
    )?;
    let mut reset = 0;
    for stream in &streams {
        match ask(stream, b"?", PATIENCE).map_err(|e| e.kind()) {
            Ok(_) => {}
            Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => reset += 1,
            Err(other) => return Err(format!("neither reset nor alive: {other}").into()),
        }
    }
    let dose = dose(agent.stop(&armed.id)?)?;
    same("dose", (dose.connections, dose.matched), (MANY, reset))?;
    // Five standard deviations (4.6) of a fair draw.
    if !(7..=53).contains(&reset) {
        return Err(format!("{reset} of {MANY} are no 30 %").into());
    }
    let spared = streams.iter().filter(|s| ask(s, b"!", PATIENCE).is_ok());
    same("those not hit", spared.count() as u64, MANY - reset)
}

fn refuse() -> Result<()> {
    let wire = Wire::new()?;
    let echoes = services(&wire)?;
    let connect = |echo: &Echo| echo.connect(&wire.victim, PATIENCE);
    let there = [connect(&echoes[0])?, connect(&echoes[1])?];
    let mut agent = Agent::start()?;
    let armed = armed(
        &mut agent,
        &wire,
        json!({ "effect": "refuse", "filter": to_named("egress") }),
    )?;
    for echo in &echoes[..2] {
        let begun = Instant::now();
        let refused = connect(echo).map_err(|e| e.downcast_ref().map(std::io::Error::kind));
        let told = Some(ErrorKind::ConnectionRefused);
        same("a new connection", refused.map(drop), Err(told))?;
        if begun.elapsed() > SILENCE {
            return Err(format!("it was refused after {:?}", begun.elapsed()).into());
        }
    }
    for stream in &there {
        lives("one that was there", stream)?;
    }
    lives("the neighbour's", &connect(&echoes[2])?)?;
    let dose = dose(agent.stop(&armed.id)?)?;
    same(
        "dose",
        (dose.packets, dose.matched, dose.overflowed),
        (2, 2, 0),
    )?;
    lives("afterwards, a new one", &connect(&echoes[0])?)
}

/// The end of a connection comes so late, and data before it does not; with data in the very packet, too.
fn close() -> Result<()> {
    const LATE: Duration = Duration::from_millis(700);
    let wire = Wire::new()?;
    let echoes = services(&wire)?;
    let mut agent = Agent::start()?;
    let armed = armed(
        &mut agent,
        &wire,
        json!({ "effect": { "close": "700ms" }, "filter": to_named("egress") }),
    )?;
    let ended = |echo: &Echo, last_words: bool| -> Result<Duration> {
        let stream = echo.connect(&wire.victim, PATIENCE)?;
        lives("under the fault", &stream)?;
        let before = echo.closed();
        let begun = Instant::now();
        if last_words {
            // Kept by the kernel until the end, and sent in one packet with it.
            send(
                stream.as_raw_fd(),
                b"bye",
                MsgFlags::from_bits_retain(MSG_MORE),
            )?;
        }
        stream.shutdown(Shutdown::Write)?;
        if last_words {
            hear(&stream, b"bye", LATE / 2).map_err(|e| format!("the last words: {e}"))?;
        }
        until("the end", PATIENCE, || {
            (echo.closed() > before).then_some(())
        })?;
        Ok(begun.elapsed())
    };
    let limits = LATE..LATE + Duration::from_millis(if emulated() { 150 } else { 50 });
    for (echo, last_words) in [(&echoes[0], false), (&echoes[0], true), (&echoes[1], true)] {
        let took = ended(echo, last_words)?;
        if !limits.contains(&took) {
            return Err(format!("an end took {took:?} (last words: {last_words})").into());
        }
    }
    let beside = ended(&echoes[2], true)?;
    if beside > LATE / 2 {
        return Err(format!("the neighbour's end took {beside:?}").into());
    }
    let dose = dose(agent.stop(&armed.id)?)?;
    same(
        "dose",
        (dose.matched, dose.delayed, dose.overflowed),
        (3, 3, 0),
    )?;
    let mean = Duration::from_secs_f64(dose.delay_mean_us.unwrap_or_default() / 1e6);
    if !limits.contains(&mean) {
        return Err(format!("a mean of {mean:?} is no {LATE:?}").into());
    }
    Ok(())
}

/// Connections there and new ones stand still, for longer than their senders' patience would grow; then they go on with
/// nothing lost, soon after a kill and at once after a stop.
fn stall() -> Result<()> {
    const WORDS: &[u8] = &[0x5a; 40_000];
    let wire = Wire::new()?;
    let echoes = services(&wire)?;
    let connect = |echo: &Echo| echo.connect(&wire.victim, PATIENCE);
    let beside = connect(&echoes[2])?;
    let mut agent = Agent::start()?;
    for stopped in [false, true] {
        let there = [connect(&echoes[0])?, connect(&echoes[1])?];
        for stream in &there {
            lives("before", stream)?;
        }
        let parameters = json!({ "effect": "stall", "filter": to_named("egress") });
        let armed = armed(&mut agent, &wire, parameters)?;
        let new = connect(&echoes[0])?;
        let all = || there.iter().chain([&new]);
        // Those there hear it with the answer to the first thing that is asked of their other end.
        std::thread::sleep(Duration::from_millis(50));
        for mut stream in all() {
            stream.write_all(WORDS)?;
        }
        // Unhindered, the wait before a sender's fourth question is longer than what is allowed below.
        std::thread::sleep(Duration::from_secs(2));
        for stream in all() {
            let heard = hear(stream, WORDS, Duration::from_millis(1)).map_err(|e| e.kind());
            same("what came back", heard, Err(ErrorKind::WouldBlock))?;
        }
        lives("the neighbour's", &beside)?;
        let (begun, limit) = if stopped {
            let dose = dose(agent.stop(&armed.id)?)?;
            same("dose", (dose.connections, dose.matched), (3, 3))?;
            (Instant::now(), Duration::from_millis(100))
        } else {
            lab::world::victim::signal(armed.holder, Signal::SIGKILL)?;
            (Instant::now(), Duration::from_millis(350))
        };
        for stream in all() {
            hear(stream, WORDS, PATIENCE).map_err(|e| format!("one does not go on: {e}"))?;
        }
        let limit = if emulated() { limit * 2 } else { limit };
        if begun.elapsed() > limit {
            return Err(format!(
                "they went on after {:?} (stopped: {stopped})",
                begun.elapsed()
            )
            .into());
        }
        if !stopped {
            agent.ended(&armed.id)?;
        }
    }
    Ok(())
}
