//! How much longer the way of a packet that no fault names is, beside a fault that acts on others.
//!
//! Two wires that are alike, and both ends of both on one processor, which the agents and their holders leave to them. The fault is on
//! one of them. They take turns of some milliseconds, and then the fault changes sides: neither what else the machine does nor a
//! difference between the two wires counts, and a part in a hundred can be seen.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lab::vm::on_path;
use lab::world::Result;
use lab::world::agent::{Agent, written};
use lab::world::nginx::Nginx;
use lab::world::wire::{Ip, Wire, named, neighbour};
use serde_json::json;
use squall_experiments::capability::Means;
use squall_experiments::fault::Fault;
use squall_experiments::ids::{FaultId, TargetId};
use tempfile::TempDir;

use super::cores::Cores;
use super::neighbour::policy;
use super::rivals::Rival;
use super::traffic::agent_at;
use super::{delay, lease, word};
use crate::compare::Pairs;
use crate::table::{Row, quantile};

/// How often the fault changes sides and back.
const TURNS: usize = 24;
/// How often the wires take turns meanwhile.
const LOOKS: usize = 60;
/// About how long each turn is.
const SLICE: Duration = Duration::from_millis(2);
/// How long an answer, or a connection, is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// What one write gives the kernel.
static CHUNK: [u8; 128 << 10] = [0x5a; 128 << 10];

/// Where nginx listens, and what it is asked and says last.
const WEB: u16 = 7008;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
const SERVED: &[u8] = b"served, and gladly";

/// One of the wires, and its untouched conversations.
struct Side {
    wire: Wire,
    agent: Agent,
    target: TargetId,
    questions: UdpSocket,
    stream: TcpStream,
    /// None where there is no nginx, as in the VM.
    web: Option<Web>,
    hooks: Rival,
    tree: Option<Rival>,
}

/// A connection to an nginx that ends with it.
struct Web {
    requests: TcpStream,
    _nginx: Nginx,
    _home: TempDir,
}

impl Web {
    fn open(wire: &Wire) -> Result<Self> {
        let (home, at) = (TempDir::new()?, SocketAddr::new(neighbour(Ip::V4), WEB));
        let server = format!(
            "client_header_timeout 1h; keepalive_timeout 1h; keepalive_requests 1000000000; return 200 '{}';",
            str::from_utf8(SERVED)?
        );
        let nginx = Nginx::start(&wire.peer, at, false, &server, home.path())?;
        let requests = wire.victim.enter(|| Ok(TcpStream::connect(at)?))?;
        requests.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            requests,
            _nginx: nginx,
            _home: home,
        })
    }

    fn get(&mut self) -> Result<()> {
        let (mut answer, mut read) = ([0; 1 << 10], 0);
        self.requests.write_all(GET)?;
        while !answer[..read].ends_with(SERVED) {
            read += match self.requests.read(&mut answer[read..])? {
                0 => return Err("nginx's answer is over too soon".into()),
                more => more,
            };
        }
        Ok(())
    }
}

/// What is done in one turn: so many questions with their answers, requests of nginx on one connection, or chunks sent and read.
#[derive(Clone, Copy)]
enum Work {
    Questions(u32),
    Requests(u32),
    Chunks(u32),
}

type Measured = (&'static str, fn(u32) -> Work);
const WORKS: [Measured; 3] = [
    ("question to answer", Work::Questions),
    ("request to nginx", Work::Requests),
    ("128 KiB by TCP", Work::Chunks),
];

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
            web: on_path("nginx").map(|_| Web::open(&wire)).transpose()?,
            hooks: Rival::empty_hooks(wire.victim.name()),
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
            Work::Requests(count) => {
                let web = self.web.as_mut().ok_or("there is no nginx")?;
                for _ in 0..count {
                    web.get()?;
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

    /// As much of it as takes about [`SLICE`], and how long one of it takes.
    fn slice_of(&mut self, work: fn(u32) -> Work) -> Result<(Work, Duration)> {
        const TRIED: u32 = 1_000;
        let each = self.time(work(TRIED))? / TRIED;
        let count = SLICE.as_nanos() / each.as_nanos().max(1);
        Ok((work(u32::try_from(count)?.max(1)), each))
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
    for (what, work) in WORKS {
        if matches!(work(1), Work::Requests(_)) && sides[0].web.is_none() {
            continue;
        }
        let (work, each) = sides[0].slice_of(work)?;
        let what = format!("the untouched way, {what}");
        let each_us = each.as_secs_f64() * 1e6;
        rows.push(Row::alone(format!("{what}: one"), "us", each_us));
        let alike = pairs(&mut sides, &Beside::Nothing, work)?;
        rows.extend(alike.rows(&format!("{what}: no fault")));
        let rival = match &sides[0].tree {
            Some(tree) => (tree.name.clone(), &Beside::Tree),
            None => (sides[0].hooks.name.clone(), &Beside::Hooks),
        };
        let theirs = pairs(&mut sides, rival.1, work)?.middle();
        for (name, fault, means) in faults(means) {
            let ours = pairs(&mut sides, &Beside::Fault(fault, means), work)?;
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

/// How many times as long it takes with a fault as without.
fn pairs(sides: &mut [Side; 2], beside: &Beside, work: Work) -> Result<Pairs> {
    let mut ratios = Vec::new();
    for _ in 0..TURNS {
        let one = ratio(sides, 0, beside, work)?;
        let other = ratio(sides, 1, beside, work)?;
        ratios.push((one * other).sqrt());
    }
    Ok(Pairs::new(ratios))
}

/// The same while the fault is on one side.
fn ratio(sides: &mut [Side; 2], at: usize, beside: &Beside, work: Work) -> Result<f64> {
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
