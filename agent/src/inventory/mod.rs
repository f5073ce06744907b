//! What is there to hit, and holding on to it from the moment it is found.
//!
//! A candidate is a descriptor, not a name: a process is a pidfd, a namespace its file, a group its directories. A
//! pid that is used again, a namespace made anew under the old name, is not the candidate.

pub(crate) mod containers;
pub(crate) mod netns;
pub(crate) mod process;

use crate::kernel::{cgroup, process as kernel};
use crate::policy;
use squall_experiments::fault::FaultKind;
use squall_experiments::ids::TargetId;
use squall_experiments::target::{Candidate, NetnsSelector, ProcessSelector, Target};
use squall_experiments::wire::Excluded;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

/// The most candidates of one answer: what fits into one message of the wire.
const CANDIDATES_MAX: usize = 10_000;
/// The most processes watched for one namespace: past so many it does not end unnoticed.
const WATCHED_MAX: usize = 16;

/// What is never hit.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    /// The agent, its ancestors, its holders and the controller.
    pub(crate) spare_pids: BTreeMap<u32, &'static str>,
    /// Programs that the node's policy protects.
    pub(crate) protected_names: Vec<String>,
    /// Units that it protects.
    pub(crate) protected_units: Vec<String>,
    /// Network namespaces that it protects, by name.
    pub(crate) protected_netns: Vec<String>,
    /// Kubernetes namespaces that it protects.
    pub(crate) protected_namespaces: Vec<String>,
    /// The node's name, for candidates.
    pub(crate) node: String,
}

impl Rules {
    /// Why no pod of this Kubernetes namespace is hit, if none is.
    pub(crate) fn protects_namespace(&self, namespace: &str) -> Option<String> {
        policy::names(&self.protected_namespaces, namespace)
            .map(|name| format!("the node's policy protects namespace {name}"))
    }
}

/// A candidate, held.
#[derive(Debug)]
pub(crate) struct HeldTarget {
    /// As it is told.
    pub(crate) candidate: Candidate,
    /// What it was found by: a crash loop finds its replacement by the same.
    pub(crate) target: Target,
    /// The hold.
    pub(crate) grasp: Grasp,
}

/// The hold on a candidate.
#[derive(Debug)]
pub(crate) enum Grasp {
    /// The node.
    Host,
    /// A process.
    Process {
        /// It, and no other.
        pidfd: OwnedFd,
        /// Its identity.
        id: process::Identity,
    },
    /// A cgroup.
    Groups(Vec<cgroup::Group>),
    /// A network namespace.
    Netns {
        /// It.
        netns: netns::Netns,
        /// The processes it was found by, if it was.
        found_by: Vec<(OwnedFd, u32)>,
    },
    /// A container, or a pod.
    Container(containers::grasp::HeldContainer),
}

impl Grasp {
    /// Whether it is something in a network namespace, which others may share, and not a namespace itself.
    pub(crate) fn shares_its_netns(&self) -> bool {
        matches!(self, Self::Process { .. } | Self::Groups(_))
    }

    /// The network namespace that faults on its packets act in, if that is told by what is held.
    pub(crate) fn netns_inode(&self) -> Option<u64> {
        match self {
            Self::Host => netns::own_inode(),
            Self::Netns { netns, .. } => Some(netns.inode),
            Self::Container(held) => held.netns_inode(),
            Self::Process { .. } | Self::Groups(_) => None,
        }
    }

    /// Whether what is held is still there; a namespace by name and the node always are.
    pub(crate) fn is_there(&self) -> bool {
        match self {
            Self::Process { pidfd, .. } => !kernel::has_ended(pidfd.as_fd()),
            Self::Netns { found_by, .. } => {
                let lives = |(pidfd, _): &(OwnedFd, u32)| !kernel::has_ended(pidfd.as_fd());
                found_by.is_empty() || found_by.iter().any(lives)
            }
            Self::Groups(groups) => groups.iter().any(|g| cgroup::processes(&g.fd).is_ok()),
            Self::Container(held) => held.is_there(),
            Self::Host => true,
        }
    }
}

/// Whether a target that was named still goes by that name. Our own hold keeps a deleted namespace alive, so that only
/// its name tells that it was deleted.
pub(crate) fn name_still_means(held: &HeldTarget) -> bool {
    match (&held.target, &held.grasp) {
        (Target::Netns(NetnsSelector::Name(name)), Grasp::Netns { netns, .. }) => {
            netns::named(name).is_ok_and(|now| now.inode == netns.inode)
        }
        _ => true,
    }
}

