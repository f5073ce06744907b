//! How a victim feels that something is used up that it shares with the fault.

use std::thread;
use std::time::{Duration, Instant};

use lab::world::Result;
use lab::world::cgroup::Cgroup;

use super::MEMORY_BYTES;

/// Windows in which the cgroup burns more than a quarter of a core.
pub(super) fn cpu_suffering(
    group: &Cgroup,
    since: Instant,
    time: Duration,
) -> Result<Option<Duration>> {
    const WINDOW: Duration = Duration::from_millis(40);
    let mut last = None;
    while since.elapsed() < time {
        let (before, begun) = (group.cpu_used()?, Instant::now());
        thread::sleep(WINDOW);
        let used = group.cpu_used()?.saturating_sub(before);
        if used > begun.elapsed() / 4 {
            // It burnt for as long as it used, from the window's beginning on.
            last = Some(begun.saturating_duration_since(since) + used.min(begun.elapsed()));
        }
    }
    Ok(last)
}

pub(super) fn memory_suffering(
    group: &Cgroup,
    since: Instant,
    time: Duration,
) -> Result<Option<Duration>> {
    let mut last = None;
    while since.elapsed() < time {
        if group.memory_used()? > MEMORY_BYTES / 10 * 9 {
            last = Some(since.elapsed());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(last)
}
