//! Doses of processor time and memory, read off the victim's own cgroup, kills, pauses, and what there is a limited
//! amount of.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::cgroup::Cgroup;
use lab::world::check;
use lab::world::victim::Victim;
use lab::world::wire::Wire;
use lab::world::{Result, until};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use squall_experiments::dose::Dose;
use squall_experiments::fault::Fault;
use squall_experiments::target::Target;
use squall_experiments::wire::{Armed, EndCause, FromAgent};

use crate::dose::LEASE;
use crate::scene::exhausted::few_ports;
use crate::{as_root, beside_others};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for percent in [20, 50, 80] {
        trials.push(as_root(
            format!("dose::process::cpu_{percent}_of_a_core"),
            move || of_a_core(percent),
        ));
        trials.push(as_root(
            format!("dose::process::cpu_{percent}_of_a_quota"),
            move || of_a_quota(percent),
        ));
    }
    trials.push(beside_others(
        "dose::process::memory_in_bytes",
        memory_in_bytes,
    ));
    trials.push(beside_others(
        "dose::process::memory_of_a_limit",
        memory_of_a_limit,
    ));
    trials.push(beside_others("dose::process::kill_once", kill_once));
    // Real pressure at will takes memory.high, which v1 does not have: there the node's own would be needed.
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        trials.push(as_root(
            "dose::process::memory_steps_back_under_pressure",
            memory_steps_back,
        ));
    }
    trials.push(beside_others("dose::process::pause", pause));
    trials.push(beside_others("dose::process::fill_to_a_share", fill));
    trials.push(as_root("dose::process::io_at_a_rate", io));
    trials.push(beside_others("dose::process::ports_but_for_a_few", ports));
    trials
}

/// A cgroup with a victim in it, and an agent; the cgroup goes last, when it is empty.
struct Pressed {
    agent: Agent,
    victim: Victim,
    group: Cgroup,
}

impl Pressed {
    fn new(name: &str) -> Result<Self> {
        let group = Cgroup::create(&format!("sqt-{name}-{}", std::process::id()))?;
        let victim = Victim::start(name)?;
        group.adopt(victim.pid())?;
        Ok(Self {
            agent: Agent::start()?,
            group,
            victim,
        })
    }

    fn inject(&mut self, fault: Value) -> Result<Armed> {
        let target: Target = written(json!({ "process": { "pid": self.victim.pid() } }));
        let fault: Fault = written(fault);
        self.agent
            .inject(&target, &fault, written(json!(LEASE)), None)
    }

    /// Cores' worth of processor time used in the group over `time`.
    fn burnt(&self, time: Duration) -> Result<f64> {
        let (before, begun) = (self.group.cpu_used()?, Instant::now());
        thread::sleep(time);
        let used = self.group.cpu_used()?.saturating_sub(before);
        Ok(used.as_secs_f64() / begun.elapsed().as_secs_f64())
    }
}

/// How long a load is measured, after its control has settled for a quarter of that.
const MEASURED: Duration = Duration::from_secs(4);

fn of_a_core(percent: u32) -> Result<()> {
    let mut pressed = Pressed::new("core")?;
    check::share("idle", pressed.burnt(MEASURED / 8)?, 0.0, 0.02)?;
    pressed.inject(json!({ "cpu": { "load": format!("{percent}%") } }))?;
    pressed.burnt(MEASURED / 4)?;
    Ok(check::share(
        "of a core",
        pressed.burnt(MEASURED)?,
        f64::from(percent) / 100.0,
        0.02,
    )?)
}

/// Half a core for the whole group.
const QUOTA_PERCENT: u32 = 50;

fn of_a_quota(percent: u32) -> Result<()> {
    let mut pressed = Pressed::new("quota")?;
    pressed.group.limit_cpu(QUOTA_PERCENT)?;
    pressed.inject(json!({ "cpu": { "load": format!("{percent}%"), "of": "quota" } }))?;
    pressed.burnt(MEASURED / 4)?;
    let share = pressed.burnt(MEASURED)? * 100.0 / f64::from(QUOTA_PERCENT);
    Ok(check::share(
        "of the quota",
        share,
        f64::from(percent) / 100.0,
        0.02,
    )?)
}

