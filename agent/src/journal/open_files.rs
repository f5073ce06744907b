//! Limits of open files that were lowered: whose, what they were, and giving them back, to what was forked meanwhile as well.

use crate::inventory::process::{self, Identity, identity};
use crate::kernel::limits::{self, OpenFiles};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Processes may be forked while limits are given back, so that it is looked again until a look finds nothing to change. Each finds
/// those of a few milliseconds, and their parents have their own limits back by then: two are enough but for what forks all along.
const PASSES_MAX: usize = 16;

/// What was before, of all processes of one fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Limits {
    /// From when on a process may be one that was forked meanwhile, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub(crate) since: u64,
    /// A cgroup's inode, where it was aimed at one and not at a process.
    pub(crate) group: Option<u64>,
    /// The texts of /proc/PID/cgroup that the processes have.
    pub(crate) cgroups: Vec<String>,
    /// The processes.
    pub(crate) processes: Vec<Was>,
}

/// What was before, of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Was {
    /// Its number.
    pub(crate) pid: u32,
    /// When it started.
    pub(crate) started: u64,
    /// Its soft limit.
    pub(crate) soft: u64,
    /// Its hard limit, which stays as it is.
    pub(crate) hard: u64,
    /// What its soft limit is lowered to at first; later only to less.
    pub(crate) lowered: u64,
    /// Which of the cgroups' texts is its.
    pub(crate) cgroup: usize,
}

impl Was {
    /// Which process it was.
    pub(crate) const fn id(&self) -> Identity {
        Identity {
            pid: self.pid,
            started: self.started,
        }
    }

    /// Whether a limit is this one lowered, of the process itself or of what it forked: one that somebody else has set is not.
    pub(crate) const fn is_lowered(&self, now: OpenFiles) -> bool {
        now.hard == self.hard && now.soft <= self.lowered && now.soft < self.soft
    }
}

/// Sets the soft limit of exactly this process from what it is now; whether it did. A process that is gone, whose number is another's
/// by now, or whose limit somebody else has changed in this instant, stays as it is.
///
/// # Errors
/// `EPERM` without `CAP_SYS_RESOURCE`.
pub(crate) fn change(id: Identity, from: OpenFiles, soft: u64) -> io::Result<bool> {
    if identity(id.pid) != Some(id) {
        return Ok(false);
    }
    let to = OpenFiles { soft, ..from };
    let was = match limits::set_open_files(id.pid, to) {
        Err(error) if is_gone(&error) => return Ok(false),
        was => was?,
    };
    // prlimit(2) takes a number and not a pidfd: whoever has that number now gets its own limit back.
    if was != from || identity(id.pid).is_some_and(|now| now != id) {
        match limits::set_open_files(id.pid, was) {
            Err(error) if is_gone(&error) => {}
            other => drop(other?),
        }
        return Ok(false);
    }
    Ok(true)
}

/// Whether the process that was asked for has ended: /proc says it in two ways.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENOENT))
}

/// The text of /proc/PID/cgroup: where a process is in each hierarchy.
pub(crate) fn cgroup_of(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
}

impl Limits {
    /// A name for what is changed.
    pub(crate) fn key(&self) -> String {
        match (self.group, self.processes.first()) {
            (Some(inode), _) => format!("fds-group-{inode}"),
            (None, Some(first)) => format!("fds-{}-{}", first.pid, first.started),
            (None, None) => "fds-none".to_owned(),
        }
    }

    /// What is changed, for people.
    pub(crate) fn in_words(&self) -> String {
        match self.processes.as_slice() {
            [one] => format!("the limit of open files of process {}", one.pid),
            several => format!("the limits of open files of {} processes", several.len()),
        }
    }

    /// Gives every process its limit back, parents first, until a look at all processes finds none that is lowered.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_RESOURCE`; or processes are forked faster than their limits can be given back.
    pub(crate) fn put_back(&self) -> io::Result<()> {
        // Those that are known need not wait for a look at all others. What fails is tried again with them.
        let known = self.processes.iter().map(|was| (was.id(), was));
        let _ = give_back_all(known.collect());
        for _ in 0..PASSES_MAX {
            if !give_back_all(self.all()?)? {
                return Ok(());
            }
        }
        Err(io::Error::other(format!(
            "each of {PASSES_MAX} looks found another process with a lowered limit: they are forked faster than it can be given back"
        )))
    }

    /// The recorded processes, and then, by age, what they may have forked since: each with what its limit was, or its parent's.
    fn all(&self) -> io::Result<Vec<(Identity, &Was)>> {
        let everybody = process::everybody()?;
        let parents: BTreeMap<u32, u32> = everybody.iter().map(|(id, up)| (id.pid, *up)).collect();
        let recorded: BTreeSet<Identity> = self.processes.iter().map(Was::id).collect();
        let mut forked: Vec<(Identity, &Was)> = everybody
            .iter()
            .filter(|(id, _)| id.started >= self.since && !recorded.contains(id))
            .filter_map(|(id, _)| Some((*id, self.origin(*id, &parents)?)))
            .collect();
        forked.sort_by_key(|(id, _)| (id.started, id.pid));
        let own = self.processes.iter().map(|was| (was.id(), was));
        Ok(own.chain(forked).collect())
    }

    /// Which recorded process another one comes from: the nearest above it, or, where those in between have ended, one in the same
    /// cgroup; of several that one with the highest limit, so that nobody is left short.
    fn origin(&self, id: Identity, parents: &BTreeMap<u32, u32>) -> Option<&Was> {
        /// As of `process::ancestors`.
        const DEPTH_MAX: usize = 64;
        let up = |pid: &u32| parents.get(pid).copied();
        let above = std::iter::successors(up(&id.pid), up).take(DEPTH_MAX);
        let lives = |was: &&Was| identity(was.pid) == Some(was.id());
        for pid in above {
            let found = self.processes.iter().find(|was| was.pid == pid);
            if let Some(was) = found.filter(lives) {
                return Some(was);
            }
        }
        let now = limits::open_files(id.pid).ok()?;
        let cgroup = cgroup_of(id.pid)?;
        let beside = self
            .processes
            .iter()
            .filter(|was| self.cgroups.get(was.cgroup) == Some(&cgroup) && was.is_lowered(now));
        beside.max_by_key(|was| was.soft)
    }
}

/// Whether there was anything to give back. All of it is tried before the first error is told.
fn give_back_all(all: Vec<(Identity, &Was)>) -> io::Result<bool> {
    let mut changed = false;
    let mut failed = None;
    for (id, was) in all {
        match give_back(id, was) {
            Ok(done) => changed |= done,
            Err(error) => {
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(changed), Err)
}

/// Gives one process its limit back, if it is lowered; whether it was.
fn give_back(id: Identity, was: &Was) -> io::Result<bool> {
    if identity(id.pid) != Some(id) {
        return Ok(false);
    }
    match limits::open_files(id.pid) {
        Ok(now) if was.is_lowered(now) => change(id, now, was.soft),
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(false),
    }
}
