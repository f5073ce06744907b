//! The node's own stop: a file under the state directory. While it is there nothing is injected, whoever asks; what
//! was there ended when it came. It needs no controller, and no agent that answers.
//!
//! Any file of that name halts, also an empty one that a person made: who cannot read it halts, too.

use crate::hold::HOLDER_NAME;
use crate::kernel::process;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the node keeps what must survive its agent, unless another place is named.
pub(crate) const STATE: &str = "/var/lib/squall";
/// The file.
const NAME: &str = "halt";
/// A few sentences; more is not read.
const FILE_BYTES_MAX: u64 = 4 << 10;
/// How long agents may take to end their faults in order, which keeps the last dose. Half a second is their own limit
/// for a holder that hangs.
const ORDERLY: Duration = Duration::from_secs(1);
/// How long the kernel may take to end a process that was sent SIGKILL.
const KILLED: Duration = Duration::from_secs(2);

/// A halt that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Halt {
    /// Who said it.
    pub(crate) by: String,
    /// When.
    pub(crate) at: Timestamp,
    /// Why, if they said that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) because: Option<String>,
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "halted by {} at {:.0}", self.by, self.at)?;
        self.because
            .as_ref()
            .map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

/// The halt of this state directory, if there is one.
pub(crate) fn read(state: &Path) -> Option<Halt> {
    let path = state.join(NAME);
    let metadata = match std::fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        // There is no file, or no directory that could have one.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return None;
        }
        Err(error) => {
            return Some(Halt {
                by: format!("somebody ({} cannot be looked at: {error})", path.display()),
                at: Timestamp::now(),
                because: None,
            });
        }
    };
    let text = if metadata.is_file() && metadata.len() <= FILE_BYTES_MAX {
        std::fs::read_to_string(&path).unwrap_or_default()
    } else {
        String::new()
    };
    if let Ok(halt) = serde_json::from_str(&text) {
        return Some(halt);
    }
    // Made by hand: its owner, its time, and whatever it says.
    let because = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(Halt {
        by: format!("{}, by hand", user(metadata.uid())),
        at: Timestamp::from_second(metadata.mtime()).unwrap_or_else(|_| Timestamp::now()),
        because: (!because.is_empty()).then_some(because),
    })
}

/// Says when something changes in a state directory: readable once for each change. The directory must be there.
///
/// # Errors
/// `ENOENT`, or no watches are left (fs.inotify.max_user_watches): then look at it now and then.
pub(crate) fn watch(state: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let flags =
        WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, state, flags)?;
    Ok(fd)
}

/// Who runs this, in words.
fn caller() -> String {
    let name = user(rustix::process::getuid().as_raw());
    match std::env::var("SUDO_USER") {
        Ok(sudoer) if !sudoer.is_empty() => format!("{name} (sudo of {sudoer})"),
        _ => name,
    }
}

fn user(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(number.as_str())).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("user {uid}"))
}

/// What a halt found and did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Halted {
    /// What is in force now.
    pub(crate) halt: Halt,
    /// Faults that were live.
    pub(crate) faults: usize,
    /// Of those, holders that were killed because no agent ended them.
    pub(crate) killed: usize,
    /// What is still there.
    pub(crate) left: Vec<u32>,
}

/// Halts: writes the file, gives the agents a moment, and kills what holders are left.
///
/// # Errors
/// The file cannot be written; then nothing was done.
pub(crate) fn halt(state: &Path, because: Option<String>) -> io::Result<Halted> {
    let halt = Halt {
        by: caller(),
        at: Timestamp::now(),
        because,
    };
    // Before, because agents are quick; and after, because one may just have been started.
    let mut live = holders(state);
    write(state, &halt)?;
    for (pid, pidfd) in holders(state) {
        if live.iter().all(|(other, _)| *other != pid) {
            live.push((pid, pidfd));
        }
    }
    let mut left = wait(&live, ORDERLY, state);
    let mut killed = 0;
    for (pid, pidfd) in &left {
        match process::signal(pidfd, libc::SIGKILL) {
            Ok(()) => killed += 1,
            Err(error) => tracing::warn!(holder = pid, %error, "a holder cannot be killed"),
        }
    }
    left = wait(&left, KILLED, state);
    Ok(Halted {
        halt,
        faults: live.len(),
        killed,
        left: left.into_iter().map(|(pid, _)| pid).collect(),
    })
}

