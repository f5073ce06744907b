//! Ends an agent that hangs, before the leases do.
//!
//! A tiny process beside the agent, tied to it: it waits for a word from the agent's one task. While faults live the
//! task speaks whenever it is awake anyway, and at least twice within the deadline; when it is silent for so long, the watchdog kills the agent, and the kernel ends the
//! holders with it. While nothing lives there is nothing to wait for, and nobody wakes up. It has no threads, no
//! capabilities, and a priority that an agent starved by its own faults does not have.
//!
//! An agent that is PID 1 of its container cannot be killed from inside: then its holders are killed one by one.

use crate::kernel::{oom, process};
use crate::privileges;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::thread::CapabilitySet;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// The name under which it runs: its argument zero.
pub(crate) const NAME: &str = "squall-watchdog";
/// The shortest deadline: a busy machine keeps an agent waiting for some hundred milliseconds.
const DEADLINE_LEAST: Duration = Duration::from_secs(1);
/// More often than this the agent does not speak, whatever wakes it.
const BEAT_LEAST: Duration = Duration::from_millis(250);
/// How long the kernel may take to end an agent.
const KILLED: Duration = Duration::from_millis(500);

/// What the agent says: faults live, or none does.
const BUSY: u8 = b'b';
const IDLE: u8 = b'i';

/// The agent's side.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pipe: OwnedFd,
    pid: u32,
    pidfd: OwnedFd,
    deadline: Duration,
    /// What was said last, and when.
    said: Option<(bool, Instant)>,
}

impl Watchdog {
    /// Starts it. Called on the main thread, to which its life is tied, and before the agent gives up its rights:
    /// a high priority needs one (CAP_SYS_NICE), where there is one to be had.
    ///
    /// # Errors
    /// No process can be started: then the leases alone are left.
    pub(crate) fn start(deadline: Duration) -> io::Result<Self> {
        let deadline = deadline.max(DEADLINE_LEAST);
        let (theirs, ours) = io::pipe()?;
        let ours = OwnedFd::from(ours);
        rustix::io::ioctl_fionbio(&ours, true)?;
        let child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .args([
                std::process::id().to_string(),
                deadline.as_millis().to_string(),
            ])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let pid = child.id();
        Ok(Self {
            pipe: ours,
            pid,
            // Our own child, not yet reaped: the pid is still its.
            pidfd: process::pidfd_open(pid)?,
            deadline,
            said: None,
        })
    }

    /// Its process, which no fault may hit.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable when it has ended.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    pub(crate) fn end(&self) -> io::Result<AsyncFd<OwnedFd>> {
        process::watch(self.pidfd.try_clone()?)
    }

    /// The agent's task is alive; `busy` while faults are. Said is only what is news, or was not said just now.
    pub(crate) fn beat(&mut self, busy: bool) {
        let now = Instant::now();
        let news = match self.said {
            None => busy,
            Some((was, at)) => was != busy || (busy && now.duration_since(at) >= BEAT_LEAST),
        };
        if news {
            self.said = Some((busy, now));
            // A full pipe means that it is stopped, and a closed one that it is gone: both are looked after elsewhere.
            let _ = rustix::io::write(&self.pipe, &[if busy { BUSY } else { IDLE }]);
        }
    }

    /// When the agent must speak again while faults live, if nothing wakes it before.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.said
            .filter(|(busy, _)| *busy)
            .map(|(_, at)| at + self.deadline / 2)
    }
}

/// The watchdog's whole life.
pub(crate) fn run() -> ExitCode {
    match watch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn watch() -> io::Result<()> {
    process::die_with_parent()?;
    process::reset_signals()?;
    let words = process::adopt_fd(0)?;
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let (Some(Ok(pid)), Some(Ok(deadline_ms))) = (numbers.next(), numbers.next()) else {
        return Err(io::Error::other("whose watchdog, and how long?"));
    };
    let deadline = Duration::from_millis(u64::from(deadline_ms));
    let agent = process::pidfd_open(pid)?;
    if process::parent() != pid {
        return Ok(());
    }
    // Best effort: each helps, none is needed.
    let _ = process::own_group();
    let _ = process::set_name(c"squall-watchdog");
    let _ = oom::set(oom::PROTECTED);
    let _ = process::urgent();
    let _ = process::stay_in_memory();
    privileges::shed(CapabilitySet::empty())?;
    privileges::keep_only(CapabilitySet::empty())?;
    process::die_with_parent()?;
    let mut heard: Option<Instant> = None;
    loop {
        let left = heard.map(|heard| deadline.saturating_sub(heard.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            bite(&agent, pid, deadline);
            return Ok(());
        }
        if !readable(&words, left)? {
            continue;
        }
        let mut said = [0u8; 64];
        match rustix::io::read(&words, &mut said)? {
            0 => return Ok(()),
            n => heard = (said[n - 1] == BUSY).then(Instant::now),
        }
    }
}

/// Whether there is something to read within this time; without a limit where none is given.
fn readable(fd: &OwnedFd, limit: Option<Duration>) -> io::Result<bool> {
    let limit = limit.map(|limit| Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    match rustix::event::poll(&mut fds, limit.as_ref()) {
        Ok(n) => Ok(n > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn bite(agent: &OwnedFd, pid: u32, deadline: Duration) {
    let _ = writeln!(
        io::stderr(),
        "the agent (process {pid}) was silent for {:?} while faults lived: it is killed, and they end with it",
        deadline
    );
    let _ = process::signal(agent, libc::SIGKILL);
    if readable(agent, Some(KILLED)).unwrap_or(false) {
        return;
    }
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    for child in children.unwrap_or_default().split_ascii_whitespace() {
        let Ok(child) = child.parse::<u32>() else {
            continue;
        };
        if child != std::process::id()
            && let Ok(holder) = process::pidfd_open(child)
        {
            let _ = process::signal(holder, libc::SIGKILL);
        }
    }
}
