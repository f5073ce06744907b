//! Partitions, what is spared, several faults at once, updates, and what is left behind.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::world::{
    Holding, NAMED, NEIGHBOUR, PORT, World, all_of, arriving, endpoint, endpoint_at, leaving,
    run_all, shaping_means,
};
use crate::hold::steer::{self, LinkHooks};
use crate::hold::{names, sweep};
use crate::kernel::net::NetError;
use crate::kernel::net::links;
use crate::kernel::net::netlink::{Netlink, Protocol as Netlinks};
use crate::kernel::net::netns::Netns;
use crate::kernel::net::nft::{ChainSeen, Draft, Family, OwnedTable};
use crate::kernel::net::qdisc::OwnIfb;
use squall_experiments::capability::Means;
use squall_experiments::filter::{Direction, Protocol, ResolvedFilter};

const DROP: &str = r#"{"partition":{"mode":"drop"}}"#;
const REJECT: &str = r#"{"partition":{"mode":"reject"}}"#;
const QUICK: Duration = Duration::from_millis(300);

/// More addresses, first [`SINGLE`] ones and then ranges, and more ports than stand in a base chain. Nobody has them.
const OTHERS: [&str; 9] = [
    "10.9.9.1",
    "10.9.9.3",
    "10.9.9.5",
    "10.9.9.7",
    "10.9.9.9",
    "10.9.9.11",
    "fd00:9::9:1",
    "10.9.9.128/25",
    "fd00:9::9:8/125",
];
const SINGLE: usize = 7;
const PORTS: [u16; 5] = [PORT, 1, 3, 5, 7];

/// Each way in which every packet is lost.
fn all_lost() -> Vec<(Means, &'static str)> {
    let shaped = shaping_means().into_iter();
    let loss = r#"{"loss":{"model":{"random":{"probability":"100%"}}}}"#;
    let lossy = shaped.map(|means| (means, loss));
    lossy.chain([(Means::Nftables, DROP)]).collect()
}

/// Whether an address answers within [`QUICK`].
fn answers(world: &World, address: &str) -> bool {
    let socket = world.socket(address);
    socket.set_read_timeout(Some(QUICK)).unwrap();
    socket.send(b"ping").is_ok() && socket.recv(&mut [0; 16]).is_ok()
}

/// The links and tables of ours in a namespace.
fn leftovers(netns: &Netns) -> Vec<String> {
    netns
        .inside(|| {
            let mut route = Netlink::open(Netlinks::Route)?;
            let links = links::list(&mut route)?.into_iter().map(|l| l.name);
            let mut found: Vec<_> = links.filter(|n| names::owner(n).is_some()).collect();
            found.extend(sweep::in_force_here(std::process::id())?);
            Ok(found)
        })
        .unwrap()
}

#[test]
fn a_drop_is_silent_both_ways_and_spares_the_neighbour() {
    let Some(world) = World::new() else { return };
    for filter in [arriving(), leaving()] {
        let holding = Holding::start(&world, Means::Nftables, DROP, filter);
        for address in NAMED {
            assert!(!answers(&world, address), "{address}");
        }
        for address in NEIGHBOUR {
            assert!(answers(&world, address), "{address}");
        }
        eprintln!("{:#?}", holding.evidence);
        let dose = holding.stop();
        assert_eq!((dose.matched, dose.dropped), (2, 2), "{dose:?}");
        assert!(NAMED.iter().all(|a| answers(&world, a)));
    }
    assert_eq!(leftovers(&world.target), Vec::<String>::new());
}

#[test]
fn the_sender_behind_a_drop_sees_no_error_and_tcp_backs_off() {
    let Some(world) = World::new() else { return };
    // Held where the sender is, on the way out: the case in which a plain drop would tell it.
    let filter = ResolvedFilter {
        to: endpoint(&NAMED),
        direction: Direction::Egress,
        ..ResolvedFilter::default()
    };
    let holding = Holding::try_start(&world.client, Means::Nftables, DROP, filter).unwrap();
    let socket = world.socket(NAMED[0]);
    for _ in 0..20 {
        socket.send(b"ping").expect("a cut cable tells nobody");
    }
    let address = SocketAddr::new(NAMED[0].parse().unwrap(), PORT);
    let started = Instant::now();
    let connected = world.client.inside(|| {
        Ok(TcpStream::connect_timeout(
            &address,
            Duration::from_millis(2_500),
        ))
    });
    assert_eq!(
        connected.unwrap().unwrap_err().kind(),
        ErrorKind::TimedOut,
        "after {:?}",
        started.elapsed()
    );
    let dose = holding.stop();
    // The first attempt and those a second apart (twice since Linux 6.5); told of the drop, TCP tries every 500 ms.
    assert!((22..=23).contains(&dose.dropped), "{dose:?}");
}

