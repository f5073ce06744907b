//! The agent's side of one holder: start it, keep its lease, end it, and show that it is gone.
//!
//! Each fault has a task of its own, so that no fault waits for another. What the task is told is not a queue but
//! the latest wish ([`Wish`]): a stop overtakes whatever else was said, also an arming that is under way.

use super::HOLDER_NAME;
use super::held::chain;
use super::network;
use super::speech::{Attached, FromHolder, HoldSpec, ToHolder};
use crate::journal::Journal;
use crate::kernel::net::late;
use crate::kernel::{channel, clock, process};
use squall_experiments::dose::{Dose, Evidence};
use squall_experiments::fault_life::{FaultEvent, FaultState};
use squall_experiments::filter::ResolvedFilter;
use squall_experiments::wire::{self, EndCause, FromAgent};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// How long arming may take: netlink answers in milliseconds, a starved cgroup in a second.
const ARM_LIMIT: Duration = Duration::from_secs(5);
/// How long a holder may take to end in an orderly way; it takes a few milliseconds, and some hundred on an emulated
/// machine. Then it is killed, which ends the fault just as well but loses the last dose.
const STOP_LIMIT: Duration = Duration::from_millis(500);
/// How long after SIGKILL a process may be there before it is called stuck, and how often that is said again.
const GONE_LIMIT: Duration = Duration::from_secs(1);
/// How much later than the holder's own timers the agent looks after a lease: the kernel should have done it by then.
const LEASE_GRACE: Duration = Duration::from_millis(100);

/// Why a fault was refused whose lease was shorter than its arming.
const BEFORE_IN_FORCE: &str = "its lease ended before it was in force: renew it while it is being armed, or give it a longer one";

/// What is wanted of a fault now. The task compares it with what it did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// Since when it is to end.
    pub(crate) stop: Option<Instant>,
    /// Why, where it is not the controller's word.
    pub(crate) stop_because: Option<EndCause>,
    /// How many renewals there were, and the last one's lease.
    pub(crate) renewals: (u64, Duration),
    /// How many times the names were resolved anew, and the last result.
    pub(crate) filter: (u64, Option<ResolvedFilter>),
}

/// What the task needs to begin.
pub(crate) struct Start {
    /// The order, without `parent`.
    pub(crate) spec: HoldSpec,
    /// The descriptors that `spec.attached` announces.
    pub(crate) fds: Vec<OwnedFd>,
    /// The target in words, for `ps`.
    pub(crate) label: String,
    /// When the controller's word came.
    pub(crate) received: Instant,
}

/// Where the task's reports go: the last one (`Ended` or `Refused`) ends it.
pub(crate) trait Tell: Fn(FromAgent) {}
impl<F: Fn(FromAgent)> Tell for F {}

struct Task<'a, T: Tell> {
    start: &'a Start,
    tell: &'a T,
    state: FaultState,
    socket: AsyncFd<OwnedFd>,
    pidfd: AsyncFd<OwnedFd>,
    holder: u32,
    /// What was done of the wish.
    renewals: u64,
    filter: u64,
    /// When the kernel ends it unless it is renewed.
    lease_end: Instant,
    /// When something must have happened by.
    deadline: Instant,
    killed: bool,
    /// The holder has closed its end: readable for ever, and nothing to read.
    hung_up: bool,
    /// The holder's last words.
    dose: Option<Dose>,
    cause: Option<EndCause>,
    failed: Option<String>,
    stopped_at: Option<Instant>,
    /// The process that holds the present pulse, of a fault that comes and goes.
    beat: Option<OwnedFd>,
    /// Sockets that the holder left to be closed: see [`late`].
    left_to_close: Vec<OwnedFd>,
    /// When it was read back that it is in force.
    armed_at: Option<Instant>,
    /// When it was seen that nothing is in force any more.
    gone_at: Option<Instant>,
}

