//! Network namespaces: holding one by a descriptor, entering it, and finding all of a node.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};

use super::NetError;

/// Where `ip netns add` keeps its names.
const NAMED_FOLDER: &str = "/run/netns";
/// Where Docker keeps its.
const DOCKER_FOLDER: &str = "/run/docker/netns";

/// A network namespace, kept alive and unmistakable by an open descriptor of it (close-on-exec).
#[derive(Debug)]
pub(crate) struct Netns {
    descriptor: OwnedFd,
    identity: Identity,
    label: String,
}

/// What tells one namespace from another for as long as either lives: device and inode of its nsfs file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    /// The nsfs device.
    pub(crate) device: u64,
    /// The inode, as `ls -l /proc/PID/ns/net` shows it.
    pub(crate) inode: u64,
}

impl Netns {
    /// The calling thread's own.
    ///
    /// # Errors
    /// When `/proc` is not readable.
    pub(crate) fn current() -> Result<Self, NetError> {
        Self::open(Path::new("/proc/thread-self/ns/net"), "this process")
    }

    /// That of a process.
    ///
    /// # Errors
    /// When the process is gone or not ours to look at.
    pub(crate) fn of_process(pid: u32) -> Result<Self, NetError> {
        Self::open(
            Path::new(&format!("/proc/{pid}/ns/net")),
            &format!("process {pid}"),
        )
    }

    fn open(path: &Path, label: &str) -> Result<Self, NetError> {
        let failed = |e| {
            NetError::io(
                "open",
                format!("the network namespace of {label} ({})", path.display()),
                e,
            )
        };
        let file = File::open(path).map_err(failed)?;
        let identity = identity(&file).map_err(failed)?;
        Ok(Self {
            descriptor: file.into(),
            identity,
            label: label.to_owned(),
        })
    }

    /// From a descriptor that was handed over.
    ///
    /// # Errors
    /// When it cannot be examined.
    pub(crate) fn from_descriptor(descriptor: OwnedFd, label: &str) -> Result<Self, NetError> {
        let file = File::from(descriptor);
        let identity = identity(&file)
            .map_err(|e| NetError::io("examine", format!("network namespace {label}"), e))?;
        Ok(Self {
            descriptor: file.into(),
            identity,
            label: label.to_owned(),
        })
    }

    /// What tells it from others.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// What it was found by, for people: a name, or "process 123".
    #[must_use]
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Moves the calling *thread* into it; a process of one thread is moved as a whole. Clears the parent-death signal
    /// no more than any change of credentials does: set it again afterwards all the same.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN over it.
    pub(crate) fn enter(&self) -> Result<(), NetError> {
        setns(&self.descriptor, CloneFlags::CLONE_NEWNET).map_err(|e| {
            NetError::io(
                "enter",
                format!("the network namespace of {}", self.label),
                e.into(),
            )
        })
    }

    /// Does something inside it, on a thread of its own that ends with it: the caller stays where it is.
    ///
    /// # Errors
    /// When it cannot be entered, or what `act` returns.
    pub(crate) fn inside<T: Send>(
        &self,
        act: impl FnOnce() -> Result<T, NetError> + Send,
    ) -> Result<T, NetError> {
        on_thread(|| {
            self.enter()?;
            act()
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Does something in a new, empty network namespace, which vanishes with the thread that made it.
///
/// # Errors
/// When none may be made, or what `act` returns.
pub(crate) fn in_scratch<T: Send>(
    act: impl FnOnce() -> Result<T, NetError> + Send,
) -> Result<T, NetError> {
    on_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|e| NetError::io("create", "a scratch network namespace", e.into()))?;
        act()
    })
}

fn on_thread<T: Send>(act: impl FnOnce() -> Result<T, NetError> + Send) -> Result<T, NetError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into());
        let handle = thread
            .spawn_scoped(scope, act)
            .map_err(|e| NetError::io("start", "a thread for another network namespace", e))?;
        handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Every network namespace of the node that a process is in or a name leads to, each once. Processes that end while
/// they are looked at are passed over.
///
/// # Errors
/// When `/proc` cannot be listed at all.
pub(crate) fn all() -> Result<Vec<Netns>, NetError> {
    let mut found = BTreeMap::new();
    let mut add = |candidate: Result<Netns, NetError>| {
        if let Ok(netns) = candidate {
            found.entry(netns.identity).or_insert(netns);
        }
    };
    // Names first: they read better than a pid.
    for folder in [NAMED_FOLDER, DOCKER_FOLDER] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // A name whose namespace is no longer mounted is an ordinary file, and entering it would fail.
            let netns = Netns::open(&entry.path(), &entry.file_name().to_string_lossy());
            add(netns.and_then(|n| n.inside(|| Ok(())).map(|()| n)));
        }
    }
    let processes = fs::read_dir("/proc").map_err(|e| NetError::io("list", "the processes", e))?;
    for entry in processes.flatten() {
        if let Ok(pid) = entry.file_name().to_string_lossy().parse() {
            add(Netns::of_process(pid));
        }
    }
    Ok(found.into_values().collect())
}

fn identity(file: &File) -> io::Result<Identity> {
    let metadata = file.metadata()?;
    Ok(Identity {
        device: metadata.st_dev(),
        inode: metadata.st_ino(),
    })
}
