//! How much longer the way of a packet that no fault names is, beside a fault that acts on others.
//!
//! Two wires that are alike, and both ends of both on one processor, which the agents and their holders leave to them; services are on
//! another as well ([`talks`]). The fault is on one of the wires. They take turns of some milliseconds, and then the fault changes
//! sides: neither what else the machine does nor a difference between the two wires counts, and a part in a hundred can be seen.

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
use super::talks::{self, Talk};
use super::traffic::agent_at;
use super::{delay, lease, word};
use crate::compare::Pairs;
use crate::table::{Row, quantile};

/// How often the fault changes sides and back.
const TURNS: usize = 16;
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
    talks: Vec<Talk>,
    hooks: Rival,
    tree: Option<Rival>,
}

/// What is done on a wire.
#[derive(Clone, Copy)]
enum Work {
    /// A question and its answer by UDP.
    Question,
    /// What the conversation at that place of a side's list says once, and its answer.
    Talk(usize),
    /// 128 KiB sent by TCP and read.
    Chunk,
}

/// So often in one turn.
#[derive(Clone, Copy)]
struct Turn(Work, u32);

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
            talks: talks::all(&wire, cores)?,
            hooks: Rival::empty_hooks(wire.victim.name()),
            tree: Rival::tree(wire.victim.name(), "eth0"),
            wire,
            agent,
            target,
            questions,
        })
    }

    /// How long it takes.
    fn time(&mut self, Turn(work, count): Turn) -> Result<Duration> {
        let begun = Instant::now();
        match work {
            Work::Question => {
                let mut packet = [2; 64];
                for _ in 0..count {
                    self.questions.send(&packet)?;
                    self.questions.recv(&mut packet)?;
                }
            }
            Work::Talk(at) => {
                let talk = self.talks.get_mut(at).ok_or("nobody to talk to")?;
                for _ in 0..count {
                    talk.ask()?;
                }
            }
            Work::Chunk => {
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

    /// As much of it as takes about [`SLICE`], and how long one of it takes.
    fn turn_of(&mut self, work: Work) -> Result<(Turn, Duration)> {
        const TRIED: u32 = 1_000;
        let each = self.time(Turn(work, TRIED))? / TRIED;
        let count = SLICE.as_nanos() / each.as_nanos().max(1);
        Ok((Turn(work, u32::try_from(count)?.max(1)), each))
    }

    fn come(&mut self, beside: &Beside) -> Result<Option<FaultId>> {
        match beside {
            Beside::Nothing => Ok(None),
            Beside::Hooks => self.hooks.come().map(|_| None),
            Beside::Tree => {
                self.tree.as_ref().map(Rival::come).transpose()?;
                Ok(None)
            }
            Beside::Fault(fault, means) => {
                let target = self.target.clone();
                let armed = self.agent.arm(target, fault, lease(), Some(*means))?;
                Ok(Some(armed.id))
            }
        }
    }

    fn go(&mut self, beside: &Beside, armed: Option<FaultId>) -> Result<()> {
        match (beside, &self.tree) {
            (Beside::Hooks, _) => drop(self.hooks.go()?),
            (Beside::Tree, Some(tree)) => drop(tree.go()?),
            _ => {}
        }
        armed.map(|id| self.agent.stop(&id)).transpose()?;
        Ok(())
    }
}

/// What is on one of the wires.
enum Beside {
    /// What two equal things differ by here is noise.
    Nothing,
    Fault(Fault, Means),
    Hooks,
    Tree,
}

/// The faults beside which the others go their way, and what is said of each.
fn faults(means: &[Means]) -> Vec<(String, Fault, Means)> {
    let host = named(Ip::V4).to_string();
    let partition = written(json!({ "partition": { "filter": { "to": { "hosts": [host] } } } }));
    let drop = ("nftables".to_owned(), partition, Means::Nftables);
    let shaped = means.iter().flat_map(|means| {
        let name = word(*means);
        [
            (name.clone(), delay("100ms"), *means),
            (format!("{name} of 100 hosts"), delay_of_many(), *means),
            (
                format!("{name} of what leaves for a port"),
                delay_of_leaving(),
                *means,
            ),
        ]
    });
    shaped.chain([drop]).collect()
}

/// A hundred hosts, no two of them neighbours.
fn delay_of_many() -> Fault {
    let others = (1..200).step_by(2).map(|n| format!("198.51.100.{n}"));
    let hosts: Vec<String> = others.collect();
    written(json!({ "delay": { "time": "100ms", "filter": { "to": { "hosts": hosts } } } }))
}

/// As most experiments have it: a dependency, by its port.
fn delay_of_leaving() -> Fault {
    let filter = json!({ "direction": "egress", "to": { "ports": ["9090"] } });
    written(json!({ "delay": { "time": "100ms", "filter": filter } }))
}

pub(super) fn measure(means: &[Means], rows: &mut Vec<Row>) -> Result<()> {
    let (cores, policy) = (Cores::apart()?, policy()?);
    let mut sides = [
        Side::new(&cores, policy.path())?,
        Side::new(&cores, policy.path())?,
    ];
    for (what, work) in works(&sides[0]) {
        let (turn, each) = sides[0].turn_of(work)?;
        let what = format!("the untouched way, {what}");
        let each_us = each.as_secs_f64() * 1e6;
        rows.push(Row::alone(format!("{what}: one"), "us", each_us));
        let alike = pairs(&mut sides, &Beside::Nothing, turn)?;
        rows.extend(alike.rows(&format!("{what}: no fault")));
        let rival = match &sides[0].tree {
            Some(tree) => (tree.name.clone(), &Beside::Tree),
            None => (sides[0].hooks.name.clone(), &Beside::Hooks),
        };
        let theirs = pairs(&mut sides, rival.1, turn)?.middle();
        for (name, fault, means) in faults(means) {
            let ours = pairs(&mut sides, &Beside::Fault(fault, means), turn)?;
            let [middle, least, most] = ours.rows(&format!("{what}: {name}"));
            rows.extend([middle.beside(rival.0.clone(), theirs), least, most]);
            let longer = (ours.middle() - 1.0) * each_us;
            rows.push(Row::alone(
                format!("{what}: {name}, longer by"),
                "us",
                longer,
            ));
        }
    }
    Ok(())
}

fn works(side: &Side) -> Vec<(String, Work)> {
    let talks = side.talks.iter().enumerate();
    let talks = talks.map(|(at, talk)| (talk.what.clone(), Work::Talk(at)));
    let mut works = vec![(
        "question to answer, one processor".to_owned(),
        Work::Question,
    )];
    works.extend(talks);
    works.push(("128 KiB by TCP, one processor".to_owned(), Work::Chunk));
    works
}

/// How many times as long it takes with a fault as without.
fn pairs(sides: &mut [Side; 2], beside: &Beside, turn: Turn) -> Result<Pairs> {
    let mut ratios = Vec::new();
    for _ in 0..TURNS {
        let one = ratio(sides, 0, beside, turn)?;
        let other = ratio(sides, 1, beside, turn)?;
        ratios.push((one * other).sqrt());
    }
    Ok(Pairs::new(ratios))
}

/// The same while the fault is on one side.
fn ratio(sides: &mut [Side; 2], at: usize, beside: &Beside, turn: Turn) -> Result<f64> {
    let armed = sides[at].come(beside)?;
    let mut times = [Vec::new(), Vec::new()];
    for look in 0..LOOKS {
        for side in [look % 2, 1 - look % 2] {
            times[side].push(sides[side].time(turn)?.as_secs_f64());
        }
    }
    sides[at].go(beside, armed)?;
    Ok(quantile(&times[at], 0.5) / quantile(&times[1 - at], 0.5))
}
