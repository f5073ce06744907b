//! Signals to processes, by pidfd: once, or again and again as what was killed comes back.
//!
//! Nothing is held: recovery is what is tested. What a crash loop may hit is what matches the target's selector
//! *and* was not there beside the target when the loop began: the replacement of what was killed, not its siblings. What a
//! container is replaced by only its runtime knows, which is asked again.

use super::held::{Held, HoldError};
use super::holder::Grip;
use super::replacement::Search;
use super::speech::{HoldSpec, Prey};
use crate::inventory::process::{self as inventory, Identity};
use crate::kernel::{cgroup, process};
use squall_experiments::dose::{Dose, Evidence, KillDose};
use squall_experiments::fault::{Kill, Signal};
use squall_experiments::wire::EndCause;
use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a signal that is sent once is given to show its effect; a process that handles SIGTERM or ignores it
/// is no reason to hold on.
const EFFECT: Duration = Duration::from_secs(2);

/// The most processes that one kill of a cgroup signals at once.
const AT_ONCE_MAX: usize = 4096;

struct Killer {
    signal: i32,
    every: Option<Duration>,
    next: Option<Instant>,
    give_up: Instant,
    prey: Prey,
    /// For a container's place.
    search: Option<Search>,
    /// Matched already, beside the target, when the loop began.
    siblings: HashSet<Identity>,
    group: Option<cgroup::Group>,
    /// Signalled and not yet seen to end.
    struck: Vec<(OwnedFd, u32)>,
    /// The process that stands for the target now.
    target: Option<(OwnedFd, u32)>,
    dose: KillDose,
}

/// Sends the first signal.
pub(crate) fn arm(
    fault: &Kill,
    spec: &HoldSpec,
    grip: &mut Grip,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let prey = spec.prey.clone().unwrap_or_default();
    let every = fault
        .every
        .map(squall_experiments::units::Interval::duration);
    // Taken out of the grip: the fault does not end with its target, the target ends with it.
    let target = grip.processes.pop();
    let mut siblings = HashSet::new();
    if let (Some(_), Some(selector)) = (every, &prey.selector) {
        let found = inventory::matching(selector).map_err(HoldError::Unable)?;
        let other =
            |found: &inventory::Found| Some(found.id.pid) != target.as_ref().map(|(_, pid)| *pid);
        siblings.extend(found.into_iter().filter(other).map(|found| found.id));
    }
    // Every hierarchy lists the same processes for one path, or nearly; one is enough.
    let group = target.is_none().then(|| grip.groups.pop()).flatten();
    let mut killer = Killer {
        signal: number(fault.signal),
        every,
        next: None,
        give_up: Instant::now() + EFFECT,
        search: Search::of(&prey),
        prey,
        siblings,
        group,
        struck: Vec::new(),
        target,
        dose: KillDose::default(),
    };
    let struck = killer.strike()?;
    if struck.is_empty() {
        return Err(HoldError::Unable(
            "nothing was left to signal: the target has ended".to_owned(),
        ));
    }
    let evidence = Evidence {
        means: "pidfd_send_signal".to_owned(),
        read_back: vec![format!(
            "the kernel took SIG{} for process {}",
            format!("{:?}", fault.signal).to_uppercase(),
            struck
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", ")
        )],
        warnings: Vec::new(),
    };
    Ok((Box::new(killer), evidence))
}

const fn number(signal: Signal) -> i32 {
    match signal {
        Signal::Kill => libc::SIGKILL,
        Signal::Term => libc::SIGTERM,
        Signal::Int => libc::SIGINT,
        Signal::Hup => libc::SIGHUP,
        Signal::Quit => libc::SIGQUIT,
        Signal::Abrt => libc::SIGABRT,
        Signal::Segv => libc::SIGSEGV,
        Signal::Usr1 => libc::SIGUSR1,
        Signal::Usr2 => libc::SIGUSR2,
    }
}