/// Lifts a halt; says whether there was one.
///
/// # Errors
/// The file cannot be removed.
pub(crate) fn lift(state: &Path) -> io::Result<bool> {
    match std::fs::remove_file(state.join(NAME)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// In place at once and whole: an agent that reads it meanwhile reads all of it.
fn write(state: &Path, halt: &Halt) -> io::Result<()> {
    // Others may see that the node is halted; root alone may halt it.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(state)?;
    let draft = state.join(format!(".{NAME}.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&draft)?;
    serde_json::to_writer(&mut file, halt)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&draft, state.join(NAME))
}

/// The holders of all agents that keep this state directory, held.
fn holders(state: &Path) -> Vec<(u32, OwnedFd)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: u32| -> Option<(u32, OwnedFd)> {
        if !is_holder_of(pid, state) {
            return None;
        }
        let pidfd = process::pidfd_open(pid).ok()?;
        // Still the same: a pid may be another's by now.
        is_holder_of(pid, state).then_some((pid, pidfd))
    };
    pids.filter_map(holds).collect()
}

fn is_holder_of(pid: u32, state: &Path) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let name = line.split(|byte| *byte == 0).next().unwrap_or_default();
    if name != HOLDER_NAME.as_bytes() {
        return false;
    }
    let parent = crate::inventory::process::ancestors(pid).into_iter().next();
    // An orphan is ours in any case.
    parent.is_none_or(|parent| parent == 1 || same_place(&state_of(parent), state))
}

fn same_place(one: &Path, other: &Path) -> bool {
    one == other
        || one
            .canonicalize()
            .is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

/// The state directory that an agent was started with.
fn state_of(agent: u32) -> PathBuf {
    let line = std::fs::read(format!("/proc/{agent}/cmdline")).unwrap_or_default();
    let words: Vec<String> = line
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let named =
        words
            .iter()
            .enumerate()
            .find_map(|(at, word)| match word.strip_prefix("--state") {
                Some("") => words.get(at + 1).cloned(),
                Some(rest) => rest.strip_prefix('=').map(str::to_owned),
                None => None,
            });
    named.map_or_else(|| PathBuf::from(STATE), PathBuf::from)
}

/// Waits until they are gone, and says which are not.
fn wait(live: &[(u32, OwnedFd)], limit: Duration, state: &Path) -> Vec<(u32, OwnedFd)> {
    use std::os::fd::AsFd;
    let begun = Instant::now();
    loop {
        let left = live
            .iter()
            .filter(|(_, pidfd)| !process::has_ended(pidfd.as_fd()));
        let left: Vec<_> = left
            .filter_map(|(pid, pidfd)| Some((*pid, pidfd.try_clone().ok()?)))
            .collect();
        if left.is_empty() && begun.elapsed() >= SETTLED {
            // What was being started when the file came.
            return holders(state);
        }
        if begun.elapsed() >= limit {
            return holders(state);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A holder that was being started when the file came is there by then.
const SETTLED: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_halts_and_says_who() {
        let state = std::env::temp_dir().join(format!("squall-halt-{}", std::process::id()));
        assert_eq!(read(&state), None);
        assert!(!lift(&state).unwrap());
        let halted = halt(&state, Some("drill".to_owned())).unwrap();
        assert_eq!(read(&state).as_ref(), Some(&halted.halt));
        assert!(halted.left.is_empty() && halted.halt.to_string().contains("(drill)"));
        assert!(lift(&state).unwrap() && read(&state).is_none());
        for (text, because) in [
            ("", None),
            ("enough\n of this", Some("enough of this")),
            ("{}", Some("{}")),
        ] {
            std::fs::write(state.join(NAME), text).unwrap();
            let found = read(&state).unwrap();
            assert!(found.by.contains("by hand"), "{found}");
            assert_eq!(found.because.as_deref(), because);
        }
        std::fs::remove_file(state.join(NAME)).unwrap();
        std::os::unix::fs::symlink("/nowhere", state.join(NAME)).unwrap();
        assert!(read(&state).is_some(), "a link to nowhere halts, too");
        std::fs::remove_dir_all(&state).unwrap();
    }
}