/// An answer.
#[derive(Debug, Default)]
pub(crate) struct Resolution {
    /// What can be hit.
    pub(crate) held: Vec<HeldTarget>,
    /// What matched and is left alone.
    pub(crate) excluded: Vec<Excluded>,
}

impl Resolution {
    fn exclude(&mut self, label: impl Into<String>, reason: impl Into<String>) {
        self.excluded.push(Excluded {
            label: label.into(),
            reason: reason.into(),
        });
    }
}

/// Finds what a target means on this node now, and takes hold of it. `asked` is what container runtimes said of it.
pub(crate) fn resolve(
    target: &Target,
    faults: &[FaultKind],
    rules: &Rules,
    asked: containers::Asked,
) -> Resolution {
    let mut found = Resolution::default();
    let result = match target {
        Target::Host(_) => {
            found.held.push(HeldTarget {
                candidate: candidate(rules, "host".to_owned(), "the host".to_owned()),
                target: target.clone(),
                grasp: Grasp::Host,
            });
            Ok(())
        }
        Target::Process(selector) => processes(selector, target, rules, &mut found),
        Target::Cgroup(path) => group(path, target, faults, rules, &mut found),
        Target::Unit(unit) => self::unit(unit, target, faults, rules, &mut found),
        Target::Netns(NetnsSelector::Name(name)) => named_netns(name, target, rules, &mut found),
        Target::Netns(NetnsSelector::Process(selector)) => {
            netns_of(selector, target, rules, &mut found)
        }
        Target::Pod(_) | Target::Container(_) => {
            containers::grasp::take(asked, target, rules, &mut found);
            Ok(())
        }
    };
    if let Err(reason) = result {
        found.exclude(target.to_string(), reason);
    }
    if faults.iter().any(|kind| kind.is_network()) {
        leave_protected_netns(&mut found, rules);
    }
    if found.held.len() > CANDIDATES_MAX {
        let more = found.held.len() - CANDIDATES_MAX;
        found.held.truncate(CANDIDATES_MAX);
        found.exclude(
            format!("{more} more"),
            format!("an answer has at most {CANDIDATES_MAX} candidates: select more narrowly"),
        );
    }
    found
}

fn candidate(rules: &Rules, id: String, label: String) -> Candidate {
    Candidate {
        id: TargetId(id),
        node: rules.node.clone(),
        label,
        pid: None,
        cgroup: None,
        group: None,
        namespace: None,
        zone: None,
    }
}

/// Why a process is never hit, if it is not.
fn spared(found: &process::Found, rules: &Rules) -> Option<String> {
    if found.id.pid == 1 {
        return Some("PID 1 is never hit: the node would go down with it".to_owned());
    }
    if found.kernel_thread {
        return Some("it is a kernel thread".to_owned());
    }
    if let Some(who) = rules.spare_pids.get(&found.id.pid) {
        return Some(format!("it is {who}"));
    }
    // A child, or the child that one of them has for a pulse.
    let me = Some(std::process::id());
    if Some(found.parent) == me || process::parent_of(found.parent) == me {
        return Some("it holds a fault".to_owned());
    }
    protected(found, rules)
}

/// Why the node's policy protects a process, if it does: by its name, or by the unit it belongs to.
fn protected(found: &process::Found, rules: &Rules) -> Option<String> {
    let comm = process::comm_of(found.id.pid).unwrap_or_default();
    let protects = |name: &&String| **name == found.name || **name == comm;
    if let Some(name) = rules.protected_names.iter().find(protects) {
        return Some(format!("the node's policy protects processes named {name}"));
    }
    let paths = cgroup::paths_of(found.id.pid).unwrap_or_default();
    let unit = paths
        .iter()
        .find_map(|(_, path)| protected_unit(path, rules))?;
    Some(format!(
        "it belongs to unit {unit}, which the node's policy protects"
    ))
}

