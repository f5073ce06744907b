//! One round: the faults of some cells live at once, and end together.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, program, written};
use lab::world::cgroup::Cgroup;
use lab::world::fingerprint::Fingerprint;
use lab::world::netns::Netns;
use lab::world::stalls::Stalls;
use lab::world::victim::{self, Hog};
use lab::world::{Result, disk, until};
use nix::sys::signal::Signal;
use serde_json::json;
use squall_experiments::target::Candidate;
use squall_experiments::units::Lease;
use squall_experiments::wire::Armed;
use tempfile::{NamedTempFile, TempDir};

use super::end::{End, LEASE};
use super::variation::Variation;
use super::{Cell, Told};
use crate::scene::Scene;

/// How long is looked after the fault should be gone: a fault that comes back is not gone.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// How long the agent may take to sweep up what a killed holder left idle.
const SWEPT_LIMIT: Duration = Duration::from_secs(5);

/// So long that it is not the lease that ends a fault where it should be something else.
const LONG_LEASE: &str = "60s";

/// Runs the round; tells of each cell in its place.
pub(super) fn run(cells: &[Cell]) -> Vec<Told> {
    let mut round = match Round::begin(cells) {
        Ok(round) => round,
        Err(error) => return vec![Err(error.to_string()); cells.len()],
    };
    let ended = round.live_and_die();
    let places = 0..cells.len();
    places
        .map(|place| match (&ended, round.failed.get(&place)) {
            (_, Some(failure)) => Err(failure.clone()),
            (Err(error), None) => Err(error.to_string()),
            (Ok(suffered), None) => suffered
                .get(&place)
                .copied()
                .ok_or_else(|| "nobody looked at its victim".to_owned()),
        })
        .collect()
}

/// How long each victim suffered, by its cell's place.
type Suffered = BTreeMap<usize, Duration>;

/// What came of watching.
struct Watched {
    /// How long a victim may suffer.
    limits: BTreeMap<usize, Duration>,
    /// How long it did, and for how long of that the machine itself stood still, by its cell's place.
    suffered: BTreeMap<usize, (Duration, Duration)>,
}

struct Round<'a> {
    cells: &'a [Cell],
    end: End,
    scenes: Vec<Scene>,
    /// Why a cell is out of it, by its place.
    failed: BTreeMap<usize, String>,
    /// What is armed, by its cell's place.
    armed: BTreeMap<usize, Armed>,
    /// What was armed in cells that went wrong: ended before the others are judged by what is left.
    fallen: Vec<Armed>,
    /// When the leases end, where it is they that end the faults.
    lease_end: Option<Instant>,
}

impl<'a> Round<'a> {
    fn begin(cells: &'a [Cell]) -> Result<Self> {
        let end = cells.first().ok_or("a round of nothing")?.end;
        let scenes = thread::scope(|scope| {
            let set = |cell: &Cell| {
                let (kind, variation) = (cell.kind, cell.variation);
                scope.spawn(move || match variation {
                    Variation::Owned => Scene::set_owned(kind),
                    Variation::Exhausting(what) => Scene::set_exhausting(what),
                    Variation::Plain | Variation::Fallback | Variation::Pulsed => Scene::set(kind),
                })
            };
            let setting: Vec<_> = cells.iter().map(set).collect();
            let joined = setting.into_iter().map(|scene| {
                scene
                    .join()
                    .unwrap_or_else(|_| Err("setting a scene panicked".into()))
            });
            joined.collect::<Result<Vec<_>>>()
        })?;
        Ok(Self {
            cells,
            end,
            scenes,
            failed: BTreeMap::new(),
            armed: BTreeMap::new(),
            fallen: Vec::new(),
            lease_end: None,
        })
    }

    fn namespaces(&self) -> Vec<&Netns> {
        let wires = self.scenes.iter().filter_map(Scene::wire);
        wires.map(|wire| &wire.victim).collect()
    }

