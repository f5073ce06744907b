//! A scene for every kind of fault: what it is tried on, and how its victim feels it.

pub(crate) mod exhausted;
pub(crate) mod owned;
mod pressed;

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::world::agent::written;
use lab::world::cgroup::Cgroup;
use lab::world::dns::{self, Resolver};
use lab::world::http::{self, Service};
use lab::world::netns::Netns;
use lab::world::tcp::{self, Echo};
use lab::world::victim::{Victim, Wanted};
use lab::world::volley::{Pace, Shot, Volley};
use lab::world::wire::{Ip, Wire, named};
use lab::world::{Result, until};
use serde_json::{Value, json};
use squall_experiments::fault::{Exhausted, Fault, FaultKind};
use squall_experiments::target::Target;

use self::exhausted::{Limited, lacks, moments};
use self::owned::Owned;
use self::pressed::{cpu_suffering, memory_suffering};
use crate::dose::emulated;

/// How long a fault may take from `armed` until its victim feels it: a round trip, a growth, a control period.
const FELT_LIMIT: Duration = Duration::from_secs(5);

/// Where the web service listens.
const WEB_PORT: u16 = 8080;

/// Memory the memory fault takes.
const MEMORY_BYTES: u64 = 48 << 20;

/// The file system of a victim that has one of its own: room for what an I/O load leaves free. It is made of memory, and
/// only what is filled is taken.
const DISK_BYTES: u64 = 96 << 20;

/// How often the crash loop kills.
const CRASH_INTERVAL: Duration = Duration::from_millis(200);

/// A fault, its target, and the victim who feels it.
pub(crate) struct Scene {
    pub(crate) kind: FaultKind,
    victim: Mutex<Option<Victim>>,
    stage: Stage,
    tag: String,
}

enum Stage {
    Network(Box<Wire>),
    /// A wire and a socket on it that is the victim's, in a namespace where others' are too.
    Owned(Box<Wire>, Owned),
    Names(
        Box<Wire>,
        #[expect(dead_code, reason = "it answers as long as it is kept")] Resolver,
    ),
    Web(
        Box<Wire>,
        #[expect(dead_code, reason = "it answers as long as it is kept")] Service,
    ),
    Group(Cgroup),
    Revived(Revival),
    /// A service that is spoken to over connections.
    Echo(Box<Wire>, Echo),
    /// A victim alone, which feels it by itself.
    Alone,
    /// A victim alone that opens files.
    Opener,
    /// A victim with a file system of its own.
    Disk,
    /// A victim that has few of something.
    Limited(Limited),
}

impl Scene {
    /// Everything the fault needs to act on.
    pub(crate) fn set(kind: FaultKind) -> Result<Self> {
        let tag = fresh_tag();
        let mut victim = None;
        let stage = match kind {
            FaultKind::Kill => Stage::Revived(Revival::start(&tag)?),
            FaultKind::Pause => {
                victim = Some(Victim::start(&tag)?);
                Stage::Alone
            }
            FaultKind::Fds => {
                victim = Some(Victim::start_taker(&tag)?);
                Stage::Opener
            }
            FaultKind::Fill | FaultKind::Io => {
                victim = Some(Victim::start_on_disk(&tag, DISK_BYTES)?);
                Stage::Disk
            }
            FaultKind::Exhaust => return Self::set_exhausting(exhausted::USUAL),
            FaultKind::Cpu | FaultKind::Memory | FaultKind::Freeze => {
                let group = Cgroup::create(&tag)?;
                let started = Victim::start(&tag)?;
                group.adopt(started.pid())?;
                victim = Some(started);
                Stage::Group(group)
            }
            _ => {
                let wire = Wire::new()?;
                victim = Some(wire.victim.enter(|| Victim::start(&tag))?);
                let at = named(Ip::V4);
                match kind {
                    FaultKind::Dns => {
                        let resolver = Resolver::start(&wire.peer, &[at])?;
                        Stage::Names(Box::new(wire), resolver)
                    }
                    FaultKind::Http => {
                        let service = Service::start(&wire.peer, at, WEB_PORT)?;
                        Stage::Web(Box::new(wire), service)
                    }
                    FaultKind::Tcp => {
                        let echo = Echo::start(&wire.peer, (at, WEB_PORT).into())?;
                        Stage::Echo(Box::new(wire), echo)
                    }
                    _ => Stage::Network(Box::new(wire)),
                }
            }
        };
        Ok(Self {
            kind,
            victim: Mutex::new(victim),
            stage,
            tag,
        })
    }