fn processes(
    selector: &ProcessSelector,
    target: &Target,
    rules: &Rules,
    resolution: &mut Resolution,
) -> Result<(), String> {
    for found in process::matching(selector)? {
        let label = format!("process {} {}", found.id.pid, found.called);
        if let Some(reason) = spared(&found, rules) {
            resolution.exclude(label, reason);
            continue;
        }
        let pidfd = match process::hold(found.id) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => continue,
            Err(error) => {
                resolution.exclude(label, format!("it cannot be held: {error}"));
                continue;
            }
        };
        let id = format!("process:{}:{}", found.id.pid, found.id.started);
        resolution.held.push(HeldTarget {
            candidate: Candidate {
                pid: Some(found.id.pid),
                cgroup: main_path(cgroup::paths_of(found.id.pid).unwrap_or_default()),
                ..candidate(rules, id, label)
            },
            target: target.clone(),
            grasp: Grasp::Process {
                pidfd,
                id: found.id,
            },
        });
    }
    Ok(())
}

/// The path that people know: the memory controller's, else the CPU's, else v2's.
fn main_path(paths: Vec<(Vec<String>, String)>) -> Option<String> {
    let of = |name: &str| paths.iter().find(|(c, _)| c.iter().any(|c| c == name));
    let found = of("memory")
        .or_else(|| of("cpu"))
        .or_else(|| paths.iter().find(|(c, _)| c.is_empty()));
    found.map(|(_, path)| path.clone())
}

fn group(
    path: &str,
    target: &Target,
    faults: &[FaultKind],
    rules: &Rules,
    resolution: &mut Resolution,
) -> Result<(), String> {
    let hierarchies =
        cgroup::hierarchies().map_err(|error| format!("cannot list cgroups: {error}"))?;
    let groups = cgroup::groups_at(path, &hierarchies)
        .map_err(|error| format!("cannot open cgroup {path}: {error}"))?;
    let path = format!("/{}", path.trim_matches('/'));
    if groups.is_empty() {
        return Err(format!(
            "there is no cgroup {path}: see `systemd-cgls` or /sys/fs/cgroup"
        ));
    }
    if path == "/" {
        return Err("the root cgroup is the node itself: say `host`".to_owned());
    }
    if let Some(unit) = protected_unit(&path, rules) {
        return Err(format!("the node's policy protects unit {unit}"));
    }
    if let Some(unit) = cgroup::below(&path, &hierarchies, &rules.protected_units) {
        return Err(format!(
            "unit {unit} is in it, which the node's policy protects"
        ));
    }
    if faults.iter().any(|kind| kind.is_on_processes()) {
        for group in &groups {
            let inside = cgroup::processes(&group.fd).unwrap_or_default();
            if let Some(who) = inside.iter().find_map(|pid| rules.spare_pids.get(pid)) {
                return Err(format!("{who} is in it"));
            }
        }
    }
    let label = match target {
        Target::Unit(unit) => format!("unit {unit}"),
        _ => format!("cgroup {path}"),
    };
    resolution.held.push(HeldTarget {
        candidate: Candidate {
            cgroup: Some(path.clone()),
            ..candidate(rules, format!("cgroup:{path}"), label)
        },
        target: target.clone(),
        grasp: Grasp::Groups(groups),
    });
    Ok(())
}

fn protected_unit<'a>(path: &str, rules: &'a Rules) -> Option<&'a String> {
    let parts: Vec<&str> = path.split('/').collect();
    rules
        .protected_units
        .iter()
        .find(|unit| parts.contains(&unit.as_str()))
}

fn unit(
    unit: &str,
    target: &Target,
    faults: &[FaultKind],
    rules: &Rules,
    resolution: &mut Resolution,
) -> Result<(), String> {
    let hierarchies =
        cgroup::hierarchies().map_err(|error| format!("cannot list cgroups: {error}"))?;
    let full = if unit.contains('.') {
        unit.to_owned()
    } else {
        format!("{unit}.service")
    };
    let path = cgroup::unit_path(&full, &hierarchies).ok_or_else(|| {
        format!("no running unit {full} has a cgroup here: see `systemctl status {full}`")
    })?;
    group(&path, target, faults, rules, resolution)
}

fn named_netns(
    name: &str,
    target: &Target,
    rules: &Rules,
    resolution: &mut Resolution,
) -> Result<(), String> {
    let netns = netns::named(name)?;
    if Some(netns.inode) == netns::own_inode() {
        return Err("it is the node's own network namespace: say `host`".to_owned());
    }
    if let Some(name) = policy::names(&rules.protected_netns, name) {
        return Err(format!(
            "the node's policy protects network namespace {name}"
        ));
    }
    let id = format!("netns:{}", netns.inode);
    resolution.held.push(HeldTarget {
        candidate: candidate(rules, id, format!("netns {name}")),
        target: target.clone(),
        grasp: Grasp::Netns {
            netns,
            found_by: Vec::new(),
        },
    });
    Ok(())
}

