//! Something limited that is used up: threads of this process in the target's cgroup, sockets that are bound to the
//! target's ports, unnamed files, a file in memory. All of them are this process's own and end with it; no child is started that could
//! be left over. Connections that can be tracked are held in another way: [`conntrack`].
//!
//! The rest that is left over is a level: what others give back meanwhile is taken as well, once a second. What others
//! take is not given back to them: coming to the end of it is what is tested. Only where the node itself is short of
//! memory, more is left over ([`strain`]).

use super::conntrack;
use super::held::{Held, HoldError};
use super::holder::Grip;
use super::page_cache::Cached;
use super::place::{self, Place};
use super::speech::HoldSpec;
use super::strain::{LOOK_EVERY, Strain};
use crate::kernel::{cgroup, ports, process};
use squall_experiments::dose::{Dose, Evidence, ExhaustDose};
use squall_experiments::fault::{Exhaust, Exhausted};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How many are taken in one turn: a few milliseconds.
const STEP: u64 = 512;
/// The most threads: each takes two of the 65530 mappings that a process may have (vm.max_map_count), and 24 KiB.
const THREADS_MAX: u64 = 16_384;
/// The most descriptors: the kernel's own limit for a process (fs.nr_open).
const DESCRIPTORS_MAX: u64 = 1 << 20;
/// The C library's least (PTHREAD_STACK_MIN); a thread that does nothing needs none of it.
const STACK_BYTES: usize = 16 << 10;
/// Descriptors of the holder's own.
const OWN: u64 = 64;

/// What there is of it: in all, and how many can still be taken.
#[derive(Debug, Clone, Copy)]
struct Supply {
    limit: u64,
    left: u64,
}

/// Where it is taken from, and what is held of it.
enum Source {
    Pids {
        group: cgroup::Group,
        threads: Vec<Thread>,
        /// So many of them are to stay.
        kept: Arc<AtomicU64>,
    },
    Ports {
        /// All ports of the range, and what is held of each.
        range: Vec<(u16, Option<OwnedFd>)>,
        /// How far the range has been gone through, for the first time or again, and what was seen on the way: ports
        /// that were free and are left over, and ports of others.
        at: usize,
        seen: (u64, u64),
        /// Ports of others, as of the last time that the range was gone through.
        busy: u64,
    },
    Inodes {
        place: Place,
        files: Vec<std::fs::File>,
    },
    PageCache(Cached),
}

struct Spent {
    source: Source,
    fault: Exhaust,
    strain: Strain,
    next: Instant,
}

/// Takes the first of them, in the target's namespace where they are ports.
pub(crate) fn arm(
    fault: &Exhaust,
    spec: &HoldSpec,
    grip: &mut Grip,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let source = match fault.what {
        Exhausted::Conntrack => {
            enter_network(grip)?;
            return conntrack::arm(fault, &spec.filter);
        }
        Exhausted::Pids => pids(grip)?,
        Exhausted::Ports => {
            enter_network(grip)?;
            ports_of()?
        }
        Exhausted::Inodes => Source::Inodes {
            place: place_of(fault, grip)?,
            files: Vec::new(),
        },
        Exhausted::PageCache => page_cache(fault, grip)?,
    };
    let mut spent = Spent {
        source,
        fault: fault.clone(),
        strain: Strain::new(&[], &spec.pressure),
        next: Instant::now(),
    };
    let before = spent.supply()?;
    let wanted = before.left.saturating_sub(fault.goal.leaves(before.limit));
    if wanted == 0 {
        return Err(HoldError::Unable(format!(
            "of {} {} only {} are left, and {} are to be left: there is nothing to use up",
            before.limit,
            fault.what.word(),
            before.left,
            fault.goal.leaves(before.limit)
        )));
    }
    spent.prepare(wanted, before.limit)?;
    spent.step()?;
    let after = spent.supply()?;
    let evidence = Evidence {
        means: spent.means().to_owned(),
        read_back: vec![format!(
            "of {} {} {} were left before, {} are now, and {} will be; {} are held and more are being taken",
            after.limit,
            fault.what.word(),
            before.left,
            after.left,
            fault.goal.leaves(after.limit),
            spent.held()
        )],
        warnings: spent.strain.warnings(),
    };
    if spent.held() == 0 {
        return Err(HoldError::Unable(format!(
            "none of the {wanted} {} could be taken",
            fault.what.word()
        )));
    }
    Ok((Box::new(spent), evidence))
}

