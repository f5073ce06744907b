//! Random walks: faults are armed, renewed, stopped, killed and piled upon each other in whatever order a seed says, up to twenty at
//! once on ten targets; and then the host must be as it was.
//!
//! A walk is decided by its seed alone. `SQUALL_WALKS=1000 cargo verify --world here walk` takes a thousand of them, and
//! `SQUALL_WALK_SEED=n SQUALL_WALKS=1` takes the one that failed again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::fingerprint::Fingerprint;
use lab::world::netns::Netns;
use lab::world::{Result, until, victim};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::json;
use squall_experiments::capability::{Capabilities, Means};
use squall_experiments::fault::FaultKind;
use squall_experiments::ids::FaultId;
use squall_experiments::wire::{FromAgent, FromController, Stop};

use crate::as_root;
use crate::dose::emulated;
use crate::scene::{Scene, strong};

/// The targets: each bears pauses and kills besides what its scene is for.
const TARGETS: [FaultKind; 10] = [
    FaultKind::Delay,
    FaultKind::Delay,
    FaultKind::Delay,
    FaultKind::Dns,
    FaultKind::Http,
    FaultKind::Exhaust,
    FaultKind::Cpu,
    FaultKind::Memory,
    FaultKind::Fill,
    FaultKind::Pause,
];

/// So many faults are asked for at once at most.
const FAULTS_MAX: usize = 20;

/// Steps of a walk.
const STEPS: std::ops::Range<usize> = 6..40;

/// How long all faults may take to be over once they are told to: the agent kills after 500 ms what does not end.
const OVER_LIMIT: Duration = Duration::from_secs(15);

/// How long it may take until somebody hears that a target has ended: where a pause's holder was stopped it is the tracer of the dead
/// until its lease ends, of which the longest is 30 s.
const TOLD_LIMIT: Duration = Duration::from_secs(32);

/// How long the agent may take to sweep up what is left idle.
const SWEPT_LIMIT: Duration = Duration::from_secs(5);

/// The first walk's number where nobody names another.
const SEED: u64 = 1;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub(crate) fn trials(capabilities: &Capabilities) -> Vec<Trial> {
    let able: Vec<(FaultKind, Vec<Means>)> = FaultKind::ALL
        .into_iter()
        .filter_map(|kind| Some((kind, capabilities.of(kind)?.means.clone())))
        .filter(|(_, means)| !means.is_empty())
        .collect();
    vec![as_root("walk::ends_where_it_began", move || walks(&able))]
}

fn walks(able: &[(FaultKind, Vec<Means>)]) -> Result<()> {
    let few = if emulated() { 3 } else { 30 };
    let count = from_environment("SQUALL_WALKS").unwrap_or(few);
    let first = from_environment("SQUALL_WALK_SEED").unwrap_or(SEED);
    let scenes = TARGETS.map(Scene::set);
    let scenes = scenes.into_iter().collect::<Result<Vec<_>>>()?;
    let wires = scenes.iter().filter_map(Scene::wire);
    let namespaces: Vec<&Netns> = wires.map(|wire| &wire.victim).collect();
    let (mut failed, mut tally) = (Vec::new(), Tally::default());
    let begun = Instant::now();
    for seed in first..first + count {
        let mut walk = Walk::begin(seed, able, &scenes, &namespaces)?;
        let ended = walk.go();
        tally.add(&walk);
        if let Err(error) = ended {
            failed.push(format!("seed {seed}: {error}\n{}", walk.steps.trim_end()));
            // What is left of it is not the next one's.
            drop(walk);
            drop(Agent::start()?);
        }
    }
    eprintln!(
        "{count} walks from seed {first} in {:.0} s: {} armings, of which {} came into force, {} renewals, {} stops, {} kills; {} failed",
        begun.elapsed().as_secs_f64(),
        tally.asked,
        tally.armed,
        tally.renewed,
        tally.stopped,
        tally.killed,
        failed.len()
    );
    if failed.is_empty() {
        return Ok(());
    }
    Err(failed.join("\n\n").into())
}

/// What was done in all walks.
#[derive(Default)]
struct Tally {
    asked: usize,
    armed: usize,
    renewed: usize,
    stopped: usize,
    killed: usize,
}