    /// Everything that a fault on the traffic of one process among others needs to act on.
    pub(crate) fn set_owned(kind: FaultKind) -> Result<Self> {
        let tag = fresh_tag();
        let wire = Wire::new()?;
        let owned = Owned::set(kind, &wire)?;
        let victim = owned.victim(&wire, &tag)?;
        Ok(Self {
            kind,
            victim: Mutex::new(Some(victim)),
            stage: Stage::Owned(Box::new(wire), owned),
            tag,
        })
    }

    /// Everything that is needed to use something up.
    pub(crate) fn set_exhausting(what: Exhausted) -> Result<Self> {
        let tag = fresh_tag();
        let (limited, victim) = Limited::set(what, &tag)?;
        Ok(Self {
            kind: FaultKind::Exhaust,
            victim: Mutex::new(Some(victim)),
            stage: Stage::Limited(limited),
            tag,
        })
    }

    /// The wire, where the fault is one of the network.
    pub(crate) fn wire(&self) -> Option<&Wire> {
        match &self.stage {
            Stage::Network(wire)
            | Stage::Owned(wire, _)
            | Stage::Names(wire, _)
            | Stage::Web(wire, _)
            | Stage::Echo(wire, _) => Some(wire),
            Stage::Limited(limited) => limited.wire(),
            Stage::Group(_) | Stage::Revived(_) | Stage::Alone | Stage::Opener | Stage::Disk => {
                None
            }
        }
    }

    /// The victim as a target, or its network namespace by its name.
    pub(crate) fn target(&self, by_name: bool) -> Result<Target> {
        if by_name {
            return Ok(written(
                json!({ "netns": { "name": self.netns()?.name() } }),
            ));
        }
        Ok(self.target_for(self.kind))
    }

    /// The victim as the target of a fault of this kind.
    pub(crate) fn target_for(&self, kind: FaultKind) -> Target {
        let process = json!({ "command": self.tag });
        written(if kind == FaultKind::Freeze {
            json!({ "cgroup": format!("/{}", self.tag) })
        } else if kind.is_network() && !matches!(self.stage, Stage::Owned(..)) {
            json!({ "netns": { "process": process } })
        } else {
            json!({ "process": process })
        })
    }

    fn netns(&self) -> Result<&Netns> {
        let wire = self.wire().ok_or("no network namespace takes part")?;
        Ok(&wire.victim)
    }

    /// A dose nobody can overlook.
    pub(crate) fn fault(&self) -> Fault {
        match &self.stage {
            Stage::Owned(..) => owned::strong(self.kind),
            Stage::Limited(limited) => exhausted::strong(limited.what()),
            _ => strong(self.kind),
        }
    }