fn memory_in_bytes() -> Result<()> {
    let mut pressed = Pressed::new("bytes")?;
    holds_memory(
        &mut pressed,
        &json!({ "memory": { "size": "64MiB" } }),
        64 << 20,
    )
}

fn memory_of_a_limit() -> Result<()> {
    let mut pressed = Pressed::new("limit")?;
    pressed.group.limit_memory(200 << 20)?;
    holds_memory(
        &mut pressed,
        &json!({ "memory": { "size": "50%" } }),
        100 << 20,
    )
}

fn holds_memory(pressed: &mut Pressed, fault: &Value, asked: u64) -> Result<()> {
    let before = pressed.group.memory_used()?;
    let armed = pressed.inject(fault.clone())?;
    // The first dose that is full: growth takes its time.
    pressed.agent.hear(
        "full dose",
        Duration::from_secs(20),
        |message| match message {
            FromAgent::Dosed(dosed) if dosed.id == armed.id => match &dosed.dose {
                Dose::Memory(memory) if memory.resident_bytes >= asked / 100 * 99 => Some(()),
                _ => None,
            },
            _ => None,
        },
    )?;
    let held = pressed.group.memory_used()?.saturating_sub(before);
    #[allow(clippy::cast_precision_loss, reason = "megabytes")]
    check::share(
        "memory, of what was asked for",
        held as f64 / asked as f64,
        1.0,
        0.01,
    )?;
    check::share(
        "of a core, for holding it",
        pressed.burnt(MEASURED / 2)?,
        0.0,
        0.02,
    )?;
    pressed.agent.stop(&armed.id)?;
    until("the memory's return", Duration::from_secs(2), || {
        pressed
            .group
            .memory_used()
            .is_ok_and(|used| used < before + asked / 100)
            .then_some(())
    })
}

/// A group that is slowed down above a third of what is asked for: work stalls, and the fault must give way.
fn memory_steps_back() -> Result<()> {
    let mut pressed = Pressed::new("stalls")?;
    pressed.group.throttle_memory(32 << 20)?;
    let fault = json!({ "memory": { "size": "96MiB", "reserve": "0B" } });
    let armed = pressed.inject(fault)?;
    let stepped = |message: &FromAgent| match message {
        FromAgent::Dosed(dosed) if dosed.id == armed.id => match &dosed.dose {
            Dose::Memory(memory) if memory.back_off.is_some() => Some(memory.clone()),
            _ => None,
        },
        _ => None,
    };
    let limit = Duration::from_secs(40);
    let memory = pressed.agent.hear("step back", limit, stepped)?;
    if memory.resident_bytes >= memory.asked_bytes {
        return Err(format!("it stepped back and holds all the same: {memory:?}").into());
    }
    pressed.agent.stop(&armed.id)?;
    Ok(())
}

fn kill_once() -> Result<()> {
    let mut pressed = Pressed::new("kill")?;
    let target: Target = written(json!({ "process": { "pid": pressed.victim.pid() } }));
    let fault: Fault = written(json!({ "kill": { "signal": "TERM" } }));
    let armed = pressed
        .agent
        .inject(&target, &fault, written(json!(LEASE)), None)?;
    until("the victim's end", Duration::from_secs(5), || {
        (!pressed.victim.lives()).then_some(())
    })?;
    let ended = pressed.agent.ended(&armed.id)?;
    match (&ended.cause, &ended.dose) {
        (EndCause::Done, Some(Dose::Kill(kill))) if kill.sent == 1 => Ok(()),
        _ => Err(format!("one kill was asked for, and this was reported: {ended:?}").into()),
    }
}

/// A victim that answers within milliseconds answers only after the pause, which is as long as the dose says.
fn pause() -> Result<()> {
    const LONG_ENOUGH: Duration = Duration::from_millis(1500);
    let mut pressed = Pressed::new("pause")?;
    pressed.victim.ask(LONG_ENOUGH)?;
    let armed = pressed.inject(json!({ "pause": {} }))?;
    let begun = Instant::now();
    if let Ok(took) = pressed.victim.ask(LONG_ENOUGH) {
        return Err(format!("the victim answered after {took:?} though it was paused").into());
    }
    let least = begun.elapsed();
    let ended = pressed.agent.stop(&armed.id)?;
    let most = begun.elapsed();
    pressed.victim.ask(Duration::from_secs(5))?;
    match &ended.dose {
        // The first look is made when it is armed, a moment before we hear of it.
        Some(Dose::Pause(dose))
            if dose.threads == 1
                && dose.seconds >= least.as_secs_f64() * 0.98
                && dose.seconds <= most.as_secs_f64() + 0.5 =>
        {
            Ok(())
        }
        _ => Err(format!(
            "the victim stood still for {least:?} to {most:?}, and this was reported: {ended:?}"
        )
        .into()),
    }
}