    fn live_and_die(&mut self) -> Result<Suffered> {
        let place = Place::make(self.end)?;
        let bare = Fingerprint::take(&self.namespaces())?;
        let policy = everything_allowed()?;
        let mut agent = place.agent(policy.path())?;
        let candidates = self.resolve(&mut agent)?;
        let idle = Fingerprint::take(&self.namespaces())?;
        let places: Vec<usize> = (0..self.cells.len()).collect();
        // An agent that is upgraded goes on arming as what it was.
        let (before, after) = places.split_at(if self.end == End::Upgraded {
            places.len() / 2
        } else {
            places.len()
        });
        self.arm(&mut agent, before, &candidates);
        let successor = place.upgrade(&mut agent, policy.path())?;
        self.arm(&mut agent, after, &candidates);
        self.feel();
        if self.end.is_by_lease() {
            self.lease_end = Some(self.shorten_leases(&mut agent)?);
        }
        let watched = self.end_and_watch(&mut agent, &place)?;
        self.judge(&watched);
        let before = if self.end.spares_the_agent() {
            self.hear_of_the_end(&mut agent);
            for fallen in &self.fallen {
                // One that does not end shows in what is left.
                let _ = agent.stop(&fallen.id);
            }
            idle
        } else {
            drop((agent, successor));
            // The next agent sweeps up before it serves.
            drop(Agent::start()?);
            bare
        };
        self.compare(&before)?;
        let suffered = watched.suffered.into_iter();
        Ok(suffered.map(|(at, (last, _))| (at, last)).collect())
    }

    fn resolve(&mut self, agent: &mut Agent) -> Result<Vec<Candidate>> {
        let by_name = self.end == End::NetnsDeleted;
        let found = self.scenes.iter().map(|scene| {
            let target = scene.target(by_name)?;
            Ok(agent.resolve(&target, &scene.fault())?.swap_remove(0))
        });
        found.collect()
    }

    fn arm(&mut self, agent: &mut Agent, places: &[usize], candidates: &[Candidate]) {
        let lease: Lease = written(json!(LONG_LEASE));
        for place in places.iter().copied() {
            let (scene, cell) = (&self.scenes[place], &self.cells[place]);
            let target = candidates[place].id.clone();
            let pulse = cell.variation.pulse();
            match agent.arm_pulsing(target, &scene.fault(), lease, Some(cell.means), pulse) {
                Ok(armed) => drop(self.armed.insert(place, armed)),
                Err(error) => drop(self.failed.insert(place, error.to_string())),
            }
        }
    }

    /// Waits until every victim feels its fault; the cell of one that does not is out.
    fn feel(&mut self) {
        let (scenes, armed) = (&self.scenes, &self.armed);
        let felt: Vec<(usize, Result<()>)> = thread::scope(|scope| {
            let feeling = armed
                .keys()
                .map(|place| (*place, scope.spawn(|| scenes[*place].feel())));
            let feeling: Vec<_> = feeling.collect();
            let joined = feeling.into_iter().map(|(place, felt)| {
                let felt = felt
                    .join()
                    .unwrap_or_else(|_| Err("feeling panicked".into()));
                (place, felt)
            });
            joined.collect()
        });
        for (place, felt) in felt {
            let holder = self.armed.get(&place).map_or(0, |armed| armed.holder);
            let lives = Path::new(&format!("/proc/{holder}")).exists();
            let told = felt.map_err(|error| format!("{error}; its holder lives: {lives}").into());
            self.out(place, told);
        }
    }

    /// A cell that went wrong is looked at no more.
    fn out(&mut self, place: usize, result: Result<()>) {
        if let Err(error) = result {
            self.fallen.extend(self.armed.remove(&place));
            self.failed.entry(place).or_insert(error.to_string());
        }
    }

    /// Gives every fault a short lease, and time to hear of it before somebody is stopped: one that has not heard suffers for
    /// the long lease, and fails. Says when the leases end.
    fn shorten_leases(&self, agent: &mut Agent) -> Result<Instant> {
        const REACHED: Duration = Duration::from_millis(500);
        let lease: Lease = written(json!(format!("{}ms", LEASE.as_millis())));
        let armed: Vec<_> = self.armed.values().map(|armed| armed.id.clone()).collect();
        agent.renew_all(&armed, lease)?;
        let end = Instant::now() + LEASE;
        thread::sleep(REACHED);
        Ok(end)
    }