fn pids(grip: &mut Grip) -> Result<Source, HoldError> {
    let named = |g: &cgroup::Group| g.controllers.iter().any(|c| c == "pids");
    let at = grip.groups.iter().position(named);
    let at = at.or_else(|| grip.groups.iter().position(|g| g.controllers.is_empty()));
    let group = at.map(|at| grip.groups.swap_remove(at)).ok_or_else(|| {
        HoldError::Unable(
            "the target is in no cgroup with the pids controller: enable that, or name another target".to_owned(),
        )
    })?;
    Ok(Source::Pids {
        group,
        threads: Vec::new(),
        kept: Arc::default(),
    })
}

/// Enters the target's network namespace.
fn enter_network(grip: &Grip) -> Result<(), HoldError> {
    let member;
    let one = match grip.processes.first() {
        Some((pidfd, pid)) => Some((pidfd, *pid)),
        None => {
            member = place::member(grip)?;
            member.as_ref().map(|(pidfd, pid)| (pidfd, *pid))
        }
    };
    if let Some((pidfd, pid)) = one {
        let inode = |pid: &str| {
            let link = format!("/proc/{pid}/ns/net");
            std::fs::read_link(&link).map_err(HoldError::kernel("read", link))
        };
        if inode(&pid.to_string())? == inode("self")? {
            return Err(HoldError::Unable(format!(
                "process {pid} lives in the node's own network namespace, where others would be hit as well: say `host` if you \
                 mean that"
            )));
        }
        process::enter_netns(pidfd).map_err(HoldError::kernel(
            "enter",
            format!("the network namespace of process {pid}"),
        ))?;
        process::die_with_parent().map_err(HoldError::kernel("tie to its parent", "the holder"))?;
    }
    Ok(())
}

fn ports_of() -> Result<Source, HoldError> {
    let range = ports::ephemeral().map_err(HoldError::kernel(
        "read",
        "/proc/sys/net/ipv4/ip_local_port_range",
    ))?;
    Ok(Source::Ports {
        range: range.map(|port| (port, None)).collect(),
        at: 0,
        seen: (0, 0),
        busy: 0,
    })
}

fn place_of(fault: &Exhaust, grip: &Grip) -> Result<Place, HoldError> {
    let Some(path) = &fault.path else {
        return Err(HoldError::Unable(
            "it is not said which file system is meant: write `path:`".to_owned(),
        ));
    };
    place::find(path, grip)
}

fn page_cache(fault: &Exhaust, grip: &mut Grip) -> Result<Source, HoldError> {
    let place = place_of(fault, grip)?;
    let Some((group, v2)) = super::memory::take_group(grip) else {
        return Err(HoldError::Unable(
            "the target is in no cgroup with the memory controller: enable that, or name another target".to_owned(),
        ));
    };
    Cached::new(place, group, v2).map(Source::PageCache)
}

impl Spent {
    fn held(&self) -> u64 {
        match &self.source {
            Source::Pids { threads, .. } => threads.len() as u64,
            Source::Ports { range, .. } => {
                range.iter().filter(|(_, held)| held.is_some()).count() as u64
            }
            Source::Inodes { files, .. } => files.len() as u64,
            Source::PageCache(cached) => cached.held(),
        }
    }

