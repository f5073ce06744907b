//! The promises about a fault's end, each for every way of holding one: by burner threads, by memory, by a crash loop,
//! by kernel objects of a network namespace, by being a tracer, by an unnamed file that is large or busy, and by sockets.
//!
//! Here the processes are watched; that the victim's own measurements are back is tested with the lab's worlds.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it measured"
)]

mod common;
use common::{Agent, Victim, gone, is_there, signal};
use nix::sys::signal::Signal;
use squall_experiments::ids::FaultId;
use squall_experiments::units::Lease;
use squall_experiments::wire::{EndCause, FromAgent, FromController, Renew, Stop};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(20);
/// Longer than arming takes, also on an emulated machine.
const SHORT: Duration = Duration::from_millis(1500);
/// What the promise says of a kill: gone within 100 ms. A machine that also compiles may take a few times that.
const AT_ONCE: Duration = Duration::from_millis(100 * SLACK as u64);
const SLACK: u32 = 3;
/// So many faults wait for the ends of their leases side by side.
const LANES: usize = 4;

/// What a fault is aimed at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Process,
    /// A network namespace, by a process in it.
    Netns,
    /// A process with a network namespace of its own.
    ProcessApart,
}

/// What an agent in a unit with `Type=notify` and `WatchdogSec=` tells systemd.
#[tokio::test]
async fn systemd_hears_that_the_agent_serves_and_nothing_of_one_that_hangs() {
    const HALF: Duration = Duration::from_millis(200);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let hear = || {
        let mut word = [0; 64];
        let length = socket.recv(&mut word).map_err(|error| error.kind())?;
        Ok::<_, std::io::ErrorKind>(String::from_utf8_lossy(&word[..length]).into_owned())
    };
    let environment = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "400000"),
    ];
    let agent = Agent::start_in(&[], &environment).await;
    assert_eq!(hear().as_deref(), Ok("READY=1"));
    for _ in 0..3 {
        assert_eq!(hear().as_deref(), Ok("WATCHDOG=1"), "though no fault lives");
    }
    signal(agent.child.id(), Signal::SIGSTOP);
    // What was said before it stopped.
    std::thread::sleep(HALF * 2);
    socket.set_nonblocking(true).unwrap();
    while hear().is_ok() {}
    std::thread::sleep(HALF * 3);
    assert_eq!(
        hear(),
        Err(std::io::ErrorKind::WouldBlock),
        "a stopped agent speaks"
    );
    signal(agent.child.id(), Signal::SIGCONT);
    signal(agent.child.id(), Signal::SIGTERM);
    socket.set_nonblocking(false).unwrap();
    while hear().unwrap() != "STOPPING=1" {}
}

