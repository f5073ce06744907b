//! Faults that come and go: really there while on, really absent while off, and gone with whatever holds them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it measured"
)]

mod common;
use common::{Agent, Victim, gone, is_there, signal};
use nix::sys::signal::Signal::SIGKILL;
use squall_experiments::dose::{Dose, PulsedDose};
use squall_experiments::pulse::Pulse;
use squall_experiments::units::Hold;
use squall_experiments::wire::{EndCause, FromAgent};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const LEASE: Duration = Duration::from_secs(10);
const DROP: &str = r#"{"partition": {"mode": "drop", "filter": {"direction": "ingress"}}}"#;

fn pulse(on_ms: u64, off_ms: u64) -> Pulse {
    let of = |ms| Hold::clamped(Duration::from_millis(ms));
    Pulse {
        on: of(on_ms),
        off: of(off_ms),
    }
}

fn pulsed(dose: Option<Dose>) -> PulsedDose {
    match dose {
        Some(Dose::Pulsed(dose)) => dose,
        other => panic!("no pulses: {other:?}"),
    }
}

/// The pids of a process's children.
fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let text = text.unwrap_or_default();
    text.split_ascii_whitespace()
        .map(|p| p.parse().unwrap())
        .collect()
}

/// Sends a datagram over the victim's loopback every few milliseconds, and says which arrived, with their moments.
fn stream(netns_of: u32, lasts: Duration) -> std::thread::JoinHandle<Vec<(Duration, bool)>> {
    std::thread::spawn(move || {
        let netns = std::fs::File::open(format!("/proc/{netns_of}/ns/net")).unwrap();
        nix::sched::setns(netns.as_fd(), nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:9").unwrap();
        socket.connect("127.0.0.1:9").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(5)))
            .unwrap();
        let begun = Instant::now();
        let mut seen = Vec::new();
        for number in 0_u32.. {
            let at = begun.elapsed();
            if at >= lasts {
                break;
            }
            socket.send(&number.to_le_bytes()).unwrap();
            let mut bytes = [0; 4];
            let arrived = loop {
                match socket.recv(&mut bytes) {
                    Ok(4) if u32::from_le_bytes(bytes) == number => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            };
            seen.push((at, arrived));
            std::thread::sleep(Duration::from_millis(5));
        }
        seen
    })
}

/// Neighbouring probes that fared alike, as stretches: whether they arrived, and how long it was until one fared otherwise.
fn stretches(seen: &[(Duration, bool)]) -> Vec<(bool, Duration)> {
    let mut all: Vec<(bool, Duration)> = Vec::new();
    for (at, arrived) in seen {
        if all.last().is_none_or(|(last, _)| last != arrived) {
            all.push((*arrived, *at));
        }
    }
    let ends = all.iter().skip(1).map(|(_, from)| *from);
    let ends: Vec<Duration> = ends.chain(seen.last().map(|(at, _)| *at)).collect();
    let lasted = all.iter().zip(ends);
    lasted
        .map(|((arrived, from), to)| (*arrived, to - *from))
        .collect()
}

#[tokio::test]
async fn packets_vanish_while_it_is_on_and_pass_while_it_is_off() {
    let mut agent = Agent::start().await;
    let victim = Victim::in_netns();
    let armed = agent
        .arm_pulse(DROP, victim.netns(), LEASE, pulse(500, 300))
        .await;
    let seen = stream(victim.pid(), Duration::from_millis(2600));
    let mut told = Vec::new();
    while !seen.is_finished() {
        if let FromAgent::Dosed(dosed) = agent.hear().await {
            told.push(pulsed(Some(dosed.dose)).is_on);
        }
    }
    agent.stop("pulse").await;
    let ended = agent.ended().await;
    let seen = seen.join().unwrap();
    let stretches = stretches(&seen);
    eprintln!("{stretches:?}");
    eprintln!("{:?}", ended.dose);
    // The first may have begun in the middle, the last may end there.
    let inner = &stretches[1..stretches.len() - 1];
    assert!(inner.len() >= 4, "{stretches:?}");
    for (arrived, lasted) in inner {
        let (least, most) = if *arrived { (280, 480) } else { (480, 680) };
        let lasted = lasted.as_millis();
        assert!((least..most).contains(&lasted), "{stretches:?}");
    }
    let dose = pulsed(ended.dose);
    assert_eq!(ended.cause, EndCause::Stopped);
    let dropped = seen.iter().filter(|(_, arrived)| !arrived).count() as u64;
    assert!(
        matches!(dose.of.as_deref(), Some(Dose::Network(d)) if d.dropped >= dropped && d.dropped <= dropped + 2),
        "{dropped} did not arrive: {dose:?}"
    );
    assert!(
        dose.times_on >= 3 && dose.times_off + 1 >= dose.times_on,
        "{dose:?}"
    );
    assert!(
        told.windows(2).filter(|two| two[0] != two[1]).count() >= 4,
        "{told:?}"
    );
    gone(armed.holder, "the holder");
}

