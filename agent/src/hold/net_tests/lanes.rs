//! The queues that share one fault's packets.

use std::fs;
use std::net::UdpSocket;
use std::thread::available_parallelism;
use std::time::Duration;

use super::world::{Holding, World, all_of, run_all};
use squall_experiments::capability::Means;
use squall_experiments::filter::{Direction, Protocol, ResolvedFilter};

/// So many hosts the client is.
const HOSTS: usize = 32;
/// A few to each.
const ALL: usize = HOSTS * 4;
/// Longer than a packet waits here.
const PATIENCE: Duration = Duration::from_millis(300);

/// The kernel's own account of a queue.
#[derive(Debug)]
struct Queue {
    number: u32,
    owner: u32,
    met: u64,
}

/// Every queue of the target's namespace (`nfqnl` in /proc: number, owner, waiting, mode, range, dropped twice, last packet's number).
fn queues(world: &World) -> Vec<Queue> {
    let read =
        || Ok(fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue").unwrap());
    let text = world.target.inside(read).unwrap();
    let queue = |line: &str| {
        let words: Vec<u64> = line
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        Queue {
            number: words[0] as u32,
            owner: words[1] as u32,
            met: words[7],
        }
    };
    let mut all: Vec<Queue> = text.lines().map(queue).collect();
    // The kernel lists them by a hash.
    all.sort_by_key(|queue| queue.number);
    all
}

/// Sends packets to many hosts, all of which the client is; says where they arrive, once the wire has found each.
fn send_to_many(world: &World) -> UdpSocket {
    let add = |host| format!("addr add 10.9.0.{}/24 dev va", 100 + host);
    run_all(&world.client, &(0..HOSTS).map(add).collect::<Vec<_>>());
    let heard = world
        .client
        .inside(|| Ok(UdpSocket::bind("0.0.0.0:7").unwrap()));
    let heard = heard.unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let send = || {
        let socket = UdpSocket::bind("10.9.0.2:0").unwrap();
        for packet in 0..ALL {
            let to = format!("10.9.0.{}:7", 100 + packet % HOSTS);
            socket.send_to(b"to one of many", to).unwrap();
        }
        Ok(())
    };
    world.target.inside(send).unwrap();
    heard
}

/// How many come until none has come for some time.
fn count(heard: &UdpSocket) -> usize {
    std::iter::from_fn(|| heard.recv(&mut [0; 64]).ok()).count()
}

fn leaving_udp() -> ResolvedFilter {
    ResolvedFilter {
        direction: Direction::Egress,
        ..all_of(Protocol::Udp)
    }
}

#[test]
fn what_many_hosts_are_sent_is_shared_and_counted_once() {
    let Some(world) = World::new() else { return };
    let fault = r#"{"delay":{"time":"40ms"}}"#;
    let holding = Holding::start(&world, Means::Queue, fault, leaving_udp());
    let processors = available_parallelism().map_or(1, usize::from);
    let before = queues(&world);
    assert_eq!(before.len(), processors.min(4), "{before:?}");
    assert!(
        before.windows(2).all(|w| w[0].number + 1 == w[1].number),
        "{before:?}"
    );
    let owners: std::collections::BTreeSet<u32> = before.iter().map(|queue| queue.owner).collect();
    assert_eq!(owners.len(), before.len(), "each has a socket of its own");
    let heard = send_to_many(&world);
    let all = ALL as u64;
    let waiting = holding.dose();
    assert_eq!(
        (waiting.matched, waiting.overflowed),
        (all, 0),
        "{waiting:?}"
    );
    assert_eq!(count(&heard), ALL);
    let after = queues(&world);
    let met: Vec<u64> = after.iter().map(|queue| queue.met).collect();
    eprintln!("{met:?} packets in the queues");
    assert_eq!(met.iter().sum::<u64>(), all);
    assert!(
        met.iter().all(|met| *met < all) || processors == 1,
        "{met:?}"
    );
    let dose = holding.stop();
    let mean = dose.delay_mean_us.unwrap() / 1e3;
    assert_eq!(
        (dose.matched, dose.delayed, dose.overflowed),
        (all, all, 0),
        "{dose:?}"
    );
    assert!((40.0..60.0).contains(&mean), "{mean}");
}

#[test]
fn what_waits_in_each_goes_on_when_the_fault_is_stopped() {
    let Some(world) = World::new() else { return };
    let fault = r#"{"delay":{"time":"30s"}}"#;
    let holding = Holding::start(&world, Means::Queue, fault, leaving_udp());
    let heard = send_to_many(&world);
    assert_eq!(count(&heard), 0);
    let dose = holding.stop();
    assert_eq!(count(&heard), ALL);
    let told = (dose.matched, dose.overflowed, dose.dropped);
    assert_eq!(told, (ALL as u64, 0, 0), "{dose:?}");
}

#[test]
fn packets_that_depend_on_each_other_stay_in_one_queue() {
    for fault in [
        r#"{"rate":{"limit":"1mbit"}}"#,
        r#"{"loss":{"model":{"gemodel":{"p":"2%","r":"20%"}}}}"#,
        r#"{"delay":{"time":"40ms","jitter":"5ms","correlation":"25%"}}"#,
    ] {
        let Some(world) = World::new() else { return };
        let holding = Holding::start(&world, Means::Queue, fault, leaving_udp());
        assert_eq!(queues(&world).len(), 1, "{fault}");
        holding.stop();
    }
}
