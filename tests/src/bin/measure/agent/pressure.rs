//! Processor and memory: what is asked for and what is used, beside stress-ng.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use lab::vm::on_path;
use lab::world::Result;
use lab::world::agent::{Agent, written};
use lab::world::cgroup::Cgroup;
use lab::world::victim::{self, Victim};
use serde_json::{Value, json};
use squall_experiments::target::Target;

use super::lease;
use crate::table::Row;

/// How long something steady is measured.
const STEADY: Duration = Duration::from_secs(3);

pub(super) fn measure(rows: &mut Vec<Row>) -> Result<()> {
    processor(rows)?;
    memory(rows)
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

/// Shares of a core or of a quota, in percent.
const LOADS: [u32; 3] = [20, 50, 80];
/// Of what they are shares: so many whole cores, or a quota of this much of one.
const BASES: [Base; 3] = [Base::Cores(1), Base::Cores(2), Base::Quota(50)];

#[derive(Clone, Copy)]
enum Base {
    Cores(u32),
    Quota(u32),
}

/// What is asked for and what is burnt, over loads, cores and quotas.
fn processor(rows: &mut Vec<Row>) -> Result<()> {
    for base in BASES {
        for load in LOADS {
            let pressed = Pressed::new("cpu")?;
            let (asked, fault, workers, each) = match base {
                Base::Cores(cores) => {
                    let fault = json!({ "cpu": { "load": format!("{}%", load * cores) } });
                    (load * cores, fault, cores, load)
                }
                Base::Quota(quota) => {
                    pressed.group.limit_cpu(quota)?;
                    let fault = json!({ "cpu": { "load": format!("{load}%"), "of": "quota" } });
                    // stress-ng knows no quotas: whoever uses it does this sum by hand.
                    (load * quota / 100, fault, 1, load * quota / 100)
                }
            };
            let mut agent = Agent::start()?;
            pressed.inject(&mut agent, fault)?;
            let ours = pressed.burnt_percent()?;
            drop(agent);
            let of = match base {
                Base::Cores(1) => "a core".to_owned(),
                Base::Cores(cores) => format!("{cores} cores"),
                Base::Quota(quota) => format!("a quota of {quota} %"),
            };
            let row = Row::alone(
                format!("cpu: {load} % of {of} ({asked} %), burnt"),
                "%",
                ours,
            );
            let (workers, each) = (workers.to_string(), each.to_string());
            let stress = Stress::start(&pressed, &["--cpu", &workers, "--cpu-load", &each])?;
            rows.push(match stress {
                Some(_running) => row.beside("stress-ng --cpu-load", pressed.burnt_percent()?),
                None => row,
            });
        }
    }
    Ok(())
}

/// What is asked for and what is resident, over sizes.
fn memory(rows: &mut Vec<Row>) -> Result<()> {
    for mib in [64, 256, 512] {
        let pressed = Pressed::new("memory")?;
        let before = pressed.held_mib()?;
        let mut agent = Agent::start()?;
        pressed.inject(
            &mut agent,
            json!({ "memory": { "size": format!("{mib}MiB") } }),
        )?;
        let cpu = pressed.burnt_percent()?;
        let mut held = Row::alone(
            format!("memory: {mib} MiB asked, resident"),
            "MiB",
            pressed.held_mib()? - before,
        );
        let mut cost = Row::alone(format!("memory: of a core for holding {mib} MiB"), "%", cpu);
        drop(agent);
        let size = format!("{mib}M");
        let stress = [
            "--vm",
            "1",
            "--vm-bytes",
            &size,
            "--vm-keep",
            "--vm-hang",
            "0",
        ];
        let stress = [&stress[..], &["--vm-method", "write64"]].concat();
        if let Some(_running) = Stress::start(&pressed, &stress)? {
            let cpu = pressed.burnt_percent()?;
            held = held.beside("stress-ng --vm-bytes", pressed.held_mib()? - before);
            cost = cost.beside("stress-ng --vm-bytes", cpu);
        }
        rows.extend([held, cost]);
    }
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
