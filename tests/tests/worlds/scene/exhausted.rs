//! Things that a target has a limited number of: where they are few, and how the victim feels that there are no more.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::written;
use lab::world::cgroup::{self, Cgroup};
use lab::world::netns::Netns;
use lab::world::victim::{DISK, FILE_BYTES, Victim, Wanted};
use lab::world::wire::{Ip, PORT, Wire, named};
use lab::world::{Result, output, until};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use serde_json::json;
use squall_experiments::fault::{Exhausted, Fault};

use super::DISK_BYTES;

/// What is used up where it is not said what.
pub(crate) const USUAL: Exhausted = Exhausted::Ports;

/// Processes and threads that there may be in the victim's cgroup.
const PROCESSES: u64 = 64;

/// Memory that there may be in the victim's cgroup, several times what the victim's file takes of it.
const MEMORY_BYTES: u64 = FILE_BYTES * 4;

/// How long the victim's file may stay in memory once others want its room: until what uses it up has looked a few times.
const ROBBED_LIMIT: Duration = Duration::from_secs(10);

/// As [`super::strong`], for each thing that can be used up. A new one does not compile without.
pub(crate) fn strong(what: Exhausted) -> Fault {
    let word = what.word();
    let parameters = match what {
        Exhausted::Pids | Exhausted::Ports | Exhausted::Conntrack => json!({ "what": word }),
        Exhausted::Inodes => json!({ "what": word, "path": "/tmp" }),
        Exhausted::PageCache => json!({ "what": word, "path": DISK, "goal": { "to": "90%" } }),
    };
    written(json!({ "exhaust": parameters }))
}

/// Why nobody can run out of that on this machine, where nobody can. Whether connections are tracked is seen when somebody wants them to
/// be: a kernel that cannot fails there.
pub(crate) fn unable(what: Exhausted) -> Option<&'static str> {
    match what {
        Exhausted::Pids if !cgroup::counts_processes() => {
            Some("no cgroup here has a limit of processes: the kernel lacks the pids controller")
        }
        Exhausted::PageCache if is_memory(DISK) => Some(
            "nothing is kept in memory of a disk that is memory itself, as this virtual machine's is: it is tried on the real machine",
        ),
        Exhausted::Pids
        | Exhausted::Ports
        | Exhausted::Inodes
        | Exhausted::PageCache
        | Exhausted::Conntrack => None,
    }
}

/// Whether what is there has no disk behind it. A folder that cannot be asked fails where it is used.
fn is_memory(folder: &str) -> bool {
    /// `RAMFS_MAGIC` of linux/magic.h.
    const RAMFS: FsType = FsType(0x8584_58f6);
    statfs(folder).is_ok_and(|all| [TMPFS_MAGIC, RAMFS].contains(&all.filesystem_type()))
}

/// Where the victim has few of something.
pub(super) enum Limited {
    /// In a cgroup with a limit of processes.
    Processes(Cgroup),
    /// In a network namespace with few ports.
    Ports(Box<Wire>),
    /// On a file system of its own, with few inodes.
    Inodes,
    /// In a cgroup with a limit of memory.
    PageCache(Cgroup),
    /// In a network namespace that tracks connections. One stays open, so that there always is one.
    Connections(
        Box<Wire>,
        #[expect(dead_code, reason = "it is tracked as long as it is kept")] TcpStream,
    ),
}

impl Limited {
    pub(super) fn set(what: Exhausted, tag: &str) -> Result<(Self, Victim)> {
        let limited = match what {
            Exhausted::Pids => {
                let group = Cgroup::create(tag)?;
                group.limit_processes(PROCESSES)?;
                Self::Processes(group)
            }
            Exhausted::Ports => {
                let wire = Wire::new()?;
                wire.victim.enter(few_ports)?;
                Self::Ports(Box::new(wire))
            }
            Exhausted::Inodes => Self::Inodes,
            Exhausted::PageCache => {
                let group = Cgroup::create(tag)?;
                group.limit_memory(MEMORY_BYTES)?;
                Self::PageCache(group)
            }
            Exhausted::Conntrack => {
                let wire = Wire::new()?;
                track(&wire.victim)?;
                let open = wire.tcp(named(Ip::V4), PATIENCE)?;
                Self::Connections(Box::new(wire), open)
            }
        };
        let victim = limited.victim(tag)?;
        Ok((limited, victim))
    }

    pub(super) const fn what(&self) -> Exhausted {
        match self {
            Self::Processes(_) => Exhausted::Pids,
            Self::Ports(_) => Exhausted::Ports,
            Self::Inodes => Exhausted::Inodes,
            Self::PageCache(_) => Exhausted::PageCache,
            Self::Connections(..) => Exhausted::Conntrack,
        }
    }

