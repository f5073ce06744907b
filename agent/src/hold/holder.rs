//! The holder process: from its first instruction to its last.
//!
//! ```text
//!   start ─▶ tied to the parent ─▶ told what to hold ─▶ lease timer ─▶ inside the target ─▶ armed ─▶ read back
//!                                                                                             │  ▲ renew, dose
//!                                                                                             ▼  │
//!             stop, end of the channel, target gone, own end ──▶ released ──▶ exit ◀──────── held
//! ```
//!
//! - Anything that goes wrong before `armed` is answered with `Failed` and an exit: nothing is in force then.
//! - The process may be killed between any two instructions: nothing here is needed to take the fault back.
//! - It never waits without a limit: on the first word for [`FIRST_WORD`], later for the lease at most.

use super::held::{Held, HoldError, chain};
use super::speech::{Attached, FromHolder, HoldSpec, ToHolder};
use super::{
    busy, cpu, exhaust, fds, fill, freeze, kill, memory, names, network, nic_down, node_end,
};
use super::{pause, pulse, queue};
use crate::kernel::net::late;
use crate::kernel::{cgroup, channel, oom, process, timer};
use crate::rhythm::Rhythm;
use crate::{confine, privileges};
use rustix::event::{PollFd, PollFlags, Timespec};
use squall_experiments::dose::Evidence;
use squall_experiments::fault::{Exhausted, Fault, FaultKind};
use squall_experiments::wire::EndCause;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The agent sends the first word together with the start; a holder that hears nothing for so long was orphaned in a
/// way nobody thought of.
const FIRST_WORD: Duration = Duration::from_secs(5);

/// The descriptors that came with the order to hold, by what they are.
#[derive(Debug, Default)]
pub(crate) struct Grip {
    /// The target's processes, and their pids for messages: the fault ends with the last of them.
    pub(crate) processes: Vec<(OwnedFd, u32)>,
    /// The namespace to enter.
    pub(crate) netns: Option<OwnedFd>,
    /// The target's group in each hierarchy.
    pub(crate) groups: Vec<cgroup::Group>,
}

impl Grip {
    /// The group whose hierarchy has this controller, and whether it is v2's.
    pub(crate) fn group(&self, controller: &str) -> Option<(&cgroup::Group, bool)> {
        let has = |g: &&cgroup::Group| g.controllers.iter().any(|c| c == controller);
        let v2 = || self.groups.iter().find(|g| g.controllers.is_empty());
        match self.groups.iter().find(has) {
            Some(group) => Some((group, false)),
            None => v2().map(|group| (group, true)),
        }
    }
}

/// Runs the holder; the exit code is of no use to anybody but a debugger.
pub(crate) fn run() -> ExitCode {
    match live() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn live() -> Result<(), HoldError> {
    process::die_with_parent().map_err(HoldError::kernel("tie to its parent", "the holder"))?;
    process::reset_signals().map_err(HoldError::kernel("reset the signals of", "the holder"))?;
    let control = process::adopt_fd(0).map_err(HoldError::kernel("adopt", "descriptor 0"))?;
    let lease = timer::LeaseTimer::start(FIRST_WORD)
        .map_err(HoldError::kernel("start", "the lease's timer"))?;
    std::env::set_current_dir("/").map_err(HoldError::kernel("enter", "/"))?;
    // Only for `ps -o comm`; not worth failing for.
    let _ = process::set_name(c"squall-holder");
    let mut fds = Vec::new();
    let Some(ToHolder::Hold(spec)) = next_word(&control, &mut fds, None)? else {
        return Ok(());
    };
    if let Some(pulse) = spec.pulse {
        return match prepare(&spec, &fds, &lease) {
            Ok(company) => pulse::keep(&control, &lease, *spec, fds, (pulse, company)),
            Err(error) => fail(&control, &error),
        };
    }
    names::act_for(spec.on_behalf_of);
    let armed = arm(&spec, fds, &lease);
    let (held, company, evidence) = match armed {
        Ok(armed) => armed,
        Err(error) => return fail(&control, &error),
    };
    tell(&control, &FromHolder::Armed(evidence))?;
    hold(&control, &lease, held, company)
}

fn fail(control: &OwnedFd, error: &HoldError) -> Result<(), HoldError> {
    let reason = chain(error);
    tell(control, &FromHolder::Failed { reason })
}

/// What a fault that comes and goes is ready with before its first pulse. It stays outside of the target, and is spared
/// by the OOM killer: what it holds is a pattern.
fn prepare(
    spec: &HoldSpec,
    fds: &[OwnedFd],
    lease: &timer::LeaseTimer,
) -> Result<Company, HoldError> {
    still_ours(spec)?;
    lease
        .renew(Duration::from_millis(spec.lease_ms))
        .map_err(HoldError::kernel("start", "the lease's timer"))?;
    // Without the right to it, it is as any other process; a pulse says so itself.
    let _ = oom::set(oom::PROTECTED);
    let again = fds.iter().map(OwnedFd::try_clone).collect::<Result<_, _>>();
    let again = again.map_err(HoldError::kernel("duplicate", "the target's descriptors"))?;
    let grip = take(spec, again)?;
    let aimed_at = aimed_at(spec, &grip)?;
    Ok(Company::new(grip, aimed_at))
}

type ArmedFault = (Box<dyn Held>, Company, Evidence);

/// What the fault is for: with the last of it the fault ends.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// The target's processes.
    pub(super) processes: Vec<OwnedFd>,
    /// A cgroup that was aimed at as such.
    group: Option<OwnedFd>,
    had_processes: bool,
}

