//! A pause as its target sees it: nothing of it moves, nothing that is sent to it is lost, and nobody else's tracee is
//! taken over.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;
use common::{Agent, PATIENCE, Victim, signal};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use squall_experiments::dose::Dose;
use squall_experiments::target::{ProcessSelector, Target};
use squall_experiments::wire::EndCause;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LEASE: Duration = Duration::from_secs(20);
const PAUSE: &str = r#"{"pause": {}}"#;

/// The letters of every thread of a process, as proc_pid_stat(5) has them.
fn states(pid: u32) -> Vec<char> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let state = |entry: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        text.rsplit(") ").next()?.chars().next()
    };
    tasks.filter_map(state).collect()
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: tracing others needs root");
    }
    root
}

/// A shell that says so for each SIGUSR1 it takes.
fn listener() -> (Victim, BufReader<std::process::ChildStdout>) {
    let mut child: Child = Command::new("sh")
        .args([
            "-c",
            "trap 'echo taken' USR1; echo ready; while :; do sleep 0.02; done",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    (Victim(child), said)
}

async fn stop(agent: &mut Agent) -> f64 {
    agent.stop("f").await;
    let ended = agent.ended().await;
    assert_eq!(ended.cause, EndCause::Stopped);
    let Some(Dose::Pause(dose)) = ended.dose else {
        panic!("{ended:?}")
    };
    dose.seconds
}

#[tokio::test]
async fn what_is_sent_meanwhile_arrives_afterwards() {
    if !is_root() {
        return;
    }
    let mut agent = Agent::start().await;
    let (victim, mut said) = listener();
    let armed = agent.arm("f", PAUSE, victim.selector(), LEASE).await;
    assert_eq!(states(victim.pid()), ['t'], "{:?}", armed.evidence);
    signal(victim.pid(), Signal::SIGUSR1);
    let dose = agent
        .expect("a dose", |message| match message {
            squall_experiments::wire::FromAgent::Dosed(dosed) => Some(dosed.dose.clone()),
            _ => None,
        })
        .await;
    assert!(
        matches!(dose, Dose::Pause(ref d) if d.threads == 1 && d.processes == 1 && d.seconds > 0.5),
        "{dose:?}"
    );
    assert_eq!(states(victim.pid()), ['t'], "the signal woke it");
    assert!(stop(&mut agent).await > 0.5);
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "taken\n");
}

#[tokio::test]
async fn a_target_that_was_stopped_is_stopped_again_afterwards_unless_it_was_continued() {
    if !is_root() {
        return;
    }
    let mut agent = Agent::start().await;
    for (before, meanwhile, after) in [
        (Some(Signal::SIGSTOP), None, true),
        (Some(Signal::SIGSTOP), Some(Signal::SIGCONT), false),
        (None, Some(Signal::SIGSTOP), true),
        (None, None, false),
    ] {
        let victim = Victim::new();
        if let Some(before) = before {
            signal(victim.pid(), before);
            until("the stop", || states(victim.pid()) == ['T']);
        }
        let id = format!("f{before:?}{meanwhile:?}");
        agent.arm(&id, PAUSE, victim.selector(), LEASE).await;
        assert_eq!(states(victim.pid()), ['t']);
        if let Some(meanwhile) = meanwhile {
            signal(victim.pid(), meanwhile);
        }
        agent.stop(&id).await;
        agent.ended().await;
        until(&id, || {
            let states = states(victim.pid());
            if after {
                states == ['T']
            } else {
                states == ['S']
            }
        });
    }
}

#[tokio::test]
async fn a_debuggers_process_is_refused_in_words_and_left_to_it() {
    if !is_root() {
        return;
    }
    let mut agent = Agent::start().await;
    let victim = Victim::new();
    let pid = Pid::from_raw(victim.pid().cast_signed());
    ptrace::seize(pid, ptrace::Options::empty()).unwrap();
    let resolved = agent
        .resolve(
            victim.selector(),
            squall_experiments::fault::FaultKind::Pause,
        )
        .await;
    let fault = serde_json::from_str(PAUSE).unwrap();
    let target = resolved.candidates[0].id.clone();
    agent.send_arm("f", fault, target, LEASE).await;
    let reason = agent.refused().await.reason;
    let me = format!("being traced by process {}", std::process::id());
    assert!(reason.contains(&me), "{reason}");
    // It is still ours, and runs.
    ptrace::interrupt(pid).unwrap();
    waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
    ptrace::detach(pid, None).unwrap();
}

/// Says to the test below that it is to be its own victim.
const ROLE: &str = "SQUALL_TEST_THREADS";

/// A program that starts threads, which start threads, all the time, until its input ends.
fn threads_come_and_go() {
    fn generation(left: u32) {
        std::thread::sleep(Duration::from_millis(1));
        if left > 0 {
            std::thread::spawn(move || generation(left - 1));
        }
    }
    std::thread::spawn(|| {
        loop {
            for _ in 0..4 {
                std::thread::spawn(|| generation(3));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    println!("ready");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

#[tokio::test]
async fn threads_that_start_threads_are_all_caught() {
    if std::env::var_os(ROLE).is_some() {
        return threads_come_and_go();
    }
    if !is_root() {
        return;
    }
    let mut agent = Agent::start().await;
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("threads_that_start_threads_are_all_caught")
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut victim = Victim(child);
    let mut lines = BufReader::new(victim.0.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("ready") {}
    for round in 0..5 {
        let id = format!("f{round}");
        let target = Target::Process(ProcessSelector {
            pid: Some(victim.pid()),
            ..Default::default()
        });
        let armed = agent.arm(&id, PAUSE, target, LEASE).await;
        let states = states(victim.pid());
        assert!(
            states.len() > 2 && states.iter().all(|state| matches!(state, 't' | 'Z')),
            "{states:?} {:?}",
            armed.evidence
        );
        agent.stop(&id).await;
        assert_eq!(agent.ended().await.cause, EndCause::Stopped);
    }
}
