//! Delay, loss, duplication, corruption, reordering and rate, by every means this kernel has.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::world::{Holding, NAMED, NEIGHBOUR, World, arriving, leaving, shaping_means};
use squall_experiments::capability::Means;
use squall_experiments::filter::{Direction, ResolvedFilter};

/// What a measured delay may be off by: netem 1 ms + 1 %, the queue 2 ms + 2 %.
fn tolerance_ms(means: Means, asked_ms: f64) -> f64 {
    match means {
        Means::Detour => 1.0 + asked_ms * 0.01,
        _ => 2.0 + asked_ms * 0.02,
    }
}

#[test]
fn a_delay_is_as_long_as_asked_and_the_neighbour_has_none() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        for (filter, word) in [(arriving(), "arriving"), (leaving(), "leaving")] {
            let before = NAMED.map(|a| world.least_ms(a));
            let holding = Holding::start(&world, means, r#"{"delay":{"time":"50ms"}}"#, filter);
            for (address, before) in NAMED.iter().zip(before) {
                let tolerance = tolerance_ms(means, 50.0);
                let added = world.settled_ms(address, 50.0 + before, tolerance) - before;
                eprintln!("{means:?} {word} {address}: +{added:.3} ms");
                assert!(
                    (added - 50.0).abs() <= tolerance,
                    "{means:?} {word} {address}: {added}"
                );
            }
            for address in NEIGHBOUR {
                let there = world.least_ms(address);
                eprintln!("{means:?} {word} {address}: {there:.3} ms");
                assert!(there < 5.0, "the neighbour {address}: {there}");
            }
            eprintln!("{:#?}", holding.evidence);
            let dose = holding.stop();
            eprintln!("{dose:?}");
            assert!(
                dose.matched >= 30 && dose.delayed >= 30 && dose.overflowed == 0,
                "{dose:?}"
            );
            assert!(world.least_ms(NAMED[0]) < 5.0, "it is over");
        }
    }
}

#[test]
fn everything_both_ways_is_delayed_once_each_way() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        let holding = Holding::start(
            &world,
            means,
            r#"{"delay":{"time":"20ms"}}"#,
            ResolvedFilter::default(),
        );
        for address in NAMED {
            let there = world.settled_ms(address, 40.0, 2.0 * tolerance_ms(means, 20.0));
            eprintln!("{means:?} {address}: {there:.3} ms");
            assert!(
                (there - 40.0).abs() <= 2.0 * tolerance_ms(means, 20.0),
                "{means:?} {address}: {there}"
            );
        }
        holding.stop();
    }
}

#[test]
fn loss_is_within_a_point_over_ten_thousand_packets() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        // At 5 % a point is 4.6 standard deviations of 10,000 draws: netem's seed cannot be set before Linux 6.6.
        let fault = r#"{"loss":{"model":{"random":{"probability":"5%"}}}}"#;
        let holding = Holding::start(&world, means, fault, arriving());
        let heard = world.volley(NAMED[0], 10_000, 4).len();
        let neighbour = world.volley(NEIGHBOUR[0], 2_000, 4).len();
        let dose = holding.stop();
        let lost = 1.0 - heard as f64 / 10_000.0;
        eprintln!("{means:?}: lost {lost:.4}, neighbour {neighbour} of 2000, {dose:?}");
        assert!((lost - 0.05).abs() <= 0.01, "{means:?} lost {lost}");
        assert_eq!(neighbour, 2_000);
        assert_eq!(
            (dose.matched, dose.dropped),
            (10_000, 10_000 - heard as u64)
        );
    }
}

#[test]
fn bursty_loss_comes_in_bursts() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        let fault = r#"{"loss":{"model":{"gemodel":{"p":"2%","r":"20%"}}}}"#;
        let holding = Holding::start(&world, means, fault, arriving());
        let mut heard = world.volley(NAMED[0], 10_000, 4);
        heard.sort_unstable();
        holding.stop();
        let lost = 1.0 - heard.len() as f64 / 10_000.0;
        let bursts = heard.windows(2).filter(|w| w[1] - w[0] > 1).count();
        let mean = lost * 10_000.0 / bursts as f64;
        eprintln!("{means:?}: lost {lost:.4} in bursts of {mean:.2}");
        assert!(
            (lost - 0.0909).abs() <= 0.03 && (mean - 5.0).abs() < 1.5,
            "{means:?} {lost} {mean}"
        );
    }
}

#[test]
fn duplicates_arrive_both_ways_and_over_both_ip_versions() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        for filter in [arriving(), leaving()] {
            for address in NAMED {
                let fault = r#"{"duplicate":{"chance":{"probability":"20%"}}}"#;
                let holding = Holding::start(&world, means, fault, filter.clone());
                let heard = world.volley(address, 2_000, 4).len();
                let dose = holding.stop();
                eprintln!("{means:?} {address}: heard {heard} of 2000, {dose:?}");
                assert!(
                    (heard as f64 / 2_000.0 - 1.2).abs() < 0.03,
                    "{means:?} {address}: {heard}"
                );
                assert_eq!(dose.duplicated, heard as u64 - 2_000, "{means:?} {address}");
            }
        }
    }
}

