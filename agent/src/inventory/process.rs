//! Processes, as /proc shows them: who they are, and which match a selector.

use crate::kernel::process;
use regex::Regex;
use squall_experiments::target::ProcessSelector;
use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// One process for ever: a pid is used again, a pid with its start time is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Identity {
    /// Its process id.
    pub(crate) pid: u32,
    /// When it started, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub(crate) started: u64,
}

/// A process that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Which.
    pub(crate) id: Identity,
    /// The base name of its executable, or its comm where that cannot be read.
    pub(crate) name: String,
    /// What to call it: the name it was selected by, where it was.
    pub(crate) called: String,
    /// Its parent's pid.
    pub(crate) parent: u32,
    /// Kernel threads have no program to be hit.
    pub(crate) kernel_thread: bool,
}

/// What /proc/PID/stat says that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stat {
    comm: String,
    state: char,
    parent: u32,
    flags: u32,
    started: u64,
}

/// `PF_KTHREAD` (include/linux/sched.h).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// proc_pid_stat(5). The comm stands in parentheses and may contain any character, parentheses too.
fn parse_stat(text: &str) -> Option<Stat> {
    let open = text.find('(')?;
    let close = text.rfind(')')?;
    let rest: Vec<&str> = text.get(close + 1..)?.split_ascii_whitespace().collect();
    Some(Stat {
        comm: text.get(open + 1..close)?.to_owned(),
        // The fields after the comm begin with number 3.
        state: rest.first()?.chars().next()?,
        parent: rest.get(1)?.parse().ok()?,
        flags: rest.get(6)?.parse().ok()?,
        started: rest.get(19)?.parse().ok()?,
    })
}

fn stat(pid: u32) -> Option<Stat> {
    // A comm need not be UTF-8.
    let bytes = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&bytes))
}

/// The process that started it, or that adopted it since.
pub(crate) fn parent_of(pid: u32) -> Option<u32> {
    stat(pid).map(|stat| stat.parent)
}

/// The base name of a process's executable, or its comm.
pub(crate) fn name_of(pid: u32) -> Option<String> {
    let stat = stat(pid)?;
    Some(executable(pid).unwrap_or(stat.comm))
}

/// A process's comm: what `ps -o comm` shows.
pub(crate) fn comm_of(pid: u32) -> Option<String> {
    stat(pid).map(|stat| stat.comm)
}

fn executable(pid: u32) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = link.file_name()?.to_str()?;
    Some(name.trim_end_matches(" (deleted)").to_owned())
}

/// A process's identity, while it lives: a zombie is nobody any more.
pub(crate) fn identity(pid: u32) -> Option<Identity> {
    let stat = stat(pid)?;
    (!matches!(stat.state, 'Z' | 'X')).then_some(Identity {
        pid,
        started: stat.started,
    })
}

/// The threads of a process; none when it is gone.
pub(crate) fn threads_of(pid: u32) -> Vec<u32> {
    let listed = std::fs::read_dir(format!("/proc/{pid}/task"));
    let name =
        |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    listed.into_iter().flatten().filter_map(name).collect()
}

/// What a thread is doing: one of proc_pid_stat(5)'s letters, such as `t` when a tracer has stopped it.
pub(crate) fn thread_state(pid: u32, thread: u32) -> Option<char> {
    let bytes = std::fs::read(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&bytes)).map(|stat| stat.state)
}

/// The process that a thread belongs to.
pub(crate) fn process_of_thread(thread: u32) -> Option<u32> {
    in_status(&format!("/proc/{thread}/status"), "Tgid:")
}

/// The process that traces a thread, where one does.
pub(crate) fn tracer_of(pid: u32, thread: u32) -> Option<u32> {
    let tracer = in_status(&format!("/proc/{pid}/task/{thread}/status"), "TracerPid:");
    // The tracer is a thread; people know its process.
    let tracer = tracer.filter(|thread| *thread != 0)?;
    process_of_thread(tracer).or(Some(tracer))
}

/// A number in a file of proc_pid_status(5).
fn in_status(path: &str, key: &str) -> Option<u32> {
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().parse().ok()
}

