//! Processor time, as the kernel accounts it, and what a process has resident.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Processor time of this thread.
pub(crate) fn thread_cpu() -> Duration {
    read(ClockId::ThreadCPUTime)
}

/// Processor time of all this process's threads, living and ended.
pub(crate) fn process_cpu() -> Duration {
    read(ClockId::ProcessCPUTime)
}

/// Time since the machine was started, which nobody sets and which goes on while it sleeps.
pub(crate) fn since_boot() -> Duration {
    read(ClockId::Boottime)
}

/// Microseconds since the Unix epoch.
pub(crate) fn epoch_us() -> u64 {
    u64::try_from(read(ClockId::Realtime).as_micros()).unwrap_or(u64::MAX)
}