    /// Brings the end about while every victim is watched; each cell's suffering, and how long the machine stood still in it.
    fn end_and_watch(&mut self, agent: &mut Agent, place: &Place) -> Result<Watched> {
        let (end, scenes, stalls) = (self.end, &self.scenes, Stalls::watch());
        let limit = |at: &usize| end.limit(self.lease_end, self.cells[*at].variation);
        let limits: BTreeMap<usize, Duration> =
            self.armed.keys().map(|at| (*at, limit(at))).collect();
        let (watched, came): (Vec<_>, Result<()>) = thread::scope(|scope| {
            let mut starts = Vec::new();
            let mut watching = Vec::new();
            for (at, armed) in &self.armed {
                let (start, begun) = mpsc::channel::<Instant>();
                starts.push(start);
                let (scene, stalls, holder) = (&scenes[*at], &stalls, armed.holder);
                let limit = limits[at];
                let watch = move || -> Result<(Duration, Duration)> {
                    let begun = match for_one(end, scene, holder) {
                        Some(ended) => ended.map(|()| Instant::now())?,
                        None => begun.recv().map_err(|_| "the end did not come")?,
                    };
                    let last = scene.suffering(begun, limit + AFTERWARDS)?;
                    let last = last.unwrap_or_default();
                    Ok((last, stalls.between(begun, begun + last)))
                };
                watching.push((*at, scope.spawn(watch)));
            }
            let came = for_all(end, agent, place).map(|begun| {
                // Who has failed already does not hear it.
                for start in &starts {
                    let _ = start.send(begun);
                }
            });
            drop(starts);
            let joined = watching.into_iter().map(|(at, watch)| {
                let told = watch
                    .join()
                    .unwrap_or_else(|_| Err("watching panicked".into()));
                (at, told)
            });
            (joined.collect(), came)
        });
        came?;
        let mut suffered = BTreeMap::new();
        for (at, told) in watched {
            match told {
                Ok(told) => drop(suffered.insert(at, told)),
                Err(error) => self.out(at, Err(error)),
            }
        }
        Ok(Watched { limits, suffered })
    }

    fn judge(&mut self, watched: &Watched) {
        for (place, (last, stood_still)) in &watched.suffered {
            let limit = watched.limits[place];
            if *last > limit + *stood_still {
                let told = format!(
                    "the victim suffered for {last:?} more, allowed are {limit:?} and the {stood_still:?} for which the \
                     machine itself stood still"
                );
                self.failed.entry(*place).or_insert(told);
            }
        }
    }

    /// What an agent that is still there says of each fault's end.
    fn hear_of_the_end(&mut self, agent: &mut Agent) {
        for (place, armed) in self.armed.clone() {
            let heard = agent.ended(&armed.id).and_then(|ended| {
                if self.end.is_caused_by(&ended.cause) {
                    Ok(())
                } else {
                    Err(format!("the agent says it ended by {:?}", ended.cause).into())
                }
            });
            self.out(place, heard);
        }
    }

    /// The host must become what it was; what is left counts against the cell whose world it is in, or against all.
    fn compare(&mut self, before: &Fingerprint) -> Result<()> {
        let mut left = Vec::new();
        let clean = until("the host as it was", SWEPT_LIMIT, || {
            left = before.difference(&Fingerprint::take(&self.namespaces()).ok()?);
            left.retain(|line| !self.was_meant(line));
            left.is_empty().then_some(())
        });
        let Err(error) = clean else { return Ok(()) };
        let told = format!("{error}:\n{}", left.join("\n"));
        let owners: Vec<usize> = (0..self.scenes.len())
            .filter(|place| {
                let wire = self.scenes[*place].wire();
                wire.is_some_and(|wire| left.iter().any(|line| line.contains(wire.victim.name())))
            })
            .collect();
        if owners.is_empty() {
            return Err(told.into());
        }
        for place in owners {
            self.failed.entry(place).or_insert(told.clone());
        }
        Ok(())
    }

    /// A name that this end takes away is mounted no more, and the agent lets go of a target that is gone.
    fn was_meant(&self, line: &str) -> bool {
        let unnamed = self.end == End::NetnsDeleted && line.starts_with("- mounts:");
        unnamed || line.starts_with("- open files of ")
    }
}

/// The ends that come to each fault by itself; none where the end is everybody's.
fn for_one(end: End, scene: &Scene, holder: u32) -> Option<Result<()>> {
    match end {
        End::HolderKilled => Some(victim::signal(holder, Signal::SIGKILL)),
        End::HolderHung => Some(victim::signal(holder, Signal::SIGSTOP)),
        End::TargetExits => Some(scene.exit_target()),
        End::TargetRestarts => Some(scene.restart_target()),
        End::NetnsDeleted => Some(scene.delete_name()),
        End::AgentKilled
        | End::ControllerGone
        | End::AgentStopped
        | End::OutOfMemory
        | End::CgroupKilled
        | End::LeaseEnds
        | End::DiskFull
        | End::Upgraded => None,
    }
}

