//! The journal: what a fault changed that no kernel object gives back by itself, and what it was before.
//!
//! ```text
//!   holder: entry written, synced, locked ─▶ guard waits for the lock ─▶ change ─▶ … ─▶ put back, entry removed
//!              │ dies, however                     │
//!              └── the kernel drops its lock ──────┴─▶ guard puts back, removes the entry
//!                                                      (guard gone too: the agent; agent gone too: the next agent)
//! ```
//!
//! - An entry is complete or not there: it is written under another name, synced, and renamed; the folder is synced.
//! - Its lock (flock(2)) is the holder's life: whoever gets it knows that the holder is dead, without a pid that might be another's.
//! - Its name is what was changed, so that two faults cannot change one thing and each take the other's change for what was before.
//! - Putting back is done twice without harm, and is read back from the kernel before the entry goes.

pub(crate) mod guard;
pub(crate) mod open_files;
pub(crate) mod undo;

use crate::inventory::process::identity;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use squall_experiments::ids::FaultId;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
pub(crate) use undo::Undo;

/// Where it is unless the policy says otherwise. What it gives back does not survive a boot, and neither does /run.
pub(crate) const FOLDER: &str = "/run/squall/journal";
/// An entry is half a page, and that of an interface with as many routes as are kept half a mebibyte; more is not one.
const ENTRY_BYTES_MAX: u64 = 2 << 20;
/// How long a guard is left to put back what its dead holder left: that takes milliseconds. One that takes longer is stopped, or
/// hangs, and it is done without it.
const GUARD_LIMIT: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One change that was made, and how it is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Entry {
    /// The boot it was made in: another has forgotten it.
    pub(crate) boot: String,
    /// The fault.
    pub(crate) fault: FaultId,
    /// Its holder.
    pub(crate) holder: u32,
    /// When that started, which tells it from another of the same number (proc_pid_stat(5), field 22).
    pub(crate) started: u64,
    /// What was there before, and where.
    pub(crate) undo: Undo,
}

/// Why the journal cannot do what it is for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// A file or folder of it.
    #[error("cannot {operation} the journal's {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not ours alone.
    #[error(
        "the journal's folder {0} can be written by others, and what stands in it is done as root: make it root's own (chmod 0700)"
    )]
    Open(PathBuf),
    /// An entry that is none.
    #[error(
        "the journal's entry {path} cannot be understood ({text}): see what it names, put that back by hand, and remove the file"
    )]
    Understand {
        /// Which.
        path: PathBuf,
        /// Why.
        text: String,
    },
    /// It could not be put back.
    #[error("{what} cannot be put back as it was: do it by hand, and remove {path}")]
    PutBack {
        /// What, in words.
        what: String,
        /// The entry.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something has been changed by another fault.
    #[error("{0} is changed by another fault already: end that first")]
    Taken(String),
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::File {
        operation,
        path,
        source,
    }
}

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    folder: PathBuf,
}

/// An entry that is this process's: locked, and in force.
#[derive(Debug)]
pub(crate) struct Kept {
    file: File,
    path: PathBuf,
    entry: Entry,
    done: bool,
}

/// Which boot this is.
pub(crate) fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