    /// Whether a fault of this kind has something to act on here.
    pub(crate) fn bears(&self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::Pause | FaultKind::Kill => true,
            FaultKind::Cpu | FaultKind::Memory => matches!(self.stage, Stage::Group(_)),
            // The walk's agent lets nothing through that its node forbids by default.
            FaultKind::Freeze | FaultKind::NicDown | FaultKind::Fds => false,
            FaultKind::Reboot | FaultKind::Shutdown => false,
            FaultKind::Fill | FaultKind::Io => matches!(self.stage, Stage::Disk),
            FaultKind::Exhaust => matches!(self.stage, Stage::Limited(Limited::Ports(_))),
            _ => self.wire().is_some(),
        }
    }

    /// Starts another target where there is none any more.
    pub(crate) fn revive_target(&self) -> Result<()> {
        let lives = {
            let mut victim = self.victim.lock().map_err(|_| "the victim is poisoned")?;
            victim.as_mut().is_some_and(Victim::lives)
        };
        if lives { Ok(()) } else { self.restart_target() }
    }

    /// Whether the target answers, as it does where nothing acts on it.
    pub(crate) fn answers(&self) -> Result<()> {
        /// An answer takes microseconds; a machine that is busy or emulated takes its time.
        const PATIENCE: Duration = Duration::from_secs(5);
        let mut victim = self.victim.lock().map_err(|_| "the victim is poisoned")?;
        let victim = victim.as_mut().ok_or("there is no victim")?;
        victim.ask(PATIENCE).map(drop)
    }

    /// Waits until the victim feels the fault.
    pub(crate) fn feel(&self) -> Result<()> {
        let mut looked = Vec::new();
        let felt = until(
            &format!("the victim's feeling of the {}", self.kind),
            FELT_LIMIT,
            || {
                let begun = Instant::now();
                let suffered = self.suffering(begun, FEELING);
                let felt = matches!(suffered, Ok(Some(_)));
                looked.push(suffered.map_err(|error| error.to_string()));
                felt.then_some(())
            },
        );
        felt.map_err(|error| format!("{error}; looks at it gave {looked:?}"))?;
        match &self.stage {
            Stage::Limited(limited) => self.with_victim(|victim| limited.robs(victim)),
            _ => Ok(()),
        }
    }

    fn with_victim<T>(&self, work: impl FnOnce(&mut Victim) -> Result<T>) -> Result<T> {
        let mut victim = self.victim.lock().map_err(|_| "the victim is poisoned")?;
        work(victim.as_mut().ok_or("there is no victim")?)
    }

    /// Looks from `since` on for `time`; returns how long after `since` the victim last suffered.
    pub(crate) fn suffering(&self, since: Instant, time: Duration) -> Result<Option<Duration>> {
        match &self.stage {
            Stage::Network(wire) => network_suffering(wire, since, time),
            Stage::Owned(wire, owned) => owned.suffering(wire, since, time),
            Stage::Names(wire, _) => {
                let mut client = dns::Client::new(&wire.victim, named(Ip::V4))?;
                Ok(names_suffering(&mut client, since, time))
            }
            Stage::Web(wire, _) => {
                let at = (named(Ip::V4), WEB_PORT).into();
                Ok(web_suffering(&wire.victim, at, since, time))
            }
            Stage::Echo(wire, echo) => echo_suffering(wire, echo, since, time),
            Stage::Group(group) if self.kind == FaultKind::Cpu => cpu_suffering(group, since, time),
            Stage::Group(_) if self.kind == FaultKind::Freeze => self.standstill(since, time),
            Stage::Group(group) => memory_suffering(group, since, time),
            Stage::Revived(revival) => Ok(revival.suffering(since, time)),
            Stage::Alone => self.standstill(since, time),
            Stage::Opener => self
                .with_victim(|victim| moments(since, time, || lacks(victim, Wanted::Descriptor))),
            Stage::Disk => self.no_room(since, time),
            Stage::Limited(limited) => {
                self.with_victim(|victim| limited.suffering(victim, since, time))
            }
        }
    }

    /// Questions that the victim answers late or never; a dead one does not stand still.
    fn standstill(&self, since: Instant, time: Duration) -> Result<Option<Duration>> {
        /// An answer takes microseconds, on a machine that is busy or emulated some ten milliseconds.
        const LATE: Duration = Duration::from_millis(150);
        let mut victim = self.victim.lock().map_err(|_| "the victim is poisoned")?;
        let victim = victim.as_mut().ok_or("there is no victim")?;
        let mut last = None;
        while since.elapsed() < time && victim.lives() {
            if victim.ask(LATE).is_err() && victim.lives() {
                last = Some(since.elapsed());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(last)
    }

    /// Moments in which the victim's file system has less room than the fault's file leaves: the file that is filled
    /// with, or worked on, ends with the fault. A victim that has ended has no file system any more.
    fn no_room(&self, since: Instant, time: Duration) -> Result<Option<Duration>> {
        /// Half of what either fault takes, which is little: an emulated machine takes its time to give it back.
        const MISSING: u64 = 8 << 20;
        let mut victim = self.victim.lock().map_err(|_| "the victim is poisoned")?;
        let victim = victim.as_mut().ok_or("there is no victim")?;
        let mut last = None;
        while since.elapsed() < time && victim.lives() {
            if victim
                .room("/tmp")
                .is_ok_and(|room| room + MISSING < DISK_BYTES)
            {
                last = Some(since.elapsed());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(last)
    }

    /// The target's own end, where it has one: a killed process is what a kill is about.
    pub(crate) fn exit_target(&self) -> Result<()> {
        let mut victim = self.victim.lock().map_err(|_| "the victim is poisoned")?;
        victim.as_mut().map_or(Ok(()), Victim::kill)
    }

    /// The target's end, and another of the same kind in its place: who looks for it finds the new one.
    pub(crate) fn restart_target(&self) -> Result<()> {
        self.exit_target()?;
        self.start_target()
    }

    /// The same, where a fault's holder that hangs may keep the target's end from being told of until `lease` is over.
    pub(crate) fn restart_target_within(&self, lease: Duration) -> Result<()> {
        let mut victim = self.victim.lock().map_err(|_| "the victim is poisoned")?;
        if let Some(victim) = victim.as_mut() {
            victim.kill_within(lease)?;
        }
        drop(victim);
        self.start_target()
    }

    fn start_target(&self) -> Result<()> {
        let started = match &self.stage {
            Stage::Network(wire)
            | Stage::Names(wire, _)
            | Stage::Web(wire, _)
            | Stage::Echo(wire, _) => wire.victim.enter(|| Victim::start(&self.tag))?,
            Stage::Owned(wire, owned) => owned.victim(wire, &self.tag)?,
            Stage::Group(group) => {
                let started = Victim::start(&self.tag)?;
                group.adopt(started.pid())?;
                started
            }
            Stage::Disk => Victim::start_on_disk(&self.tag, DISK_BYTES)?,
            Stage::Alone => Victim::start(&self.tag)?,
            Stage::Opener => Victim::start_taker(&self.tag)?,
            Stage::Limited(limited) => limited.victim(&self.tag)?,
            Stage::Revived(_) => return Err("it is started again by itself".into()),
        };
        *self.victim.lock().map_err(|_| "the victim is poisoned")? = Some(started);
        Ok(())
    }

    /// Takes the name of the victim's network namespace away.
    pub(crate) fn delete_name(&self) -> Result<()> {
        self.netns()?.delete_name();
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let (FaultKind::Freeze, Stage::Group(group)) = (self.kind, &self.stage) {
            group.thaw();
        }
    }
}

/// All of one length: a process is found by it wherever it is in a command line, and none may be the beginning of another.
fn fresh_tag() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("sqt-scene-{}-{number:05}", std::process::id())
}

/// A dose nobody can overlook. A new kind of fault does not compile without one.
pub(crate) fn strong(kind: FaultKind) -> Fault {
    let filter = json!({ "to": { "hosts": [named(Ip::V4).to_string()] } });
    let parameters: Value = match kind {
        FaultKind::Delay => json!({ "time": "800ms", "filter": filter }),
        FaultKind::Loss => {
            json!({ "model": { "random": { "probability": "80%" } }, "filter": filter })
        }
        FaultKind::Duplicate => json!({ "chance": { "probability": "80%" }, "filter": filter }),
        FaultKind::Corrupt => json!({ "chance": { "probability": "80%" }, "filter": filter }),
        FaultKind::Reorder => {
            json!({ "chance": { "probability": "30%" }, "time": "800ms", "filter": filter })
        }
        FaultKind::Rate => json!({ "limit": "64kbit/s", "filter": filter }),
        FaultKind::Partition => json!({ "filter": filter }),
        FaultKind::Kill => json!({ "every": "200ms" }),
        FaultKind::Cpu => json!({ "load": "60%" }),
        FaultKind::Memory => json!({ "size": MEMORY_BYTES.to_string() + "B" }),
        FaultKind::Dns => json!({ "effect": "nxdomain", "filter": filter }),
        FaultKind::Http => {
            let to = json!({ "hosts": [named(Ip::V4).to_string()], "ports": ["8080"] });
            json!({ "effect": { "abort": 503 }, "filter": { "to": to, "direction": "egress" } })
        }
        FaultKind::Pause | FaultKind::Freeze | FaultKind::Fds => json!({}),
        FaultKind::Fill => {
            json!({ "path": "/tmp", "goal": { "size": "16MiB" } })
        }
        FaultKind::Io => json!({ "path": "/tmp", "write": "20MiB/s", "file": "16MiB" }),
        FaultKind::Exhaust => return exhausted::strong(exhausted::USUAL),
        FaultKind::Tcp => json!({ "effect": "reset", "filter": filter }),
        FaultKind::NicDown => json!({ "interface": "eth0" }),
        // No node lets them through where this is used.
        FaultKind::Reboot | FaultKind::Shutdown => json!({ "irreversible": true }),
    };
    written(json!({ kind.word(): parameters }))
}

/// How long the victim is looked at for one feeling.
const FEELING: Duration = Duration::from_millis(500);

/// A round trip longer than this is a suffering one: the faults make 800 ms of it, and a machine whose
/// processors are all busy up to 100.
const SLOW: Duration = Duration::from_millis(300);

fn network_suffering(wire: &Wire, since: Instant, time: Duration) -> Result<Option<Duration>> {
    let mut no_way = None;
    // A socket of its own: a late answer to an earlier volley must not be taken for one to this.
    let socket = loop {
        match wire.udp(named(Ip::V4)) {
            Ok(socket) => break socket,
            // Without a link there is not even a way.
            Err(_) if since.elapsed() < time => {
                no_way = Some(since.elapsed());
                thread::sleep(Duration::from_millis(4));
            }
            Err(_) => return Ok(no_way),
        }
    };
    Ok(volley_suffering(&socket, since, time)?.or(no_way))
}

fn volley_suffering(
    socket: &UdpSocket,
    since: Instant,
    time: Duration,
) -> Result<Option<Duration>> {
    // An emulated machine on which several wires are watched at once cannot send more.
    let gap = Duration::from_millis(if emulated() { 8 } else { 4 });
    let count = u32::try_from(time.saturating_sub(since.elapsed()).as_millis() / gap.as_millis())?;
    let pace = Pace {
        count,
        gap,
        patience: SLOW,
        size: 200,
    };
    let volley = Volley::fire(socket, &pace)?;
    let suffers = |shot: &&Shot| shot.answers.len() != 1 || shot.answers[0] > SLOW;
    let last = volley.shots.iter().rfind(suffers);
    Ok(last.map(|shot| shot.sent.saturating_duration_since(since)))
}

/// Queries, all from one socket, that are not answered with what the resolver says.
fn names_suffering(client: &mut dns::Client, since: Instant, time: Duration) -> Option<Duration> {
    let mut last = None;
    while since.elapsed() < time {
        let asked = since.elapsed();
        let told = client.ask("db.shop", dns::A, SLOW).ok().flatten();
        if told.is_none_or(|told| told.code != 0) {
            last = Some(asked);
        }
        thread::sleep(Duration::from_millis(4));
    }
    last
}

/// Requests, each on a new connection, that are not answered by the service.
fn web_suffering(from: &Netns, at: SocketAddr, since: Instant, time: Duration) -> Option<Duration> {
    let mut last = None;
    while since.elapsed() < time {
        let asked = since.elapsed();
        let got = http::get(from, at, "/", SLOW);
        if got.is_ok_and(|got| got.status == 200) {
            thread::sleep(Duration::from_millis(4));
        } else {
            last = Some(asked);
        }
    }
    last
}

/// Connections on which what is said does not come back.
fn echo_suffering(
    wire: &Wire,
    echo: &Echo,
    since: Instant,
    time: Duration,
) -> Result<Option<Duration>> {
    let mut last = None;
    while since.elapsed() < time {
        let begun = since.elapsed();
        let asked = echo
            .connect(&wire.victim, SLOW)
            .and_then(|stream| Ok(tcp::ask(&stream, b"?", SLOW)?));
        if asked.is_err() {
            last = Some(begun);
        }
        thread::sleep(Duration::from_millis(4));
    }
    Ok(last)
}

/// A victim that is started again whenever it dies, as a supervisor would.
struct Revival {
    over: Arc<AtomicBool>,
    deaths: Arc<Mutex<Vec<Instant>>>,
    supervisor: Option<JoinHandle<()>>,
}

impl Revival {
    fn start(tag: &str) -> Result<Self> {
        let mut revival = Self {
            over: Arc::default(),
            deaths: Arc::default(),
            supervisor: None,
        };
        let mut victim = Victim::start(tag)?;
        let (over, deaths, tag) = (
            Arc::clone(&revival.over),
            Arc::clone(&revival.deaths),
            tag.to_owned(),
        );
        revival.supervisor = Some(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if victim.lives() {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                }
                if let Ok(mut deaths) = deaths.lock() {
                    deaths.push(Instant::now());
                }
                // One that is killed before it is up has died once more.
                if let Ok(revived) = Victim::start(&tag) {
                    victim = revived;
                }
            }
        }));
        Ok(revival)
    }

    fn suffering(&self, since: Instant, time: Duration) -> Option<Duration> {
        // One more interval, or the next death of a loop that still runs could be missed.
        thread::sleep((time + CRASH_INTERVAL * 2).saturating_sub(since.elapsed()));
        let deaths = self.deaths.lock().ok()?;
        deaths
            .last()
            .filter(|death| **death > since)
            .map(|death| *death - since)
    }
}

impl Drop for Revival {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(supervisor) = self.supervisor.take() {
            // A supervisor that panicked has shown up as missing deaths.
            let _ = supervisor.join();
        }
    }
}
