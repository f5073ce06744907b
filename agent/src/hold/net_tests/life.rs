//! What a killed holder takes with it, and how quickly.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::world::{NAMED, World, arriving, shaping_means};
use crate::hold::{names, network, sweep};
use crate::kernel::net::links;
use crate::kernel::net::netlink::{Netlink, Protocol};
use crate::kernel::net::netns::Netns;
use crate::kernel::net::nft::{Family, tables};
use squall_experiments::capability::Means;
use squall_experiments::fault::Fault;

const NETNS: &str = "SQUALL_TEST_NETNS";
const FAULT: &str = "SQUALL_TEST_FAULT";
const MEANS: &str = "SQUALL_TEST_MEANS";
const SAID: &str = "the fault is armed";
/// What a kill may take to be felt.
const GONE_WITHIN: Duration = Duration::from_millis(100);
const SETTLE_MAX: Duration = Duration::from_secs(5);

/// Not a test of its own: what [`start`] runs as a process that can be killed.
#[test]
fn holder_to_be_killed() {
    let (Ok(path), Ok(fault), Ok(means)) = (
        std::env::var(NETNS),
        std::env::var(FAULT),
        std::env::var(MEANS),
    ) else {
        return;
    };
    set_pdeathsig(Signal::SIGKILL).unwrap();
    let namespace = std::fs::File::open(path).unwrap();
    Netns::from_descriptor(namespace.into(), "the target")
        .unwrap()
        .enter()
        .unwrap();
    let fault: Fault = serde_json::from_str(&fault).unwrap();
    let means: Means = serde_json::from_str(&means).unwrap();
    let (mut held, _) = network::arm_fault(&fault, means, &arriving(), 1).unwrap();
    println!("{SAID}");
    loop {
        std::thread::sleep(Duration::from_micros(200));
        held.turn().unwrap();
    }
}

fn start(world: &World, means: Means, fault: &str) -> Child {
    let namespace = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        world.target.as_fd().as_raw_fd()
    );
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "hold::net_tests::life::holder_to_be_killed",
        ])
        .env(NETNS, namespace)
        .env(FAULT, fault)
        .env(MEANS, serde_json::to_string(&means).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let armed = lines.any(|line| line.unwrap().contains(SAID));
    assert!(armed, "the holder ended before it armed");
    child
}

fn quick(world: &World) -> bool {
    let socket = world.socket(NAMED[0]);
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    socket.send(b"ping").is_ok() && socket.recv(&mut [0; 16]).is_ok()
}

#[test]
fn a_killed_holder_takes_its_fault_with_it() {
    let Some(world) = World::new() else { return };
    let mut cases = vec![
        (Means::Nftables, r#"{"partition":{"mode":"drop"}}"#),
        (Means::Nftables, r#"{"partition":{"mode":"reject"}}"#),
    ];
    for means in shaping_means() {
        cases.push((means, r#"{"delay":{"time":"400ms"}}"#));
        cases.push((
            means,
            r#"{"loss":{"model":{"random":{"probability":"100%"}}}}"#,
        ));
    }
    for (means, fault) in cases {
        let mut child = start(&world, means, fault);
        assert!(!quick(&world), "{means:?} {fault} is in force");
        let killed = Instant::now();
        child.kill().unwrap();
        child.wait().unwrap();
        while !quick(&world) {
            assert!(
                killed.elapsed() < SETTLE_MAX,
                "{means:?} {fault} outlives its holder"
            );
        }
        let took = killed.elapsed();
        eprintln!("{means:?} {fault}: felt gone after {took:?}");
        assert!(took < GONE_WITHIN, "{means:?} {fault}: {took:?}");
        let left = world.target.inside(|| {
            assert_eq!(sweep::in_force_here(child.id())?, Vec::<String>::new());
            let idle = sweep::sweep_here()?;
            let mut route = Netlink::open(Protocol::Route)?;
            let ours = links::list(&mut route)?
                .into_iter()
                .filter(|l| names::owner(&l.name).is_some())
                .count();
            let mut netfilter = Netlink::open(Protocol::Netfilter)?;
            assert!(tables(&mut netfilter, Family::Netdev)?.is_empty());
            assert!(tables(&mut netfilter, Family::Inet)?.is_empty());
            Ok((idle, ours))
        });
        assert_eq!(
            left.unwrap(),
            (usize::from(means == Means::Detour), 0),
            "the idle ifb, swept"
        );
    }
}