impl Company {
    /// A namespace is pinned by the process in it; a descriptor of its own is not needed.
    fn new(grip: Grip, group: Option<OwnedFd>) -> Self {
        let processes: Vec<OwnedFd> = grip.processes.into_iter().map(|(pidfd, _)| pidfd).collect();
        Self {
            had_processes: !processes.is_empty(),
            processes,
            group,
        }
    }

    /// Whether everything that was aimed at has ended.
    pub(super) fn is_gone(&mut self) -> bool {
        self.processes
            .retain(|pidfd| !process::has_ended(pidfd.as_fd()));
        self.had_processes && self.processes.is_empty()
    }

    /// Whether this holder is alone in the target's cgroup. A group with groups below it is never empty to us.
    pub(super) fn is_alone(&self) -> bool {
        self.group.as_ref().is_some_and(|group| {
            let me = std::process::id();
            let others = cgroup::processes(group).is_ok_and(|all| all.iter().any(|pid| *pid != me));
            !others && !cgroup::has_children(group)
        })
    }
}

/// Everything between the order and the evidence.
fn arm(
    spec: &HoldSpec,
    fds: Vec<OwnedFd>,
    lease: &timer::LeaseTimer,
) -> Result<ArmedFault, HoldError> {
    still_ours(spec)?;
    lease
        .renew(Duration::from_millis(spec.lease_ms))
        .map_err(HoldError::kernel("start", "the lease's timer"))?;
    let mut warnings = Vec::new();
    if let Err(error) = oom::set(oom_score(&spec.fault)) {
        warnings.push(format!(
            "oom_score_adj could not be set ({error}): grant CAP_SYS_RESOURCE to protect the fault from the OOM killer"
        ));
    }
    if spec.fault.kind().is_network() {
        // Where that is not allowed, the queue says so itself.
        let _ = process::may_raise_priority(queue::NICENESS);
    }
    let mut grip = take(spec, fds)?;
    enter(spec, &grip)?;
    let mut keep = privileges::kept_for(spec.fault.kind());
    if spec.owned {
        keep = keep.union(privileges::TO_TELL_OWNERS);
    }
    if matches!(&spec.fault, Fault::Exhaust(fault) if fault.what == Exhausted::Conntrack) {
        keep = keep.union(privileges::TO_OWN_A_TABLE);
    }
    privileges::keep_only(keep)
        .map_err(HoldError::kernel("give up", "what the fault does not need"))?;
    process::die_with_parent().map_err(HoldError::kernel("tie to its parent", "the holder"))?;
    still_ours(spec)?;
    let aimed_at = aimed_at(spec, &grip)?;
    let (held, mut evidence) = match &spec.fault {
        Fault::Kill(fault) => kill::arm(fault, spec, &mut grip)?,
        Fault::Cpu(fault) => cpu::arm(fault, &grip, &spec.pressure)?,
        Fault::Memory(fault) => memory::arm(fault, &mut grip, &spec.pressure)?,
        Fault::Pause(_) => pause::arm(spec, &mut grip)?,
        Fault::Freeze(_) => freeze::arm(spec, &mut grip)?,
        Fault::NicDown(nic) => nic_down::arm(nic, spec)?,
        Fault::Fds(fault) => fds::arm(fault, spec, &mut grip)?,
        Fault::Reboot(_) | Fault::Shutdown(_) => node_end::arm(spec.fault.kind())?,
        Fault::Fill(fault) => fill::arm(fault, &grip, &spec.pressure)?,
        Fault::Io(fault) => busy::arm(fault, &grip, &spec.pressure)?,
        Fault::Exhaust(fault) => exhaust::arm(fault, spec, &mut grip)?,
        _ => network::arm(spec, &mut grip)?,
    };
    evidence.warnings.append(&mut warnings);
    if let Err(error) = confine::holder(spec.fault.kind()) {
        evidence.warnings.push(format!(
            "{}: the fault is in force all the same",
            chain(&error)
        ));
    }
    Ok((held, Company::new(grip, aimed_at), evidence))
}