/// A pidfd for exactly this process.
///
/// # Errors
/// `ESRCH` when it is gone, also when its pid is another's by now.
pub(crate) fn hold(id: Identity) -> io::Result<OwnedFd> {
    let pidfd = process::pidfd_open(id.pid)?;
    // Asked after the pidfd is taken: from here on the pid cannot change hands unseen.
    if identity(id.pid) == Some(id) {
        Ok(pidfd)
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// The processes above this one, up to PID 1.
pub(crate) fn ancestors(pid: u32) -> Vec<u32> {
    /// The kernel's own limit on nested pid namespaces is 32; a chain of shells is not longer either.
    const DEPTH_MAX: usize = 64;
    let parent = |pid: &u32| stat(*pid).map(|s| s.parent).filter(|p| *p > 0);
    std::iter::successors(parent(&pid), parent)
        .take(DEPTH_MAX)
        .collect()
}

/// All pids there are.
fn pids() -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")?;
    let pid = |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(pid).collect())
}

/// All processes but zombies, each with its parent.
///
/// # Errors
/// /proc cannot be listed.
pub(crate) fn everybody() -> io::Result<Vec<(Identity, u32)>> {
    let known = |pid| {
        let stat = stat(pid).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
        let started = stat.started;
        Some((Identity { pid, started }, stat.parent))
    };
    Ok(pids()?.into_iter().filter_map(known).collect())
}

/// The processes that match all that is said, oldest first. Threads are not processes; zombies are left out.
///
/// # Errors
/// A sentence: the regular expression, the user or /proc cannot be read.
pub(crate) fn matching(selector: &ProcessSelector) -> Result<Vec<Found>, String> {
    let command = selector.command.as_deref().map(regex).transpose()?;
    let user = selector.user.as_deref().map(user_id).transpose()?;
    let candidates = match selector.pid {
        Some(pid) => vec![pid],
        None => pids().map_err(|error| format!("cannot list /proc: {error}"))?,
    };
    let mut listeners = Listeners::default();
    let mut found = Vec::new();
    for pid in candidates {
        let Some(stat) = stat(pid).filter(|s| !matches!(s.state, 'Z' | 'X')) else {
            continue;
        };
        // /proc/TID answers too, though it is not listed.
        if selector.pid.is_some() && !leads_its_threads(pid) {
            return Err(format!(
                "{pid} is a thread, not a process: name the process it belongs to"
            ));
        }
        let executable = executable(pid);
        let named = |name: &String| Some(name) == executable.as_ref() || *name == stat.comm;
        let fits = selector.name.as_ref().is_none_or(named)
            && user.is_none_or(|user| user_of(pid) == Some(user))
            && command
                .as_ref()
                .is_none_or(|regex| regex.is_match(&command_line(pid)))
            && selector
                .port
                .is_none_or(|port| listeners.listens(pid, port));
        if fits {
            let name = executable.unwrap_or(stat.comm);
            found.push(Found {
                id: Identity {
                    pid,
                    started: stat.started,
                },
                called: selector.name.clone().unwrap_or_else(|| name.clone()),
                name,
                parent: stat.parent,
                kernel_thread: stat.flags & KERNEL_THREAD != 0,
            });
        }
    }
    found.sort_by_key(|found| (found.id.started, found.id.pid));
    Ok(found)
}

fn regex(text: &str) -> Result<Regex, String> {
    /// A selector is a few words; a compiled expression beyond this is a mistake or an attack.
    const COMPILED_BYTES_MAX: usize = 1 << 20;
    regex::RegexBuilder::new(text)
        .size_limit(COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| format!("`{text}` is not a regular expression: {error}"))
}

fn leads_its_threads(pid: u32) -> bool {
    status_field(pid, "Tgid:").is_none_or(|tgid| tgid == pid)
}

fn user_of(pid: u32) -> Option<u32> {
    // proc_pid_status(5): real, effective, saved, file system. What it acts as is the effective one.
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn status_field(pid: u32, key: &str) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().parse().ok()
}

fn user_id(user: &str) -> Result<u32, String> {
    if let Ok(number) = user.parse() {
        return Ok(number);
    }
    match nix::unistd::User::from_name(user) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!(
            "this node has no user `{user}`: write its number instead"
        )),
        Err(error) => Err(format!("cannot look up user `{user}`: {error}")),
    }
}

/// The words of a command line, joined by single blanks.
pub(crate) fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    words.join(" ")
}

/// Which sockets listen, read once per network namespace.
#[derive(Default)]
struct Listeners {
    by_netns: HashMap<u64, Vec<(u16, u64)>>,
}

