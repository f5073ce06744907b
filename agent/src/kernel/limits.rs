//! Limits of other processes, and what they have open: proc_pid_limits(5), proc_pid_fd(5), prlimit(2).

use rustix::process::{Pid, Resource, Rlimit};
use std::io;

/// How many descriptors a process may have (`RLIMIT_NOFILE`): one more than the highest number that a new one can get (fs/file.c,
/// `alloc_fd`). What is open already at a higher number stays open. `u64::MAX` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    /// What is in force. The process itself may set it to anything up to `hard`.
    pub(crate) soft: u64,
    /// How far that may be raised.
    pub(crate) hard: u64,
}

/// The line of it in /proc/PID/limits: `Max open files  SOFT  HARD  files`.
const OPEN_FILES: &str = "Max open files";

/// The limit of another process.
///
/// # Errors
/// `ENOENT` or `ESRCH` when it is gone.
pub(crate) fn open_files(pid: u32) -> io::Result<OpenFiles> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    parse(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/limits has no such limit")))
}

fn parse(text: &str) -> Option<OpenFiles> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(OPEN_FILES))?;
    let mut words = line.split_ascii_whitespace();
    let mut number = || match words.next()? {
        "unlimited" => Some(u64::MAX),
        word => word.parse().ok(),
    };
    Some(OpenFiles {
        soft: number()?,
        hard: number()?,
    })
}

/// Sets the limit of another process; returns what it was in that very instant (kernel/sys.c, `do_prlimit`).
///
/// # Errors
/// `ESRCH` when it is gone; `EPERM` for other users' processes without `CAP_SYS_RESOURCE`, or where fs.nr_open has come to be less.
pub(crate) fn set_open_files(pid: u32, to: OpenFiles) -> io::Result<OpenFiles> {
    let some = |limit: u64| (limit != u64::MAX).then_some(limit);
    // Number 0 would be this very process.
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    let limit = Rlimit {
        current: some(to.soft),
        maximum: some(to.hard),
    };
    let was = rustix::process::prlimit(Some(pid), Resource::Nofile, limit)?;
    Ok(OpenFiles {
        soft: was.current.unwrap_or(u64::MAX),
        hard: was.maximum.unwrap_or(u64::MAX),
    })
}

/// The numbers of the descriptors that a process has open, in order.
///
/// # Errors
/// `ENOENT` when it is gone; `EACCES` for other users' processes without `CAP_SYS_PTRACE`.
pub(crate) fn descriptors(pid: u32) -> io::Result<Vec<u64>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        all.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u64>().ok()),
        );
    }
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             unlimited            unlimited            processes \n\
                    Max open files            1024                 unlimited            files     \n";
        let limit = OpenFiles {
            soft: 1024,
            hard: u64::MAX,
        };
        assert_eq!(parse(text), Some(limit));
        assert_eq!(parse("Max open files  many"), None);
        let own = open_files(std::process::id()).unwrap();
        let told = rustix::process::getrlimit(Resource::Nofile);
        assert_eq!(own.soft, told.current.unwrap_or(u64::MAX));
        assert!(
            descriptors(std::process::id())
                .unwrap()
                .starts_with(&[0, 1, 2])
        );
    }
}
