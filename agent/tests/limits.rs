//! Faults that use up what there is a limited amount of, looked at from where the victim would meet the limit.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod common;
use common::group::Group;
use common::{Agent, PATIENCE, Victim, gone, signal};
use nix::sys::signal::Signal;
use squall_experiments::dose::Dose;
use squall_experiments::fault::FaultKind;
use squall_experiments::target::Target;
use squall_experiments::wire::FromAgent;
use std::path::Path;
use std::time::{Duration, Instant};

const LEASE: Duration = Duration::from_secs(20);
const MIB: u64 = 1 << 20;

fn skip() -> bool {
    let skip = !nix::unistd::geteuid().is_root();
    if skip {
        eprintln!("skipped: others' namespaces and cgroups need root");
    }
    skip
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes free on the file system.
fn free(at: &Path) -> u64 {
    let all = nix::sys::statvfs::statvfs(at).unwrap();
    all.blocks_available() * all.fragment_size()
}

/// The first dose that `full` takes.
async fn dose(agent: &mut Agent, full: impl Fn(&Dose) -> bool) -> Dose {
    agent
        .expect("a full dose", |message| match message {
            FromAgent::Dosed(dosed) if full(&dosed.dose) => Some(dosed.dose.clone()),
            _ => None,
        })
        .await
}

async fn refusal(agent: &mut Agent, fault: &str, target: Target) -> String {
    let fault: squall_experiments::fault::Fault = serde_json::from_str(fault).unwrap();
    let resolved = agent.resolve(target, fault.kind()).await;
    let target = resolved.candidates[0].id.clone();
    // What was refused once stays refused under its name.
    let id = format!("refused {fault}");
    agent.send_arm(&id, fault, target, LEASE).await;
    agent.refused().await.reason
}

#[tokio::test]
async fn a_file_system_is_filled_where_the_target_sees_it_and_empty_again_when_the_holder_dies() {
    if skip() {
        return;
    }
    let victim = Victim::on_disk();
    let tmp = victim.path("/tmp");
    let mut agent = Agent::start().await;
    let fault = r#"{"fill": {"path": "/tmp", "goal": {"leave": "2MiB"}}}"#;
    let armed = agent.arm("f", fault, victim.selector(), LEASE).await;
    until("the fill", || free(&tmp) == 2 * MIB);
    let full = std::fs::write(tmp.join("more"), vec![1; 3 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    std::fs::remove_file(tmp.join("more")).unwrap();
    // The agent's filter of system calls, and the holder's own.
    let status = std::fs::read_to_string(format!("/proc/{}/status", armed.holder)).unwrap();
    let filters = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp_filters:"));
    let both = |number: &str| number.trim().parse::<u32>().is_ok_and(|number| number >= 2);
    assert!(filters.is_none_or(both), "{status}");
    let said = dose(
        &mut agent,
        |dose| matches!(dose, Dose::Fill(dose) if dose.held_bytes == 62 * MIB && dose.free_bytes == 2 * MIB),
    );
    said.await;
    assert!(
        std::fs::read_dir(&tmp).unwrap().next().is_none(),
        "it has a name"
    );
    signal(armed.holder, Signal::SIGKILL);
    gone(armed.holder, "the holder");
    until("all of the room", || free(&tmp) == 64 * MIB);
}

#[tokio::test]
async fn a_fill_counts_as_df_does_and_yields_to_those_who_need_its_reserve() {
    if skip() {
        return;
    }
    let victim = Victim::on_disk();
    let tmp = victim.path("/tmp");
    std::fs::write(tmp.join("own"), vec![1; 8 << 20]).unwrap();
    let mut agent = Agent::start().await;
    let fault = r#"{"fill": {"path": "/tmp", "goal": {"to": "75%"}, "reserve": "16MiB"}}"#;
    agent.arm("f", fault, victim.selector(), LEASE).await;
    until("the fill", || free(&tmp) == 16 * MIB);
    std::fs::write(tmp.join("more"), vec![1; 12 << 20]).unwrap();
    let said = dose(&mut agent, |dose| {
        matches!(dose, Dose::Fill(_)) && dose.back_off().is_some_and(|back| back.times == 1)
    });
    said.await;
    assert_eq!(free(&tmp), 16 * MIB);
    let reason = refusal(&mut agent, fault, victim.selector()).await;
    assert!(reason.contains("that full already"), "{reason}");
    let fault = r#"{"fill": {"path": "/tmp", "goal": {"size": "60MiB"}, "reserve": "0B"}}"#;
    let reason = refusal(&mut agent, fault, victim.selector()).await;
    assert!(reason.contains("ask for less"), "{reason}");
    let fault = r#"{"fill": {"path": "/nowhere", "goal": {"size": "60MiB"}}}"#;
    let reason = refusal(&mut agent, fault, victim.selector()).await;
    assert!(reason.contains("no folder /nowhere"), "{reason}");
}

#[tokio::test]
async fn reads_writes_and_syncs_are_the_kernels_to_count() {
    if skip() {
        return;
    }
    let victim = Victim::deaf();
    let mut agent = Agent::start().await;
    let fault = r#"{"io": {"path": "/var/tmp", "read": "100/s", "write": "2MiB/s", "sync": "20/s", "file": "1MiB"}}"#;
    let armed = agent.arm("f", fault, victim.selector(), LEASE).await;
    let count = |key: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/io", armed.holder)).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    let (begun, before) = (Instant::now(), (count("syscr:"), count("syscw:")));
    let told = dose(
        &mut agent,
        |dose| matches!(dose, Dose::Io(dose) if dose.reads >= 200 && dose.writes >= 64 && dose.syncs >= 40),
    );
    let Dose::Io(told) = told.await else {
        panic!("not a dose of I/O")
    };
    let length = begun.elapsed().as_secs_f64();
    let (reads, writes) = (count("syscr:") - before.0, count("syscw:") - before.1);
    assert_eq!(
        (told.read_bytes, told.asked_per_second),
        (told.reads * 4096, 152.0)
    );
    // The holder itself reads and writes little else; a second of backlog is caught up on.
    assert!(
        reads as f64 <= (length + 1.5) * 100.0 + 30.0,
        "{reads} in {length}"
    );
    assert!(
        writes as f64 <= (length + 1.5) * 52.0 + 30.0,
        "{writes} in {length}"
    );
    assert!(writes >= 64 && reads >= 150, "{reads} {writes} {told:?}");
    assert!(!armed.evidence.read_back.is_empty());
}

/// A node on which work waits for a processor most of the time, and which minds that.
#[tokio::test]
async fn a_load_gives_way_to_a_node_that_is_short() {
    if skip() || std::fs::read("/proc/pressure/cpu").is_err() {
        return eprintln!("skipped: this kernel tells no pressure, or not to this user");
    }
    let policy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&policy, "limits: { pressure: { cpu: 5% } }").unwrap();
    let over = std::sync::Arc::new(());
    for _ in 0..=std::thread::available_parallelism().unwrap().get() {
        let told = std::sync::Arc::downgrade(&over);
        std::thread::spawn(move || while told.strong_count() > 0 {});
    }
    let victim = Victim::deaf();
    let mut agent = Agent::start_with(&["--policy", policy.path().to_str().unwrap()]).await;
    let fault = r#"{"cpu": {"load": "100%"}}"#;
    agent.arm("f", fault, victim.selector(), LEASE).await;
    let gave_way = |dose: &Dose| dose.back_off().is_some_and(|back| back.times >= 3);
    let told = dose(&mut agent, gave_way).await;
    let back = told.back_off().unwrap();
    assert!(back.share < 0.75, "{back:?}");
    assert!(
        back.why.contains("the node's cpu pressure (some) was"),
        "{back:?}"
    );
    // Below its fair part among those that spin: a load that does not go down keeps that, and its share with it.
    let lowered = |dose: &Dose| dose.back_off().is_some_and(|back| back.share < 0.2);
    dose(&mut agent, lowered).await;
}

#[tokio::test]
async fn processes_are_used_up_to_the_groups_limit_and_none_is_left_over() {
    if skip() {
        return;
    }
    let group = Group::new("pids");
    group.limit_pids(60);
    let victim = Victim::new();
    group.add(victim.pid());
    let mut agent = Agent::start().await;
    let fault = r#"{"exhaust": {"what": "pids", "goal": {"leave": 7}}}"#;
    let armed = agent.arm("f", fault, victim.selector(), LEASE).await;
    until("the exhaustion", || group.pids() == 53);
    let told = dose(
        &mut agent,
        |dose| matches!(dose, Dose::Exhaust(dose) if dose.left == 7 && dose.limit == 60),
    );
    told.await;
    signal(armed.holder, Signal::SIGKILL);
    until("the end of all of them", || group.pids() == 1);
    agent.ended().await;
    group.limit_pids(1_000_000);
    let reason = refusal(&mut agent, fault, victim.selector()).await;
    assert!(reason.contains("one holder can hold"), "{reason}");
}

#[tokio::test]
async fn inodes_are_used_up_but_for_the_rest() {
    if skip() {
        return;
    }
    let victim = Victim::on_disk();
    let tmp = victim.path("/tmp");
    let mut agent = Agent::start().await;
    let fault = r#"{"exhaust": {"what": "inodes", "path": "/tmp", "goal": {"leave": 3}}}"#;
    agent.arm("f", fault, victim.selector(), LEASE).await;
    let told = dose(
        &mut agent,
        |dose| matches!(dose, Dose::Exhaust(dose) if dose.left == 3 && dose.held > 400),
    );
    told.await;
    let make = |number: u32| std::fs::write(tmp.join(number.to_string()), []);
    (0..3).for_each(|number| make(number).unwrap());
    let full = make(3).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    agent.stop("f").await;
    agent.ended().await;
    make(3).unwrap();
}

/// File pages are charged to the target's cgroup, up to the share of its limit, and gone with their holder.
#[tokio::test]
async fn page_cache_is_taken_up_to_the_share_and_gone_with_its_holder() {
    const LIMIT: u64 = 64 * MIB;
    if skip() {
        return;
    }
    // A virtual machine that lives in memory has no disk whose files could be kept there.
    let disk = Path::new("/var/tmp");
    let kind = nix::sys::statfs::statfs(disk).unwrap().filesystem_type();
    let ramfs = nix::sys::statfs::FsType(0x8584_58f6);
    if kind == nix::sys::statfs::TMPFS_MAGIC || kind == ramfs {
        return eprintln!("skipped: {} is memory", disk.display());
    }
    let group = Group::new("cache");
    group.limit(LIMIT);
    let victim = Victim::deaf();
    group.add(victim.pid());
    let before = group.memory();
    let mut agent = Agent::start().await;
    let fault = r#"{"exhaust": {"what": "pageCache", "path": "/var/tmp", "goal": {"to": "75%"}}}"#;
    let armed = agent.arm("f", fault, victim.selector(), LEASE).await;
    let near = |bytes: u64| bytes.abs_diff(LIMIT / 4 * 3) < 3 * MIB;
    until("the cache", || near(group.memory()));
    let told = dose(
        &mut agent,
        |dose| matches!(dose, Dose::Exhaust(dose) if dose.held > 0 && near(dose.limit * 4096 - dose.left * 4096)),
    );
    told.await;
    signal(armed.holder, Signal::SIGKILL);
    until("the memory's return", || group.memory() < before + 3 * MIB);
    agent.ended().await;
    let fault = r#"{"exhaust": {"what": "pageCache", "path": "/dev/shm", "goal": {"to": "75%"}}}"#;
    let reason = refusal(&mut agent, fault, victim.selector()).await;
    assert!(reason.contains("memory itself"), "{reason}");
}

#[tokio::test]
async fn what_cannot_be_exhausted_is_said() {
    if skip() {
        return;
    }
    let victim = Victim::new();
    let mut agent = Agent::start().await;
    let ports = r#"{"exhaust": {"what": "ports"}}"#;
    let reason = refusal(&mut agent, ports, victim.selector()).await;
    assert!(reason.contains("say `host`"), "{reason}");
    let resolved = agent
        .resolve(Target::Host(Default::default()), FaultKind::Exhaust)
        .await;
    assert_eq!(resolved.candidates.len(), 1);
    let pids = r#"{"exhaust": {"what": "pids"}}"#;
    let reason = refusal(&mut agent, pids, Target::Host(Default::default())).await;
    assert!(reason.contains("no limit of processes"), "{reason}");
}