/// The agent may have died between our start and the moment we were tied to it: then somebody else adopted us.
fn still_ours(spec: &HoldSpec) -> Result<(), HoldError> {
    if process::parent() == spec.parent {
        return Ok(());
    }
    Err(HoldError::Unable(format!(
        "the agent (process {}) is gone",
        spec.parent
    )))
}

const fn oom_score(fault: &Fault) -> i32 {
    if fault.kind().is_pressure() {
        oom::FIRST_TO_GO
    } else {
        oom::PROTECTED
    }
}

fn take(spec: &HoldSpec, fds: Vec<OwnedFd>) -> Result<Grip, HoldError> {
    if fds.len() != spec.attached.len() {
        return Err(HoldError::Unable(format!(
            "{} descriptors came where {} were announced",
            fds.len(),
            spec.attached.len()
        )));
    }
    let mut grip = Grip::default();
    for (fd, what) in fds.into_iter().zip(&spec.attached) {
        match what {
            Attached::Process { pid } => grip.processes.push((fd, *pid)),
            Attached::Netns => grip.netns = Some(fd),
            Attached::Cgroup { controllers, path } => grip.groups.push(cgroup::Group {
                controllers: controllers.clone(),
                path: path.clone(),
                fd,
            }),
        }
    }
    Ok(grip)
}

/// Goes to where the fault acts: into the namespace for packets, into the groups for pressure, nowhere for a kill or a
/// pause.
fn enter(spec: &HoldSpec, grip: &Grip) -> Result<(), HoldError> {
    if let Some(netns) = &grip.netns {
        process::enter_netns(netns)
            .map_err(HoldError::kernel("enter", "the target's network namespace"))?;
    }
    if !spec.fault.kind().is_pressure() {
        return Ok(());
    }
    for group in &grip.groups {
        if let Err(error) = cgroup::enter(&group.fd) {
            if error.raw_os_error() == Some(libc::EBUSY) {
                return Err(HoldError::Unable(format!(
                    "cgroup {} takes no processes because its controllers are handed down to its children: name one \
                     of them",
                    group.path
                )));
            }
            let which = if group.controllers.is_empty() {
                "v2".to_owned()
            } else {
                group.controllers.join(",")
            };
            return Err(HoldError::Kernel {
                operation: "enter",
                object: format!("cgroup {} ({which})", group.path),
                source: error,
            });
        }
    }
    Ok(())
}

/// The group that a fault was aimed at, where it was a group and not a process in one or the node.
fn aimed_at(spec: &HoldSpec, grip: &Grip) -> Result<Option<OwnedFd>, HoldError> {
    let kind = spec.fault.kind();
    let whole = matches!(kind, FaultKind::Freeze | FaultKind::Fds);
    let of_groups = kind.is_pressure() || kind.is_network() || whole;
    let group = grip.groups.first().filter(|group| group.path != "/");
    match group {
        Some(group) if of_groups && grip.processes.is_empty() => group
            .fd
            .try_clone()
            .map(Some)
            .map_err(HoldError::kernel("duplicate", "the cgroup's descriptor")),
        _ => Ok(None),
    }
}