    const fn means(&self) -> &'static str {
        match &self.source {
            Source::Pids { .. } => "idle threads in the target's cgroup",
            Source::Ports { .. } => "TCP sockets bound in the target's network namespace",
            Source::Inodes { .. } => "unnamed files",
            Source::PageCache(_) => "an unnamed file in memory, charged to the target's cgroup",
        }
    }

    /// Asks the kernel. Of ports it does not say how many are free, so that they are what was not found taken.
    fn supply(&self) -> Result<Supply, HoldError> {
        match &self.source {
            Source::Pids { group, .. } => cgroup::pids_room(&group.fd, &group.path)
                .map(|(limit, left)| Supply { limit, left })
                .ok_or_else(|| {
                    HoldError::Unable(format!(
                        "cgroup {} has no limit of processes (pids.max) that could be reached: set one, or name another \
                         target",
                        group.path
                    ))
                }),
            Source::Ports { range, busy, .. } => Ok(Supply {
                limit: range.len() as u64,
                left: (range.len() as u64).saturating_sub(self.held() + busy),
            }),
            Source::PageCache(cached) => {
                let (limit, left) = cached.room()?;
                Ok(Supply { limit, left })
            }
            Source::Inodes { place, .. } => {
                let room = place.room()?;
                if room.files == 0 {
                    return Err(HoldError::Unable(format!(
                        "the file system at {} has no fixed number of inodes: they end with its room, see `fill`",
                        place.in_words
                    )));
                }
                Ok(Supply {
                    limit: room.files,
                    left: room.files_free,
                })
            }
        }
    }

    /// Sees to it that so many can be held, and of descriptors as many as there may come to be.
    fn prepare(&self, wanted: u64, limit: u64) -> Result<(), HoldError> {
        let most = match self.source {
            Source::PageCache(_) => return Ok(()),
            Source::Pids { .. } => THREADS_MAX,
            _ => DESCRIPTORS_MAX - OWN,
        };
        if wanted > most {
            return Err(HoldError::Unable(format!(
                "{wanted} {} would have to be taken, and one holder can hold {most}: leave more of them over, or use up a \
                 smaller limit",
                self.fault.what.word()
            )));
        }
        if matches!(self.source, Source::Pids { .. }) {
            return Ok(());
        }
        // Whoever else opens files on this node is not what was named: half of what is left stays theirs.
        let theirs = process::files_left().map_err(HoldError::kernel("read", "fs.file-nr"))?;
        if wanted > theirs / 2 {
            return Err(HoldError::Unable(format!(
                "{wanted} files would have to be open, and the node as a whole can open {theirs} more (fs.file-max): leave \
                 more {} over, or raise that limit",
                self.fault.what.word()
            )));
        }
        let most = limit.saturating_add(OWN).min(DESCRIPTORS_MAX);
        process::may_open(most).map_err(HoldError::kernel(
            "raise",
            format!("the limit of open files to {most}"),
        ))
    }

    /// How many more are left over because the node is short of memory, of those that are held and so many more that could
    /// be; what is held of them is given back.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a number of things"
    )]
    fn spared(&mut self, more: u64) -> Result<u64, HoldError> {
        let held = self.held();
        let asked = held + more;
        let share = self.strain.share(held as f64 / asked.max(1) as f64);
        let allowed = (asked as f64 * share).round() as u64;
        let mut back = held.saturating_sub(allowed);
        match &mut self.source {
            Source::Pids { threads, kept, .. } => {
                kept.store(held - back, Ordering::Relaxed);
                for thread in threads.drain(threads.len() - back as usize..) {
                    thread.unpark();
                }
            }
            Source::Inodes { files, .. } => files.truncate(files.len() - back as usize),
            Source::PageCache(cached) if back > 0 => cached.keep(allowed)?,
            Source::PageCache(_) => {}
            Source::Ports { range, .. } => {
                for (_, held) in range.iter_mut().rev().filter(|(_, held)| held.is_some()) {
                    if back > 0 {
                        *held = None;
                        back -= 1;
                    }
                }
            }
        }
        Ok(asked - allowed)
    }

    /// Takes the next few, as long as more than the rest is left.
    fn step(&mut self) -> Result<(), HoldError> {
        let supply = self.supply()?;
        let mut rest = self.fault.goal.leaves(supply.limit);
        rest += self.spared(supply.left.saturating_sub(rest))?;
        let wanted = supply.left.saturating_sub(rest).min(STEP);
        let more = match &mut self.source {
            Source::Pids { threads, kept, .. } => take_threads(threads, kept, wanted),
            Source::Ports {
                range,
                at,
                seen,
                busy,
            } => {
                let more = take_ports(range, at, seen, rest)?;
                *busy = if more { (*busy).max(seen.1) } else { seen.1 };
                more
            }
            Source::Inodes { place, files } => take_files(place, files, wanted)?,
            Source::PageCache(cached) => {
                let more = supply.left.saturating_sub(rest);
                cached.take(more, supply.limit.saturating_sub(rest))?
            }
        };
        self.next = Instant::now() + if more { Duration::ZERO } else { LOOK_EVERY };
        Ok(())
    }
}