impl Killer {
    /// Signals whatever stands for the target now; returns the pids.
    fn strike(&mut self) -> Result<Vec<u32>, HoldError> {
        self.next = self.every.map(|every| Instant::now() + every);
        let victims = match &self.group {
            Some(group) => self.in_group(group)?,
            None => self.one()?.into_iter().collect(),
        };
        let mut struck = Vec::new();
        for (pidfd, pid) in victims {
            match process::signal(&pidfd, self.signal) {
                Ok(()) => {
                    self.dose.sent += 1;
                    struck.push(pid);
                    self.struck.push((pidfd, pid));
                }
                // It ended before we came: not our doing, and no failure.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => {
                    return Err(HoldError::kernel("signal", format!("process {pid}"))(error));
                }
            }
        }
        Ok(struck)
    }

    /// The one process that stands for the target: itself while it lives, then its replacement.
    fn one(&mut self) -> Result<Option<(OwnedFd, u32)>, HoldError> {
        if let Some((pidfd, pid)) = &self.target
            && !process::has_ended(pidfd.as_fd())
        {
            let again = pidfd.try_clone().map_err(HoldError::kernel(
                "duplicate",
                format!("the pidfd of {pid}"),
            ))?;
            return Ok(Some((again, *pid)));
        }
        if let Some(search) = &mut self.search {
            search.begin()?;
            return Ok(None);
        }
        let Some(selector) = &self.prey.selector else {
            return Ok(None);
        };
        let found = inventory::matching(selector).map_err(HoldError::Unable)?;
        let fair = |f: &inventory::Found| {
            !self.siblings.contains(&f.id) && !f.kernel_thread && self.prey.may_be_hit(f.id.pid)
        };
        let Some(newest) = found.into_iter().filter(fair).max_by_key(|f| f.id.started) else {
            return Ok(None);
        };
        let pid = newest.id.pid;
        let Ok(pidfd) = inventory::hold(newest.id) else {
            return Ok(None);
        };
        let again = pidfd.try_clone().map_err(HoldError::kernel(
            "duplicate",
            format!("the pidfd of {pid}"),
        ))?;
        self.target = Some((pidfd, pid));
        Ok(Some((again, pid)))
    }

    /// Every process of the group that may be hit. A pid is looked up again after its pidfd is taken: a process that
    /// took over a freed pid is not in the group.
    fn in_group(&self, group: &cgroup::Group) -> Result<Vec<(OwnedFd, u32)>, HoldError> {
        let list = || {
            cgroup::processes(&group.fd).map_err(HoldError::kernel(
                "list the processes of",
                format!("cgroup {}", group.path),
            ))
        };
        let mut taken = Vec::new();
        for pid in list()?.into_iter().take(AT_ONCE_MAX) {
            let Ok(pidfd) = process::pidfd_open(pid) else {
                continue;
            };
            if self.prey.may_be_hit(pid) {
                taken.push((pidfd, pid));
            }
        }
        let still: HashSet<u32> = list()?.into_iter().collect();
        taken.retain(|(_, pid)| still.contains(pid));
        Ok(taken)
    }

    fn count_ended(&mut self) {
        let before = self.struck.len();
        self.struck
            .retain(|(pidfd, _)| !process::has_ended(pidfd.as_fd()));
        self.dose.ended += (before - self.struck.len()) as u64;
    }
}

/// What holders call themselves.
const HOLDER_COMM: &str = "squall-holder";

impl Prey {
    /// Never ourselves, PID 1, another holder in the same group, or what was named as spared.
    pub(crate) fn may_be_hit(&self, pid: u32) -> bool {
        let names = [inventory::name_of(pid), inventory::comm_of(pid)];
        pid != 1
            && pid != std::process::id()
            && !self.spare_pids.contains(&pid)
            && !names
                .iter()
                .flatten()
                .any(|name| self.spare_names.contains(name) || name == HOLDER_COMM)
            && !self.in_spared_unit(pid)
    }
}

impl Prey {
    fn in_spared_unit(&self, pid: u32) -> bool {
        let paths = cgroup::paths_of(pid).unwrap_or_default();
        let mut parts = paths.iter().flat_map(|(_, path)| path.split('/'));
        parts.any(|part| self.spare_units.iter().any(|unit| unit == part))
    }
}

impl Held for Killer {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.struck.iter().map(|(pidfd, _)| pidfd.as_fd()).collect()
    }

    fn next_turn(&self) -> Option<Instant> {
        let found = self.search.as_ref().and_then(Search::due);
        let next = self.next.unwrap_or(self.give_up);
        Some(found.map_or(next, |found| found.min(next)))
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        self.count_ended();
        if let Some(found) = self.search.as_mut().and_then(Search::take) {
            self.target = Some(found.main);
            self.strike()?;
        }
        if self.next.is_some_and(|next| Instant::now() >= next) {
            // What did not end from one signal is not counted twice when it ends from the next.
            self.struck.clear();
            self.strike()?;
        }
        Ok(())
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        self.count_ended();
        Ok(Dose::Kill(self.dose.clone()))
    }

    fn over(&self) -> Option<EndCause> {
        let once = self.every.is_none();
        (once && (self.struck.is_empty() || Instant::now() >= self.give_up))
            .then_some(EndCause::Done)
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        self.dose()
    }
}
