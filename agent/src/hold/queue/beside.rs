//! A queue that a thread of its own looks after.
//!
//! The two are tied by a pair of sockets: a byte from the holder's thread asks what was done so far, the end of either says that
//! the other is over. Between packets and questions the thread sleeps.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::lane::{Lane, Tally};
use crate::hold::held::HoldError;

/// Room for one look at a queue, with much to spare; only what is touched is taken.
const STACK_BYTES: usize = 256 << 10;
/// How long answers are waited for, of all threads together: a turn takes some milliseconds. Later ones are told the next time.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_millis(100);

/// The thread, as the holder's own sees it.
pub(super) struct Beside {
    line: UnixStream,
    told: Receiver<Tally>,
    last: Tally,
    thread: JoinHandle<Result<Lane, HoldError>>,
}

impl Beside {
    /// Has a thread look after `lane` from now on. It has this thread's priority, and all that this one gave up.
    ///
    /// # Errors
    /// When the kernel has no thread or no sockets to give.
    pub(super) fn start(lane: Lane) -> Result<Self, HoldError> {
        let failed = || HoldError::kernel("start", "a thread for a queue");
        let (line, its) = UnixStream::pair().map_err(failed())?;
        for end in [&line, &its] {
            end.set_nonblocking(true).map_err(failed())?;
        }
        let (tell, told) = channel();
        let thread = Builder::new()
            .name("squall-queue".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || look_after(lane, its, &tell))
            .map_err(failed())?;
        Ok(Self {
            line,
            told,
            last: Tally::default(),
            thread,
        })
    }

    /// Readable when the thread has ended, which it does by itself only where something failed.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    /// Whether it has.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks what was done so far.
    pub(super) fn ask(&mut self) {
        // An answer that came too late the last time.
        if let Some(late) = self.told.try_iter().last() {
            self.last = late;
        }
        // A thread that is over is noticed by its end.
        let _ = self.line.write(&[1]);
    }

    /// What was done when it was asked; what it said before, where it is busy until then.
    pub(super) fn tally(&mut self, until: Instant) -> &Tally {
        let left = until.saturating_duration_since(Instant::now());
        if let Ok(tally) = self.told.recv_timeout(left) {
            self.last = tally;
        }
        &self.last
    }

    /// Tells it to let everything pass and end.
    pub(super) fn end(&self) {
        // A thread that is over needs not be told.
        let _ = self.line.shutdown(Shutdown::Write);
    }

    /// Its queue, once it has ended as it was told.
    ///
    /// # Errors
    /// Whatever failed in it.
    pub(super) fn ended(self) -> Result<Lane, HoldError> {
        self.end();
        self.thread.join().unwrap_or_else(|_| {
            let told = "the thread of a queue panicked: report it; the fault is over";
            Err(HoldError::Unable(told.to_owned()))
        })
    }

    /// Why it ended without being told.
    pub(super) fn failure(self) -> Result<(), HoldError> {
        self.ended().and_then(|lane| {
            let told = format!("nobody looks after queue {} any more", lane.number());
            Err(HoldError::Unable(told))
        })
    }
}

fn look_after(
    mut lane: Lane,
    mut line: UnixStream,
    tell: &Sender<Tally>,
) -> Result<Lane, HoldError> {
    loop {
        if wait(&lane, &line)? {
            let mut asked = [0; 8];
            match line.read(&mut asked) {
                Ok(0) => break,
                Ok(_) => {
                    lane.turn()?;
                    // Who asked and went has told so by the line's end.
                    let _ = tell.send(lane.tally().clone());
                    continue;
                }
                Err(_) => {}
            }
        }
        lane.turn()?;
    }
    lane.let_all_pass()?;
    Ok(lane)
}

/// Waits for something to do; says whether there is a word.
fn wait(lane: &Lane, line: &UnixStream) -> Result<bool, HoldError> {
    let lanes = lane.descriptors();
    let all = std::iter::once(line.as_fd()).chain(lanes);
    let mut all: Vec<PollFd<'_>> = all
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .collect();
    match poll(&mut all, None) {
        Ok(_) => Ok(!all[0].revents().is_empty()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(HoldError::kernel("wait for", "packets")(error)),
    }
}