/// Holds one fault from its start to the proof of its end.
pub(crate) async fn hold<T: Tell>(start: Start, mut wish: watch::Receiver<Wish>, tell: T) {
    let refuse = |reason: String| {
        tell(FromAgent::Refused(wire::Refused {
            id: start.spec.id.clone(),
            reason,
            denied: false,
            gone: false,
        }));
    };
    let (socket, pidfd, holder) = match spawn(&start) {
        Ok(spawned) => spawned,
        Err(error) => return refuse(format!("the holder cannot be started: {error}")),
    };
    let now = Instant::now();
    let mut task = Task {
        tell: &tell,
        state: FaultState::Arming,
        socket,
        pidfd,
        holder,
        renewals: wish.borrow().renewals.0,
        filter: wish.borrow().filter.0,
        lease_end: now + Duration::from_millis(start.spec.lease_ms),
        deadline: now + ARM_LIMIT,
        killed: false,
        hung_up: false,
        dose: None,
        cause: None,
        failed: None,
        stopped_at: None,
        beat: None,
        left_to_close: Vec::new(),
        armed_at: None,
        gone_at: None,
        start: &start,
    };
    task.run(&mut wish).await;
}

/// Starts the holder and tells it what to hold. Called on the agent's main thread, to which the holder's life is tied.
fn spawn(start: &Start) -> io::Result<(AsyncFd<OwnedFd>, AsyncFd<OwnedFd>, u32)> {
    let (ours, theirs) = channel::pair()?;
    let order = ToHolder::Hold(Box::new(HoldSpec {
        parent: std::process::id(),
        ..start.spec.clone()
    }));
    let bytes = serde_json::to_vec(&order).map_err(io::Error::other)?;
    let fds: Vec<BorrowedFd<'_>> = start.fds.iter().map(AsFd::as_fd).collect();
    // Said before it is born: the order waits in the socket.
    channel::send(&ours, &bytes, &fds)?;
    let (pidfd, holder) = execute(theirs, &in_words(start))?;
    Ok((process::watch(ours)?, process::watch(pidfd)?, holder))
}

/// What `ps` shows.
fn in_words(start: &Start) -> String {
    let spec = &start.spec;
    match spec.pulse {
        Some(pulse) => format!("{}, {pulse}, in {}", spec.fault, start.label),
        None => format!("{} in {}", spec.fault, start.label),
    }
}

/// Starts a holder that waits for its order; returns the channel to it, its pidfd and its pid.
pub(super) fn start_holder(in_words: &str) -> io::Result<(OwnedFd, OwnedFd, u32)> {
    let (ours, theirs) = channel::pair()?;
    let (pidfd, holder) = execute(theirs, in_words)?;
    Ok((ours, pidfd, holder))
}

/// Executes this program again as a holder, tied to the calling thread. Nothing is asked for here that would take a fork, which copies the
/// agent's memory map for a program that replaces it at once: a hundred holders are started one after the other.
fn execute(channel: OwnedFd, in_words: &str) -> io::Result<(OwnedFd, u32)> {
    let child = Command::new("/proc/self/exe")
        .arg0(HOLDER_NAME)
        .arg(in_words)
        .env_clear()
        .stdin(Stdio::from(channel))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let holder = child.id();
    // Our own child, not yet reaped: the pid is still its.
    Ok((process::pidfd_open(holder)?, holder))
}

