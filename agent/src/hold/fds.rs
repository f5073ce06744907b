//! Processes that run out of descriptors: their soft limit (`RLIMIT_NOFILE`) is lowered so far that but a rest can still be opened.
//! What is open stays open, also above the limit.
//!
//! No kernel object holds another process's limit, so a journal does, as with a freeze: whose limits they were is on disk before the
//! first is lowered, and a guard is ready to give them back. The hard limit stays as it is.
//!
//! The rest is a level: what a process closes meanwhile is taken as well, once a second; what it opens of the rest is not given back
//! to it. What is forked meanwhile inherits the lowered limit, is counted where it is in the cgroup that was aimed at, and gets its
//! parent's limit back. Who comes into that cgroup in another way keeps its own: it is not in the journal.

use super::held::{Held, HoldError};
use super::holder::Grip;
use super::safeguard::{Safeguard, Undoable};
use super::speech::{HoldSpec, Prey};
use super::strain::LOOK_EVERY;
use crate::inventory::process::{Identity, hold, identity};
use crate::journal::Undo;
use crate::journal::open_files::{Limits, Was, cgroup_of, change, is_gone};
use crate::kernel::limits::{self, OpenFiles};
use crate::kernel::{cgroup, process};
use squall_experiments::dose::{Dose, Evidence, FdsDose};
use squall_experiments::fault::{ExhaustGoal, Fds};
use squall_experiments::wire::EndCause;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// The most processes of one cgroup: as with a pause.
const PROCESSES_MAX: usize = 4096;
/// The most bytes of cgroups' names in one entry of the journal, which has room for twice as many.
const CGROUPS_BYTES_MAX: usize = 1 << 20;

/// One process whose limit is lowered.
struct Short {
    pidfd: OwnedFd,
    id: Identity,
    /// What its limit was, or that of the process it was forked from.
    was: Was,
    /// What it is now, as far as it was set by us.
    soft: u64,
}

struct Spent {
    goal: ExhaustGoal,
    group: Option<cgroup::Group>,
    prey: Prey,
    all: Vec<Short>,
    limits: Limits,
    /// When it was last looked at, and whether a limit was lowered then.
    seen: (Instant, bool),
    dose: FdsDose,
    over: Option<EndCause>,
}

/// The limit below which so many numbers are free, and at which the next free one is: the highest such, as poll(2) fails with EINVAL
/// where it is asked about more descriptors than the limit (fs/select.c, `do_sys_poll`). `None` where no more are free already. `open` is
/// in order.
fn limit_that_leaves(open: &[u64], soft: u64, rest: u64) -> Option<u64> {
    let mut next_free = 0;
    let mut free = rest;
    // Between two that are open are as many free ones as their numbers are apart.
    for &number in open.iter().filter(|number| **number < soft) {
        let gap = number - next_free;
        if gap > free {
            break;
        }
        free -= gap;
        next_free = number + 1;
    }
    let limit = next_free.saturating_add(free);
    (limit < soft).then_some(limit)
}

/// How many more can be opened below a limit.
fn free_below(open: &[u64], soft: u64) -> u64 {
    let taken = open.iter().filter(|number| **number < soft).count() as u64;
    soft - taken
}

/// Writes down, lowers, and reads back from the kernel.
pub(crate) fn arm(
    fault: &Fds,
    spec: &HoldSpec,
    grip: &mut Grip,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let prey = spec.prey.clone().unwrap_or_default();
    let at = grip
        .groups
        .iter()
        .position(|group| !cgroup::processes_below(&group.fd).is_empty());
    let group = at.map(|at| grip.groups.swap_remove(at));
    let targets = targets(group.as_ref(), grip, &prey);
    let inode = match &group {
        Some(group) => Some(inode_of(group)?),
        None => None,
    };
    let limits = record(&targets, fault.goal, inode)?;
    // From here on dropping this gives the limits back, and so does its guard.
    let safeguard = Safeguard::stand(spec, Undo::OpenFiles(limits.clone()))?;
    let mut spent = Spent {
        goal: fault.goal,
        group,
        prey,
        all: Vec::new(),
        limits,
        seen: (Instant::now(), false),
        dose: FdsDose::default(),
        over: None,
    };
    spent.lower_all()?;
    spent.look()?;
    if spent.all.is_empty() {
        return Err(HoldError::Unable(
            "no limit could be lowered: the target has ended, or sets its own just now".to_owned(),
        ));
    }
    let evidence = spent.evidence(targets.len(), &safeguard);
    Ok((safeguard.hold(spent), evidence))
}

