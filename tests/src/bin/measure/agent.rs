//! The agent beside the command-line tools other fault injectors lean on: nsenter, tc, nft, stress-ng.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use lab::vm::on_path;
use lab::world::agent::{Agent, written};
use lab::world::cgroup::Cgroup;
use lab::world::tcp::throughput;
use lab::world::victim::{self, Victim};
use lab::world::wire::{Ip, Wire, named, neighbour};
use lab::world::{Result, output};
use serde_json::{Value, json};
use squall_experiments::capability::Means;
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::target::Target;
use squall_experiments::units::Lease;

use crate::table::{Row, quantile};

/// How often something fast is repeated.
const REPEATED: usize = 200;

/// How long something steady is measured.
const STEADY: Duration = Duration::from_secs(4);

pub(crate) fn measure() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let agent = Agent::start()?;
    let means = agent
        .hello()
        .capabilities
        .of(FaultKind::Delay)
        .map(|c| c.means.clone())
        .unwrap_or_default();
    rows.push(Row::alone(
        "idle agent, resident",
        "MiB",
        resident_mib(agent.pid())?,
    ));
    drop(agent);
    for means in &means {
        eprintln!("measure: coming and going by {means:?}");
        coming_and_going(*means, &mut rows)?;
        eprintln!("measure: throughput by {means:?}");
        traffic(*means, &mut rows)?;
    }
    eprintln!("measure: processor");
    processor(&mut rows)?;
    eprintln!("measure: memory");
    memory(&mut rows)?;
    Ok(rows)
}

fn lease() -> Lease {
    written(json!("60s"))
}

fn delay(time: &str) -> Fault {
    written(
        json!({ "delay": { "time": time, "filter": { "to": { "hosts": [named(Ip::V4).to_string()] } } } }),
    )
}

fn coming_and_going(means: Means, rows: &mut Vec<Row>) -> Result<()> {
    let wire = Wire::new()?;
    let mut agent = Agent::start()?;
    let target: Target = written(json!({ "netns": { "name": wire.victim.name() } }));
    let fault = delay("100ms");
    let candidate = agent.resolve(&target, &fault)?.swap_remove(0).id;
    let (mut come, mut go, mut holder_mib) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..REPEATED {
        let armed = agent.arm(candidate.clone(), &fault, lease(), Some(means))?;
        come.push(ms(armed.took_us));
        holder_mib = resident_mib(armed.holder)?;
        go.push(ms(agent
            .stop(&armed.id)?
            .took_us
            .ok_or("the agent does not say how long the stop took")?));
    }
    let rival = Rival::find(&wire)?;
    let (mut rival_come, mut rival_go) = (Vec::new(), Vec::new());
    for _ in 0..REPEATED {
        rival_come.push(rival.timed(&rival.come)?);
        rival_go.push(rival.timed(&rival.go)?);
    }
    let by = format!("{means:?}").to_lowercase();
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let both = |what: &str, ours: &[f64], theirs: &[f64]| {
            Row::alone(
                format!("{by}: {what}, {name} of {REPEATED}"),
                "ms",
                quantile(ours, share),
            )
            .beside(&rival.name, quantile(theirs, share))
        };
        rows.push(both("command to armed", &come, &rival_come));
        rows.push(both("stop to gone", &go, &rival_go));
    }
    rows.push(Row::alone(
        format!("{by}: holder, resident"),
        "MiB",
        holder_mib,
    ));
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a second")]
fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

/// The same change as other tools make it: a root qdisc and a rule that classifies, each a program of its own,
/// each entering the namespace on its own.
struct Rival {
    name: String,
    netns: String,
    come: Vec<Vec<String>>,
    go: Vec<Vec<String>>,
}

impl Rival {
    fn find(wire: &Wire) -> Result<Self> {
        let netns = format!("--net=/run/netns/{}", wire.victim.name());
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let shape = |kind: &str| words(&format!("tc qdisc add dev eth0 root {kind}"));
        let mut rival = Self {
            name: String::new(),
            netns,
            come: vec![
                Vec::new(),
                words("nft add table inet rival"),
                words("nft add chain inet rival out { type filter hook output priority 0 ; }"),
                words(&format!(
                    "nft add rule inet rival out ip daddr {} meta mark set 1",
                    named(Ip::V4)
                )),
            ],
            go: vec![
                words("tc qdisc del dev eth0 root"),
                words("nft delete table inet rival"),
            ],
        };
        // On a kernel without netem tc cannot delay at all; its nearest is a token bucket.
        for (name, kind) in [
            ("netem", "netem delay 100ms"),
            ("tbf", "tbf rate 1gbit burst 1mb latency 50ms"),
        ] {
            rival.come[0] = shape(kind);
            if rival.timed(&rival.come).is_ok() {
                rival.timed(&rival.go)?;
                rival.name = format!("nsenter + tc {name} + nft");
                return Ok(rival);
            }
        }
        Err("tc can add neither netem nor tbf here".into())
    }