#[test]
fn a_reject_is_told_at_once() {
    let Some(world) = World::new() else { return };
    for (filter, word) in [
        (arriving(), "arriving"),
        (all_of(Protocol::Tcp), "tcp"),
        (all_of(Protocol::Udp), "udp"),
    ] {
        let holding = Holding::start(&world, Means::Nftables, REJECT, filter);
        for address in NAMED {
            let to = SocketAddr::new(address.parse().unwrap(), PORT);
            let started = Instant::now();
            if word != "tcp" {
                let socket = world.socket(address);
                let _ = socket.send(b"ping");
                assert_eq!(
                    socket.recv(&mut [0; 16]).unwrap_err().kind(),
                    ErrorKind::ConnectionRefused,
                    "{address}"
                );
            }
            if word != "udp" {
                let refused = world.client.inside(|| {
                    Ok(TcpStream::connect_timeout(&to, Duration::from_secs(3)).map(|_| ()))
                });
                assert_eq!(
                    refused.unwrap().unwrap_err().kind(),
                    ErrorKind::ConnectionRefused,
                    "{address}"
                );
            }
            assert!(
                started.elapsed() < Duration::from_secs(1),
                "at once: {:?}",
                started.elapsed()
            );
        }
        if word == "arriving" {
            assert!(NEIGHBOUR.iter().all(|a| answers(&world, a)));
        }
        let dose = holding.stop();
        assert!(dose.rejected >= 2 && dose.dropped == 0, "{word} {dose:?}");
    }
    assert_eq!(leftovers(&world.target), Vec::<String>::new());
}

#[test]
fn what_is_spared_is_not_touched_and_neighbours_are_still_found() {
    let Some(world) = World::new() else { return };
    let spare = endpoint(&[NEIGHBOUR[0]])
        .into_iter()
        .chain(endpoint(&[NEIGHBOUR[1]]))
        .collect();
    let filter = ResolvedFilter {
        spare,
        ..ResolvedFilter::default()
    };
    let holding = Holding::start(&world, Means::Nftables, DROP, filter);
    // Nobody knows anybody any more: ARP and neighbour discovery must work through a partition from everything.
    run_all(&world.client, &["neigh flush all".to_owned()]);
    run_all(&world.target, &["neigh flush all".to_owned()]);
    for address in NEIGHBOUR {
        assert!(answers(&world, address), "{address}");
    }
    assert!(NAMED.iter().all(|a| !answers(&world, a)));
    holding.stop();
}

#[test]
fn an_update_swaps_the_addresses_and_keeps_the_count() {
    let Some(world) = World::new() else { return };
    let refused = (Means::Nftables, REJECT);
    for (means, fault) in all_lost().into_iter().chain([refused]) {
        // Several addresses are in a set, and few rules stand elsewhere than many.
        for (others, ports) in [
            (&[][..], &[][..]),
            (&OTHERS[..SINGLE], &[]),
            (&OTHERS, &[]),
            (&OTHERS, &PORTS),
        ] {
            let to = |addresses: [&'static str; 2]| ResolvedFilter {
                to: endpoint_at(&[&addresses, others].concat(), ports),
                ..arriving()
            };
            let (first, second) = (NAMED, NEIGHBOUR);
            let holding = Holding::start(&world, means, fault, to(first));
            assert!(!answers(&world, NAMED[0]) && answers(&world, NEIGHBOUR[0]));
            holding.update(to(second));
            let swapped = Instant::now();
            while answers(&world, NEIGHBOUR[0]) {
                let late = swapped.elapsed() > Duration::from_secs(5);
                assert!(!late, "{means:?} {fault}: the update never came");
            }
            assert!(answers(&world, NAMED[0]), "{means:?} {fault}");
            let dose = holding.stop();
            assert!(dose.matched >= 2, "the count goes on: {dose:?}");
        }
    }
}

#[test]
fn an_address_is_not_taken_for_one_of_the_other_ip_version() {
    let Some(world) = World::new() else { return };
    // In the place of IPv4's destination it has 10.9.0.2.
    let alike = "fd00:9::a09:2:0:1";
    run_all(
        &world.client,
        &[format!("addr add {alike}/64 dev va nodad")],
    );
    for (means, fault) in all_lost() {
        let to = endpoint(&["10.9.0.2"]);
        let holding = Holding::start(&world, means, fault, ResolvedFilter { to, ..arriving() });
        let socket = world.socket_from(alike, NEIGHBOUR[1]);
        socket.set_read_timeout(Some(QUICK)).unwrap();
        socket.send(b"ping").unwrap();
        assert!(socket.recv(&mut [0; 16]).is_ok(), "{means:?} {fault}");
        assert!(!answers(&world, NAMED[0]), "{means:?} {fault}");
        assert_eq!(holding.stop().matched, 1);
    }
}

