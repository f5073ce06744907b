//! Faults that are processes, armed and stopped over the real wire.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it measured"
)]

mod common;
use common::{Agent, Victim, gone, is_there};
use squall_experiments::dose::Dose;
use squall_experiments::wire::EndCause;
use std::time::{Duration, Instant};

const LEASE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn cpu_is_armed_and_stopped() {
    let mut agent = Agent::start().await;
    let victim = Victim::new();
    let armed = agent
        .arm("f", r#"{"cpu": {"load": "20%"}}"#, victim.selector(), LEASE)
        .await;
    assert!(is_there(armed.holder));
    eprintln!("armed in {} us: {:?}", armed.took_us, armed.evidence);
    let in_force = Instant::now();
    tokio::time::sleep(Duration::from_millis(200)).await;
    agent.stop("f").await;
    let ended = agent.ended().await;
    assert_eq!(ended.cause, EndCause::Stopped);
    // The agent knew of it a little before the word of it was here.
    let lasted = Duration::from_micros(ended.lasted_us.unwrap());
    let most = in_force.elapsed() + Duration::from_secs(1);
    assert!(
        lasted >= Duration::from_millis(200) && lasted < most,
        "{lasted:?}"
    );
    assert!(
        matches!(ended.dose, Some(Dose::Cpu(ref dose)) if dose.seconds > 0.0),
        "{ended:?}"
    );
    gone(armed.holder, "the holder");
    eprintln!("stopped in {:?} us", ended.took_us);
}

#[tokio::test]
async fn a_kill_happens_once_and_is_done() {
    let mut agent = Agent::start().await;
    let victim = Victim::new();
    agent
        .arm(
            "f",
            r#"{"kill": {"signal": "TERM"}}"#,
            victim.selector(),
            LEASE,
        )
        .await;
    gone(victim.pid(), "the victim");
    let ended = agent.ended().await;
    assert_eq!(ended.cause, EndCause::Done);
    assert!(
        matches!(ended.dose, Some(Dose::Kill(ref dose)) if dose.sent == 1 && dose.ended == 1),
        "{ended:?}"
    );
}

/// Packets that wait for a holder are late when it is: it goes before ordinary processes, though it may not do so otherwise.
#[tokio::test]
async fn a_holder_of_packets_goes_before_ordinary_processes() {
    use rustix::thread::{CapabilitySet, capabilities};
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: others' namespaces need root");
    }
    let mine = capabilities(None).unwrap().effective;
    if !mine.contains(CapabilitySet::SYS_RESOURCE) {
        return eprintln!("skipped: there is no CAP_SYS_RESOURCE to be had here");
    }
    let mut agent = Agent::start().await;
    let victim = Victim::in_netns();
    let fault = r#"{"delay": {"time": "20ms"}}"#;
    let armed = agent.arm_by_queue(fault, victim.netns()).await;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", armed.holder)).unwrap();
    // Behind the name in brackets comes the third field; niceness is the nineteenth (proc_pid_stat(5)).
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    assert_eq!(fields.split(' ').nth(16), Some("-15"), "{stat}");
    let warnings = &armed.evidence.warnings;
    assert!(
        !warnings.iter().any(|w| w.contains("priority")),
        "{warnings:?}"
    );
    agent.stop("queue").await;
    assert_eq!(agent.ended().await.cause, EndCause::Stopped);
}
