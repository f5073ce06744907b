//! The agent's word to its watchdog, and the watchdog's end.

use super::Agent;
use crate::watchdog::Watchdog;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Says when the watchdog is gone; never where there was none.
pub(super) struct Watched(Option<AsyncFd<OwnedFd>>);

impl Watched {
    /// Looks after this one.
    pub(super) fn by(watchdog: Option<&Watchdog>) -> Self {
        Self(watchdog.and_then(|watchdog| watchdog.end().ok()))
    }

    /// Waits for its end.
    pub(super) async fn lost(&self) {
        match &self.0 {
            Some(pidfd) if pidfd.readable().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }
}

impl Agent {
    /// Tells the watchdog that this task runs. Called after everything it does, which may be a thousand things a
    /// second: said is only what is news, or due.
    pub(super) fn beat(&mut self) {
        let busy = !self.faults.is_empty();
        let now = Instant::now();
        let due = self.beaten.is_none_or(|(was, at)| {
            was != busy || (busy && now.duration_since(at) >= crate::watchdog::BEAT_EVERY / 2)
        });
        if due && let Some(watchdog) = &mut self.ready.watchdog {
            watchdog.beat(busy);
            self.beaten = Some((busy, now));
        }
    }
}