/// Holds until something ends it.
fn hold(
    control: &OwnedFd,
    lease: &timer::LeaseTimer,
    mut held: Box<dyn Held>,
    mut company: Company,
) -> Result<(), HoldError> {
    // The dose is told with the renewals, or each second where none come.
    let mut rhythm = Rhythm::new(Instant::now());
    let mut fds = Vec::new();
    let cause = loop {
        let due = rhythm.due();
        let until = held.next_turn().map_or(due, |turn| turn.min(due));
        let mut telling = false;
        if wait(control, &company.processes, held.as_ref(), until)? {
            match next_word(control, &mut fds, Some(Duration::ZERO))? {
                // The agent has closed the channel or died: whatever it wanted, it wants no longer.
                None | Some(ToHolder::Stop) => break EndCause::Stopped,
                Some(ToHolder::Renew { lease_ms }) => {
                    lease
                        .renew(Duration::from_millis(lease_ms))
                        .map_err(HoldError::kernel("renew", "the lease's timer"))?;
                    held.renewed();
                    telling = rhythm.renewed(Instant::now());
                }
                Some(ToHolder::Update(filter)) => {
                    if let Err(error) = held.update(&filter) {
                        break EndCause::Failed(chain(&error));
                    }
                }
                // Said twice is said once.
                Some(ToHolder::Hold(_)) => {}
            }
        }
        if company.is_gone() {
            break EndCause::TargetGone;
        }
        if let Err(error) = held.turn() {
            break EndCause::Failed(chain(&error));
        }
        if let Some(cause) = held.over() {
            break cause;
        }
        if telling || rhythm.take(Instant::now()) {
            if company.is_alone() {
                break EndCause::TargetGone;
            }
            match held.dose() {
                Ok(dose) => tell(control, &FromHolder::Dose(dose))?,
                Err(error) => break EndCause::Failed(chain(&error)),
            }
        }
    };
    let dose = held.release().ok();
    late::with(|late| tell_with(control, &FromHolder::Ended { cause, dose }, late))
}

/// Waits for a word, for the target's end, for the fault's own descriptors, or for the moment given. Says whether
/// there is a word.
fn wait(
    control: &OwnedFd,
    watched: &[OwnedFd],
    held: &dyn Held,
    until: Instant,
) -> Result<bool, HoldError> {
    let from = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let mut fds = vec![from(control.as_fd())];
    fds.extend(watched.iter().map(|fd| from(fd.as_fd())));
    fds.extend(held.descriptors().into_iter().map(from));
    let left = until.saturating_duration_since(Instant::now());
    match rustix::event::poll(&mut fds, Some(&timespec(left))) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(HoldError::kernel("wait for", "the control channel")(error)),
    }
    Ok(!fds[0].revents().is_empty())
}

pub(super) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// The next message; `None` at the end of the channel. Waits without a limit of its own where none is given: the
/// lease's timer is the limit.
pub(super) fn next_word(
    control: &OwnedFd,
    fds: &mut Vec<OwnedFd>,
    limit: Option<Duration>,
) -> Result<Option<ToHolder>, HoldError> {
    let poll: fn(BorrowedFd<'_>, Option<&Timespec>) -> io::Result<usize> = |fd, limit| {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        Ok(rustix::event::poll(&mut fds, limit)?)
    };
    let spec = limit.map(timespec);
    poll(control.as_fd(), spec.as_ref())
        .map_err(HoldError::kernel("wait for", "the control channel"))?;
    let bytes = match channel::receive(control, fds) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(HoldError::kernel("read", "the control channel")(error)),
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| HoldError::Unable(format!("the agent's message cannot be read: {error}")))
}

/// Says something to the agent. An agent that does not read (stopped, hung) is not waited for: doses are dropped, and
/// the lease decides.
pub(super) fn tell(control: &OwnedFd, word: &FromHolder) -> Result<(), HoldError> {
    tell_with(control, word, &[])
}

/// And hands over descriptors; as many as one message takes.
fn tell_with(
    control: &OwnedFd,
    word: &FromHolder,
    fds: &[BorrowedFd<'_>],
) -> Result<(), HoldError> {
    let fds = &fds[..fds.len().min(channel::DESCRIPTORS_MAX)];
    let bytes = serde_json::to_vec(word)
        .map_err(|error| HoldError::Unable(format!("cannot encode {word:?}: {error}")))?;
    match channel::send(control, &bytes, fds) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other.map_err(HoldError::kernel("answer on", "the control channel")),
    }
}