impl Journal {
    /// The journal in that folder, which need not be there yet.
    pub(crate) const fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes down what is about to be changed; on disk when it returns.
    pub(crate) fn write(&self, entry: Entry) -> Result<Kept, JournalError> {
        self.prepare()?;
        let path = self.folder.join(entry.undo.key());
        // What a holder left whose guard died too: put back before anything new is done to it.
        match take_back(&path)? {
            Taken::Back | Taken::Gone => {}
            Taken::Busy => return Err(JournalError::Taken(entry.undo.in_words())),
        }
        let unfinished = self.folder.join(format!(".{}", std::process::id()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(failed("make", &unfinished))?;
        let bytes = serde_json::to_vec(&entry).map_err(io::Error::other);
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(io::Error::from)
            .and(bytes)
            .and_then(|bytes| file.write_all(&bytes))
            .and_then(|()| file.sync_all())
            .map_err(failed("write", &unfinished))?;
        let (from, to) = (&unfinished, &path);
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        if let Err(error) =
            rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, flags)
        {
            let _ = std::fs::remove_file(&unfinished);
            return Err(match error {
                rustix::io::Errno::EXIST => JournalError::Taken(entry.undo.in_words()),
                error => failed("name", &path)(error.into()),
            });
        }
        self.sync()?;
        Ok(Kept {
            file,
            path,
            entry,
            done: false,
        })
    }

    fn prepare(&self) -> Result<(), JournalError> {
        let mut build = DirBuilder::new();
        build
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(failed("make", &self.folder))?;
        self.is_ours().map(drop)
    }

    /// Whether it is there; an error where others may write what root would then do.
    fn is_ours(&self) -> Result<bool, JournalError> {
        let metadata = match std::fs::symlink_metadata(&self.folder) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("look at", &self.folder)(error)),
        };
        let me = rustix::process::geteuid().as_raw();
        if !metadata.is_dir() || metadata.uid() != me || metadata.mode() & 0o022 != 0 {
            return Err(JournalError::Open(self.folder.clone()));
        }
        Ok(true)
    }

    fn sync(&self) -> Result<(), JournalError> {
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(failed("sync", &self.folder))
    }

    fn entries(&self) -> Result<Vec<PathBuf>, JournalError> {
        if !self.is_ours()? {
            return Ok(Vec::new());
        }
        let listed = std::fs::read_dir(&self.folder).map_err(failed("list", &self.folder))?;
        Ok(listed.flatten().map(|entry| entry.path()).collect())
    }

    /// Puts back all that was left by holders that are dead; says what. A live holder's, of another agent, stays.
    ///
    /// # Errors
    /// What could not be put back, or understood, and all of it that was tried: nobody should serve then.
    pub(crate) fn replay(&self) -> Result<Vec<String>, JournalError> {
        // Only root's agent changes what needs a journal, and only root's can put it back.
        if !rustix::process::geteuid().is_root() {
            return Ok(Vec::new());
        }
        let mut done = Vec::new();
        let mut first = None;
        for path in self.entries()? {
            match self.replay_one(&path) {
                Ok(what) => done.extend(what),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(done), Err)
    }

    fn replay_one(&self, path: &Path) -> Result<Option<String>, JournalError> {
        let unfinished = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if unfinished {
            // Nothing was changed yet; the lock tells whether it is still being written.
            if let Ok(file) = File::open(path)
                && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                std::fs::remove_file(path).map_err(failed("remove", path))?;
            }
            return Ok(None);
        }
        let Some(entry) = read(path)? else {
            return Ok(None);
        };
        // Nobody of another boot lives, whoever has that number now.
        let lives = identity(entry.holder).is_some_and(|id| id.started == entry.started);
        if lives && entry.boot == boot() {
            return Ok(None);
        }
        Ok(settle(path)?.then(|| entry.undo.in_words()))
    }

    /// Puts back what this fault's holder, which is dead, left.
    pub(crate) fn settle(&self, fault: &FaultId, holder: u32) -> Result<(), JournalError> {
        for path in self.entries()? {
            if let Ok(Some(entry)) = read(&path)
                && entry.fault == *fault
                && entry.holder == holder
            {
                settle(&path)?;
            }
        }
        Ok(())
    }
}

/// Puts back what a holder left that is known to be dead. The guard is given a moment; then its lock counts for nothing, as
/// putting back twice does no harm. Whether it was this that did it.
fn settle(path: &Path) -> Result<bool, JournalError> {
    let begun = Instant::now();
    loop {
        match take_back(path)? {
            Taken::Back => return Ok(true),
            Taken::Gone => return Ok(false),
            Taken::Busy if begun.elapsed() > GUARD_LIMIT => break,
            Taken::Busy => std::thread::sleep(LOOK_EVERY),
        }
    }
    let Some(entry) = read(path)? else {
        return Ok(false);
    };
    put_back(&entry, path)?;
    Ok(true)
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// It was put back.
    Back,
    /// There is none.
    Gone,
    /// Its holder lives, or somebody is putting it back just now.
    Busy,
}

/// Puts back what the entry says, if its holder is dead.
fn take_back(path: &Path) -> Result<Taken, JournalError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taken::Gone),
        Err(error) => return Err(failed("open", path)(error)),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Taken::Busy),
        Err(error) => return Err(failed("lock", path)(error.into())),
    }
    let Some(entry) = understand(&file, path)? else {
        return Ok(Taken::Gone);
    };
    put_back(&entry, path)?;
    Ok(Taken::Back)
}

/// Undoes, and removes the entry. The caller has its lock.
fn put_back(entry: &Entry, path: &Path) -> Result<(), JournalError> {
    if entry.boot == boot() {
        entry
            .undo
            .put_back()
            .map_err(|source| JournalError::PutBack {
                what: entry.undo.in_words(),
                path: path.to_owned(),
                source,
            })?;
    }
    match std::fs::remove_file(path) {
        // Somebody else has done the same.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("remove", path)),
    }
}

fn read(path: &Path) -> Result<Option<Entry>, JournalError> {
    match File::open(path) {
        Ok(file) => understand(&file, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open", path)(error)),
    }
}

/// The entry in an open file; `None` where it was removed while its lock was waited for.
fn understand(file: &File, path: &Path) -> Result<Option<Entry>, JournalError> {
    let metadata = file.metadata().map_err(failed("look at", path))?;
    if metadata.nlink() == 0 {
        return Ok(None);
    }
    let mut text = String::new();
    file.take(ENTRY_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed("read", path))?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| JournalError::Understand {
            path: path.to_owned(),
            text: error.to_string(),
        })
}

impl Kept {
    /// The entry's file, for the guard.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts back what was before, and removes the entry.
    pub(crate) fn give_back(&mut self) -> Result<(), JournalError> {
        if !self.done {
            put_back(&self.entry, &self.path)?;
            self.done = true;
            // The guard, which waits for this, finds nothing to do.
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
        Ok(())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // What fails here is tried again by the guard and by the agent, and said by that.
        let _ = self.give_back();
    }
}

#[cfg(test)]
mod tests;
