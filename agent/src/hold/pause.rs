//! A pause: every thread of the target is a tracee that stands still, and runs on when its tracer is no more.
//!
//! Nothing is lost meanwhile: a signal that is sent to a thread that stands still waits in the kernel and is delivered
//! afterwards, a target that was stopped (SIGSTOP) before is stopped again after, and one that is continued
//! meanwhile runs. So nothing is detached in an orderly way either: a tracee that was caught while it took a signal gets
//! it from the kernel when its tracer ends, and would lose it to a careless detach.
//!
//! Threads may start threads until they are caught, so that is looked again until a look finds none that is new; and once
//! a second from then on, for those that the kernel did not let go at once.

use super::held::{Held, HoldError};
use super::holder::Grip;
use super::speech::{HoldSpec, Prey};
use crate::inventory::process as inventory;
use crate::kernel::{cgroup, process, ptrace};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec};
use squall_experiments::dose::{Dose, Evidence, PauseDose};
use squall_experiments::wire::EndCause;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the threads are waited for when they are told to stop: it takes microseconds but for one that waits inside
/// the kernel and cannot be disturbed (state D), which executes nothing of its program either.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// Looks at most until one finds no new thread: a program that starts threads faster than they can be caught runs out
/// of running threads to start them with.
const LOOKS_MAX: usize = 64;
/// The most processes of one cgroup that are made to stand still.
const PROCESSES_MAX: usize = 4096;

struct Paused {
    /// The target, and what else is in its group.
    processes: Vec<(OwnedFd, u32)>,
    group: Option<cgroup::Group>,
    prey: Prey,
    /// Each thread that was seized: its process, and whether it was seen to stop.
    threads: BTreeMap<u32, (u32, bool)>,
    bell: SignalFd,
    /// When the threads were last looked at, and whether all of them stood still then.
    seen: (Instant, bool),
    dose: PauseDose,
}

/// Stops every thread and reads back from the kernel that they stand still.
pub(crate) fn arm(
    spec: &HoldSpec,
    grip: &mut Grip,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let prey = spec.prey.clone().unwrap_or_default();
    let mut processes = Vec::new();
    for (pidfd, pid) in &grip.processes {
        let again = pidfd.try_clone().map_err(HoldError::kernel(
            "duplicate",
            format!("the pidfd of {pid}"),
        ))?;
        processes.push((again, *pid));
    }
    // A process that was named comes without its group, a container's with it. Every hierarchy lists the same processes for
    // one path, or nearly; one is enough.
    let group = grip.groups.pop();
    let bell = ptrace::bell().map_err(HoldError::kernel(
        "listen to",
        "the threads' changes of state",
    ))?;
    let mut paused = Paused {
        processes,
        group,
        prey,
        threads: BTreeMap::new(),
        bell,
        seen: (Instant::now(), false),
        dose: PauseDose::default(),
    };
    paused.catch_all()?;
    let still = paused.look();
    if paused.threads.is_empty() {
        return Err(HoldError::Unable(
            "there was nothing to pause: the target has ended".to_owned(),
        ));
    }
    let moving = paused.threads.len() - still;
    let evidence = Evidence {
        means: "ptrace: the threads stand still as long as their tracer lives".to_owned(),
        read_back: vec![format!(
            "/proc shows {still} of {} threads in {} as stopped by a tracer (state t)",
            paused.threads.len(),
            paused.in_words()
        )],
        warnings: if moving > 0 {
            vec![format!(
                "{moving} threads wait inside the kernel and will stand still when that lets them go"
            )]
        } else {
            Vec::new()
        },
    };
    Ok((Box::new(paused), evidence))
}

impl Paused {
    /// Catches every thread there is, until a look finds no new one and all stand still, or the limit is reached.
    fn catch_all(&mut self) -> Result<(), HoldError> {
        let begun = Instant::now();
        for _ in 0..LOOKS_MAX {
            let caught = self.catch_new()?;
            while !self.all_stopped() && begun.elapsed() < STOP_LIMIT {
                self.wait(STOP_LIMIT.saturating_sub(begun.elapsed()))?;
                self.listen()?;
            }
            if caught == 0 || begun.elapsed() >= STOP_LIMIT {
                return Ok(());
            }
        }
        Err(HoldError::Unable(format!(
            "{} starts threads or processes faster than they can be stopped: {LOOKS_MAX} looks found new ones each time",
            self.in_words()
        )))
    }

    /// Seizes the threads that are not ours yet; returns how many.
    fn catch_new(&mut self) -> Result<usize, HoldError> {
        self.join_group()?;
        let before = self.threads.len();
        let pids: Vec<u32> = self
            .processes
            .iter()
            .filter(|(pidfd, _)| !process::has_ended(pidfd.as_fd()))
            .map(|(_, pid)| *pid)
            .collect();
        for pid in pids {
            for thread in inventory::threads_of(pid) {
                if !self.threads.contains_key(&thread) && catch(pid, thread)? {
                    self.threads.insert(thread, (pid, false));
                }
            }
        }
        Ok(self.threads.len() - before)
    }