/// One fault of each way of holding, and what it is aimed at.
const FAULTS: [(&str, At); 12] = [
    (r#"{"cpu": {"load": "10%"}}"#, At::Process),
    (
        r#"{"memory": {"size": "32MiB", "reserve": "0B"}}"#,
        At::Process,
    ),
    (
        r#"{"kill": {"signal": "USR1", "every": "50ms"}}"#,
        At::Process,
    ),
    (r#"{"delay": {"time": "20ms"}}"#, At::Netns),
    (r#"{"pause": {}}"#, At::Process),
    (
        r#"{"fill": {"path": "/dev/shm", "goal": {"size": "4MiB"}, "reserve": "0B"}}"#,
        At::Process,
    ),
    (
        r#"{"io": {"path": "/dev/shm", "write": "20/s", "file": "1MiB"}}"#,
        At::Process,
    ),
    (r#"{"exhaust": {"what": "ports"}}"#, At::ProcessApart),
    (r#"{"dns": {"effect": "nxdomain"}}"#, At::Netns),
    (
        r#"{"http": {"effect": {"abort": 503}, "filter": {"to": {"ports": ["8080"]}}}}"#,
        At::Netns,
    ),
    (r#"{"tcp": {"effect": "stall"}}"#, At::Netns),
    (r#"{"fds": {}}"#, At::Process),
];

/// A policy that allows what is forbidden by default.
fn allowing() -> tempfile::NamedTempFile {
    let policy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&policy, "allow: [ fds ]").unwrap();
    policy
}

/// Runs a test body once per fault, with an agent and a victim of its own.
macro_rules! for_each_fault {
    (|$agent:ident, $victim:ident, $fault:ident, $target:ident| $body:block) => {
        for_each_fault!(FAULTS, |$agent, $victim, $fault, $target| $body)
    };
    ($faults:expr, |$agent:ident, $victim:ident, $fault:ident, $target:ident| $body:block) => {
        for ($fault, at) in $faults {
            eprintln!("-- {}", $fault);
            let $victim = if at == At::Process {
                Victim::deaf()
            } else {
                Victim::in_netns()
            };
            let $target = if at == At::Netns {
                $victim.netns()
            } else {
                $victim.selector()
            };
            let policy = allowing();
            #[allow(unused_mut)]
            let mut $agent =
                Agent::start_with(&["--policy", policy.path().to_str().unwrap()]).await;
            $body
        }
    };
}

#[tokio::test]
async fn a_killed_holder_is_the_end_and_is_told() {
    for_each_fault!(|agent, victim, fault, target| {
        let armed = agent.arm("f", fault, target, LONG).await;
        signal(armed.holder, Signal::SIGKILL);
        let ended = agent.ended().await;
        assert!(
            matches!(ended.cause, EndCause::HolderKilled(_)),
            "{ended:?}"
        );
        assert!(!is_there(armed.holder));
    });
}

#[tokio::test]
async fn a_killed_agent_takes_its_faults_along() {
    for_each_fault!(|agent, victim, fault, target| {
        let armed = agent.arm("f", fault, target, LONG).await;
        signal(agent.hello.pid, Signal::SIGKILL);
        let took = gone(armed.holder, "the holder");
        assert!(took < AT_ONCE, "{took:?}");
    });
}

#[tokio::test]
async fn a_stopped_agent_cannot_stretch_a_lease() {
    for_each_fault!(|agent, victim, fault, target| {
        let armed = agent.arm("f", fault, target, SHORT).await;
        let begun = Instant::now();
        signal(agent.hello.pid, Signal::SIGSTOP);
        gone_or_zombie(armed.holder);
        let took = begun.elapsed();
        assert!(took < SHORT + AT_ONCE, "{took:?}");
        signal(agent.hello.pid, Signal::SIGCONT);
        assert_eq!(agent.ended().await.cause, EndCause::LeaseEnded);
    });
}

#[tokio::test]
async fn a_stopped_holder_cannot_stretch_a_lease_even_with_its_agent_stopped() {
    for_each_fault!(|agent, victim, fault, target| {
        let armed = agent.arm("f", fault, target, SHORT).await;
        let begun = Instant::now();
        signal(agent.hello.pid, Signal::SIGSTOP);
        signal(armed.holder, Signal::SIGSTOP);
        gone_or_zombie(armed.holder);
        let took = begun.elapsed();
        assert!(took < SHORT + AT_ONCE, "{took:?}");
        signal(agent.hello.pid, Signal::SIGCONT);
        assert_eq!(agent.ended().await.cause, EndCause::LeaseEnded);
    });
}

#[tokio::test]
async fn a_hung_holder_is_killed_when_it_is_told_to_stop() {
    for_each_fault!(|agent, victim, fault, target| {
        let armed = agent.arm("f", fault, target, LONG).await;
        signal(armed.holder, Signal::SIGSTOP);
        agent.stop("f").await;
        let ended = agent.ended().await;
        assert_eq!(ended.cause, EndCause::Stopped);
        assert!(!is_there(armed.holder));
        assert!(ended.took_us.unwrap() < 1_000_000, "{ended:?}");
    });
}

/// Mostly waiting, so several faults wait side by side.
#[test]
fn without_a_word_it_ends_with_its_lease_and_with_one_it_stays() {
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(leases(FAULTS.into_iter().skip(lane).step_by(LANES)));
            });
        }
    });
}

async fn leases(faults: impl Iterator<Item = (&'static str, At)>) {
    for_each_fault!(faults, |agent, victim, fault, target| {
        let armed = agent.arm("f", fault, target, SHORT).await;
        let begun = Instant::now();
        while begun.elapsed() < 3 * SHORT {
            let renew = Renew {
                faults: vec![FaultId::from("f")],
                lease: Lease::clamped(SHORT),
            };
            agent.say(FromController::Renew(renew)).await;
            tokio::time::sleep(SHORT / 4).await;
            assert!(is_there(armed.holder), "ended though it was renewed");
        }
        let last = Instant::now();
        assert_eq!(agent.ended().await.cause, EndCause::LeaseEnded);
        let took = last.elapsed();
        assert!(took > SHORT / 2 && took < SHORT + AT_ONCE, "{took:?}");
    });
}

#[tokio::test]
async fn a_lost_link_ends_everything_and_the_agent() {
    for_each_fault!(|agent, victim, fault, target| {
        let armed = agent.arm("f", fault, target, LONG).await;
        drop(agent.link.take());
        let took = gone(armed.holder, "the holder");
        assert!(took < AT_ONCE, "{took:?}");
        gone(agent.hello.pid, "the agent");
    });
}

#[tokio::test]
async fn a_terminated_agent_ends_its_faults_in_order() {
    for_each_fault!(|agent, victim, fault, target| {
        let armed = agent.arm("f", fault, target, LONG).await;
        signal(agent.hello.pid, Signal::SIGTERM);
        assert_eq!(agent.ended().await.cause, EndCause::Stopped);
        assert!(!is_there(armed.holder));
        gone(agent.hello.pid, "the agent");
    });
}

#[tokio::test]
async fn a_fault_does_not_outlive_its_target() {
    for_each_fault!(|agent, victim, fault, target| {
        let armed = agent.arm("f", fault, target, LONG).await;
        drop(victim);
        if fault.contains("kill") {
            // A crash loop waits for its target to come back.
            agent.stop("f").await;
            assert_eq!(agent.ended().await.cause, EndCause::Stopped);
        } else {
            assert_eq!(agent.ended().await.cause, EndCause::TargetGone);
        }
        assert!(!is_there(armed.holder));
    });
}

#[tokio::test]
async fn saying_it_twice_is_saying_it_once() {
    for_each_fault!(|agent, victim, fault, target| {
        let first = agent.arm("f", fault, target.clone(), LONG).await;
        let again = agent.arm("f", fault, target.clone(), LONG).await;
        assert_eq!(first.holder, again.holder);
        agent.stop("f").await;
        let ended = agent.ended().await;
        agent.stop("f").await;
        assert_eq!(agent.ended().await, ended);
        let resolved = agent
            .resolve(target, squall_experiments::fault::FaultKind::Kill)
            .await;
        let id = resolved.candidates[0].id.clone();
        agent
            .send_arm("f", serde_json::from_str(fault).unwrap(), id, LONG)
            .await;
        assert_eq!(agent.ended().await, ended);
    });
}

#[tokio::test]
async fn a_stop_overtakes_an_arming() {
    for_each_fault!(|agent, victim, fault, target| {
        let resolved = agent
            .resolve(target, squall_experiments::fault::FaultKind::Kill)
            .await;
        let target = &resolved.candidates[0].id;
        for number in 0..10 {
            let id = format!("f{number}");
            agent
                .send_arm(
                    &id,
                    serde_json::from_str(fault).unwrap(),
                    target.clone(),
                    LONG,
                )
                .await;
            agent.say(FromController::Stop(Stop::All)).await;
            let begun = Instant::now();
            loop {
                match agent.hear().await {
                    FromAgent::Ended(_) | FromAgent::Refused(_) => break,
                    FromAgent::Armed(_) | FromAgent::Dosed(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            // Below the limit of an arming, which is what a stop that waits would wait for.
            assert!(begun.elapsed() < Duration::from_secs(4));
        }
        assert_eq!(children(agent.hello.pid), Vec::<u32>::new());
    });
}

fn gone_or_zombie(pid: u32) {
    gone(pid, "the holder");
}

fn children(pid: u32) -> Vec<u32> {
    let text =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace()
        .map(|pid| pid.parse().unwrap())
        // The watchdog stays as long as its agent.
        .filter(|pid| comm(*pid) != "squall-watchdog")
        .collect()
}

fn comm(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    text.trim().to_owned()
}
