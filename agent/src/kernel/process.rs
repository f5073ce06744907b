//! Processes: held by pidfd, tied to their parent, named for `ps`.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// A descriptor that stands for one process and never for another (pidfd_open(2), Linux 5.3).
///
/// # Errors
/// `ESRCH` when there is no such process.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends a signal to exactly that process (pidfd_send_signal(2)).
///
/// # Errors
/// `ESRCH` when it is gone, `EPERM` without `CAP_KILL`, `EINVAL` for a number that is no signal.
pub(crate) fn signal(pidfd: impl AsFd, number: i32) -> io::Result<()> {
    let signal =
        Signal::from_named_raw(number).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(rustix::process::pidfd_send_signal(pidfd, signal)?)
}

/// Whether the process has ended: a pidfd is readable from then on.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    readable(pidfd, Duration::ZERO)
}

/// Whether there is something to read, or comes to be within the limit.
pub(crate) fn readable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(
        fd,
        rustix::event::PollFlags::IN,
    )];
    let limit = rustix::event::Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    matches!(rustix::event::poll(&mut fds, Some(&limit)), Ok(n) if n > 0)
}

/// Reaps a child, if it has ended.
///
/// # Errors
/// `ECHILD` when it is no child of this process, or is reaped already.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<Exit>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = rustix::process::waitid(WaitId::PidFd(pidfd), options)?;
    Ok(status.map(|status| {
        status
            .exit_status()
            .map(Exit::Code)
            .or_else(|| status.terminating_signal().map(Exit::Signal))
            .unwrap_or(Exit::Code(-1))
    }))
}

/// This process dies by SIGKILL when the *thread* that started it ends (prctl(2), `PR_SET_PDEATHSIG`). The kernel
/// clears this when credentials or some namespaces change: call it again after each.
///
/// # Errors
/// None that is documented for a valid signal.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(
        Signal::KILL,
    ))?)
}

/// The parent's pid; 0 when it lives in another pid namespace or is gone there.
pub(crate) fn parent() -> u32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_pid().cast_unsigned())
}

/// The name in `comm`, of which the kernel keeps 15 bytes.
pub(crate) fn set_name(name: &std::ffi::CStr) -> io::Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

/// Every signal at its default action and none blocked, whatever the parent left us with: a lease that ends with
/// SIGALRM must not meet a mask. SIGPIPE stays ignored, as Rust's runtime has it.
pub(crate) fn reset_signals() -> io::Result<()> {
    // Signals are 1 to 64 on Linux; the C library keeps 32 and 33 for itself and refuses them.
    for number in 1..=64 {
        if matches!(
            number,
            libc::SIGKILL | libc::SIGSTOP | libc::SIGPIPE | 32 | 33
        ) {
            continue;
        }
        // SAFETY: SIG_DFL installs no handler, so no code of ours can run in signal context.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    nix::sys::signal::sigprocmask(
        nix::sys::signal::SigmaskHow::SIG_SETMASK,
        Some(&nix::sys::signal::SigSet::empty()),
        None,
    )?;
    Ok(())
}

/// A session of its own, and deaf to what ends whole groups of processes in an orderly way: a terminal that hangs up, a
/// service manager that stops a unit. SIGKILL ends it like any other.
///
/// # Errors
/// None that is documented for a process that leads no group.
pub(crate) fn outlive() -> io::Result<()> {
    for number in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: SIG_IGN installs no handler, so no code of ours can run in signal context.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
    rustix::process::set_parent_process_death_signal(None)?;
    rustix::process::setsid()?;
    Ok(())
}