    /// Takes hold of the group's processes that are new. A pid is looked up again after its pidfd is taken: a process
    /// that took over a freed pid is not in the group.
    fn join_group(&mut self) -> Result<(), HoldError> {
        let Some(group) = &self.group else {
            return Ok(());
        };
        let list = || {
            cgroup::processes(&group.fd).map_err(HoldError::kernel(
                "list the processes of",
                format!("cgroup {}", group.path),
            ))
        };
        self.processes
            .retain(|(pidfd, _)| !process::has_ended(pidfd.as_fd()));
        let mut new = Vec::new();
        for pid in list()? {
            let known = self.processes.iter().any(|(_, known)| *known == pid);
            if known || !self.prey.may_be_hit(pid) {
                continue;
            }
            if let Ok(pidfd) = process::pidfd_open(pid) {
                new.push((pidfd, pid));
            }
        }
        let still = list()?;
        new.retain(|(_, pid)| still.contains(pid));
        self.processes.append(&mut new);
        if self.processes.len() > PROCESSES_MAX {
            return Err(HoldError::Unable(format!(
                "cgroup {} has more than {PROCESSES_MAX} processes: name some of them",
                group.path
            )));
        }
        Ok(())
    }

    fn all_stopped(&self) -> bool {
        self.threads.values().all(|(_, stopped)| *stopped)
    }

    fn wait(&self, limit: Duration) -> Result<(), HoldError> {
        let mut fds = [PollFd::from_borrowed_fd(self.bell.as_fd(), PollFlags::IN)];
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        match rustix::event::poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(HoldError::kernel("wait for", "the threads to stop")(error)),
        }
    }

    /// Takes in what the threads did. One that has ended is no longer ours, and its process can be buried.
    fn listen(&mut self) -> Result<(), HoldError> {
        // Signals of one kind do not queue, so that the bell says when to ask and not how often.
        while let Ok(Some(_)) = self.bell.read_signal() {}
        let news = || {
            ptrace::news().map_err(HoldError::kernel(
                "ask for",
                "the threads' changes of state",
            ))
        };
        while let Some((thread, what)) = news()? {
            match what {
                ptrace::News::Ended => drop(self.threads.remove(&thread)),
                ptrace::News::Stopped => {
                    if let Some((_, stopped)) = self.threads.get_mut(&thread) {
                        *stopped = true;
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks the kernel which threads stand still, and counts the time since the last look if all did, then and now.
    fn look(&mut self) -> usize {
        let stands = |(thread, (pid, _)): (&u32, &(u32, bool))| {
            (inventory::thread_state(*pid, *thread) == Some('t')).then_some(*pid)
        };
        let still: Vec<u32> = self.threads.iter().filter_map(stands).collect();
        let now = Instant::now();
        let all = !still.is_empty() && still.len() == self.threads.len();
        if all && self.seen.1 {
            self.dose.seconds += (now - self.seen.0).as_secs_f64();
        }
        self.seen = (now, all);
        self.dose.threads = still.len() as u64;
        self.dose.processes = still
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len() as u64;
        still.len()
    }

    fn in_words(&self) -> String {
        match (&self.group, self.processes.as_slice()) {
            (Some(group), _) => format!("cgroup {}", group.path),
            (None, [(_, pid)]) => format!("process {pid}"),
            (None, several) => format!("{} processes", several.len()),
        }
    }
}

/// Seizes one thread and tells it to stop; `false` when it has just ended.
fn catch(pid: u32, thread: u32) -> Result<bool, HoldError> {
    let gone = |error: &std::io::Error| error.raw_os_error() == Some(libc::ESRCH);
    if let Err(error) = ptrace::seize(thread) {
        let ended = matches!(inventory::thread_state(pid, thread), None | Some('Z' | 'X'));
        if gone(&error) || ended {
            return Ok(false);
        }
        return Err(why_not(pid, thread, error));
    }
    match inventory::process_of_thread(thread) {
        Some(owner) if owner == pid => {}
        // It has just ended.
        None => return Ok(false),
        // Between the look and the seizure its number became another's, which runs on: it is only let go with us.
        Some(owner) => {
            return Err(HoldError::Unable(format!(
                "thread {thread} of process {pid} ended while it was being caught, and its number is one of process \
                 {owner} now: inject the pause again"
            )));
        }
    }
    match ptrace::interrupt(thread) {
        Ok(()) => Ok(true),
        // It ends; it is still ours to bury.
        Err(error) if gone(&error) => Ok(true),
        Err(error) => Err(HoldError::kernel(
            "stop",
            format!("thread {thread} of process {pid}"),
        )(error)),
    }
}

/// The kernel says EPERM to all of it; /proc says which it is.
fn why_not(pid: u32, thread: u32, error: std::io::Error) -> HoldError {
    if error.raw_os_error() != Some(libc::EPERM) {
        return HoldError::kernel("trace", format!("thread {thread} of process {pid}"))(error);
    }
    if let Some(tracer) = inventory::tracer_of(pid, thread) {
        let name = inventory::name_of(tracer).unwrap_or_else(|| "of unknown name".to_owned());
        return HoldError::Unable(format!(
            "process {pid} is being traced by process {tracer} ({name}), and a process can have one tracer only: end \
             that debugger, or that other pause, first"
        ));
    }
    HoldError::Unable(format!(
        "process {pid} may not be traced: grant CAP_SYS_PTRACE, and see that kernel.yama.ptrace_scope is not 3"
    ))
}

impl Held for Paused {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.bell.as_fd()]
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        self.listen()
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        self.catch_new()?;
        self.listen()?;
        self.look();
        Ok(Dose::Pause(self.dose.clone()))
    }

    fn over(&self) -> Option<EndCause> {
        let ended = |(pidfd, _): &(OwnedFd, u32)| process::has_ended(pidfd.as_fd());
        self.processes
            .iter()
            .all(ended)
            .then_some(EndCause::TargetGone)
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        self.look();
        // The end of this process, which is next, is what lets them run.
        Ok(Dose::Pause(self.dose))
    }
}
