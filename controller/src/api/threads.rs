//! The threads on which requests are answered: others than those on which runs are driven, agents are spoken to and events are kept, so that no
//! answer is in a stop's way.
//!
//! ```text
//! connection ──▶ TLS, request, query, answer        these threads: all processors but one, and they give way
//!     └─ an agent's link ──▶ session ──▶ run ──▶ …   the controller's own
//! ```
//!
//! Sockets are watched by the controller's own threads, which tell these: a link is then never told of late because somebody reads.

use nix::unistd::gettid;
use rustix::process::{getpriority_process, setpriority_process};
use std::thread::available_parallelism;
use tokio::runtime::{Builder, Handle, Runtime};

/// They are so much nicer than the rest (setpriority(2)): where all processors are busy they get a third of what a thread of the controller's own
/// gets. Not less: people say stop to these.
const NICER: i32 = 5;

/// The threads. When this is dropped, what they do is given up.
#[derive(Debug)]
pub struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// The kernel gives no threads or no descriptors.
    pub fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(workers())
            .thread_name("squall-api")
            // Threads that a database's driver starts here are like them.
            .on_thread_start(give_way)
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Where tasks are given to them.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Not waited for: an answer may take as long as its reader likes.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// All processors but one, which is then for stops.
pub(super) fn workers() -> usize {
    let processors = available_parallelism().map_or(1, usize::from);
    processors.saturating_sub(1).max(1)
}

/// Of the thread that calls it. Whoever is not let do it goes on as it was.
fn give_way() {
    let nicer = getpriority_process(None).and_then(|nice| setpriority_process(None, nice + NICER));
    if let Err(error) = nicer {
        tracing::warn!(thread = %gettid(), %error, "a thread of the API does not give way (setpriority)");
    }
}
