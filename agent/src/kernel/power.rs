//! The end of the node as a whole: reboot(2).

use rustix::system::RebootCommand;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// The inodes of the first pid and user namespaces (`PROC_PID_INIT_INO`, `PROC_USER_INIT_INO` in include/linux/proc_ns.h).
const FIRST: [(&str, u64); 2] = [
    ("/proc/self/ns/pid", 0xEFFF_FFFC),
    ("/proc/self/ns/user", 0xEFFF_FFFD),
];
/// How long it is waited for what is not on the disks yet. A file system that hangs does not save the node.
const SYNC_LIMIT: Duration = Duration::from_secs(5);

/// How a node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeEnd {
    /// It starts again.
    Restart,
    /// It is off.
    Off,
}

/// Whether reboot(2) means the node here: in a pid namespace below the first it ends that namespace's first process instead.
pub(crate) fn means_the_node() -> bool {
    FIRST
        .iter()
        .all(|(path, inode)| std::fs::metadata(path).is_ok_and(|found| found.ino() == *inode))
}

/// Writes to the disks what waits for that, and ends the node without asking anybody on it. Returns only what went wrong.
pub(crate) fn end_node(how: NodeEnd) -> io::Error {
    let (done, synced) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        rustix::fs::sync();
        let _ = done.send(());
    });
    let _ = synced.recv_timeout(SYNC_LIMIT);
    let command = match how {
        NodeEnd::Restart => RebootCommand::Restart,
        NodeEnd::Off => RebootCommand::PowerOff,
    };
    match rustix::system::reboot(command) {
        Ok(()) => io::Error::other("the kernel took the order, and the node is still there"),
        Err(error) => error.into(),
    }
}
