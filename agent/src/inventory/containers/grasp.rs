//! Taking hold of what the runtimes named: by pidfd, and never a process that only has the pid.

use super::super::{
    Grasp, HeldTarget, Resolution, Rules, candidate, main_path, netns, process, spared,
};
use super::{Asked, Match, NODES_OWN, choose};
use crate::kernel::{cgroup, process as kernel};
use squall_experiments::target::{Candidate, ProcessSelector, Target};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// The hold on a container, or on a pod.
#[derive(Debug)]
pub(crate) struct HeldContainer {
    /// What stays the same when it is restarted.
    pub(crate) kin: String,
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

    /// Adds what an older hold on the same has and this one was not resolved for: one run may aim several faults at it, each of
    /// which needs another part.
    ///
    /// # Errors
    /// `EMFILE`.
    pub(crate) fn complete(&mut self, older: &Self) -> io::Result<()> {
        if let (None, Some((pidfd, id))) = (&self.main, &older.main) {
            self.main = Some((pidfd.try_clone()?, *id));
        }
        if let (None, Some((netns, keepers))) = (&self.netns, &older.netns) {
            let again = |(pidfd, pid): &(OwnedFd, u32)| Ok((pidfd.try_clone()?, *pid));
            let keepers: io::Result<Vec<_>> = keepers.iter().map(again).collect();
            let netns = netns::Netns {
                fd: netns.fd.try_clone()?,
                inode: netns.inode,
            };
            self.netns = Some((netns, keepers?));
        }
        Ok(())
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
        kin: found.kin.clone(),
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

/// A pidfd for a process, if it is one of the container with this id.
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
    // Asked while the pidfd shows that it lives, so that they are this process's.
    if kernel::has_ended(pidfd.as_fd()) || !paths.iter().any(|(_, path)| bears(path, container)) {
        return Err(not_ours());
    }
    Ok((pidfd, identity))
}

/// An id that is shorter could be part of anything; those of all runtimes are 64 hexadecimal digits.
const ID_BYTES_MIN: usize = 16;

/// Whether a cgroup is that of the container with this id, or below it: a runtime names the group of each container after its id,
/// whatever the cgroup's version, driver (`…/ID` of cgroupfs, `…/cri-containerd-ID.scope`, `…/crio-ID.scope` or
/// `…/docker-ID.scope` of systemd) or depth. `…:cri-containerd:ID` is what a cgroupfs driver makes of a path that was meant for
/// systemd's.
fn bears(path: &str, id: &str) -> bool {
    let plain = id.len() >= ID_BYTES_MIN && id.bytes().all(|b| b.is_ascii_alphanumeric());
    let named = |part: &str| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        match part.strip_suffix(id) {
            Some("") => true,
            // Its monitor's group has the id too.
            Some(before) => before.ends_with(['-', ':']) && !before.ends_with("conmon-"),
            None => false,
        }
    };
    plain && path.split('/').any(named)
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

/// What has taken a killed container's place.
pub(crate) struct Successor {
    /// Its main process, and the pid for messages.
    pub(crate) main: (OwnedFd, u32),
    /// What stays the same when it is restarted.
    pub(crate) kin: String,
}

/// Takes hold of the first of those that may have taken a killed container's place.
pub(crate) fn successor(
    asked: &Asked,
    kin: &str,
    siblings: Option<&[String]>,
    rules: &Rules,
) -> Option<Successor> {
    let may = choose::successors(&asked.matches, kin, siblings);
    may.into_iter().find_map(|found| {
        let (pidfd, identity) = hold(found, rules).ok()?.main?;
        Some(Successor {
            main: (pidfd, identity.pid),
            kin: found.kin.clone(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As they stand in /proc/PID/cgroup, behind the last colon.
    #[test]
    fn a_containers_cgroup_is_known_under_every_driver() {
        let id = "3e1c0bd4f6a2459fb8ad54b1c7f1e3c0bd4f6a2459fb8ad54b1c7f1e3c0bd4f6";
        let groups = [
            // containerd, cgroupfs, of a guaranteed and of a burstable pod.
            format!("/kubepods/pod2b1f/{id}"),
            format!("/kubepods/burstable/pod2b1f/{id}"),
            // containerd, CRI-O and Docker, systemd.
            format!("/kubepods.slice/kubepods-pod2b1f.slice/cri-containerd-{id}.scope"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod2b_1f.slice/crio-{id}.scope"
            ),
            format!("/system.slice/docker-{id}.scope"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            // Docker and CRI-O, cgroupfs.
            format!("/docker/{id}"),
            format!("/kubepods/besteffort/pod2b1f/crio-{id}"),
            // containerd with systemd's path and the other driver.
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod2b1f.slice:cri-containerd:{id}"
            ),
            // A node that is a container itself, and a container with groups of its own.
            format!("/docker/aaaa/kubelet/kubepods/burstable/pod2b1f/{id}/init.scope"),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod2b1f.slice/cri-containerd-{id}.scope/system.slice"
            ),
            // Seen from a cgroup namespace beside it.
            format!("/../../burstable/pod2b1f/{id}"),
        ];
        for group in groups {
            assert!(bears(&group, id), "{group}");
        }
        let others = [
            "/".to_owned(),
            format!("/kubepods/burstable/pod{id}/aaaa"),
            format!("/system.slice/crio-conmon-{id}.scope"),
            format!("/kubepods/burstable/pod2b1f/{id}0"),
            format!("/user.slice/x{id}"),
            format!("/kubepods/pod2b1f/{}", &id[..12]),
        ];
        for group in others {
            assert!(!bears(&group, id), "{group}");
        }
        for id in ["", "a", "2b1f", "kubepods", "../../../../../../"] {
            assert!(
                !bears("/kubepods/burstable/pod2b1f/../../../../../../", id),
                "{id}"
            );
        }
    }
}