/// A victim with a file system of its own, and an agent.
fn on_disk(name: &str, bytes: u64) -> Result<(Agent, Victim, Target)> {
    let victim = Victim::start_on_disk(name, bytes)?;
    let target: Target = written(json!({ "process": { "pid": victim.pid() } }));
    Ok((Agent::start()?, victim, target))
}

/// The share that was asked for is what the victim's own file system says.
fn fill() -> Result<()> {
    const DISK_BYTES: u64 = 64 << 20;
    let (mut agent, victim, target) = on_disk("fill", DISK_BYTES)?;
    let fault = json!({ "fill": { "path": "/tmp", "goal": { "to": "80%" }, "reserve": "1MiB" } });
    let armed = agent.inject(&target, &written(fault), written(json!(LEASE)), None)?;
    agent.hear("full dose", Duration::from_secs(10), |message| {
        let squall_experiments::wire::FromAgent::Dosed(dosed) = message else {
            return None;
        };
        matches!(&dosed.dose, Dose::Fill(fill) if fill.held_bytes == fill.asked_bytes).then_some(())
    })?;
    #[allow(clippy::cast_precision_loss, reason = "megabytes")]
    let used = 1.0 - victim.room("/tmp")? as f64 / DISK_BYTES as f64;
    check::share("of the file system", used, 0.8, 0.01)?;
    agent.stop(&armed.id)?;
    until("the room's return", Duration::from_secs(2), || {
        victim
            .room("/tmp")
            .is_ok_and(|room| room == DISK_BYTES)
            .then_some(())
    })
}

/// The rate that was asked for is what the kernel counts for the holder.
fn io() -> Result<()> {
    const BYTES_PER_SECOND: u32 = 4 << 20;
    let (mut agent, _victim, target) = on_disk("io", 96 << 20)?;
    let fault = json!({ "io": { "path": "/tmp", "write": "4MiB/s", "file": "1MiB" } });
    let armed = agent.inject(&target, &written(fault), written(json!(LEASE)), None)?;
    let written_bytes = || -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/io", armed.holder))?;
        let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
        Ok(line.ok_or("no wchar in /proc")?.parse()?)
    };
    thread::sleep(MEASURED / 4);
    let (before, begun) = (written_bytes()?, Instant::now());
    thread::sleep(MEASURED / 2);
    let rate = (written_bytes()? - before) / begun.elapsed().as_secs_f64();
    Ok(check::share(
        "of the rate that was asked for",
        rate / f64::from(BYTES_PER_SECOND),
        1.0,
        0.05,
    )?)
}

/// Whoever asks for a port in the victim's namespace gets one as often as is left over.
fn ports() -> Result<()> {
    const LEFT: usize = 7;
    let wire = Wire::new()?;
    let victim = wire.victim.enter(|| {
        few_ports()?;
        Victim::start("ports")
    })?;
    let mut agent = Agent::start()?;
    let target: Target = written(json!({ "process": { "pid": victim.pid() } }));
    let fault = json!({ "exhaust": { "what": "ports", "goal": { "leave": LEFT } } });
    let armed = agent.inject(&target, &written(fault), written(json!(LEASE)), None)?;
    let given = |most: usize| {
        wire.victim.enter(|| {
            let mut listeners = Vec::new();
            while listeners.len() < most {
                match std::net::TcpListener::bind("127.0.0.1:0") {
                    Ok(listener) => listeners.push(listener),
                    Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => break,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(listeners.len())
        })
    };
    let found = given(usize::MAX)?;
    if found != LEFT {
        return Err(format!("{LEFT} ports were to be left over, and {found} were").into());
    }
    agent.stop(&armed.id)?;
    match given(LEFT * 2)? {
        all if all == LEFT * 2 => Ok(()),
        few => Err(format!("after the fault only {few} ports were given").into()),
    }
}