/// The namespaces that the policy protects by name, whatever leads to them.
fn named_inodes(rules: &Rules) -> BTreeSet<u64> {
    if rules.protected_netns.is_empty() {
        return BTreeSet::new();
    }
    let names = netns::names();
    let protected = names
        .iter()
        .filter(|name| policy::names(&rules.protected_netns, name).is_some());
    protected
        .filter_map(|name| netns::named(name).ok())
        .map(|netns| netns.inode)
        .collect()
}

/// Leaves alone what lives in a namespace that the policy protects by name: a fault on its packets would act there.
fn leave_protected_netns(found: &mut Resolution, rules: &Rules) {
    let protected = named_inodes(rules);
    if protected.is_empty() {
        return;
    }
    let lives_there =
        |pid: u32| netns::inode_of(pid).is_some_and(|inode| protected.contains(&inode));
    let (there, elsewhere) = std::mem::take(&mut found.held)
        .into_iter()
        .partition::<Vec<_>, _>(|held| match &held.grasp {
            Grasp::Process { id, .. } => lives_there(id.pid),
            Grasp::Groups(groups) => groups.iter().any(|group| {
                cgroup::processes_below(&group.fd)
                    .into_iter()
                    .any(lives_there)
            }),
            Grasp::Container(held) => held
                .netns_inode()
                .is_some_and(|inode| protected.contains(&inode)),
            Grasp::Host | Grasp::Netns { .. } => false,
        });
    found.held = elsewhere;
    for held in there {
        found.exclude(
            held.candidate.label,
            "the node's policy protects its network namespace",
        );
    }
}

/// A namespace, the processes that led to it, and the first of them in words.
type Shared = (netns::Netns, Vec<(OwnedFd, u32)>, String);

fn netns_of(
    selector: &ProcessSelector,
    target: &Target,
    rules: &Rules,
    resolution: &mut Resolution,
) -> Result<(), String> {
    let own = netns::own_inode();
    let mut namespaces: BTreeMap<u64, Shared> = BTreeMap::new();
    let mut protected_netns = named_inodes(rules);
    for found in process::matching(selector)? {
        let label = format!("process {} {}", found.id.pid, found.called);
        // Our own process is in the node's namespace; naming it would only be noise.
        if rules.spare_pids.contains_key(&found.id.pid) {
            continue;
        }
        let held = process::hold(found.id).and_then(|pidfd| {
            let netns = netns::of_process(found.id.pid)?;
            Ok((pidfd, netns))
        });
        let (pidfd, netns) = match held {
            Ok(held) => held,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => continue,
            Err(error) => {
                resolution.exclude(
                    label,
                    format!("its network namespace cannot be opened: {error}"),
                );
                continue;
            }
        };
        if Some(netns.inode) == own {
            resolution.exclude(
                label,
                "it lives in the node's own network namespace, where others would be hit too: say `process` for its own packets, `host` if you \
                 mean that",
            );
            continue;
        }
        // Its packets are what the policy protects it from.
        if let Some(reason) = protected(&found, rules) {
            resolution.exclude(label, reason);
            protected_netns.insert(netns.inode);
            continue;
        }
        let entry = namespaces
            .entry(netns.inode)
            .or_insert_with(|| (netns, Vec::new(), label));
        if entry.1.len() < WATCHED_MAX {
            entry.1.push((pidfd, found.id.pid));
        }
    }
    hold_namespaces(namespaces, &protected_netns, target, rules, resolution);
    Ok(())
}

/// Makes candidates of the namespaces that were found, but for those that the policy protects.
fn hold_namespaces(
    namespaces: BTreeMap<u64, Shared>,
    protected: &BTreeSet<u64>,
    target: &Target,
    rules: &Rules,
    resolution: &mut Resolution,
) {
    for (inode, (netns, found_by, label)) in namespaces {
        if protected.contains(&inode) {
            let reason =
                "the node's policy protects its network namespace, or another process in it";
            resolution.exclude(label, reason);
            continue;
        }
        let more = match found_by.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        resolution.held.push(HeldTarget {
            candidate: Candidate {
                pid: found_by.first().map(|(_, pid)| *pid),
                ..candidate(
                    rules,
                    format!("netns:{inode}"),
                    format!("netns of {label}{more}"),
                )
            },
            target: target.clone(),
            grasp: Grasp::Netns { netns, found_by },
        });
    }
}