/// The ends that come to all faults at once; says when.
fn for_all(end: End, agent: &mut Agent, place: &Place) -> Result<Instant> {
    match end {
        End::HolderKilled
        | End::HolderHung
        | End::TargetExits
        | End::TargetRestarts
        | End::NetnsDeleted
        | End::LeaseEnds => {}
        End::AgentKilled => agent.signal(Signal::SIGKILL)?,
        End::ControllerGone => agent.hang_up(),
        End::AgentStopped => agent.signal(Signal::SIGSTOP)?,
        End::OutOfMemory => return place.run_out_of_memory(agent),
        End::CgroupKilled => place.group()?.kill()?,
        End::DiskFull => agent.stop_all()?,
        End::Upgraded => agent.signal(Signal::SIGTERM)?,
    }
    Ok(Instant::now())
}

/// What the agent runs in.
enum Place {
    Plain,
    Group(Cgroup),
    /// On a disk that takes no more.
    FullDisk,
    /// From a file of its own, which is replaced.
    Replaced(TempDir),
}

/// What memory is left to an agent that is to run out of it.
const MEMORY_LEFT_BYTES: u64 = 24 << 20;

/// How long it may take to run out of that.
const MEMORY_LIMIT: Duration = Duration::from_secs(20);

impl Place {
    fn make(end: End) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Ok(match end {
            End::OutOfMemory | End::CgroupKilled => {
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let name = format!("sqt-agent-{}-{number}", std::process::id());
                Self::Group(Cgroup::create(&name)?)
            }
            End::DiskFull => Self::FullDisk,
            End::Upgraded => {
                let folder = TempDir::new()?;
                install(folder.path())?;
                Self::Replaced(folder)
            }
            _ => Self::Plain,
        })
    }

    /// An agent there, whose node allows every kind of fault.
    fn agent(&self, policy: &Path) -> Result<Agent> {
        let policy = ["--policy", policy.to_str().ok_or("a path that is no text")?];
        match self {
            Self::Plain => Agent::start_with(&policy),
            Self::Group(group) => {
                let agent = Agent::start_with(&policy)?;
                group.adopt(agent.pid())?;
                Ok(agent)
            }
            Self::FullDisk => {
                // By its descriptor: what lies in a folder that is full now cannot be seen any more.
                let open = File::open(program("squall-agent")?)?;
                let program = format!("/proc/self/fd/{}", open.as_raw_fd());
                disk::full(|log| Agent::start_as(Path::new(&program), &policy, Stdio::from(log)))
            }
            Self::Replaced(folder) => {
                Agent::start_as(&installed(folder.path()), &policy, Stdio::inherit())
            }
        }
    }

    /// Puts another file in the place of the agent's, as a package manager does, and starts an agent from it while the old
    /// one still holds its faults. None where there is nothing to upgrade.
    fn upgrade(&self, old: &mut Agent, policy: &Path) -> Result<Option<Agent>> {
        let Self::Replaced(folder) = self else {
            return Ok(None);
        };
        install(folder.path())?;
        let new = self.agent(policy)?;
        let running = fs::read_link(format!("/proc/{}/exe", old.pid()))?;
        if !running.to_string_lossy().ends_with(" (deleted)") {
            return Err(format!("the agent still runs {}", running.display()).into());
        }
        Ok(Some(new))
    }

    fn group(&self) -> Result<&Cgroup> {
        match self {
            Self::Group(group) => Ok(group),
            _ => Err("the agent has no cgroup of its own".into()),
        }
    }

    /// Has the kernel kill the agent for want of memory: a program beside it, in its cgroup, takes all there is.
    fn run_out_of_memory(&self, agent: &mut Agent) -> Result<Instant> {
        let group = self.group()?;
        let mut hog = Hog::start(group)?;
        hog.comes_after(agent.pid())?;
        group.limit_memory(group.memory_charged()? + MEMORY_LEFT_BYTES)?;
        hog.feed()?;
        until("the kernel's end of the agent", MEMORY_LIMIT, || {
            (!agent.lives()).then_some(())
        })?;
        let ended = Instant::now();
        if group.oom_kills()? == 0 {
            return Err(
                "the agent ended, but the kernel says it was not for want of memory".into(),
            );
        }
        Ok(ended)
    }
}

/// The policy of a node that allows what is forbidden by default and can be taken back: what a journal holds. Where no end
/// fills the disk.
fn everything_allowed() -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in("/run")?;
    writeln!(file, "allow: [ freeze, nic, fds ]")?;
    Ok(file)
}

fn installed(folder: &Path) -> PathBuf {
    folder.join("squall-agent")
}

/// Copies the agent's program to its place in one step.
fn install(folder: &Path) -> Result<()> {
    let fresh = folder.join("fresh");
    fs::copy(program("squall-agent")?, &fresh)?;
    Ok(fs::rename(fresh, installed(folder))?)
}