#[test]
fn a_port_is_met_in_both_ip_versions_and_in_the_transports_that_are_meant() {
    let Some(world) = World::new() else { return };
    // Nobody listens: who gets through is refused.
    let connects = |address: &str| {
        let to = SocketAddr::new(address.parse().unwrap(), PORT);
        let connected = world
            .client
            .inside(|| Ok(TcpStream::connect_timeout(&to, QUICK)));
        connected.unwrap().unwrap_err().kind() == ErrorKind::ConnectionRefused
    };
    for (means, fault) in all_lost() {
        for protocol in [None, Some(Protocol::Udp), Some(Protocol::Tcp)] {
            let at = |port| ResolvedFilter {
                to: endpoint_at(&[], &[port]),
                protocol,
                ..arriving()
            };
            let holding = Holding::start(&world, means, fault, at(PORT));
            for address in NAMED {
                let got = (answers(&world, address), connects(address));
                let free = (
                    protocol == Some(Protocol::Tcp),
                    protocol == Some(Protocol::Udp),
                );
                assert_eq!(got, free, "{means:?} {fault} {protocol:?} {address}");
            }
            assert!(holding.stop().matched >= 2);
            let holding = Holding::start(&world, means, fault, at(PORT + 1));
            assert!(NAMED.iter().all(|a| answers(&world, a) && connects(a)));
            assert_eq!(holding.stop().matched, 0);
        }
    }
}

#[test]
fn several_faults_on_one_target_act_together_and_end_apart() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        let delay = Holding::start(&world, means, r#"{"delay":{"time":"30ms"}}"#, arriving());
        let more = Holding::start(
            &world,
            Means::Queue,
            r#"{"delay":{"time":"20ms"}}"#,
            arriving(),
        );
        let cut = Holding::start(
            &world,
            Means::Nftables,
            DROP,
            ResolvedFilter {
                to: endpoint(&NEIGHBOUR),
                ..arriving()
            },
        );
        assert!(!answers(&world, NEIGHBOUR[0]));
        let both = world.settled_ms(NAMED[0], 50.0, 5.0);
        assert!((both - 50.0).abs() < 5.0, "{means:?} and the queue: {both}");
        assert!(cut.stop().dropped > 0);
        assert!(answers(&world, NEIGHBOUR[0]));
        assert!(delay.stop().delayed > 0);
        let one = world.settled_ms(NAMED[0], 20.0, 3.0);
        assert!((one - 20.0).abs() < 3.0, "{one}");
        more.stop();
        assert!(world.settled_ms(NAMED[0], 0.0, 5.0) < 5.0);
    }
    assert_eq!(leftovers(&world.target), Vec::<String>::new());
}

#[test]
fn an_orderly_end_loses_no_packet_that_waits() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        let holding = Holding::start(&world, means, r#"{"delay":{"time":"200ms"}}"#, arriving());
        let socket = world.socket(NAMED[0]);
        for _ in 0..20 {
            socket.send(b"ping").unwrap();
        }
        let dose = holding.stop();
        let heard = (0..20)
            .take_while(|_| socket.recv(&mut [0; 16]).is_ok())
            .count();
        assert_eq!(heard, 20, "{means:?} {dose:?}");
    }
}

#[test]
fn links_that_come_and_go_are_followed() {
    let Some(world) = World::new() else { return };
    let ip = |commands: &[&str]| {
        run_all(
            &world.target,
            &commands.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>(),
        );
    };
    let (mut table, mut route, mut hooks) = world
        .target
        .inside(|| {
            hooked(&ResolvedFilter {
                direction: Direction::Ingress,
                ..ResolvedFilter::default()
            })
        })
        .unwrap();
    let mut met = || {
        world
            .target
            .inside(|| {
                hooks.refresh(&mut route, &mut table)?;
                let mut met: Vec<_> = table
                    .chains()?
                    .into_iter()
                    .flat_map(|c| c.devices)
                    .collect();
                met.sort();
                Ok(met.join(" "))
            })
            .unwrap()
    };
    assert_eq!(met(), "lo vb");
    ip(&[
        "link add vx type veth peer name vy",
        "link set vx up",
        "link set vy up",
    ]);
    assert_eq!(met(), "lo vb vx vy");
    ip(&[
        "link add br0 type bridge",
        "link set br0 up",
        "link set vx master br0",
    ]);
    assert_eq!(
        met(),
        "br0 lo vb vy",
        "a bridge's port is met at the bridge"
    );
    ip(&["link del vy", "link del br0"]);
    assert_eq!(met(), "lo vb");
}

