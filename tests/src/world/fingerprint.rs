//! A host's fingerprint: everything a fault could leave behind, as lines that can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::netns::Netns;
use super::{Result, output};

/// What each network namespace is asked. Figures that change by themselves (counters, timers, indices) are
/// not among the answers, or taken out below.
const NETWORK: [(&str, &[&str]); 6] = [
    ("link", &["ip", "-brief", "link"]),
    ("address", &["ip", "-brief", "address"]),
    ("qdisc", &["tc", "qdisc", "show"]),
    ("route", &["ip", "route", "show", "table", "all"]),
    ("rule", &["ip", "rule"]),
    ("nft", &["nft", "--stateless", "list", "ruleset"]),
];

/// How the names of Squall's own processes begin: `squall`, `squall-agent`, and holders `squall-agent:`.
const OURS: &str = "squall";

/// A host's state at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    sections: BTreeMap<String, Vec<String>>,
}

impl Fingerprint {
    /// Takes the host's fingerprint: this process's network namespace and the given ones, cgroups, mounts,
    /// Squall's processes and their open files.
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
            mounts.lines().map(str::to_owned).collect(),
        );
        let mut cgroups = Vec::new();
        folders(Path::new("/sys/fs/cgroup"), &mut cgroups);
        sections.insert("cgroups".to_owned(), cgroups);
        sections.extend(processes());
        for lines in sections.values_mut() {
            lines.sort_unstable();
        }
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
    let mut sections = Vec::new();
    for (section, command) in NETWORK {
        let text = output(Command::new(command[0]).args(&command[1..]))?;
        let lines = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(plain);
        sections.push((format!("{name} {section}"), lines.collect()));
    }
    Ok(sections)
}

/// A line without what changes by itself: reference counts, and the lower end's index in `veth@if7`.
fn plain(line: &str) -> String {
    let words = line.split_whitespace().collect::<Vec<_>>();
    let mut kept = Vec::new();
    let mut skip = false;
    for word in words {
        if !std::mem::take(&mut skip) {
            if matches!(word, "refcnt" | "expires") {
                skip = true;
            } else {
                kept.push(word.split_once("@if").map_or(word, |(name, _)| name));
            }
        }
    }
    kept.join(" ")
}

fn folders(at: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(at).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            into.push(entry.path().display().to_string());
            folders(&entry.path(), into);
        }
    }
}

/// Squall's processes by name, and the open files of each; sockets and pipes by kind, not by number.
fn processes() -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let program = command.split(' ').next().unwrap_or_default();
        let base = program.rsplit('/').next().unwrap_or_default();
        if !pid.bytes().all(|b| b.is_ascii_digit()) || !base.starts_with(OURS) {
            continue;
        }
        sections
            .entry("processes".to_owned())
            .or_default()
            .push(format!("{base} {pid}"));
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
                .entry(format!("open files of {base} {pid}"))
                .or_default()
                .push(kind);
        }
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
    fn a_section_that_is_gone_counts() {
        assert_eq!(print("a", &["x"]).difference(&print("b", &[])), ["- a: x"]);
    }

    #[test]
    fn figures_that_change_by_themselves_do_not_count() {
        assert_eq!(
            plain("qdisc noqueue 0: dev lo root refcnt 2 "),
            "qdisc noqueue 0: dev lo root"
        );
        assert_eq!(plain("veth0@if7  UP  02:77"), "veth0 UP 02:77");
    }
}
