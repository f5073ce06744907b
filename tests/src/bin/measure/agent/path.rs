//! How much longer the way of a packet that no fault names is, beside a fault that acts on others.
//!
//! Two wires that are alike, and both ends of both on one processor, which the agents and their holders leave to them. The fault is on
//! one of them. They take turns of some milliseconds, and then the fault changes sides: neither what else the machine does nor a
//! difference between the two wires counts, and a part in a hundred can be seen.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lab::world::Result;
use lab::world::agent::{Agent, written};
use lab::world::wire::{Ip, Wire, named, neighbour};
use serde_json::json;
use squall_experiments::capability::Means;
use squall_experiments::fault::Fault;
use squall_experiments::ids::{FaultId, TargetId};

use super::cores::Cores;
use super::neighbour::policy;
use super::rivals::Rival;
use super::traffic::agent_at;
use super::{delay, lease, word};
use crate::compare::Pairs;
use crate::table::{Row, quantile};

/// How often the fault changes sides and back.
const TURNS: usize = 30;
/// How often the wires take turns meanwhile.
const LOOKS: usize = 60;
/// About how long each turn is.
const SLICE: Duration = Duration::from_millis(2);
/// How long an answer, or a connection, is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// What one write gives the kernel.
static CHUNK: [u8; 128 << 10] = [0x5a; 128 << 10];

/// One of the wires, and its untouched conversations.
struct Side {
    wire: Wire,
    agent: Agent,
    target: TargetId,
    questions: UdpSocket,
    stream: TcpStream,
    tree: Option<Rival>,
}

/// What is done in one turn: so many questions with their answers, or so many chunks sent and read.
#[derive(Clone, Copy)]
enum Work {
    Questions(u32),
    Chunks(u32),
}

impl Side {
    fn new(cores: &Cores, policy: &Path) -> Result<Self> {
        cores.to_first()?;
        let wire = Wire::new()?;
        cores.to_others()?;
        let (agent, target) = agent_at(&wire, &["--policy", &policy.display().to_string()])?;
        cores.to_first()?;
        let questions = wire.udp(neighbour(Ip::V4))?;
        questions.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: wire.tcp(neighbour(Ip::V4), PATIENCE)?,
            tree: Rival::tree(wire.victim.name(), "eth0"),
            wire,
            agent,
            target,
            questions,
        })
    }

    /// How long it takes.
    fn time(&mut self, work: Work) -> Result<Duration> {
        let begun = Instant::now();
        match work {
            Work::Questions(count) => {
                let mut packet = [2; 64];
                for _ in 0..count {
                    self.questions.send(&packet)?;
                    self.questions.recv(&mut packet)?;
                }
            }
            Work::Chunks(count) => {
                let all = self.wire.bytes_read() + u64::from(count) * CHUNK.len() as u64;
                for _ in 0..count {
                    self.stream.write_all(&CHUNK)?;
                }
                while self.wire.bytes_read() < all {
                    thread::yield_now();
                }
            }
        }
        Ok(begun.elapsed())
    }

    /// As much of it as takes about [`SLICE`].
    fn slice_of(&mut self, work: fn(u32) -> Work) -> Result<Work> {
        const TRIED: u32 = 100;
        let each = self.time(work(TRIED))? / TRIED;
        let count = SLICE.as_nanos() / each.as_nanos().max(1);
        Ok(work(u32::try_from(count)?.max(1)))
    }

    fn come(&mut self, beside: Beside) -> Result<Option<FaultId>> {
        let (fault, means) = match beside {
            Beside::Nothing => return Ok(None),
            Beside::Tree => {
                self.tree.as_ref().map(Rival::come).transpose()?;
                return Ok(None);
            }
            Beside::Delay(means) => (delay("100ms"), means),
            Beside::DelayOfMany(means) => (delay_of_many(), means),
            Beside::Partition => (partition(), Means::Nftables),
        };
        let target = self.target.clone();
        let armed = self.agent.arm(target, &fault, lease(), Some(means))?;
        Ok(Some(armed.id))
    }

    fn go(&mut self, beside: Beside, armed: Option<FaultId>) -> Result<()> {
        if let (Beside::Tree, Some(tree)) = (beside, &self.tree) {
            tree.go()?;
        }
        armed.map(|id| self.agent.stop(&id)).transpose()?;
        Ok(())
    }
}

/// What is on one of the wires.
#[derive(Clone, Copy)]
enum Beside {
    /// What two equal things differ by here is noise.
    Nothing,
    Delay(Means),
    DelayOfMany(Means),
    Partition,
    Tree,
}

/// A hundred hosts, no two of them neighbours.
fn delay_of_many() -> Fault {
    let others = (1..200).step_by(2).map(|n| format!("198.51.100.{n}"));
    let hosts: Vec<String> = others.collect();
    written(json!({ "delay": { "time": "100ms", "filter": { "to": { "hosts": hosts } } } }))
}

fn partition() -> Fault {
    written(
        json!({ "partition": { "filter": { "to": { "hosts": [named(Ip::V4).to_string()] } } } }),
    )
}

pub(super) fn measure(means: &[Means], rows: &mut Vec<Row>) -> Result<()> {
    let (cores, policy) = (Cores::apart()?, policy()?);
    let mut sides = [
        Side::new(&cores, policy.path())?,
        Side::new(&cores, policy.path())?,
    ];
    let works = [
        ("question to answer", sides[0].slice_of(Work::Questions)?),
        ("TCP, the same bytes", sides[0].slice_of(Work::Chunks)?),
    ];
    for (what, work) in works {
        let alike = pairs(&mut sides, Beside::Nothing, work)?;
        rows.extend(alike.rows(&format!("the untouched way, no fault: {what}")));
        let tree = match sides[0].tree {
            Some(_) => Some(pairs(&mut sides, Beside::Tree, work)?.middle()),
            None => None,
        };
        let mut ways = vec![("nftables".to_owned(), Beside::Partition)];
        for means in means {
            let name = word(*means);
            ways.push((format!("{name} of 100 hosts"), Beside::DelayOfMany(*means)));
            ways.push((name, Beside::Delay(*means)));
        }
        for (name, beside) in ways {
            let ours = pairs(&mut sides, beside, work)?;
            let [mut middle, least, most] =
                ours.rows(&format!("the untouched way, {name}: {what}"));
            middle = match tree {
                Some(tree) => middle.beside("a root prio with netem", tree),
                None => middle.beside("no fault", alike.middle()),
            };
            rows.extend([middle, least, most]);
        }
    }
    Ok(())
}

/// How many times as long it takes with a fault as without.
fn pairs(sides: &mut [Side; 2], beside: Beside, work: Work) -> Result<Pairs> {
    let mut ratios = Vec::new();
    for _ in 0..TURNS {
        let one = ratio(sides, 0, beside, work)?;
        let other = ratio(sides, 1, beside, work)?;
        ratios.push((one * other).sqrt());
    }
    Ok(Pairs::new(ratios))
}

/// The same while the fault is on one side.
fn ratio(sides: &mut [Side; 2], at: usize, beside: Beside, work: Work) -> Result<f64> {
    let armed = sides[at].come(beside)?;
    let mut times = [Vec::new(), Vec::new()];
    for look in 0..LOOKS {
        for side in [look % 2, 1 - look % 2] {
            times[side].push(sides[side].time(work)?.as_secs_f64());
        }
    }
    sides[at].go(beside, armed)?;
    Ok(quantile(&times[at], 0.5) / quantile(&times[1 - at], 0.5))
}
