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
        self.systemd.beat();
    }

    /// Whether anything is due at any time: while no fault lives, only systemd may want to hear.
    pub(super) fn has_due(&self) -> bool {
        !self.faults.is_empty() || self.systemd.due().is_some()
    }

    /// When something is due: a look at what lives, or a word to the watchdog or to systemd.
    pub(super) fn due(&self) -> Instant {
        let look = (!self.faults.is_empty()).then(|| self.rhythm.due());
        let word = self.ready.watchdog.as_ref().and_then(Watchdog::due);
        let due = [look, word, self.systemd.due()].into_iter().flatten().min();
        due.unwrap_or_else(|| self.rhythm.due()).into()
    }
}
