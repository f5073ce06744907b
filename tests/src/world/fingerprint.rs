//! A host's fingerprint: everything a fault could leave behind, as lines that can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::netns::Netns;
use super::{Result, netlink};

/// A variable in the environment of every program the lab starts, and so of all that they start: by it the
/// lab's processes are told from those of another Squall on this machine.
pub const MARK: &str = "SQUALL_LAB";

/// The mark's value: this process.
pub fn mark() -> String {
    std::process::id().to_string()
}

/// How the names of the lab's namespaces and cgroups begin; the number of the process that made them follows.
const LABS: &str = "sqt-";

/// What the names of Squall's own cgroups have in them.
const OURS: &str = "squall";

/// Whether this lab or Squall made the cgroup: whatever else runs on the machine makes and removes its own at any time.
fn is_ours(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    path.contains(LABS) && !of_another_lab(path) || name.contains(OURS)
}

/// Whether a mount or cgroup is another lab's that runs at the same time.
fn of_another_lab(line: &str) -> bool {
    line.split_once(LABS)
        .is_some_and(|(_, rest)| !rest.split(['-', ' ', '/']).any(|word| word == mark()))
}

/// A host's state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    sections: BTreeMap<String, Vec<String>>,
}

impl Fingerprint {
    /// Takes the host's fingerprint: this process's network namespace and the given ones, the lab's and Squall's cgroups, mounts,
    /// Squall's processes, their open files and how many they may have.
    ///
    /// # Errors
    /// When a tool is missing or the kernel refuses to tell.
    pub fn take(namespaces: &[&Netns]) -> Result<Self> {
        let mut sections = BTreeMap::new();
        for (section, lines) in network("host")? {
            sections.insert(section, lines);
        }
        for netns in namespaces {
            sections.extend(netns.enter(|| network(netns.name()))?);
        }
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        sections.insert(
            "mounts".to_owned(),
            mounts
                .lines()
                .filter(|line| !of_another_lab(line))
                .map(str::to_owned)
                .collect(),
        );
        let mut cgroups = Vec::new();
        folders(Path::new("/sys/fs/cgroup"), &mut cgroups);
        cgroups.retain(|path| is_ours(path));
        sections.insert("cgroups".to_owned(), cgroups);
        sections.extend(processes());
        for lines in sections.values_mut() {
            lines.sort_unstable();
        }
        Ok(Self { sections })
    }

    /// Takes the fingerprint of one namespace alone: for tests that run beside others on the same host.
    ///
    /// # Errors
    /// When a tool is missing or the kernel refuses to tell.
    pub fn of(netns: &Netns) -> Result<Self> {
        let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
        sections.extend(netns.enter(|| network(netns.name()))?);
        Ok(Self { sections })
    }

    /// What is different in `later`, a line each: `-` was there, `+` is new. Empty when nothing is.
    pub fn difference(&self, later: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for section in self.sections.keys().chain(later.sections.keys()) {
            let of = |print: &Self| print.sections.get(section).cloned().unwrap_or_default();
            let (before, after) = (of(self), of(later));
            lines.extend(without(&before, &after).map(|line| format!("- {section}: {line}")));
            lines.extend(without(&after, &before).map(|line| format!("+ {section}: {line}")));
        }
        lines.sort_unstable();
        lines.dedup();
        lines
    }
}

/// The lines of `all` that `other` has fewer of.
fn without<'a>(all: &'a [String], other: &[String]) -> impl Iterator<Item = &'a String> {
    let mut left: Vec<&String> = other.iter().collect();
    all.iter()
        .filter(move |line| match left.iter().position(|l| l == line) {
            Some(at) => {
                left.swap_remove(at);
                false
            }
            None => true,
        })
}

fn network(name: &str) -> Result<Vec<(String, Vec<String>)>> {
    let sections = netlink::everything()?.into_iter();
    let named = sections.map(|(section, lines)| (format!("{name} {section}"), lines));
    Ok(named.collect())
}

fn folders(at: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            into.push(entry.path().display().to_string());
            folders(&entry.path(), into);
        }
    }
}

/// The lab's processes by name, but for victims, and the open files of each; sockets and pipes by kind, not by
/// number.
fn processes() -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let marked = format!("{MARK}={}", mark());
    let agent = super::agent::program("squall-agent")
        .and_then(|path| Ok(path.canonicalize()?))
        .ok();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        let environment = read("environ");
        let is_marked = environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == marked.as_bytes());
        let pid = entry.file_name().to_string_lossy().into_owned();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        // A holder is started with no environment at all; it is ours if it runs the program that was built beside us.
        let is_ours = || {
            let runs = fs::read_link(entry.path().join("exe")).unwrap_or_default();
            command.starts_with("squall-agent:") && agent.as_ref().is_some_and(|own| runs == *own)
        };
        if !is_marked && !is_ours() {
            continue;
        }
        let program = command.split(' ').next().unwrap_or_default();
        let name = format!("{} {pid}", program.rsplit('/').next().unwrap_or_default());
        for file in fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let target = fs::read_link(file.path())
                .unwrap_or_default()
                .display()
                .to_string();
            let kind = target
                .split_once(":[")
                .map_or(&*target, |(kind, _)| kind)
                .to_owned();
            sections
                .entry(format!("open files of {name}"))
                .or_default()
                .push(kind);
        }
        let limit = super::victim::open_files(pid.parse().unwrap_or_default());
        sections
            .entry(format!("limits of {name}"))
            .or_default()
            .extend(limit.map(|limit| format!("open files {limit}")));
        sections
            .entry("processes".to_owned())
            .or_default()
            .push(name);
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(section: &str, lines: &[&str]) -> Fingerprint {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Fingerprint {
            sections: BTreeMap::from([(section.to_owned(), lines)]),
        }
    }

    #[test]
    fn what_is_left_behind_is_named() {
        let before = print("host link", &["lo", "eth0"]);
        let after = print("host link", &["lo", "eth0", "sq1"]);
        assert_eq!(before.difference(&after), ["+ host link: sq1"]);
        assert_eq!(after.difference(&before), ["- host link: sq1"]);
        assert!(before.difference(&before.clone()).is_empty());
    }

    #[test]
    fn one_more_of_the_same_is_a_difference() {
        let before = print("open files of squall-agent 7", &["socket"]);
        let after = print("open files of squall-agent 7", &["socket", "socket"]);
        assert_eq!(
            before.difference(&after),
            ["+ open files of squall-agent 7: socket"]
        );
    }

    #[test]
    fn another_labs_world_does_not_count() {
        assert!(of_another_lab("nsfs /run/netns/sqt-victim-1-3 nsfs rw"));
        assert!(!of_another_lab(&format!(
            "nsfs /run/netns/sqt-victim-{}-3 nsfs rw",
            mark()
        )));
        assert!(!of_another_lab("nsfs /run/netns/squall nsfs rw"));
    }

    #[test]
    fn a_section_that_is_gone_counts() {
        assert_eq!(print("a", &["x"]).difference(&print("b", &[])), ["- a: x"]);
    }
}
