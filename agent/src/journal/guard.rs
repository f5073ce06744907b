//! The guard of one journal entry: a tiny process that waits for its holder's end, and puts back what is left then.
//!
//! It is there for the case that holder and agent are killed together. So nothing of theirs ends it: it has no parent-death
//! signal, a session of its own, another name for `pkill`, and it leaves the agent's cgroup. It ends with the entry.

use super::{Kept, put_back, understand};
use crate::hold::GUARD_NAME;
use crate::kernel::{cgroup, process};
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// How long it may take to be ready; some milliseconds, a second on an emulated machine.
const READY_LIMIT: Duration = Duration::from_secs(3);
/// How long it may take to end once there is nothing to guard.
const END_LIMIT: Duration = Duration::from_millis(200);
/// How often it tries to put back what cannot be put back, and how long it waits in between: then the agent says so.
const TRIES: u32 = 600;
const TRY_EVERY: Duration = Duration::from_millis(100);

/// A guard that is ready, as its holder has it.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    pidfd: OwnedFd,
}

impl Guard {
    /// Starts a guard for an entry that is locked, and waits until it is ready.
    pub(crate) fn start(kept: &Kept) -> io::Result<Self> {
        let child = Command::new("/proc/self/exe")
            .arg0(GUARD_NAME)
            .arg(kept.path())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let pidfd = process::pidfd_open(child.id())?;
        let mut guard = Self { pidfd, child };
        let Some(mut ready) = guard.child.stdout.take() else {
            return Err(io::Error::other("it has no way to say that it is ready"));
        };
        if !process::readable(ready.as_fd(), READY_LIMIT) {
            guard.end();
            return Err(io::Error::other("it did not say in time that it is ready"));
        }
        match ready.read(&mut [0; 1]) {
            Ok(1) => Ok(guard),
            _ => {
                guard.end();
                Err(io::Error::other("it ended before it was ready"))
            }
        }
    }

    /// Readable when it has ended.
    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Whether it has ended, by itself or by somebody.
    pub(crate) fn has_ended(&self) -> bool {
        process::has_ended(self.pidfd.as_fd())
    }

    /// Its entry is gone, and so it ends by itself; after a moment it is ended.
    pub(crate) fn end(&mut self) {
        if !process::readable(self.pidfd.as_fd(), END_LIMIT) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A guard's whole life.
pub(crate) fn run() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return ExitCode::FAILURE;
    };
    match watch(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn watch(path: &Path) -> io::Result<()> {
    // Not a name that `pkill squall` finds: that ends holders and agent, and this is what then puts back.
    process::set_name(c"sq-guard")?;
    process::outlive()?;
    leave_group();
    let file = File::open(path)?;
    let mut ready = io::stdout();
    ready.write_all(b"!")?;
    ready.flush()?;
    // Ours the moment that the holder is dead, or has put back itself.
    while let Err(error) = flock(&file, FlockOperation::LockExclusive) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    let Some(entry) = understand(&file, path).map_err(io::Error::other)? else {
        return Ok(());
    };
    for _ in 0..TRIES {
        match put_back(&entry, path) {
            Ok(()) => return Ok(()),
            Err(_) => std::thread::sleep(TRY_EVERY),
        }
    }
    Err(io::Error::other("it cannot be put back"))
}

/// To the top of every cgroup tree that is seen here, so that what ends the agent's group does not end this. Where that
/// is not allowed it stays, and ends with the group.
fn leave_group() {
    for hierarchy in cgroup::hierarchies().unwrap_or_default() {
        if let Ok(groups) = cgroup::groups_at("/", &[hierarchy]) {
            for group in groups {
                let _ = cgroup::enter(&group.fd);
            }
        }
    }
}