#[test]
fn other_addresses_come_to_links_that_come_and_are_not_kept_back_by_one_that_went() {
    let Some(world) = World::new() else { return };
    let ip = |command: &str| run_all(&world.target, &[command.to_owned()]);
    let picks = |table: &OwnedTable, link: &str| {
        let chains = table.chains()?;
        let on = |c: &&ChainSeen| c.devices.iter().any(|name| name == link);
        table.rules(&chains.iter().find(on).unwrap().name)
    };
    ip("link add vx type veth peer name vy");
    ip("link set vx up");
    world
        .target
        .inside(|| {
            let (mut table, mut route, mut hooks) = hooked(&arriving())?;
            hooks.refresh(&mut route, &mut table)?;
            assert_eq!(picks(&table, "vb")?.len(), 2);
            ip("link del vx");
            let to = endpoint(&[NAMED[0]]);
            hooks.update(&mut table, &ResolvedFilter { to, ..arriving() })?;
            assert_eq!(picks(&table, "vb")?.len(), 1);
            ip("link add vx type veth peer name vy");
            ip("link set vx up");
            hooks.refresh(&mut route, &mut table)?;
            assert_eq!(picks(&table, "vx")?.len(), 1);
            Ok(())
        })
        .unwrap();
}

/// With each rule on each side of each link, more than a transaction takes. Some links go before anybody looks again.
#[test]
fn many_links_are_hooked_at_once_and_given_other_addresses_at_once() {
    const PAIRS: usize = 70;
    const GO: usize = 7;
    let Some(world) = World::new() else { return };
    let ip: Vec<String> = (0..PAIRS)
        .flat_map(|n| {
            [
                format!("link add a{n} type veth peer name b{n}"),
                format!("link set a{n} up"),
                format!("link set b{n} up"),
            ]
        })
        .collect();
    run_all(&world.target, &ip);
    world
        .target
        .inside(|| {
            let to = endpoint_at(&NAMED[..1], &PORTS[..4]);
            let filter = ResolvedFilter {
                to,
                ..ResolvedFilter::default()
            };
            let (mut table, mut route, mut hooks) = hooked(&filter)?;
            hooks.refresh(&mut route, &mut table)?;
            // And `lo`, of which one side is hooked, and the world's own.
            let based = table.chains()?.into_iter().filter(|c| c.hook.is_some());
            assert_eq!(based.count(), 2 * (2 * PAIRS + 1) + 1);
            let going: Vec<String> = (0..GO).map(|n| format!("link del a{n}")).collect();
            run_all(&world.target, &going);
            hooks.update(&mut table, &filter)
        })
        .unwrap();
}

/// A table with the chains that every fault has, and hooks for its links.
fn hooked(filter: &ResolvedFilter) -> Result<(OwnedTable, Netlink, LinkHooks), NetError> {
    let mut table = OwnedTable::create(Family::Netdev, &names::fresh(1))?;
    let mut draft = Draft::default();
    steer::draft_chains(&mut draft, Family::Netdev, filter, Vec::new());
    table.commit(&draft)?;
    let route = Netlink::open(Netlinks::Route)?;
    Ok((table, route, LinkHooks::new(filter, 0)))
}

#[test]
fn the_sweep_takes_idle_ifbs_of_ours_and_nothing_else() {
    let Some(world) = World::new() else { return };
    world
        .target
        .inside(|| {
            let mut route = Netlink::open(Netlinks::Route)?;
            let (idle, live) = (names::fresh(1), names::fresh(1));
            OwnIfb::create(&mut route, &idle)?;
            let table = OwnedTable::create(Family::Netdev, &live)?;
            OwnIfb::create(&mut route, &live)?;
            links::create_ifb(&mut route, "squid0")?;
            assert_eq!(sweep::sweep_here()?, 1);
            let left: Vec<_> = links::list(&mut route)?
                .into_iter()
                .filter(|l| l.kind == "ifb")
                .map(|l| l.name)
                .collect();
            assert_eq!(left, [live.clone(), "squid0".into()]);
            drop(table);
            assert_eq!(sweep::sweep_here()?, 1);
            assert_eq!(sweep::sweep_here()?, 0);
            Ok(())
        })
        .unwrap();
}
