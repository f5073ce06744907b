//! The lease, as a promise of the kernel's: when it ends, so does this process, whatever it is doing.
//!
//! Two timers, because neither is enough alone. ITIMER_REAL raises SIGALRM at the lease's end, and its default action
//! tells whoever reaps the process *why* it died; but a stopped process (SIGSTOP, a debugger) takes no SIGALRM until
//! it is continued. A POSIX timer that raises SIGKILL a moment later ends a stopped process too (measured on Linux
//! 6.18: a child stopped by SIGSTOP died 0.5 s after arming; with SIGALRM alone it never did).

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// How much later than SIGALRM the SIGKILL comes: enough that a process that runs dies of the signal that says why,
/// little enough that nobody counts it.
const KILL_AFTER: Duration = Duration::from_millis(20);

/// Ends this process when it runs out. Not inherited by children, gone after exec.
#[derive(Debug)]
pub(crate) struct LeaseTimer {
    kill: libc::timer_t,
}

impl LeaseTimer {
    /// Starts it.
    ///
    /// # Errors
    /// `EAGAIN` when the user has no timers left (RLIMIT_SIGPENDING counts them).
    pub(crate) fn start(lease: Duration) -> io::Result<Self> {
        // SAFETY: an all-zero sigevent is a valid value of this plain C struct; the fields that matter are set below.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGKILL;
        let mut kill: libc::timer_t = std::ptr::null_mut();
        // CLOCK_BOOTTIME runs on while the machine sleeps: so does the lease.
        // SAFETY: both pointers are to live locals of the right types for the duration of the call.
        if unsafe { libc::timer_create(libc::CLOCK_BOOTTIME, &raw mut event, &raw mut kill) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let timer = Self { kill };
        timer.renew(lease)?;
        Ok(timer)
    }

    /// From now on for another lease. The later timer first, so that there is no moment without one.
    ///
    /// # Errors
    /// None that is documented for valid arguments.
    pub(crate) fn renew(&self, lease: Duration) -> io::Result<()> {
        let kill_in = lease.max(Duration::from_millis(1)) + KILL_AFTER;
        let spec = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: libc::timespec {
                tv_sec: i64::try_from(kill_in.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(kill_in.subsec_nanos()),
            },
        };
        // SAFETY: `kill` is a timer this value created and never deletes; `spec` lives through the call.
        if unsafe { libc::timer_settime(self.kill, 0, &raw const spec, std::ptr::null_mut()) } != 0
        {
            return Err(io::Error::last_os_error());
        }
        let lease = lease.max(Duration::from_millis(1));
        let spec = libc::itimerval {
            it_interval: libc::timeval {
                tv_sec: 0,
                tv_usec: 0,
            },
            it_value: libc::timeval {
                tv_sec: i64::try_from(lease.as_secs()).unwrap_or(i64::MAX),
                tv_usec: i64::from(lease.subsec_micros()),
            },
        };
        // SAFETY: `spec` lives through the call; a null pointer says that the old value is not wanted.
        if unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const spec, std::ptr::null_mut()) } != 0
        {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