#[tokio::test]
async fn threads_stand_still_while_it_is_on_and_run_while_it_is_off() {
    let mut agent = Agent::start().await;
    let victim = Victim::busy();
    let armed = agent
        .arm_pulse(
            r#"{"pause": {}}"#,
            victim.selector(),
            LEASE,
            pulse(300, 300),
        )
        .await;
    let begun = Instant::now();
    let (mut ran, mut beats) = (Vec::new(), std::collections::BTreeSet::new());
    while begun.elapsed() < Duration::from_millis(2000) {
        let before = victim.cpu_ms();
        tokio::time::sleep(Duration::from_millis(50)).await;
        ran.push((begun.elapsed(), victim.cpu_ms() > before));
        beats.extend(children(armed.holder));
    }
    agent.stop("pulse").await;
    let dose = pulsed(agent.ended().await.dose);
    let stretches = stretches(&ran);
    eprintln!("{stretches:?} {dose:?}");
    assert!(stretches.len() >= 5, "{stretches:?}");
    assert!(
        beats.len() >= 3,
        "each pulse has a holder of its own: {beats:?}"
    );
    assert!(dose.times_on >= 3, "{dose:?}");
    let on = dose.seconds_on / f64::from(dose.times_on);
    assert!((0.2..0.5).contains(&on), "{dose:?}");
    assert!(
        matches!(dose.of.as_deref(), Some(Dose::Pause(d)) if d.seconds > 0.5),
        "{dose:?}"
    );
}

#[tokio::test]
async fn whatever_is_killed_takes_the_pulse_with_it() {
    let mut agent = Agent::start().await;
    let victim = Victim::in_netns();
    for pattern_is_killed in [true, false] {
        let armed = agent
            .arm_pulse(DROP, victim.netns(), LEASE, pulse(20_000, 1_000))
            .await;
        let beat = children(armed.holder)[0];
        signal(
            if pattern_is_killed {
                armed.holder
            } else {
                beat
            },
            SIGKILL,
        );
        let ended = agent.ended().await;
        assert!(
            matches!(ended.cause, EndCause::HolderKilled(_)),
            "{ended:?}"
        );
        assert!(!is_there(beat) && !is_there(armed.holder));
        let seen = stream(victim.pid(), Duration::from_millis(50))
            .join()
            .unwrap();
        assert!(seen.iter().all(|(_, arrived)| *arrived), "{seen:?}");
        // The name is free again only for another agent.
        agent = Agent::start().await;
    }
}

#[tokio::test]
async fn a_pattern_ends_with_its_lease_and_with_its_target() {
    let mut agent = Agent::start().await;
    let mut victim = Victim::in_netns();
    let lease = Duration::from_millis(800);
    let armed = agent
        .arm_pulse(DROP, victim.netns(), lease, pulse(200, 5_000))
        .await;
    // In the middle of an off.
    assert_eq!(agent.ended().await.cause, EndCause::LeaseEnded);
    gone(armed.holder, "the holder");
    let mut agent = Agent::start().await;
    agent
        .arm_pulse(DROP, victim.netns(), LEASE, pulse(100, 20_000))
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    victim.0.kill().unwrap();
    victim.0.wait().unwrap();
    let ended = agent.ended().await;
    assert_eq!(ended.cause, EndCause::TargetGone);
    assert_eq!(pulsed(ended.dose).times_on, 1);
}
