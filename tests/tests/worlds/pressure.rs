//! Doses of processor time and memory, read off the victim's own cgroup, kills, and pauses.

use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::cgroup::Cgroup;
use lab::world::check;
use lab::world::victim::Victim;
use lab::world::{Result, until};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use squall_experiments::dose::Dose;
use squall_experiments::fault::Fault;
use squall_experiments::target::Target;
use squall_experiments::wire::{Armed, EndCause};

use crate::as_root;
use crate::dose::LEASE;

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
    trials.push(as_root("dose::process::memory_in_bytes", memory_in_bytes));
    trials.push(as_root(
        "dose::process::memory_of_a_limit",
        memory_of_a_limit,
    ));
    trials.push(as_root("dose::process::kill_once", kill_once));
    trials.push(as_root("dose::process::pause", pause));
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
            squall_experiments::wire::FromAgent::Dosed(dosed) if dosed.id == armed.id => {
                match &dosed.dose {
                    Dose::Memory(memory) if memory.resident_bytes >= asked / 100 * 99 => Some(()),
                    _ => None,
                }
            }
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
