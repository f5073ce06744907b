//! What steered traffic still gets: at full speed, and at fifty thousand packets a second.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use lab::world::Result;
use lab::world::agent::{Agent, written};
use lab::world::tcp::throughput;
use lab::world::wire::{Ip, Wire, named};
use serde_json::json;
use squall_experiments::capability::Means;
use squall_experiments::dose::Dose;
use squall_experiments::ids::TargetId;

use super::cores::Cores;
use super::{delay, lease, ms, netns, processor_time, word};
use crate::table::{Row, quantile};

/// How long one throughput is measured.
const SLICE: Duration = Duration::from_secs(1);
/// How often each way takes its turn: with and without alternate, so that what else the machine does hits both.
const TURNS: usize = 5;
/// The paces tried, in packets a second: the first that the untouched wire carries is taken.
const PACES: [u32; 3] = [50_000, 10_000, 2_000];
/// How long the packets come, and how often each way takes its turn.
const VOLLEY: Duration = Duration::from_secs(1);
const VOLLEYS: usize = 5;
/// What is asked for while they come. Little enough that those that wait fit their socket's buffer.
const LATE: Duration = Duration::from_millis(2);
/// So many hosts share a flood. The kernel chooses a queue by a packet's addresses: what one host is sent comes to one queue.
const HOSTS: u8 = 16;
/// Where they are counted.
const PORT: u16 = 7_100;

pub(super) fn measure(means: &[Means], rows: &mut Vec<Row>) -> Result<()> {
    for means in means {
        at_full_speed(*means, rows)?;
        many_packets(*means, rows)?;
        if *means == Means::Queue {
            many_hosts(rows)?;
        }
    }
    Ok(())
}

/// An agent, and the wire's victim as its target.
pub(super) fn agent_at(wire: &Wire, args: &[&str]) -> Result<(Agent, TargetId)> {
    let mut agent = Agent::start_with(args)?;
    let found = agent.resolve(&netns(wire.victim.name()), &delay("1ms"))?;
    let target = found.into_iter().next().ok_or("no target")?.id;
    Ok((agent, target))
}

fn gbit(wire: &Wire) -> Result<f64> {
    throughput(wire, named(Ip::V4), SLICE).map(|bytes| bytes * 8e-9)
}

fn at_full_speed(means: Means, rows: &mut Vec<Row>) -> Result<()> {
    let wire = Wire::new()?;
    let (mut agent, target) = agent_at(&wire, &[])?;
    let (mut free, mut zero, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        free.push(gbit(&wire)?);
        for (time, figures) in [("0ms", &mut zero), ("1ms", &mut late)] {
            let armed = agent.arm(target.clone(), &delay(time), lease(), Some(means))?;
            figures.push(gbit(&wire)?);
            agent.stop(&armed.id)?;
        }
    }
    let by = word(means);
    let free = quantile(&free, 0.5);
    for (what, figures) in [("no delay", &zero), ("1 ms late", &late)] {
        rows.push(
            Row::alone(
                format!("{by}: TCP steered, {what}"),
                "Gbit/s",
                quantile(figures, 0.5),
            )
            .beside("the same wire, no agent", free),
        );
    }
    Ok(())
}

/// One-way times of packets at a steady pace, in milliseconds, and the share of them that came.
struct Flight {
    times: Vec<f64>,
    came_percent: f64,
    sent: u32,
    pace: f64,
    /// Microseconds of a processor that the holder took for each.
    cost_us: f64,
}

/// The fastest of the paces that the untouched wire carries.
fn carried(wire: &Wire, cores: &Cores) -> Result<u32> {
    for pace in PACES {
        let free = fly(wire, pace, cores)?;
        if free.pace > 0.95 * f64::from(pace) && free.came_percent > 99.0 {
            return Ok(pace);
        }
    }
    Err("the wire does not carry 2,000 packets a second".into())
}

fn many_packets(means: Means, rows: &mut Vec<Row>) -> Result<()> {
    let cores = Cores::apart()?;
    cores.to_others()?;
    let wire = Wire::new()?;
    let (mut agent, target) = agent_at(&wire, &[])?;
    let pace = carried(&wire, &cores)?;
    let (mut free, mut zero, mut late) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..VOLLEYS {
        free.push(fly(&wire, pace, &cores)?);
        for (time, flights) in [(Duration::ZERO, &mut zero), (LATE, &mut late)] {
            let time = format!("{}ms", time.as_millis());
            let armed = agent.arm(target.clone(), &delay(&time), lease(), Some(means))?;
            let before = processor_time(armed.holder)?;
            let mut flight = fly(&wire, pace, &cores)?;
            let used = processor_time(armed.holder)?.saturating_sub(before);
            flight.cost_us = used.as_secs_f64() * 1e6 / f64::from(flight.sent);
            flights.push(flight);
            agent.stop(&armed.id)?;
        }
    }
    let by = word(means);
    // Of each volley its own figure, and of those the middle: one that the machine disturbed does not count for all.
    let middle = |flights: &[Flight], of: &dyn Fn(&Flight) -> f64| {
        let each: Vec<f64> = flights.iter().map(of).collect();
        quantile(&each, 0.5)
    };
    let base = middle(&free, &|f| quantile(&f.times, 0.5));
    let off = |flights: &[Flight], asked: f64, share| {
        middle(flights, &|f| {
            let errors: Vec<f64> = f.times.iter().map(|t| (t - asked).abs()).collect();
            quantile(&errors, share)
        })
    };
    for (asked, flights) in [(Duration::ZERO, &zero), (LATE, &late)] {
        let what = format!("{by}: {pace} packets/s, {} ms late", asked.as_millis());
        for (label, share) in [("p50", 0.5), ("p99", 0.99)] {
            let error = off(flights, base + ms(asked), share);
            let row = Row::alone(format!("{what}, off by, {label}"), "ms", error);
            rows.push(row.beside("the untouched wire's own spread", off(&free, base, share)));
        }
        let came = |flights: &[Flight]| middle(flights, &|f| f.came_percent);
        let row = Row::alone(format!("{what}, arrived"), "%", came(flights));
        rows.push(row.beside("the untouched wire", came(&free)));
        let cost = middle(flights, &|f| f.cost_us);
        rows.push(Row::alone(
            format!("{what}, holder's time for each"),
            "us",
            cost,
        ));
    }
    Ok(())
}