impl Listeners {
    fn listens(&mut self, pid: u32, port: u16) -> bool {
        let Some(netns) = super::netns::inode_of(pid) else {
            return false;
        };
        let sockets = self.by_netns.entry(netns).or_insert_with(|| {
            let read = |file| std::fs::read_to_string(format!("/proc/{pid}/net/{file}"));
            let texts = ["tcp", "tcp6"].map(|file| read(file).unwrap_or_default());
            texts
                .iter()
                .flat_map(|text| parse_listening(text))
                .collect()
        });
        let wanted: HashSet<u64> = sockets
            .iter()
            .filter(|(at, _)| *at == port)
            .map(|(_, inode)| *inode)
            .collect();
        !wanted.is_empty() && has_socket(pid, &wanted)
    }
}

/// /proc/net/tcp: `sl local_address rem_address st … inode`, hexadecimal; state 0A listens.
fn parse_listening(text: &str) -> Vec<(u16, u64)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if *fields.get(3)? != "0A" {
            return None;
        }
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        Some((
            u16::from_str_radix(port, 16).ok()?,
            fields.get(9)?.parse().ok()?,
        ))
    };
    text.lines().skip(1).filter_map(line).collect()
}

fn has_socket(pid: u32, inodes: &HashSet<u64>) -> bool {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let inode = |path: &Path| {
        let link = std::fs::read_link(path).ok()?;
        let text = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        text.parse::<u64>().ok()
    };
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| inode(&entry.path()))
        .any(|inode| inodes.contains(&inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comm_may_contain_anything() {
        let text = "42 (a) b (c) R 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 999 1 1";
        let stat = parse_stat(text).unwrap();
        assert_eq!(
            (stat.comm.as_str(), stat.parent, stat.started),
            ("a) b (c", 7, 999)
        );
        assert_eq!(parse_stat("42 (a"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_very_process_is_found_by_all_that_is_said() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let me = std::process::id();
        let selector = ProcessSelector {
            name: name_of(me),
            command: Some("agent".to_owned()),
            pid: None,
            user: user_of(me).map(|uid| uid.to_string()),
            port: Some(listener.local_addr().unwrap().port()),
        };
        let found = matching(&selector).unwrap();
        assert_eq!(found.iter().map(|f| f.id.pid).collect::<Vec<_>>(), [me]);
        assert!(hold(found[0].id).is_ok());
        drop(listener);
        assert_eq!(matching(&selector).unwrap(), []);
    }

    #[test]
    fn another_start_time_is_another_process() {
        let id = identity(std::process::id()).unwrap();
        let other = Identity {
            started: id.started + 1,
            ..id
        };
        assert_eq!(hold(other).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn threads_are_refused_and_zombies_left_out() {
        let tid = std::thread::spawn(|| rustix::thread::gettid().as_raw_pid().cast_unsigned())
            .join()
            .unwrap();
        // A thread that is joined has said so, and is buried a moment later.
        let begun = std::time::Instant::now();
        while std::path::Path::new(&format!("/proc/self/task/{tid}")).exists() {
            assert!(begun.elapsed().as_secs() < 5, "the thread does not end");
            std::thread::yield_now();
        }
        // One that lives is this test's own, unless the harness runs it on the main thread.
        let mine = rustix::thread::gettid().as_raw_pid().cast_unsigned();
        let by_pid = |pid| {
            matching(&ProcessSelector {
                pid: Some(pid),
                ..Default::default()
            })
        };
        assert_eq!(by_pid(tid), Ok(vec![]));
        if mine != std::process::id() {
            assert!(by_pid(mine).unwrap_err().contains("thread"));
        }
        // Itself, listing its tests: a minimal image has no other program.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--list", "--exact", "none"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let begun = std::time::Instant::now();
        while stat(child.id()).is_some_and(|s| s.state != 'Z') {
            assert!(begun.elapsed().as_secs() < 5, "the child does not end");
            std::thread::yield_now();
        }
        assert_eq!(by_pid(child.id()), Ok(vec![]));
        child.wait().unwrap();
    }

    #[test]
    fn a_bad_expression_is_a_sentence() {
        let selector = ProcessSelector {
            command: Some("(".to_owned()),
            ..Default::default()
        };
        assert!(
            matching(&selector)
                .unwrap_err()
                .contains("regular expression")
        );
    }
}
