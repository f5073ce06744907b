//! The freezer of control groups: v2's `cgroup.freeze` (Documentation/admin-guide/cgroup-v2.rst) and v1's controller of that
//! name (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).
//!
//! What it freezes stays so until somebody thaws it: no descriptor and no process holds it.

use super::cgroup::{self, Group};
use rustix::fs::{Mode, OFlags};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One group's freezer, held by its directory.
#[derive(Debug)]
pub(crate) struct Freezer {
    folder: OwnedFd,
    v2: bool,
}

/// What the kernel says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    /// It was told to freeze.
    pub(crate) told: bool,
    /// It stands still, all of it, because it was told to or because one above it was.
    pub(crate) frozen: bool,
}

impl Freezer {
    /// The freezer of a group that is held; `None` where its hierarchy has none.
    ///
    /// # Errors
    /// `EMFILE`.
    pub(crate) fn of(group: &Group) -> io::Result<Option<Self>> {
        let v2 = group.controllers.is_empty();
        let known = if v2 {
            // Every group of v2 has it but for the root.
            cgroup::read(&group.fd, 0, "cgroup.freeze").is_ok()
        } else {
            group.controllers.iter().any(|c| c == "freezer")
                && cgroup::read(&group.fd, 0, "freezer.state").is_ok()
        };
        if !known {
            return Ok(None);
        }
        let folder = group.fd.try_clone()?;
        Ok(Some(Self { folder, v2 }))
    }

    /// The freezer of the group that this folder was once; `None` where that is gone, though another may have its name.
    ///
    /// # Errors
    /// `EACCES` and the like.
    pub(crate) fn at(folder: &Path, inode: u64, v2: bool) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = match rustix::fs::open(folder, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let same = rustix::fs::fstat(&fd)?.st_ino == inode;
        Ok(same.then_some(Self { folder: fd, v2 }))
    }

    /// Where it is, and the number by which it is known again.
    ///
    /// # Errors
    /// /proc is not there, or the group is gone.
    pub(crate) fn place(&self) -> io::Result<(PathBuf, u64)> {
        let link = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
        let folder = std::fs::read_link(&link)?;
        Ok((folder, std::fs::metadata(link)?.ino()))
    }

    /// Whether it is v2's.
    pub(crate) const fn is_v2(&self) -> bool {
        self.v2
    }

    /// Tells it to freeze, or to thaw.
    ///
    /// # Errors
    /// `ENODEV`: the group is gone; `EACCES`.
    pub(crate) fn tell(&self, freeze: bool) -> io::Result<()> {
        let (file, word) = match (self.v2, freeze) {
            (true, true) => ("cgroup.freeze", "1"),
            (true, false) => ("cgroup.freeze", "0"),
            (false, true) => ("freezer.state", "FROZEN"),
            (false, false) => ("freezer.state", "THAWED"),
        };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.folder, file, flags, Mode::empty())?;
        std::fs::File::from(fd).write_all(word.as_bytes())
    }

    /// Asks it.
    ///
    /// # Errors
    /// `ENODEV`: the group is gone.
    pub(crate) fn state(&self) -> io::Result<State> {
        let read = |file| cgroup::read(&self.folder, 0, file);
        if self.v2 {
            return Ok(State {
                told: read("cgroup.freeze")?.trim() == "1",
                frozen: read("cgroup.events")?
                    .lines()
                    .any(|line| line == "frozen 1"),
            });
        }
        Ok(State {
            told: read("freezer.self_freezing")?.trim() == "1",
            frozen: read("freezer.state")?.trim() == "FROZEN",
        })
    }

    /// Every process in the group and in those below it.
    ///
    /// # Errors
    /// `ENODEV`: the group is gone.
    pub(crate) fn processes(&self) -> io::Result<Vec<u32>> {
        let mut found = cgroup::processes(&self.folder)?;
        below(self.folder.as_fd(), 0, &mut found);
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

/// The processes of the groups below. One that is removed meanwhile has none.
fn below(group: std::os::fd::BorrowedFd<'_>, depth: usize, found: &mut Vec<u32>) {
    /// Deeper than anybody nests: systemd's user sessions and containers in containers come to a dozen.
    const DEPTH_MAX: usize = 64;
    let listed = std::fs::read_dir(format!("/proc/self/fd/{}", group.as_raw_fd()));
    for entry in listed.into_iter().flatten().flatten() {
        if depth >= DEPTH_MAX || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(fd) = rustix::fs::openat(group, entry.file_name(), flags, Mode::empty()) {
            found.extend(cgroup::processes(&fd).unwrap_or_default());
            below(fd.as_fd(), depth + 1, found);
        }
    }
}

/// Whether a process was sent SIGKILL and has not taken it: one that v1's freezer holds takes none (proc_pid_status(5),
/// `SigPnd` and `ShdPnd`).
pub(crate) fn is_told_to_die(pid: u32) -> bool {
    const KILL: u64 = 1 << (libc::SIGKILL - 1);
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = |line: &str| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    text.lines()
        .filter_map(pending)
        .any(|mask| mask & KILL != 0)
}