impl Tally {
    fn add(&mut self, walk: &Walk<'_>) {
        let own = &walk.tally;
        self.asked += own.asked;
        self.armed += own.armed;
        self.renewed += own.renewed;
        self.stopped += own.stopped;
        self.killed += own.killed;
    }
}

/// The decisions of one seed (SplitMix64: Steele, Lea and Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of so many; none of none.
    fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % count).unwrap_or(0)
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

/// What is known of a fault that was asked for.
#[derive(Default)]
struct Known {
    holder: Option<u32>,
    over: bool,
}

struct Walk<'a> {
    able: &'a [(FaultKind, Vec<Means>)],
    scenes: &'a [Scene],
    namespaces: &'a [&'a Netns],
    bare: Fingerprint,
    agent: Agent,
    chance: Chance,
    faults: BTreeMap<FaultId, Known>,
    /// What was done, for whoever must understand it.
    steps: String,
    tally: Tally,
}

impl<'a> Walk<'a> {
    fn begin(
        seed: u64,
        able: &'a [(FaultKind, Vec<Means>)],
        scenes: &'a [Scene],
        namespaces: &'a [&'a Netns],
    ) -> Result<Self> {
        scenes.iter().try_for_each(Scene::revive_target)?;
        Ok(Self {
            able,
            scenes,
            namespaces,
            bare: Fingerprint::take(namespaces)?,
            agent: Agent::start()?,
            chance: Chance(seed),
            faults: BTreeMap::new(),
            steps: String::new(),
            tally: Tally::default(),
        })
    }

    fn go(&mut self) -> Result<()> {
        let steps = STEPS.start + self.chance.below(STEPS.len());
        for _ in 0..steps {
            self.step()?;
            self.listen()?;
        }
        let spared = self.end()?;
        if !spared {
            // The next agent sweeps up before it serves.
            let _ = self.agent.signal(Signal::SIGKILL);
            until("the agent's end", OVER_LIMIT, || {
                (!self.agent.lives()).then_some(())
            })?;
            drop(Agent::start()?);
        }
        self.compare()
    }

    fn step(&mut self) -> Result<()> {
        match self.chance.below(20) {
            0..=9 => self.arm(),
            10..=12 => self.renew(),
            13..=14 => self.stop_one(),
            15 => self.signal_a_holder(Signal::SIGKILL),
            16 => self.signal_a_holder(Signal::SIGSTOP),
            17 => self.restart_a_target(),
            18 => {
                self.tally.stopped += 1;
                let _ = writeln!(self.steps, "stop all");
                self.agent.stop_all()
            }
            _ => {
                let pause = Duration::from_millis(u64::try_from(self.chance.below(300))?);
                let _ = writeln!(self.steps, "wait {pause:?}");
                thread::sleep(pause);
                Ok(())
            }
        }
    }

    fn live(&self) -> Vec<FaultId> {
        let live = self.faults.iter().filter(|(_, known)| !known.over);
        live.map(|(id, _)| id.clone()).collect()
    }

    fn arm(&mut self) -> Result<()> {
        let place = self.chance.below(self.scenes.len());
        let scene = &self.scenes[place];
        let borne: Vec<_> = self
            .able
            .iter()
            .filter(|(kind, _)| scene.bears(*kind))
            .collect();
        let Some((kind, means)) = self.chance.one_of(&borne) else {
            return Ok(());
        };
        let means = self.chance.one_of(means).copied();
        let lease = *self
            .chance
            .one_of(&["300ms", "2s", "30s", "30s"])
            .unwrap_or(&"2s");
        if self.live().len() >= FAULTS_MAX {
            return Ok(());
        }
        let fault = strong(*kind);
        // A target that has just been killed is not there.
        let Ok(mut found) = self.agent.resolve(&scene.target_for(*kind), &fault) else {
            let _ = writeln!(self.steps, "{kind} on {place}: no target");
            return Ok(());
        };
        let target = found.swap_remove(0).id;
        let id = self
            .agent
            .say_arm(target, &fault, written(json!(lease)), means, None)?;
        self.tally.asked += 1;
        let _ = writeln!(
            self.steps,
            "{}: {kind} by {means:?} on {place} for {lease}",
            id.0
        );
        self.faults.insert(id, Known::default());
        Ok(())
    }

    fn renew(&mut self) -> Result<()> {
        let live = self.live();
        let from = self.chance.below(live.len());
        let lease = *self.chance.one_of(&["300ms", "1s", "30s"]).unwrap_or(&"1s");
        self.tally.renewed += 1;
        let _ = writeln!(self.steps, "renew all from the {from}th on for {lease}");
        self.agent
            .renew_all(&live[from.min(live.len())..], written(json!(lease)))
    }

    fn stop_one(&mut self) -> Result<()> {
        let live = self.live();
        let Some(id) = self.chance.one_of(&live) else {
            return Ok(());
        };
        self.tally.stopped += 1;
        let _ = writeln!(self.steps, "stop {}", id.0);
        self.agent
            .say(&FromController::Stop(Stop::Faults(vec![id.clone()])))
    }

    fn signal_a_holder(&mut self, signal: Signal) -> Result<()> {
        let held = self.faults.iter().filter(|(_, known)| !known.over);
        let held: Vec<_> = held
            .filter_map(|(id, known)| Some((id.clone(), known.holder?)))
            .collect();
        let Some((id, holder)) = self.chance.one_of(&held) else {
            return Ok(());
        };
        // It may be over, and its number somebody else's.
        let name = fs::read_to_string(format!("/proc/{holder}/cmdline")).unwrap_or_default();
        if name.starts_with("squall-agent:") {
            self.tally.killed += 1;
            let _ = writeln!(self.steps, "{signal} to the holder of {}", id.0);
            let _ = victim::signal(*holder, signal);
        }
        Ok(())
    }

    fn restart_a_target(&mut self) -> Result<()> {
        let place = self.chance.below(self.scenes.len());
        let _ = writeln!(self.steps, "target {place} restarts");
        self.scenes[place].restart_target_within(TOLD_LIMIT)
    }

    /// Takes down what the agent says: an end is said once, and nothing may be stuck.
    fn listen(&mut self) -> Result<()> {
        for message in self.agent.heard()? {
            match message {
                FromAgent::Armed(armed) => {
                    self.tally.armed += 1;
                    let known = self.faults.entry(armed.id).or_default();
                    known.holder = Some(armed.holder);
                }
                FromAgent::Refused(refused) => self.over(&refused.id)?,
                FromAgent::Ended(ended) => self.over(&ended.id)?,
                FromAgent::Stuck(stuck) => {
                    return Err(format!("{} is stuck: {}", stuck.id.0, stuck.reason).into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn over(&mut self, id: &FaultId) -> Result<()> {
        let Some(known) = self.faults.get_mut(id) else {
            return Err(format!("{} was never asked for, and ended", id.0).into());
        };
        known.over = true;
        Ok(())
    }

    /// The walk's end; says whether the agent is still there.
    fn end(&mut self) -> Result<bool> {
        let way = self.chance.below(6);
        let _ = writeln!(self.steps, "end {way}");
        match way {
            0 | 1 => self.agent.signal(Signal::SIGKILL)?,
            2 => self.agent.hang_up(),
            3 => self.agent.signal(Signal::SIGTERM)?,
            _ => {
                self.agent.stop_all()?;
                let begun = Instant::now();
                while !self.live().is_empty() {
                    if begun.elapsed() > OVER_LIMIT {
                        return Err(format!(
                            "{:?} are not over {OVER_LIMIT:?} after the stop",
                            self.live()
                        )
                        .into());
                    }
                    self.listen()?;
                }
                return Ok(true);
            }
        }
        let what = "the end of an agent that was told to";
        until(what, OVER_LIMIT, || (!self.agent.lives()).then_some(()))?;
        Ok(false)
    }

    /// The host is as it was, but for an agent that is still there, and every target answers.
    fn compare(&mut self) -> Result<()> {
        let own = format!("squall-agent {}", self.agent.pid());
        let mut left = Vec::new();
        let clean = until("the host as it was", SWEPT_LIMIT, || {
            left = self
                .bare
                .difference(&Fingerprint::take(self.namespaces).ok()?);
            left.retain(|line| !line.contains(&own));
            left.is_empty().then_some(())
        });
        clean.map_err(|error| format!("{error}:\n{}", left.join("\n")))?;
        for (place, scene) in self.scenes.iter().enumerate() {
            scene.revive_target()?;
            scene
                .answers()
                .map_err(|error| format!("target {place}: {error}"))?;
        }
        Ok(())
    }
}