#[test]
fn corrupted_packets_are_noticed_by_their_checksum() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        for filter in [arriving(), leaving()] {
            for address in NAMED {
                let fault = r#"{"corrupt":{"chance":{"probability":"20%"}}}"#;
                let holding = Holding::start(&world, means, fault, filter.clone());
                let heard = world.volley(address, 2_000, 1_000);
                let dose = holding.stop();
                eprintln!(
                    "{means:?} {address}: heard {} of 2000, {dose:?}",
                    heard.len()
                );
                assert!(
                    (heard.len() as f64 / 2_000.0 - 0.8).abs() < 0.04,
                    "{means:?} {address}: {}",
                    heard.len()
                );
                assert!(
                    heard.iter().all(|n| *n < 2_000),
                    "no wrong number got through"
                );
            }
        }
    }
}

#[test]
fn reordered_packets_overtake_the_others() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        let fault = r#"{"reorder":{"chance":{"probability":"25%"},"time":"20ms"}}"#;
        let holding = Holding::start(&world, means, fault, arriving());
        let heard = world.volley(NAMED[0], 2_000, 4);
        let dose = holding.stop();
        // Those who came before somebody that was sent earlier: one in four, however the sender's clumps fall.
        let mut least_after = u32::MAX;
        let mut overtook = 0;
        for number in heard.iter().rev() {
            overtook += usize::from(*number > least_after);
            least_after = least_after.min(*number);
        }
        eprintln!(
            "{means:?}: {overtook} of {} overtook, {dose:?}",
            heard.len()
        );
        assert_eq!(heard.len(), 2_000);
        assert!((400..=600).contains(&overtook), "{means:?} {overtook}");
    }
}

#[test]
fn a_rate_is_kept() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        let holding = Holding::start(&world, means, r#"{"rate":{"limit":"1mbit"}}"#, arriving());
        let socket = world.socket(NAMED[0]);
        let started = std::time::Instant::now();
        let packet = [7; 972]; // With UDP's and IP's headers 1000 bytes, 8 ms at 1 Mbit/s; netem counts Ethernet's too.
        for _ in 0..100 {
            socket.send(&packet).unwrap();
        }
        let mut heard = 0;
        while heard < 100 && socket.recv(&mut [0; 1500]).is_ok() {
            heard += 1;
        }
        let took = started.elapsed().as_secs_f64();
        let dose = holding.stop();
        eprintln!("{means:?}: {heard} in {took:.3} s, {dose:?}");
        assert!(
            heard == 100 && (0.78..0.90).contains(&took),
            "{means:?} {heard} in {took}"
        );
    }
}

#[test]
fn a_packet_on_lo_is_delayed_once() {
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        for direction in [Direction::Both, Direction::Ingress, Direction::Egress] {
            let filter = ResolvedFilter {
                direction,
                ..ResolvedFilter::default()
            };
            let holding = Holding::start(&world, means, r#"{"delay":{"time":"20ms"}}"#, filter);
            for address in NAMED {
                // The target talks to itself: there and back are two packets.
                let there = world.own_round_trip_ms(address, 40.0, 2.0 * tolerance_ms(means, 20.0));
                eprintln!("{means:?} {direction:?} {address}: {there:.3} ms");
                assert!(
                    (there - 40.0).abs() <= 2.0 * tolerance_ms(means, 20.0),
                    "{means:?} {direction:?}: {there}"
                );
            }
            holding.stop();
        }
    }
}

#[test]
fn bulk_tcp_stays_quick_where_it_is_delayed_on_arrival() {
    const SECONDS: Duration = Duration::from_secs(1);
    let Some(world) = World::new() else { return };
    for means in shaping_means() {
        let holding = Holding::start(&world, means, r#"{"delay":{"time":"20ms"}}"#, arriving());
        let address = (NAMED[0], 7777);
        let listener = world
            .target
            .inside(|| Ok(TcpListener::bind(address)))
            .unwrap()
            .unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
        });
        let mut stream = world
            .client
            .inside(|| Ok(TcpStream::connect(address)))
            .unwrap()
            .unwrap();
        let started = Instant::now();
        while started.elapsed() < SECONDS {
            stream.write_all(&[0; 65_536]).unwrap();
        }
        drop(stream);
        let bits = server.join().unwrap() as f64 * 8.0;
        let rate = bits / started.elapsed().as_secs_f64() / 1e6;
        let dose = holding.stop();
        eprintln!("{means:?}: {rate:.0} Mbit/s, {dose:?}");
        // Delayed where it leaves it would be 2 Mbit/s (TCP small queues); an emulated machine reaches some 100.
        assert!(
            rate > 20.0 && dose.overflowed == 0,
            "{means:?}: {rate} {dose:?}"
        );
    }
}
