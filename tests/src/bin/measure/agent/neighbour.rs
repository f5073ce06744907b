//! What a conversation that no fault names still gets, while a fault acts on another one of the same interface.

use std::fs;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::world::Result;
use lab::world::tcp::throughput;
use lab::world::wire::{Ip, Wire, named, neighbour};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use squall_experiments::capability::Means;

use super::rivals::Rival;
use super::traffic::agent_at;
use super::{delay, lease, ms, word};
use crate::compare::Compared;
use crate::table::{Row, quantile};

/// How long one throughput, and one series of questions and answers, is measured.
const SLICE: Duration = Duration::from_millis(200);
/// How often each way takes its turn: all alternate, so that what else the machine does hits each.
const TURNS: usize = 60;
/// How many addresses the node's policy protects.
const PROTECTED: usize = 32;
/// Meanwhile the conversation that the fault names goes on: a packet each so often.
const NAMED_EVERY: Duration = Duration::from_millis(1);

type Figure = (&'static str, &'static str, fn(&Got) -> &[f64]);
const FIGURES: [Figure; 3] = [
    ("TCP", "Gbit/s", |got| &got.gbit),
    ("question to answer, p50", "ms", |got| &got.half_ms),
    ("question to answer, p99", "ms", |got| &got.slow_ms),
];

/// The neighbour's figures, turn by turn.
#[derive(Default)]
struct Got {
    gbit: Vec<f64>,
    half_ms: Vec<f64>,
    slow_ms: Vec<f64>,
}

impl Got {
    fn measure(&mut self, wire: &Wire) -> Result<()> {
        let to_named = wire.udp(named(Ip::V4))?;
        let over = AtomicBool::new(false);
        let (bytes, times) = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // What becomes of it is the fault's affair.
                    let _ = to_named.send(&[1; 64]);
                    thread::sleep(NAMED_EVERY);
                }
            });
            let got = throughput(wire, neighbour(Ip::V4), SLICE)
                .and_then(|bytes| Ok((bytes, questions(&wire.udp(neighbour(Ip::V4))?)?)));
            over.store(true, Ordering::Relaxed);
            got
        })?;
        self.gbit.push(bytes * 8e-9);
        self.half_ms.push(quantile(&times, 0.5));
        self.slow_ms.push(quantile(&times, 0.99));
        Ok(())
    }
}

/// Milliseconds from each question to its answer, one after the other.
fn questions(socket: &UdpSocket) -> Result<Vec<f64>> {
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (begun, mut times) = (Instant::now(), Vec::new());
    let mut packet = [2; 64];
    while begun.elapsed() < SLICE {
        let asked = Instant::now();
        socket.send(&packet)?;
        socket.recv(&mut packet)?;
        times.push(ms(asked.elapsed()));
    }
    Ok(times)
}

pub(super) fn measure(means: &[Means], rows: &mut Vec<Row>) -> Result<()> {
    for means in means {
        beside(*means, rows)?;
    }
    Ok(())
}

/// As on a node that protects much: what is not named must not have to pass all of that.
pub(super) fn policy() -> Result<tempfile::NamedTempFile> {
    let addresses: Vec<String> = (1..=PROTECTED).map(|n| format!("192.0.2.{n}")).collect();
    let policy = tempfile::NamedTempFile::new()?;
    let text = format!("protect: {{ addresses: [ {} ] }}\n", addresses.join(", "));
    fs::write(policy.path(), text)?;
    Ok(policy)
}

/// What is in force while the neighbour is measured.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// The same again: what two equal things differ by here is noise.
    NothingAgain,
    Squall,
    Tree,
}

fn beside(means: Means, rows: &mut Vec<Row>) -> Result<()> {
    let wire = Wire::new()?;
    let policy = policy()?;
    let (mut agent, target) = agent_at(&wire, &["--policy", &policy.path().display().to_string()])?;
    let tree = Rival::tree(wire.victim.name(), "eth0");
    let mut got: [Got; 4] = Default::default();
    Got::default().measure(&wire)?;
    // Shuffled, so that none always comes after the same other one; by a seed, as the bounds are.
    let mut random = StdRng::seed_from_u64(1);
    let mut order = [
        Beside::Nothing,
        Beside::Squall,
        Beside::NothingAgain,
        Beside::Tree,
    ];
    for _ in 0..TURNS {
        order.shuffle(&mut random);
        for beside in order {
            let got = &mut got[beside as usize];
            match (beside, &tree) {
                (Beside::Nothing | Beside::NothingAgain, _) => got.measure(&wire)?,
                (Beside::Squall, _) => {
                    let armed = agent.arm(target.clone(), &delay("100ms"), lease(), Some(means))?;
                    got.measure(&wire)?;
                    agent.stop(&armed.id)?;
                }
                (Beside::Tree, Some(tree)) => {
                    tree.come()?;
                    got.measure(&wire)?;
                    tree.go()?;
                }
                (Beside::Tree, None) => {}
            }
        }
    }
    let [free, again, ours, theirs] = &got;
    let without = "no fault (a tree needs prio and netem: not here)";
    let without = tree.as_ref().map_or(without, |_| "no fault");
    let tree = tree.map(|tree| (format!("{}: a root prio with netem", tree.name), theirs));
    for (figure, unit, of) in FIGURES {
        let what = format!("{}: the neighbour's {figure}", word(means));
        let row = |got: &Got| Row::alone(what.clone(), unit, quantile(of(got), 0.5));
        rows.push(row(ours).beside(without, quantile(of(free), 0.5)));
        rows.extend(Compared::new(of(ours), of(free)).bounds(&format!("{what}: ratio")));
        rows.push(row(ours).beside("no fault, again", quantile(of(again), 0.5)));
        if let Some((name, theirs)) = &tree {
            rows.push(row(ours).beside(name.clone(), quantile(of(theirs), 0.5)));
        }
    }
    Ok(())
}