    /// As [`super::Scene::wire`].
    pub(super) fn wire(&self) -> Option<&Wire> {
        match self {
            Self::Ports(wire) | Self::Connections(wire, _) => Some(wire),
            Self::Processes(_) | Self::Inodes | Self::PageCache(_) => None,
        }
    }

    /// A victim there.
    pub(super) fn victim(&self, tag: &str) -> Result<Victim> {
        match self {
            Self::Ports(wire) | Self::Connections(wire, _) => {
                wire.victim.enter(|| Victim::start(tag))
            }
            Self::Inodes => Victim::start_taker_on_disk(tag, DISK_BYTES),
            Self::Processes(group) => {
                let victim = Victim::start_taker(tag)?;
                group.adopt(victim.pid())?;
                Ok(victim)
            }
            Self::PageCache(group) => {
                let mut victim = Victim::start_taker(tag)?;
                group.adopt(victim.pid())?;
                // Only now, so that its file counts in that cgroup.
                if victim.takes(Wanted::Cached, PATIENCE)? {
                    Ok(victim)
                } else {
                    Err(format!("the victim cannot write its file in {DISK}").into())
                }
            }
        }
    }

    /// As [`super::Scene::suffering`].
    pub(super) fn suffering(
        &self,
        victim: &mut Victim,
        since: Instant,
        time: Duration,
    ) -> Result<Option<Duration>> {
        match self {
            Self::Ports(wire) => wire.victim.enter(|| moments(since, time, has_no_port)),
            Self::Connections(wire, _) => wire
                .victim
                .enter(|| moments(since, time, may_begin_nothing)),
            Self::Inodes => moments(since, time, || lacks(victim, Wanted::File)),
            Self::Processes(group) => moments(since, time, || {
                if victim.lives() {
                    return lacks(victim, Wanted::Thread);
                }
                // What is in its cgroup when it has ended is not its own.
                Ok(group.processes_and_threads()? > PROCESSES / 2)
            }),
            // Its own file takes a quarter.
            Self::PageCache(group) => moments(since, time, || {
                Ok(group.memory_charged()? > MEMORY_BYTES / 4 * 3)
            }),
        }
    }

    /// What the victim loses and does not get back by itself: its file goes from memory, and must be read from the disk again.
    pub(super) fn robs(&self, victim: &mut Victim) -> Result<()> {
        match self {
            Self::PageCache(_) => until(
                "a page of the victim's file that is not in memory",
                ROBBED_LIMIT,
                || lacks(victim, Wanted::Cached).ok()?.then_some(()),
            ),
            Self::Processes(_) | Self::Ports(_) | Self::Inodes | Self::Connections(..) => Ok(()),
        }
    }
}

/// An answer takes microseconds; a machine that is busy or emulated takes its time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks from `since` on for `time`; returns the last moment after `since` in which the victim suffered.
pub(super) fn moments(
    since: Instant,
    time: Duration,
    mut suffers: impl FnMut() -> Result<bool>,
) -> Result<Option<Duration>> {
    let mut last = None;
    while since.elapsed() < time {
        let asked = since.elapsed();
        if suffers()? {
            last = Some(asked);
        }
        thread::sleep(Duration::from_millis(4));
    }
    Ok(last)
}

/// Whether the victim cannot take that now. One that has ended wants nothing.
pub(super) fn lacks(victim: &mut Victim, wanted: Wanted) -> Result<bool> {
    match victim.takes(wanted, PATIENCE) {
        Ok(could) => Ok(!could),
        Err(error) if victim.lives() => Err(error),
        Err(_) => Ok(false),
    }
}

/// Whether nobody in this thread's namespace is given a port.
fn has_no_port() -> Result<bool> {
    match TcpListener::bind("127.0.0.1:0") {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Whether nobody in this thread's namespace may send what begins something new.
fn may_begin_nothing() -> Result<bool> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    match socket.send_to(b"?", (named(Ip::V4), PORT)) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Narrows the range of ports for outgoing connections of the namespace this thread is in.
pub(crate) fn few_ports() -> Result<()> {
    Ok(std::fs::write(
        "/proc/sys/net/ipv4/ip_local_port_range",
        "40000 40099",
    )?)
}

/// Has the kernel track connections there, as it does where there are stateful rules. No counter: its figure would be seen as a trace.
fn track(netns: &Netns) -> Result<()> {
    let rules = "add table inet stateful; \
        add chain inet stateful out { type filter hook output priority 0; }; \
        add rule inet stateful out ct state established accept";
    netns
        .enter(|| output(Command::new("nft").arg(rules)))
        .map(drop)
}