/// Packets that are made late in a second of as many as can be sent: to one host, and to many.
fn many_hosts(rows: &mut Vec<Row>) -> Result<()> {
    let wire = Wire::new()?;
    let (mut agent, target) = agent_at(&wire, &[])?;
    let hosts = wire.more_hosts(HOSTS)?;
    // What nobody reads is dropped there; without a socket each would be answered.
    let sinks = wire
        .peer
        .enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?;
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..VOLLEYS {
        for (to, paces) in [(&hosts[..1], &mut one), (&hosts[..], &mut many)] {
            let filter = json!({ "to": { "ports": [PORT.to_string()] } });
            let time = format!("{}ms", LATE.as_millis());
            let late = written(json!({ "delay": { "time": time, "filter": filter } }));
            let armed = agent.arm(target.clone(), &late, lease(), Some(Means::Queue))?;
            let took = flood(&wire, to)?;
            let ended = agent.stop(&armed.id)?;
            let dose = match ended.dose {
                Some(Dose::Network(dose)) if dose.delayed > 0 => dose,
                other => {
                    return Err(
                        format!("a flood was made late, and this was told: {other:?}").into(),
                    );
                }
            };
            #[allow(clippy::cast_precision_loss, reason = "some million packets")]
            paces.push(dose.delayed as f64 / took.as_secs_f64() / 1e3);
        }
    }
    drop(sinks);
    let what = format!(
        "queue: {} ms late in a flood to {HOSTS} hosts",
        LATE.as_millis()
    );
    let row = Row::alone(what, "1,000/s", quantile(&many, 0.5));
    rows.push(row.beside("the same to one host, by one queue", quantile(&one, 0.5)));
    Ok(())
}

/// Sends to each in turn by as many sockets as there are hosts, as fast as it goes; says how long it took.
fn flood(wire: &Wire, to: &[IpAddr]) -> Result<Duration> {
    let sockets = wire.victim.enter(|| {
        let connected = to.iter().cycle().take(usize::from(HOSTS)).map(|to| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect((*to, PORT))?;
            Ok(socket)
        });
        connected.collect::<Result<Vec<_>>>()
    })?;
    let begun = Instant::now();
    while begun.elapsed() < VOLLEY {
        for socket in &sockets {
            // Packets that wait are charged to their socket: one that is full is waited for.
            let _ = socket.send(&[0; 64]);
        }
    }
    Ok(begun.elapsed())
}

/// Sends packets that carry the moment of their sending, and reads them at the other end. Both share a processor, which the holder leaves
/// to them: who shared one with it would be measured instead.
fn fly(wire: &Wire, pace: u32, cores: &Cores) -> Result<Flight> {
    let from = wire.victim.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((named(Ip::V4), PORT))?;
        Ok(socket)
    })?;
    let to = wire
        .peer
        .enter(|| Ok(UdpSocket::bind((named(Ip::V4), PORT))?))?;
    to.set_read_timeout(Some(Duration::from_millis(500)))?;
    cores.to_first()?;
    let origin = Instant::now();
    let nanos = || u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let (sent, took, times) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut times = Vec::new();
            let mut packet = [0; 8];
            // Half a second of silence is the end.
            while let Ok(8) = to.recv(&mut packet) {
                let late_ns = nanos().saturating_sub(u64::from_ne_bytes(packet));
                times.push(Duration::from_nanos(late_ns).as_secs_f64() * 1e3);
            }
            times
        });
        let gap = Duration::from_secs(1) / pace;
        let mut sent = 0u32;
        while origin.elapsed() < VOLLEY {
            while origin.elapsed() < gap * sent {
                thread::sleep(Duration::from_micros(1));
            }
            // One that cannot be sent has not arrived, and is counted so.
            let _ = from.send(&nanos().to_ne_bytes());
            sent += 1;
        }
        let took = origin.elapsed();
        (sent, took, reader.join().unwrap_or_default())
    });
    cores.to_others()?;
    #[allow(clippy::cast_precision_loss, reason = "some hundred thousand packets")]
    let came = times.len() as f64;
    Ok(Flight {
        // The first tenth warms the way up.
        times: times.get(times.len() / 10..).unwrap_or_default().to_vec(),
        came_percent: came / f64::from(sent) * 100.0,
        sent,
        cost_us: 0.0,
        pace: f64::from(sent) / took.as_secs_f64(),
    })
}
