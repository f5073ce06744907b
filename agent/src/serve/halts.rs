//! The node's own stop, heard while serving.

use super::Agent;
use crate::halt;
use crate::kernel::process;
use squall_experiments::wire::EndCause;
use std::os::fd::OwnedFd;
use std::path::Path;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// Says when a halt may have come. Without a directory to watch it never does: whoever looks after live faults looks
/// for a halt each time, and so does whoever admits one.
pub(super) struct Halts(Option<AsyncFd<OwnedFd>>);

impl Halts {
    /// Watches a state directory.
    pub(super) fn of(state: &Path) -> Self {
        let watched = halt::watch(state).and_then(process::watch);
        if let Err(error) = &watched {
            tracing::debug!(state = %state.display(), %error, "not watched: a halt is seen within a second");
        }
        Self(watched.ok())
    }

    /// Waits for a change.
    pub(super) async fn changed(&mut self) {
        let Some(fd) = &self.0 else {
            return std::future::pending().await;
        };
        if let Ok(mut ready) = fd.readable().await {
            // What changed is looked up in the directory itself.
            let mut events = [0u8; 4096];
            while rustix::io::read(fd.get_ref(), &mut events).is_ok_and(|n| n > 0) {}
            ready.clear_ready();
        } else {
            self.0 = None;
        }
    }
}

impl Agent {
    /// Ends everything if the node is halted.
    pub(super) fn heed_halt(&mut self) {
        if self.faults.is_empty() {
            return;
        }
        let Some(halt) = halt::read(&self.ready.state) else {
            return;
        };
        let now = Instant::now();
        for entry in self.faults.values() {
            entry.end(now, Some(EndCause::Failed(format!("the node is {halt}"))));
        }
    }
}