fn inode_of(group: &cgroup::Group) -> Result<u64, HoldError> {
    let file = group.fd.try_clone().map(std::fs::File::from);
    file.and_then(|folder| folder.metadata())
        .map(|metadata| metadata.ino())
        .map_err(HoldError::kernel(
            "look at",
            format!("cgroup {}", group.path),
        ))
}

/// Who is meant: all of the group that may be hit, or the one process.
fn targets(group: Option<&cgroup::Group>, grip: &Grip, prey: &Prey) -> Vec<Identity> {
    let pids = match group {
        Some(group) => cgroup::processes_below(&group.fd),
        None => grip.processes.iter().map(|(_, pid)| *pid).collect(),
    };
    let fair = pids.into_iter().filter(|pid| prey.may_be_hit(*pid));
    let ids = fair.filter_map(identity);
    // Asked before the pidfds are: a number that has become another's since is not the target's.
    let lives = |id: &Identity| {
        let mut held = grip.processes.iter().filter(|(_, pid)| *pid == id.pid);
        held.all(|(pidfd, _)| !process::has_ended(pidfd.as_fd()))
    };
    ids.filter(lives).collect()
}

/// Everything that the journal must know, of those of which anything can be taken.
fn record(
    targets: &[Identity],
    goal: ExhaustGoal,
    group: Option<u64>,
) -> Result<Limits, HoldError> {
    if targets.len() > PROCESSES_MAX {
        return Err(HoldError::Unable(format!(
            "there are {} processes in it, and at most {PROCESSES_MAX} are hit at once: name some of them",
            targets.len()
        )));
    }
    let mut limits = Limits {
        since: identity(std::process::id()).map_or(0, |id| id.started),
        group,
        cgroups: Vec::new(),
        processes: Vec::new(),
    };
    let mut least: Option<(u64, u64, u64)> = None;
    for id in targets {
        let asked =
            limits::open_files(id.pid).and_then(|now| Ok((now, limits::descriptors(id.pid)?)));
        let Some((now, open)) = unless_gone(asked, *id)? else {
            continue;
        };
        let rest = goal.leaves(now.soft);
        let Some(lowered) = limit_that_leaves(&open, now.soft, rest) else {
            let free = (free_below(&open, now.soft), now.soft, rest);
            least = Some(least.map_or(free, |least| least.min(free)));
            continue;
        };
        let Some(text) = cgroup_of(id.pid) else {
            continue;
        };
        let known = limits.cgroups.iter().position(|known| *known == text);
        let cgroup = known.unwrap_or(limits.cgroups.len());
        if known.is_none() {
            limits.cgroups.push(text);
        }
        limits.processes.push(Was {
            pid: id.pid,
            started: id.started,
            soft: now.soft,
            hard: now.hard,
            lowered,
            cgroup,
        });
    }
    if limits.cgroups.iter().map(String::len).sum::<usize>() > CGROUPS_BYTES_MAX {
        return Err(HoldError::Unable(
            "its processes are in more cgroups than the journal has room for: name some of them"
                .to_owned(),
        ));
    }
    match (limits.processes.is_empty(), least) {
        (false, _) => Ok(limits),
        (true, Some((left, soft, rest))) => Err(HoldError::Unable(format!(
            "of {soft} descriptors only {left} are left, and {rest} are to be left: there is nothing to use up"
        ))),
        (true, None) => Err(HoldError::Unable(
            "there is no process in it that may be hit and lives".to_owned(),
        )),
    }
}

