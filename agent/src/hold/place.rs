//! Where a fault on a file system acts: a folder as the target sees it.

use super::held::HoldError;
use super::holder::Grip;
use crate::confine;
use crate::kernel::{cgroup, disk, process};
use squall_experiments::fault::FolderPath;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// A folder, and what it is called in messages.
pub(crate) struct Place {
    /// The folder.
    folder: OwnedFd,
    /// Whose it is and where.
    pub(crate) in_words: String,
}

/// Opens the folder at this path in the target's own root: the process's, that of one in the group, or the node's. From then on
/// this holder opens files in no other.
pub(crate) fn find(path: &FolderPath, grip: &Grip) -> Result<Place, HoldError> {
    let (root, whose) = root(grip)?;
    let in_words = format!("{path} {whose}");
    let folder = disk::folder(root, path.as_str()).map_err(|source| {
        if source.raw_os_error() == Some(libc::ENOENT) {
            return HoldError::Unable(format!(
                "there is no folder {in_words}: the path is meant as the target sees it"
            ));
        }
        HoldError::kernel("open", format!("the folder {in_words}"))(source)
    })?;
    // A kernel that cannot keep to it is told of by `doctor`; no fault depends on it.
    let _ = confine::to_folder(&folder);
    Ok(Place { folder, in_words })
}

/// The target's root. A process is asked for while its pidfd shows that it has not ended, so that its pid is its own.
fn root(grip: &Grip) -> Result<(OwnedFd, String), HoldError> {
    let of = |pidfd: &OwnedFd, pid: u32| {
        let root = disk::root_of(pid).map_err(HoldError::kernel(
            "open",
            format!("the root of process {pid}"),
        ))?;
        if process::has_ended(pidfd.as_fd()) {
            return Err(HoldError::Unable(format!("process {pid} has ended")));
        }
        Ok((root, format!("of process {pid}")))
    };
    if let Some((pidfd, pid)) = grip.processes.first() {
        return of(pidfd, *pid);
    }
    if let Some((pidfd, pid)) = member(grip)? {
        return of(&pidfd, pid);
    }
    // The node's own root is PID 1's; an agent in a container without the node's processes has its own alone.
    let root = disk::root_of(1).or_else(|_| disk::own_root());
    Ok((
        root.map_err(HoldError::kernel("open", "the node's root"))?,
        "of the node".to_owned(),
    ))
}

/// A process of the group that was aimed at; none where it was the node.
pub(crate) fn member(grip: &Grip) -> Result<Option<(OwnedFd, u32)>, HoldError> {
    let Some(group) = grip.groups.iter().find(|group| group.path != "/") else {
        return Ok(None);
    };
    let me = std::process::id();
    let list = || {
        cgroup::processes(&group.fd).map_err(HoldError::kernel(
            "list the processes of",
            format!("cgroup {}", group.path),
        ))
    };
    for pid in list()?.into_iter().filter(|pid| *pid != me) {
        let Ok(pidfd) = process::pidfd_open(pid) else {
            continue;
        };
        // Asked again after the pidfd is taken: a process that took over a freed pid is not in the group.
        if list()?.contains(&pid) {
            return Ok(Some((pidfd, pid)));
        }
    }
    Err(HoldError::Unable(format!(
        "cgroup {} has no process whose paths and ports could be meant: name a process, or a group with one in it",
        group.path
    )))
}

impl Place {
    /// An unnamed file there; past the page cache if `direct`.
    pub(crate) fn unnamed(&self, direct: bool) -> Result<File, HoldError> {
        disk::unnamed(&self.folder, direct).map_err(|source| self.no_file(source))
    }

    /// An unnamed file there, with the kernel's own word where there is none.
    pub(crate) fn try_unnamed(&self) -> std::io::Result<File> {
        disk::unnamed(&self.folder, false)
    }

    /// Why there is no unnamed file.
    pub(crate) fn no_file(&self, source: std::io::Error) -> HoldError {
        match source.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT) => HoldError::Unable(format!(
                "the file system at {} has no unnamed files (O_TMPFILE), and one with a name could outlive its \
                 holder: name a folder on a volume of ext4, xfs, btrfs or tmpfs",
                self.in_words
            )),
            Some(libc::EROFS) => HoldError::Unable(format!(
                "the file system at {} is read-only: name a folder on one that the target writes to",
                self.in_words
            )),
            _ => HoldError::kernel("make", format!("an unnamed file at {}", self.in_words))(source),
        }
    }

    /// Whether what is on it is in memory alone.
    pub(crate) fn is_in_memory(&self) -> Result<bool, HoldError> {
        disk::is_in_memory(&self.folder).map_err(HoldError::kernel(
            "ask for the kind of the file system at",
            self.in_words.clone(),
        ))
    }

    /// What the file system says of itself now.
    pub(crate) fn room(&self) -> Result<disk::Room, HoldError> {
        disk::room(&self.folder).map_err(HoldError::kernel(
            "ask how much is free at",
            self.in_words.clone(),
        ))
    }
}
