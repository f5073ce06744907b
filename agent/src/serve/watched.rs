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
    /// Tells the watchdog that this task runs.
    pub(super) fn beat(&mut self) {
        let busy = !self.faults.is_empty();
        if let Some(watchdog) = &mut self.ready.watchdog {
            watchdog.beat(busy);
        }
    }

    /// When something is due: a look at what lives, or a word to the watchdog.
    pub(super) fn due(&self) -> Instant {
        let look = self.rhythm.due();
        let word = self.ready.watchdog.as_ref().and_then(Watchdog::due);
        word.map_or(look, |word| word.min(look)).into()
    }
}