/// What /proc says of a process; nothing where it has ended.
fn unless_gone<T>(asked: io::Result<T>, id: Identity) -> Result<Option<T>, HoldError> {
    match asked {
        Ok(told) => Ok((identity(id.pid) == Some(id)).then_some(told)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(HoldError::kernel(
            "look at",
            format!("the descriptors of process {}", id.pid),
        )(error)),
    }
}

impl Spent {
    fn lower_all(&mut self) -> Result<(), HoldError> {
        for was in self.limits.processes.clone() {
            let before = OpenFiles {
                soft: was.soft,
                hard: was.hard,
            };
            // One that has ended since, or whose limit was changed since, is not taken hold of.
            let Ok(pidfd) = hold(was.id()) else { continue };
            if lower(was.id(), before, was.lowered)? {
                self.all.push(Short {
                    pidfd,
                    id: was.id(),
                    soft: was.lowered,
                    was,
                });
            }
        }
        Ok(())
    }

    /// Takes in what was forked since and is in the group: its limit is lowered already.
    fn join(&mut self) -> Result<(), HoldError> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        for pid in cgroup::processes_below(&group.fd) {
            let known = self.all.iter().any(|short| short.id.pid == pid);
            if known || self.all.len() >= PROCESSES_MAX || !self.prey.may_be_hit(pid) {
                continue;
            }
            let Some(id) = identity(pid).filter(|id| id.started >= self.limits.since) else {
                continue;
            };
            let Some(now) = unless_gone(limits::open_files(pid), id)? else {
                continue;
            };
            let from = self.limits.processes.iter().find(|was| was.is_lowered(now));
            if let (Some(was), Ok(pidfd)) = (from, hold(id)) {
                self.all.push(Short {
                    pidfd,
                    id,
                    soft: now.soft,
                    was: was.clone(),
                });
            }
        }
        Ok(())
    }

    fn evidence(&self, found: usize, safeguard: &Safeguard) -> Evidence {
        let left_alone = found.saturating_sub(self.all.len());
        Evidence {
            means: safeguard.means("the soft limit of open files is lowered"),
            read_back: vec![format!(
                "the kernel says that {} of {found} processes may have fewer descriptors than before; the one with the fewest has a limit of \
                 {} and can open {} more",
                self.all.len(),
                self.dose.limit,
                self.dose.left
            )],
            warnings: if left_alone > 0 {
                vec![format!(
                    "{left_alone} processes have no more than the rest left as it is, or have ended: their limits stay"
                )]
            } else {
                Vec::new()
            },
        }
    }
}

/// How a process stands.
enum Level {
    /// It has ended.
    Gone,
    /// Its limit is somebody else's.
    Others,
    /// It can open so many more.
    Left(u64),
}

impl Short {
    fn level(&mut self, goal: ExhaustGoal) -> Result<Level, HoldError> {
        let id = self.id;
        let asked =
            limits::open_files(id.pid).and_then(|now| Ok((now, limits::descriptors(id.pid)?)));
        let Some((now, open)) = unless_gone(asked, id)? else {
            return Ok(Level::Gone);
        };
        if now.soft != self.soft || now.hard != self.was.hard {
            return Ok(Level::Others);
        }
        if let Some(less) = limit_that_leaves(&open, now.soft, goal.leaves(self.was.soft)) {
            if !lower(id, now, less)? {
                return Ok(Level::Others);
            }
            self.soft = less;
        }
        Ok(Level::Left(free_below(&open, self.soft)))
    }
}