impl<T: Tell> Task<'_, T> {
    async fn run(&mut self, wish: &mut watch::Receiver<Wish>) {
        self.follow(&wish.borrow_and_update().clone());
        loop {
            tokio::select! {
                biased;
                changed = wish.changed(), if !self.killed => match changed {
                    Ok(()) => {
                        let now = wish.borrow_and_update().clone();
                        self.follow(&now);
                    }
                    // Nobody is left who could wish anything.
                    Err(_) => self.kill(),
                },
                _ = self.pidfd.readable() => break,
                ready = self.socket.readable(), if !self.hung_up => {
                    if let Ok(mut ready) = ready {
                        ready.clear_ready();
                    }
                    self.listen();
                }
                () = sleep_until(self.deadline.min(self.lease_end + LEASE_GRACE)) => self.late(),
            }
        }
        // Its last words may still be in the socket.
        self.listen();
        self.bury().await;
    }

    /// Does what is wished and not yet done.
    fn follow(&mut self, wish: &Wish) {
        if let Some(since) = wish.stop {
            if self.stopped_at.is_none() {
                self.stopped_at = Some(since);
                self.cause.clone_from(&wish.stop_because);
                self.event(FaultEvent::Stop);
                self.deadline = Instant::now() + STOP_LIMIT;
                if self.say(&ToHolder::Stop).is_err() {
                    self.kill();
                }
            }
            return;
        }
        let (renewals, lease) = wish.renewals;
        if renewals > self.renewals {
            self.renewals = renewals;
            let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
            // A holder that does not read is hung: its lease ends it.
            if self.say(&ToHolder::Renew { lease_ms }).is_ok() {
                self.lease_end = Instant::now() + lease;
            }
        }
        if wish.filter.0 > self.filter {
            self.filter = wish.filter.0;
            if let Some(filter) = &wish.filter.1
                && let Err(error) = self.say(&ToHolder::Update(filter.clone()))
            {
                tracing::warn!(fault = %self.start.spec.id, %error, "new addresses could not be told to the holder");
            }
        }
    }

    fn say(&self, word: &ToHolder) -> io::Result<()> {
        let bytes = serde_json::to_vec(word).map_err(io::Error::other)?;
        channel::send(self.socket.get_ref(), &bytes, &[])
    }

    /// Reads all that the holder said.
    fn listen(&mut self) {
        let mut fds = Vec::new();
        loop {
            let bytes = match channel::receive(self.socket.get_ref(), &mut fds) {
                Ok(Some(bytes)) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.left_to_close.append(&mut fds);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(None) | Err(_) => {
                    self.hung_up = true;
                    self.left_to_close.append(&mut fds);
                    // It is about to end; a holder that hangs up and stays is not one.
                    self.deadline = self.deadline.min(Instant::now() + STOP_LIMIT);
                    return;
                }
            };
            match serde_json::from_slice(&bytes) {
                Ok(word) => self.hear(word),
                Err(error) => {
                    self.failed = Some(format!("the holder's answer cannot be read: {error}"));
                    self.kill();
                }
            }
        }
    }

    fn hear(&mut self, word: FromHolder) {
        let at_us = clock::epoch_us();
        let id = self.start.spec.id.clone();
        match word {
            FromHolder::Armed(evidence) => {
                let was = self.state;
                self.event(FaultEvent::Armed);
                if was == FaultState::Arming {
                    // From here on only the lease is a limit.
                    self.deadline = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
                    self.armed_at = Some(Instant::now());
                    self.armed(evidence, at_us);
                }
            }
            // None where it has ended already: then there is nothing to wait for.
            FromHolder::Beat { pid } => self.beat = self.child_of_holder(pid),
            FromHolder::Dose(dose) => {
                self.dose = Some(dose.clone());
                (self.tell)(FromAgent::Dosed(wire::Dosed { id, dose, at_us }));
            }
            FromHolder::Ended { cause, dose } => {
                self.dose = dose.or(self.dose.take());
                self.cause.get_or_insert(cause);
                self.deadline = self.deadline.min(Instant::now() + STOP_LIMIT);
            }
            FromHolder::Failed { reason } => {
                self.failed = Some(reason);
                self.deadline = self.deadline.min(Instant::now() + STOP_LIMIT);
            }
        }
    }

    fn armed(&self, evidence: Evidence, at_us: u64) {
        (self.tell)(FromAgent::Armed(wire::Armed {
            id: self.start.spec.id.clone(),
            holder: self.holder,
            evidence,
            held: self.start.spec.fault.kind().holding(),
            at_us,
            took_us: micros(self.start.received),
        }));
    }

    /// A limit is reached.
    fn late(&mut self) {
        if self.killed {
            self.deadline = Instant::now() + GONE_LIMIT;
            self.lease_end = self.deadline;
            self.event(FaultEvent::NotShownGone);
            let reason = format!(
                "holder {} was sent SIGKILL and is still there: it waits inside the kernel; see /proc/{}/stack",
                self.holder, self.holder
            );
            self.stuck(reason);
            return;
        }
        if self.state == FaultState::Arming && Instant::now() >= self.deadline {
            self.failed = Some(format!(
                "it was not in force within {} s",
                ARM_LIMIT.as_secs()
            ));
        } else if self.state == FaultState::Arming {
            self.failed = Some(BEFORE_IN_FORCE.to_owned());
        } else if Instant::now() >= self.lease_end + LEASE_GRACE {
            self.cause.get_or_insert(EndCause::LeaseEnded);
        }
        self.kill();
    }

    fn stuck(&self, reason: String) {
        tracing::error!(fault = %self.start.spec.id, reason, "a fault cannot be shown gone");
        (self.tell)(FromAgent::Stuck(wire::Stuck {
            id: self.start.spec.id.clone(),
            reason,
        }));
    }

    fn kill(&mut self) {
        self.killed = true;
        self.deadline = Instant::now() + GONE_LIMIT;
        self.lease_end = self.deadline;
        if let Err(error) = process::signal(self.pidfd.get_ref(), libc::SIGKILL)
            && error.raw_os_error() != Some(libc::ESRCH)
        {
            tracing::error!(holder = self.holder, %error, "the holder cannot be killed");
        }
    }

    fn event(&mut self, event: FaultEvent) {
        match self.state.next(event) {
            Ok(state) => self.state = state,
            Err(illegal) => {
                tracing::error!(fault = %self.start.spec.id, %illegal, "a fault was told nonsense")
            }
        }
    }

    /// The process has ended: reap it, ask the kernel what is left, and report.
    async fn bury(&mut self) {
        let exit = match process::reap(self.pidfd.get_ref().as_fd()) {
            Ok(exit) => exit.unwrap_or(process::Exit::Code(-1)),
            Err(error) => {
                tracing::error!(holder = self.holder, %error, "the holder cannot be reaped");
                process::Exit::Code(-1)
            }
        };
        self.beat_gone().await;
        self.show_gone().await;
        let was_armed = !matches!(self.state, FaultState::Arming) && self.failed.is_none();
        if !was_armed {
            let reason = match (self.failed.take(), exit) {
                (Some(reason), _) => reason,
                (None, process::Exit::Signal(libc::SIGALRM)) => BEFORE_IN_FORCE.to_owned(),
                (None, exit) => format!("its holder ended before it was in force: {}", words(exit)),
            };
            self.event(FaultEvent::Refused);
            return (self.tell)(FromAgent::Refused(wire::Refused {
                id: self.start.spec.id.clone(),
                reason,
                denied: false,
                gone: false,
            }));
        }
        self.event(FaultEvent::Ended);
        let cause = self.cause_of(exit);
        (self.tell)(FromAgent::Ended(wire::Ended {
            id: self.start.spec.id.clone(),
            cause,
            dose: self.dose.take(),
            at_us: clock::epoch_us().saturating_sub(self.gone_at.map_or(0, micros)),
            took_us: self.stopped_at.map(|since| self.took(since)),
            lasted_us: self.armed_at.map(|since| self.took(since)),
        }));
    }

    /// How long from a moment until it was seen that nothing was in force. Removing what was left idle comes after that.
    fn took(&self, since: Instant) -> u64 {
        let took = match self.gone_at {
            Some(gone) => gone.saturating_duration_since(since),
            None => since.elapsed(),
        };
        u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
    }

    fn cause_of(&mut self, exit: process::Exit) -> EndCause {
        if self.stopped_at.is_some() {
            return self.cause.take().unwrap_or(EndCause::Stopped);
        }
        match (self.cause.take(), exit) {
            // It said "stopped" because the channel ended, though nobody said stop.
            (Some(cause), _) => cause,
            (None, process::Exit::Signal(libc::SIGALRM)) => EndCause::LeaseEnded,
            // Stopped past its lease, it dies of the second timer.
            (None, process::Exit::Signal(libc::SIGKILL)) if Instant::now() >= self.lease_end => {
                EndCause::LeaseEnded
            }
            (None, exit) => EndCause::HolderKilled(words(exit)),
        }
    }

    /// A descriptor for this pid, if it is the holder's child.
    fn child_of_holder(&self, pid: u32) -> Option<OwnedFd> {
        let pidfd = process::pidfd_open(pid).ok()?;
        let is_his = crate::inventory::process::parent_of(pid) == Some(self.holder);
        is_his.then_some(pidfd)
    }

    /// Waits until the holder of the present pulse is gone too: the kernel kills it with the one that started it.
    async fn beat_gone(&mut self) {
        let Some(beat) = self.beat.take() else {
            return;
        };
        let mut said_at = Instant::now();
        while !process::has_ended(beat.as_fd()) {
            if said_at.elapsed() >= GONE_LIMIT {
                said_at = Instant::now();
                self.event(FaultEvent::NotShownGone);
                self.stuck(
                    "its holder is gone, and the process that held its present pulse is not"
                        .to_owned(),
                );
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Asks the kernel, until nothing of it is there. The process is gone already; what is looked for is what may
    /// outlive a process: an idle device, or a descriptor that leaked to another.
    async fn show_gone(&mut self) {
        if let Some(folder) = self.start.spec.journal.clone() {
            return self.settle(folder).await;
        }
        if !self.start.spec.fault.kind().is_network() {
            self.gone_at = Some(Instant::now());
            return;
        }
        loop {
            let netns = self.netns().and_then(|fd| fd.try_clone_to_owned().ok());
            let holder = self.holder;
            let late = std::mem::take(&mut self.left_to_close);
            let look = move || network::sweep(netns.as_ref().map(AsFd::as_fd), holder);
            let left = match on_a_thread(look, late).await {
                Ok(Ok(left)) if left.in_force.is_empty() => {
                    self.gone_at.get_or_insert(left.seen.into());
                    match left.swept {
                        Ok(_) => return,
                        Err(error) => chain(&error),
                    }
                }
                Ok(Ok(left)) => left.in_force.join("; "),
                Ok(Err(error)) => chain(&error),
                Err(error) => {
                    format!("nobody knows, because no thread could be started to look ({error})")
                }
            };
            self.event(FaultEvent::NotShownGone);
            self.stuck(format!(
                "its holder is gone, and the kernel still shows: {left}"
            ));
            tokio::time::sleep(GONE_LIMIT).await;
        }
    }

    /// Has the journal put back what the holder left, until nothing of it is left.
    async fn settle(&mut self, folder: PathBuf) {
        loop {
            let (journal, fault) = (Journal::new(folder.clone()), self.start.spec.id.clone());
            let (late, holder) = (std::mem::take(&mut self.left_to_close), self.holder);
            let settle = move || journal.settle(&fault, holder);
            let left = match on_a_thread(settle, late).await {
                Ok(Ok(())) => {
                    self.gone_at.get_or_insert(Instant::now());
                    return;
                }
                Ok(Err(error)) => chain(&error),
                Err(error) => format!("no thread could be started to put it back ({error})"),
            };
            self.event(FaultEvent::NotShownGone);
            self.stuck(format!("its holder is gone, and {left}"));
            tokio::time::sleep(GONE_LIMIT).await;
        }
    }

    fn netns(&self) -> Option<BorrowedFd<'_>> {
        let at = self
            .start
            .spec
            .attached
            .iter()
            .position(|a| *a == Attached::Netns)?;
        self.start.fds.get(at).map(AsFd::as_fd)
    }
}

/// Work that blocks, on a thread of its own: the runtime's few may all be waiting for a resolver that does not answer,
/// and the proof of an end waits for nobody.
/// What is closed late, is closed there, after the answer.
async fn on_a_thread<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
    left_to_close: Vec<OwnedFd>,
) -> io::Result<R> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("squall-sweep".to_owned())
        .spawn(move || {
            // Nobody listens any more where the agent ends.
            let _ = done.send(work());
            late::close();
            drop(left_to_close);
        })?;
    result.await.map_err(io::Error::other)
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// How a process ended, in words.
pub(super) fn words(exit: process::Exit) -> String {
    match exit {
        process::Exit::Code(code) => format!("it exited with code {code}"),
        process::Exit::Signal(number) => {
            let name = nix::sys::signal::Signal::try_from(number).map_or("", |s| s.as_str());
            format!("it was killed by signal {number} {name}")
                .trim_end()
                .to_owned()
        }
    }
}