/// Whether more may be to be had at once.
fn take_threads(threads: &mut Vec<Thread>, kept: &Arc<AtomicU64>, wanted: u64) -> bool {
    for _ in 0..wanted {
        let number = threads.len() as u64;
        if number >= THREADS_MAX {
            return false;
        }
        kept.store(number + 1, Ordering::Relaxed);
        let told = Arc::clone(kept);
        let idle = move || {
            while number < told.load(Ordering::Relaxed) {
                std::thread::park();
            }
        };
        let started = std::thread::Builder::new()
            .name("squall-idle".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(idle);
        // The limit is reached, by us or by others: as exhausted as it gets.
        let Ok(thread) = started else {
            return false;
        };
        threads.push(thread.thread().clone());
    }
    wanted == STEP
}

/// Goes through the next ports of the range; the first that are free are the rest. Whether the end is not reached.
fn take_ports(
    range: &mut [(u16, Option<OwnedFd>)],
    at: &mut usize,
    (spared, busy): &mut (u64, u64),
    rest: u64,
) -> Result<bool, HoldError> {
    if *at == 0 {
        (*spared, *busy) = (0, 0);
    }
    for _ in 0..STEP {
        let Some((port, held)) = range.get_mut(*at) else {
            // From the beginning again at the next look.
            *at = 0;
            return Ok(false);
        };
        *at += 1;
        if held.is_some() {
            continue;
        }
        match ports::take(*port) {
            Ok(None) => *busy += 1,
            Ok(Some(_)) if *spared < rest => *spared += 1,
            Ok(socket) => *held = socket,
            Err(error) => {
                return Err(HoldError::kernel("take", format!("port {port}"))(error));
            }
        }
    }
    Ok(true)
}

fn take_files(
    place: &Place,
    files: &mut Vec<std::fs::File>,
    wanted: u64,
) -> Result<bool, HoldError> {
    for _ in 0..wanted {
        match place.try_unnamed() {
            Ok(file) => files.push(file),
            // The last inode, by us or by others, or the room for it, or the last descriptor.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOSPC | libc::EDQUOT | libc::EMFILE)
                ) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(place.no_file(error)),
        }
    }
    Ok(wanted == STEP)
}

impl Held for Spent {
    fn next_turn(&self) -> Option<Instant> {
        Some(self.next)
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        if Instant::now() >= self.next {
            self.step()?;
        }
        Ok(())
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        let supply = self.supply()?;
        Ok(Dose::Exhaust(ExhaustDose {
            held: self.held(),
            left: supply.left,
            limit: supply.limit,
            dropped: None,
            back_off: self.strain.said(),
        }))
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        self.dose()
    }
}