/// Takes over a descriptor that was inherited under this number, and keeps it from being inherited again.
///
/// # Errors
/// `EBADF` when nothing is open there.
pub(crate) fn adopt_fd(number: i32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: the number is only looked at here; `fcntl_setfd` fails with EBADF when nothing is open there.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open (the call above succeeded), was handed to this process by its parent for this purpose, and
    // nothing else in this process owns it: callers adopt each number once, before they open anything.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Lets the runtime say when a descriptor is readable.
///
/// # Errors
/// `EMFILE` and the like, of epoll(7).
pub(crate) fn watch(fd: OwnedFd) -> io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` answers with the same open descriptor for as long as it lives, and the AsyncFd owns it.
    unsafe { tokio::io::unix::AsyncFd::register(fd) }.map_err(Into::into)
}

/// Enters the network namespace, with the whole (single-threaded) process.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`.
pub(crate) fn enter_netns(netns: impl AsFd) -> io::Result<()> {
    Ok(nix::sched::setns(
        netns,
        nix::sched::CloneFlags::CLONE_NEWNET,
    )?)
}

/// Leaves the view of cgroups that a container runtime gave this process, for that of PID 1: in its own, paths begin at the
/// container's group, and cgroup v2 (mounted with nsdelegate, as systemd does) lets nobody join a group outside of it. Nothing
/// changes where both are one, also where PID 1 is the container's own.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, `EACCES` without `CAP_SYS_PTRACE`.
pub(crate) fn enter_the_nodes_cgroups() -> io::Result<()> {
    let own = File::open("/proc/self/ns/cgroup")?;
    let first = File::open("/proc/1/ns/cgroup")?;
    if own.metadata()?.ino() == first.metadata()?.ino() {
        return Ok(());
    }
    let kind = nix::sched::CloneFlags::CLONE_NEWCGROUP;
    Ok(nix::sched::setns(first, kind)?)
}

/// Whether this process has `CAP_SYS_PTRACE` in effect.
pub(crate) fn may_trace_others() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective
            .contains(rustix::thread::CapabilitySet::SYS_PTRACE)
    })
}

/// How many more files the node as a whole may have open (proc_sys_fs(5), `file-nr`).
///
/// # Errors
/// /proc/sys is not there, or says something else.
pub(crate) fn files_left() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/sys/fs/file-nr")?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(open)), Some(_), Some(Ok(most))) => Ok(most.saturating_sub(open)),
        _ => Err(io::Error::other(format!(
            "{text:?} does not say how many files are open"
        ))),
    }
}

/// Lets this process have so many descriptors open.
///
/// # Errors
/// `EPERM` without `CAP_SYS_RESOURCE`, or above fs.nr_open.
pub(crate) fn may_open(descriptors: u64) -> io::Result<()> {
    let now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= descriptors);
    if enough(now.current) {
        return Ok(());
    }
    let limit = rustix::process::Rlimit {
        current: Some(descriptors),
        maximum: if enough(now.maximum) {
            now.maximum
        } else {
            Some(descriptors)
        },
    };
    Ok(rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        limit,
    )?)
}

/// Lets this process raise its priority to `niceness` later on, without the capabilities that it gives up meanwhile (RLIMIT_NICE).
///
/// # Errors
/// `EPERM` without `CAP_SYS_RESOURCE`.
pub(crate) fn may_raise_priority(niceness: i32) -> io::Result<()> {
    // The limit counts from 20 down: getrlimit(2).
    let least = u64::try_from(20 - niceness).unwrap_or(0);
    let now = rustix::process::getrlimit(rustix::process::Resource::Nice);
    if now.current.is_none_or(|limit| limit >= least) {
        return Ok(());
    }
    let limit = rustix::process::Rlimit {
        current: Some(least),
        maximum: now.maximum.map(|limit| limit.max(least)),
    };
    Ok(rustix::process::setrlimit(
        rustix::process::Resource::Nice,
        limit,
    )?)
}

/// Ahead of all that competes for the processors in the ordinary way (setpriority(2)).
///
/// # Errors
/// `EACCES` without `CAP_SYS_NICE`.
pub(crate) fn urgent() -> io::Result<()> {
    Ok(rustix::process::setpriority_process(None, -20)?)
}

/// What this process has touched and will touch is not paged out (mlockall(2), pages as they are first used).
///
/// # Errors
/// `ENOMEM` or `EPERM` where RLIMIT_MEMLOCK is smaller than the whole program and there is no `CAP_IPC_LOCK`.
pub(crate) fn stay_in_memory() -> io::Result<()> {
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: takes flags only, and changes nothing that a program could see but its residency.
    if unsafe { libc::mlockall(flags) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A group of its own: Ctrl-C at the controller's terminal is for the controller, which then says stop.
pub(crate) fn own_group() -> io::Result<()> {
    match rustix::process::setpgid(None, None) {
        // A session's leader already has its own group.
        Err(rustix::io::Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}

/// Lets this process have so many descriptors, or as many as it can; says how many it may have now.
pub(crate) fn raise_descriptors(wanted: u64) -> u64 {
    // What every process may have where nobody said anything else.
    const USUAL: u64 = 1_024;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return USUAL;
    };
    let raised = wanted.min(hard).max(soft);
    match setrlimit(Resource::RLIMIT_NOFILE, raised, hard) {
        Ok(()) => raised,
        Err(_) => soft,
    }
}