    /// Milliseconds for all of `commands`.
    fn timed(&self, commands: &[Vec<String>]) -> Result<f64> {
        let begun = Instant::now();
        for command in commands {
            output(Command::new("nsenter").arg(&self.netns).args(command))?;
        }
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}

fn traffic(means: Means, rows: &mut Vec<Row>) -> Result<()> {
    let wire = Wire::new()?;
    let mut agent = Agent::start()?;
    let gbit = |to| throughput(&wire, to, STEADY).map(|bytes| bytes * 8e-9);
    let free = gbit(named(Ip::V4))?;
    let target: Target = written(json!({ "netns": { "name": wire.victim.name() } }));
    let armed = agent.inject(&target, &delay("1ms"), lease(), Some(means))?;
    let steered = gbit(named(Ip::V4))?;
    let beside = gbit(neighbour(Ip::V4))?;
    agent.stop(&armed.id)?;
    let rival = Rival::find(&wire)?;
    rival.timed(&rival.come)?;
    let theirs = gbit(named(Ip::V4))?;
    let by = format!("{means:?}").to_lowercase();
    rows.push(Row::alone(
        format!("{by}: TCP with no fault at all"),
        "Gbit/s",
        free,
    ));
    rows.push(
        Row::alone(format!("{by}: TCP steered, 1 ms late"), "Gbit/s", steered)
            .beside("the same with no fault", free),
    );
    rows.push(
        Row::alone(
            format!("{by}: TCP of the neighbour meanwhile"),
            "Gbit/s",
            beside,
        )
        .beside(format!("{}, which hits all alike", rival.name), theirs),
    );
    Ok(())
}

/// A cgroup with a victim, under a fault or under stress-ng; the cgroup goes last, when it is empty.
struct Pressed {
    victim: Victim,
    group: Cgroup,
}

impl Pressed {
    fn new(name: &str) -> Result<Self> {
        let group = Cgroup::create(&format!("sqt-measure-{name}-{}", std::process::id()))?;
        let victim = Victim::start(name)?;
        group.adopt(victim.pid())?;
        Ok(Self { group, victim })
    }

    /// Percent of a core used in the group while the pressure is steady.
    fn burnt_percent(&self) -> Result<f64> {
        thread::sleep(STEADY / 4);
        let (before, begun) = (self.group.cpu_used()?, Instant::now());
        thread::sleep(STEADY);
        let used = self.group.cpu_used()?.saturating_sub(before);
        Ok(used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0)
    }

    #[allow(clippy::cast_precision_loss, reason = "megabytes")]
    fn held_mib(&self) -> Result<f64> {
        Ok(self.group.memory_used()? as f64 / f64::from(1 << 20))
    }

    fn inject(&self, agent: &mut Agent, fault: Value) -> Result<()> {
        let target: Target = written(json!({ "process": { "pid": self.victim.pid() } }));
        agent
            .inject(&target, &written(fault), lease(), None)
            .map(drop)
    }
}

fn processor(rows: &mut Vec<Row>) -> Result<()> {
    for percent in [20, 50, 80] {
        let pressed = Pressed::new("cpu")?;
        let mut agent = Agent::start()?;
        pressed.inject(
            &mut agent,
            json!({ "cpu": { "load": format!("{percent}%") } }),
        )?;
        let ours = pressed.burnt_percent()?;
        drop(agent);
        let row = Row::alone(
            format!("cpu: {percent} % of a core asked, burnt"),
            "%",
            ours,
        );
        let load = percent.to_string();
        let stress = Stress::start(&pressed, &["--cpu", "1", "--cpu-load", &load])?;
        rows.push(match stress {
            Some(_running) => row.beside("stress-ng --cpu-load", pressed.burnt_percent()?),
            None => row,
        });
    }
    Ok(())
}

fn memory(rows: &mut Vec<Row>) -> Result<()> {
    let pressed = Pressed::new("memory")?;
    let before = pressed.held_mib()?;
    let mut agent = Agent::start()?;
    pressed.inject(&mut agent, json!({ "memory": { "size": "256MiB" } }))?;
    let cpu = pressed.burnt_percent()?;
    let mut held = Row::alone(
        "memory: 256 MiB asked, resident",
        "MiB",
        pressed.held_mib()? - before,
    );
    let mut cost = Row::alone("memory: of a core for holding it", "%", cpu);
    drop(agent);
    let stress = [
        "--vm",
        "1",
        "--vm-bytes",
        "256M",
        "--vm-keep",
        "--vm-hang",
        "0",
        "--vm-method",
        "write64",
    ];
    if let Some(_running) = Stress::start(&pressed, &stress)? {
        let cpu = pressed.burnt_percent()?;
        held = held.beside("stress-ng --vm-bytes", pressed.held_mib()? - before);
        cost = cost.beside("stress-ng --vm-bytes", cpu);
    }
    rows.extend([held, cost]);
    Ok(())
}

/// stress-ng in a group; it ends with this value.
struct Stress(Child);

impl Stress {
    /// None where it is not installed.
    fn start(pressed: &Pressed, args: &[&str]) -> Result<Option<Self>> {
        let Some(program) = on_path("stress-ng") else {
            return Ok(None);
        };
        let args = [args, &["--quiet", "--timeout", "60"]].concat();
        let child = victim::launch(&pressed.group, &program, &args)?;
        Ok(Some(Self(child)))
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        // SIGINT lets it end its own workers.
        let _ = victim::signal(self.0.id(), nix::sys::signal::Signal::SIGINT);
        let _ = self.0.wait();
    }
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