fn lower(id: Identity, from: OpenFiles, soft: u64) -> Result<bool, HoldError> {
    change(id, from, soft).map_err(|error| {
        if error.raw_os_error() == Some(libc::EPERM) {
            return HoldError::Unable(format!(
                "process {} is another user's, and its limit of open files may not be lowered to {soft}: grant CAP_SYS_RESOURCE, or name a target \
                 of the agent's own user",
                id.pid
            ));
        }
        let object = format!("the limit of open files of process {} to {soft}", id.pid);
        HoldError::kernel("lower", object)(error)
    })
}

impl Undoable for Spent {
    const LOOK_EVERY: Option<Duration> = Some(LOOK_EVERY);

    /// Asks the kernel for each limit, lets go of those that somebody else has changed, lowers those that leave more than the rest, and
    /// counts the time since the last look if there were any, then and now.
    fn look(&mut self) -> Result<(), HoldError> {
        let now = Instant::now();
        self.all
            .retain(|short| !process::has_ended(short.pidfd.as_fd()));
        self.join()?;
        let mut tightest: Option<(u64, u64)> = None;
        let mut kept = Vec::new();
        for mut short in self.all.drain(..) {
            match short.level(self.goal)? {
                Level::Gone => {}
                Level::Others => self.dose.let_go += 1,
                Level::Left(left) => {
                    let this = (left, short.soft);
                    tightest = Some(tightest.map_or(this, |least| least.min(this)));
                    kept.push(short);
                }
            }
        }
        self.all = kept;
        if let Some((left, limit)) = tightest {
            (self.dose.left, self.dose.limit) = (left, limit);
            if self.seen.1 {
                self.dose.seconds += (now - self.seen.0).as_secs_f64();
            }
        } else {
            self.over = Some(if self.dose.let_go > 0 {
                EndCause::Failed(
                    "somebody else has set the limits of open files of all that were hit"
                        .to_owned(),
                )
            } else {
                EndCause::TargetGone
            });
        }
        self.seen = (now, tightest.is_some());
        self.dose.processes = self.all.len() as u64;
        Ok(())
    }

    fn dose(&self) -> Dose {
        Dose::Fds(self.dose.clone())
    }

    fn over(&self) -> Option<EndCause> {
        self.over.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_number_of_the_first_free_one_after_the_rest() {
        let of = |open: &[u64], soft, rest| limit_that_leaves(open, soft, rest);
        // None open, and all in a row.
        assert_eq!(of(&[], 1024, 10), Some(10));
        assert_eq!(of(&[0, 1, 2], 1024, 0), Some(3));
        assert_eq!(of(&[0, 1, 2], 1024, 10), Some(13));
        // Holes are the rest, or a part of it.
        assert_eq!(of(&[0, 2, 3, 7], 1024, 0), Some(1));
        assert_eq!(of(&[0, 2, 3, 7], 1024, 1), Some(4));
        assert_eq!(of(&[0, 2, 3, 7], 1024, 4), Some(8));
        assert_eq!(of(&[0, 2, 3, 7], 1024, 5), Some(9));
        // Never above what it is; what is open above counts for nothing.
        assert_eq!(of(&[0, 1, 2], 5, 2), None);
        assert_eq!(of(&[0, 1, 2], 5, 3), None);
        assert_eq!(of(&[0, 1, 2, 900], 5, 1), Some(4));
        assert_eq!(of(&[0, 1, 2], 3, 0), None);
        assert_eq!(of(&[], 0, 0), None);
        assert_eq!(of(&[0], u64::MAX, u64::MAX), None);
    }

    #[test]
    fn the_limit_leaves_exactly_the_rest() {
        let open: Vec<u64> = (0..200).filter(|n| n % 3 == 0 || *n > 150).collect();
        for rest in 0..300 {
            let limit = limit_that_leaves(&open, 400, rest);
            let free = free_below(&open, 400);
            assert_eq!(limit.is_some(), rest < free, "{rest}");
            if let Some(limit) = limit {
                assert_eq!(free_below(&open, limit), rest);
                assert_eq!(free_below(&open, limit + 1), rest + 1);
            }
        }
    }
}
