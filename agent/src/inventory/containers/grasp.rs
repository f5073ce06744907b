//! Taking hold of what the runtimes named: by pidfd, and never a process that only has the pid.

use super::super::{
    Grasp, HeldTarget, Resolution, Rules, candidate, main_path, netns, process, spared,
};
use super::{Asked, Match, NODES_OWN};
use crate::kernel::{cgroup, process as kernel};
use squall_experiments::target::{Candidate, ProcessSelector, Target};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

/// The hold on a container, or on a pod.
#[derive(Debug)]
pub(crate) struct HeldContainer {
    /// The main process of the container, for faults on processes and pressure.
    pub(crate) main: Option<(OwnedFd, process::Identity)>,
    /// The network namespace and the processes that keep it, for faults on packets.
    pub(crate) netns: Option<(netns::Netns, Vec<(OwnedFd, u32)>)>,
}

impl HeldContainer {
    /// The network namespace whose packets would be hit.
    pub(crate) fn netns_inode(&self) -> Option<u64> {
        self.netns.as_ref().map(|(netns, _)| netns.inode)
    }

    /// Whether what it is about is still there.
    pub(crate) fn is_there(&self) -> bool {
        let lives = |pidfd: &OwnedFd| !kernel::has_ended(pidfd.as_fd());
        let main = self.main.as_ref().map(|(pidfd, _)| lives(pidfd));
        let keeper = self
            .netns
            .as_ref()
            .map(|(_, keepers)| keepers.iter().any(|(pidfd, _)| lives(pidfd)));
        main.or(keeper).unwrap_or(false)
    }
}

/// Takes hold of all that matched.
pub(crate) fn take(asked: Asked, target: &Target, rules: &Rules, resolution: &mut Resolution) {
    for (label, reason) in asked.excluded {
        resolution.exclude(label, reason);
    }
    let mut ids = BTreeSet::new();
    let mut namespaces = BTreeSet::new();
    for found in asked.matches {
        // cri-dockerd and Docker tell of the same containers.
        if !ids.insert(found.id.clone()) {
            continue;
        }
        let held = match hold(&found, rules) {
            Ok(held) => held,
            Err(reason) => {
                resolution.exclude(found.label, reason);
                continue;
            }
        };
        // Packets of containers that share a namespace are hit once.
        if let (None, Some((netns, _))) = (&held.main, &held.netns)
            && !namespaces.insert(netns.inode)
        {
            continue;
        }
        let first = held.netns.as_ref().and_then(|(_, keepers)| keepers.first());
        let main = held.main.as_ref().map(|(_, id)| id.pid);
        let pid = main.or(first.map(|(_, pid)| *pid));
        let paths = main.and_then(|pid| cgroup::paths_of(pid).ok());
        resolution.held.push(HeldTarget {
            candidate: Candidate {
                pid,
                cgroup: main_path(paths.unwrap_or_default()),
                ..candidate(rules, found.id, found.label)
            },
            target: target.clone(),
            grasp: Grasp::Container(held),
        });
    }
}

fn hold(found: &Match, rules: &Rules) -> Result<HeldContainer, String> {
    let mut held = HeldContainer {
        main: None,
        netns: None,
    };
    if let Some((id, pid)) = &found.main {
        let (pidfd, identity) = hold_process(*pid, id)?;
        if let Some(reason) = protected(*pid, rules)? {
            return Err(reason);
        }
        held.main = Some((pidfd, identity));
    }
    let mut keepers = Vec::new();
    let mut shared = None;
    for (id, pid) in &found.keepers {
        let (pidfd, _) = hold_process(*pid, id)?;
        let netns = netns::of_process(*pid)
            .map_err(|error| format!("its network namespace cannot be opened: {error}"))?;
        if kernel::has_ended(pidfd.as_fd()) {
            return Err("it has just ended".to_owned());
        }
        let nodes_own = [netns::own_inode(), netns::inode_of(1)];
        if nodes_own.contains(&Some(netns.inode)) {
            return Err(NODES_OWN.to_owned());
        }
        keepers.push((pidfd, *pid));
        shared = Some(netns);
    }
    held.netns = shared.map(|netns| (netns, keepers));
    Ok(held)
}

/// A pidfd for a process, if it is one of the container with this id: a runtime puts each container into a cgroup that is
/// named after its id, whatever driver it uses (`…/ID`, `…/cri-containerd-ID.scope`, `…/crio-ID.scope`, `…/docker-ID.scope`).
fn hold_process(pid: u32, container: &str) -> Result<(OwnedFd, process::Identity), String> {
    let not_ours = || {
        format!(
            "process {pid}, which its runtime calls its main one, is not in a cgroup of container {container}: it has just \
             ended, or the agent does not see the node's own processes (hostPID), or the container is a virtual machine"
        )
    };
    let identity = process::identity(pid).ok_or_else(not_ours)?;
    let pidfd = process::hold(identity).map_err(|_| not_ours())?;
    let paths = cgroup::paths_of(pid).map_err(|_| not_ours())?;
    let inside = |path: &str| path.split('/').any(|part| part.contains(container));
    // Asked while the pidfd shows that it lives, so that they are this process's.
    if container.is_empty()
        || kernel::has_ended(pidfd.as_fd())
        || !paths.iter().any(|(_, path)| inside(path))
    {
        return Err(not_ours());
    }
    Ok((pidfd, identity))
}

fn protected(pid: u32, rules: &Rules) -> Result<Option<String>, String> {
    let selector = ProcessSelector {
        pid: Some(pid),
        ..ProcessSelector::default()
    };
    let found = process::matching(&selector)?;
    let found = found.first().ok_or("it has just ended")?;
    Ok(spared(found, rules))
}
