//! What host and guest say to each other over the VM's three serial ports.
//!
//! `control` carries one JSON value per line: the guest says [`Word::Ready`], then for every [`Job`] it
//! is sent one [`Word::Exited`]. `stdout` and `stderr` carry the job's output as it comes; when the job
//! is over the guest ends each with the job's mark, so that the host knows that it has read everything.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The ports' names, as /sys/class/virtio-ports shows them.
pub(crate) const PORTS: [&str; 3] = ["control", "stdout", "stderr"];

/// A command for the guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Program and arguments; the program is found on the guest's path or by its own.
    pub argv: Vec<String>,
    /// The whole environment but for PATH and HOME.
    pub env: BTreeMap<String, String>,
    /// The folder to start in; created when it is not there.
    pub folder: PathBuf,
    /// Ends both output streams.
    pub(crate) mark: String,
}

impl Job {
    /// A command in this process's folder, with those of its variables that steer tests.
    pub fn new(argv: Vec<String>) -> Self {
        let steering = ["CARGO", "RUST", "SQUALL", "CI"];
        let env = std::env::vars().filter(|(name, _)| {
            name == "CI"
                || steering
                    .iter()
                    .any(|prefix| name.starts_with(&format!("{prefix}_")))
        });
        let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
        Self {
            argv,
            env: env.collect(),
            folder,
            mark: mark(),
        }
    }
}

/// A byte no text holds, then what no other job uses.
fn mark() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!("\u{1e}squall-{}-{}\n", std::process::id(), now.as_nanos())
}

/// What the guest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// Booted; nothing has run yet.
    Ready,
    /// The job ended with this exit code (128 + the signal's number where it was killed).
    Exited(i32),
}

/// How much is read from a port at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Passes on what `from` says until `mark` has come. Returns whether it came.
pub(crate) fn copy_until(mark: &[u8], mut from: impl Read, mut to: impl Write) -> io::Result<bool> {
    let mut held = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk)?;
        held.extend_from_slice(&chunk[..read]);
        if let Some(end) = held.windows(mark.len()).position(|w| w == mark) {
            to.write_all(&held[..end])?;
            to.flush()?;
            return Ok(true);
        }
        // What may be the mark's beginning waits for the rest of it.
        let safe = if read == 0 {
            held.len()
        } else {
            held.len() - beginning_of(mark, &held)
        };
        to.write_all(&held[..safe])?;
        to.flush()?;
        held.drain(..safe);
        if read == 0 {
            return Ok(false);
        }
    }
}

/// How many of the last bytes of `held` are the first bytes of `mark`.
fn beginning_of(mark: &[u8], held: &[u8]) -> usize {
    (1..mark.len().min(held.len() + 1))
        .rev()
        .find(|n| held.ends_with(&mark[..*n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out one byte at a time: the mark is then always cut in pieces.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else {
                return Ok(0);
            };
            buf[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    #[test]
    fn output_ends_at_the_mark_however_it_is_cut() {
        let all = b"one \x1esq two\x1esquall-1\nlater";
        for (whole, dribble) in [(Some(&all[..]), None), (None, Some(Dribble(all)))] {
            let mut got = Vec::new();
            let found = match (whole, dribble) {
                (Some(bytes), _) => copy_until(b"\x1esquall-1\n", bytes, &mut got).unwrap(),
                (_, Some(bytes)) => copy_until(b"\x1esquall-1\n", bytes, &mut got).unwrap(),
                _ => unreachable!("one of the two is given"),
            };
            assert!(found);
            assert_eq!(got, b"one \x1esq two");
        }
    }

    #[test]
    fn a_stream_that_just_ends_is_passed_on_and_told_apart() {
        let mut got = Vec::new();
        assert!(!copy_until(b"\x1emark", &b"all of it\x1ema"[..], &mut got).unwrap());
        assert_eq!(got, b"all of it\x1ema");
    }
}
