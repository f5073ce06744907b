//! Network namespaces: found by name or by a process, told apart by inode.

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where `ip netns` keeps them by name (ip-netns(8)).
const NAMED: &str = "/run/netns";

/// A namespace, held.
#[derive(Debug)]
pub(crate) struct Netns {
    /// Keeps it alive, and is what a holder enters.
    pub(crate) fd: OwnedFd,
    /// Tells it from others while it lives.
    pub(crate) inode: u64,
}

/// The inode of a process's namespace.
pub(crate) fn inode_of(pid: u32) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    let text = link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
    text.parse().ok()
}

/// The namespace that this process is in: the node's own.
pub(crate) fn own_inode() -> Option<u64> {
    inode_of(std::process::id())
}

/// By its name under /run/netns.
///
/// # Errors
/// A sentence: no such name, or not a namespace.
pub(crate) fn named(name: &str) -> Result<Netns, String> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return Err(format!(
            "`{name}` is not the name of a network namespace: see `ip netns`"
        ));
    }
    let path = PathBuf::from(NAMED).join(name);
    let netns = open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no network namespace `{name}` under {NAMED}"),
        _ => format!("cannot open network namespace {}: {error}", path.display()),
    })?;
    // A name without a mount is a plain file of another file system: setns would say EINVAL, we say what it is.
    let kind = rustix::fs::fstatfs(&netns.fd).map_err(|error| error.to_string())?;
    if kind.f_type != libc::NSFS_MAGIC {
        return Err(format!(
            "{} is a file, not a network namespace: its mount is gone",
            path.display()
        ));
    }
    Ok(netns)
}

/// All names there are.
pub(crate) fn names() -> Vec<String> {
    let entries = std::fs::read_dir(NAMED).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The one a process lives in.
///
/// # Errors
/// It is gone, or may not be looked into (`CAP_SYS_PTRACE`).
pub(crate) fn of_process(pid: u32) -> io::Result<Netns> {
    open(Path::new(&format!("/proc/{pid}/ns/net")))
}

fn open(path: &Path) -> io::Result<Netns> {
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let inode = rustix::fs::fstat(&fd)?.st_ino;
    Ok(Netns { fd, inode })
}
