//! Faults that are processes, where their cgroup has a word in it: quotas, reserves, groups as targets. How exact their
//! doses are is measured with the lab's worlds.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it measured"
)]

mod common;
use common::group::Group;
use common::{Agent, Victim, gone, is_there};
use squall_experiments::dose::Dose;
use squall_experiments::target::{ProcessSelector, Target};
use squall_experiments::wire::EndCause;
use std::process::Command;
use std::time::{Duration, Instant};

const LEASE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn more_than_the_quota_is_refused_in_words() {
    let group = Group::new("cpu-over");
    group.quota(0.2);
    let victim = Victim::new();
    group.add(victim.pid());
    let mut agent = Agent::start().await;
    let resolved = agent
        .resolve(victim.selector(), squall_experiments::fault::FaultKind::Cpu)
        .await;
    let fault = serde_json::from_str(r#"{"cpu": {"load": "50%"}}"#).unwrap();
    agent
        .send_arm("f", fault, resolved.candidates[0].id.clone(), LEASE)
        .await;
    let refused = agent.refused().await;
    assert!(refused.reason.contains("quota"), "{refused:?}");
}

#[tokio::test]
async fn memory_grows_at_its_rate_and_stays_out_of_the_reserve() {
    let group = Group::new("memory-rate");
    group.limit(100 << 20);
    let victim = Victim::new();
    group.add(victim.pid());
    let mut agent = Agent::start().await;
    let fault = r#"{"memory": {"size": "60MiB", "rate": "10MiB/s", "reserve": "10MiB"}}"#;
    agent.arm("f", fault, victim.selector(), LEASE).await;
    let (begun, before) = (Instant::now(), group.memory());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let grown = group.memory() - before;
    let rate = grown as f64 / begun.elapsed().as_secs_f64() / f64::from(1 << 20);
    eprintln!("grows at {rate:.2} MiB/s");
    assert!((rate - 10.0).abs() < 1.0, "{rate}");
    let resolved = agent
        .resolve(
            victim.selector(),
            squall_experiments::fault::FaultKind::Memory,
        )
        .await;
    let too_much =
        serde_json::from_str(r#"{"memory": {"size": "95MiB", "reserve": "10MiB"}}"#).unwrap();
    agent
        .send_arm("g", too_much, resolved.candidates[0].id.clone(), LEASE)
        .await;
    assert!(agent.refused().await.reason.contains("reserve"));
}

#[tokio::test]
async fn a_cgroup_is_a_target_and_ends_with_its_last_process() {
    let group = Group::new("group");
    let victim = Victim::new();
    group.add(victim.pid());
    let mut agent = Agent::start().await;
    let target = Target::Cgroup(group.path());
    let armed = agent
        .arm("f", r#"{"cpu": {"load": "5%"}}"#, target.clone(), LEASE)
        .await;
    drop(victim);
    assert_eq!(agent.ended().await.cause, EndCause::TargetGone);
    gone(armed.holder, "the holder");
    let others = [Victim::new(), Victim::new()];
    others.iter().for_each(|v| group.add(v.pid()));
    agent.arm("g", r#"{"kill": {}}"#, target, LEASE).await;
    let ended = agent.ended().await;
    assert!(
        matches!(ended.dose, Some(Dose::Kill(ref d)) if d.sent == 2 && d.ended == 2),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_crash_loop_hits_the_replacement_and_leaves_the_sibling_alone() {
    let name = format!("6{:05}", std::process::id() % 100_000);
    let start = || Victim(Command::new("sleep").arg(&name).spawn().unwrap());
    let (first, sibling) = (start(), start());
    let mut agent = Agent::start().await;
    let target = Target::Process(ProcessSelector {
        command: Some(format!("^sleep {name}$")),
        ..Default::default()
    });
    let resolved = agent
        .resolve(target, squall_experiments::fault::FaultKind::Kill)
        .await;
    assert_eq!(resolved.candidates.len(), 2);
    let id = resolved
        .candidates
        .iter()
        .find(|c| c.pid == Some(first.pid()))
        .unwrap()
        .id
        .clone();
    let fault = serde_json::from_str(r#"{"kill": {"every": "50ms"}}"#).unwrap();
    agent.send_arm("f", fault, id, LEASE).await;
    agent.armed().await;
    gone(first.pid(), "the target");
    // Some turns of the loop with nobody there but the sibling.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(is_there(sibling.pid()), "the sibling was hit");
    for _ in 0..3 {
        let replacement = start();
        gone(replacement.pid(), "its replacement");
    }
    assert!(is_there(sibling.pid()), "the sibling was hit");
    // A process that takes longer than the interval to die is signalled again.
    agent.stop("f").await;
    let ended = agent.ended().await;
    assert!(
        matches!(ended.dose, Some(Dose::Kill(ref d)) if d.sent >= 4 && d.ended == 4),
        "{ended:?}"
    );
}
