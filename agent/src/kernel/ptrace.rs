//! Threads that stand still, as tracees (ptrace(2)): a dead tracer's tracees run on, which is the whole revert.
//!
//! A tracee belongs to the *thread* that seized it. None of the options are set: `PTRACE_O_EXITKILL` would be the
//! opposite of a revert.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use rustix::process::WaitOptions;
use std::io;

/// What a tracee did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It stands still now.
    Stopped,
    /// It has ended.
    Ended,
}

fn number(thread: u32) -> io::Result<i32> {
    i32::try_from(thread).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Makes the thread a tracee; it runs on.
///
/// # Errors
/// `EPERM`: it is traced by somebody already, has ended, or may not be traced; `ESRCH`: it is gone.
pub(crate) fn seize(thread: u32) -> io::Result<()> {
    let options = nix::sys::ptrace::Options::empty();
    Ok(nix::sys::ptrace::seize(
        Pid::from_raw(number(thread)?),
        options,
    )?)
}

/// Has a seized thread stop, wherever it is; [`news`] tells when it does. A call that waits is made again by the
/// kernel afterwards, but for the few that signal(7) names.
///
/// # Errors
/// `ESRCH`: it is gone.
pub(crate) fn interrupt(thread: u32) -> io::Result<()> {
    Ok(nix::sys::ptrace::interrupt(Pid::from_raw(number(thread)?))?)
}

/// What the next tracee did that did anything; `None` when there is nothing new. A traced thread that has ended stays
/// a zombie, and its process with it, until it is asked for here.
///
/// # Errors
/// None that is documented for these arguments; no tracees at all is nothing new.
pub(crate) fn news() -> io::Result<Option<(u32, News)>> {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
        Ok(Some((thread, status))) => {
            let what = if status.stopped() {
                News::Stopped
            } else {
                News::Ended
            };
            Ok(Some((thread.as_raw_pid().cast_unsigned(), what)))
        }
        Err(error) => Err(error.into()),
    }
}

/// A descriptor that is readable when [`news`] may have some.
///
/// # Errors
/// `EMFILE` and the like.
pub(crate) fn bell() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    // A signal that is blocked waits where a signalfd finds it.
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    Ok(SignalFd::with_flags(&mask, flags)?)
}

/// Tries it on a child of this process: seized, stopped, ended.
///
/// # Errors
/// Whatever step failed.
pub(crate) fn try_out() -> io::Result<()> {
    // SAFETY: the child calls nothing but prctl(2), getppid(2), pause(2) and _exit(2), which are async-signal-safe, as
    // is needed where other threads may have held locks at the fork.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: as above; plain numbers only.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // Nobody needs it longer than this, whatever becomes of its parent.
                libc::alarm(5);
                libc::pause();
                libc::_exit(0)
            }
        }
        child => {
            let tried = seize(child.cast_unsigned())
                .and_then(|()| interrupt(child.cast_unsigned()))
                .and_then(|()| stopped(child));
            let child = Pid::from_raw(child);
            nix::sys::signal::kill(child, Signal::SIGKILL)?;
            nix::sys::wait::waitpid(child, None)?;
            tried
        }
    }
}

/// Waits for the child's stop. It does nothing but wait: the stop takes microseconds.
fn stopped(child: i32) -> io::Result<()> {
    match nix::sys::wait::waitpid(Pid::from_raw(child), None)? {
        nix::sys::wait::WaitStatus::PtraceEvent(..) => Ok(()),
        other => Err(io::Error::other(format!("it did not stop: {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_can_be_made_to_stand_still() {
        try_out().unwrap();
    }
}
