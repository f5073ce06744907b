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
use std::time::Duration;

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
    agent.stop("f").await;
    let ended = agent.ended().await;
    assert_eq!(ended.cause, EndCause::Stopped);
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
