//! What this node can do, found out by trying.

use crate::hold::{network, node_end};
use crate::kernel::cgroup::{self, Hierarchy};
use crate::kernel::{disk, process, ptrace};
use crate::policy::{Leave, PATH, Policy};
use crate::privileges;
use rustix::thread::CapabilitySet;
use squall_experiments::capability::{Capabilities, Capability, Means};
use squall_experiments::fault::{FaultKind, Holding};

/// Tries everything; takes some 100 ms, most of them waiting for the kernel, and leaves nothing behind.
pub(crate) fn probe(policy: &Policy) -> Capabilities {
    let hierarchies = cgroup::hierarchies().unwrap_or_default();
    let mut faults = network::probe();
    faults.push(kill());
    faults.push(pressure(FaultKind::Cpu, "cpu", &hierarchies));
    faults.push(pressure(FaultKind::Memory, "memory", &hierarchies));
    faults.push(pause());
    faults.push(on_disk(FaultKind::Fill, &hierarchies));
    faults.push(on_disk(FaultKind::Io, &hierarchies));
    faults.push(exhaust(&hierarchies));
    faults.push(freeze(&hierarchies, policy));
    faults.push(nic_down(policy));
    faults.push(fds(policy));
    faults.push(node_end(FaultKind::Reboot, policy));
    faults.push(node_end(FaultKind::Shutdown, policy));
    Capabilities {
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        cgroup: cgroup::version(&hierarchies).word().to_owned(),
        faults,
        cluster_ends: true,
    }
}

fn kill() -> Capability {
    let mut notes = Vec::new();
    let works = process::pidfd_open(std::process::id());
    if let Err(error) = &works {
        notes.push(format!(
            "this kernel gives no pidfd ({error}): Linux 5.3 or newer is needed"
        ));
    }
    if !rustix::process::geteuid().is_root() {
        notes.push(
            "only processes of this user can be hit: run as root, or grant CAP_KILL".to_owned(),
        );
    }
    Capability {
        fault: FaultKind::Kill,
        means: works.map(|_| Means::Process).into_iter().collect(),
        held: FaultKind::Kill.holding(),
        notes,
    }
}

/// Tried on a child of this process; whether others' processes may be traced is asked of the kernel's settings.
fn pause() -> Capability {
    let mut notes = Vec::new();
    let works = ptrace::try_out();
    if let Err(error) = &works {
        notes.push(format!(
            "a process cannot be traced here ({error}): a seccomp profile or a sandbox forbids ptrace(2)"
        ));
    }
    // Documentation/admin-guide/LSM/Yama.rst: 1 allows descendants only, 2 whoever has CAP_SYS_PTRACE, 3 nobody.
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let nobody = yama.trim() == "3";
    if nobody {
        notes.push(
            "kernel.yama.ptrace_scope is 3, and nobody may trace until the next boot: set it to 2 or less".to_owned(),
        );
    } else if !process::may_trace_others() {
        notes.push(match yama.trim() {
            "1" | "2" => format!(
                "kernel.yama.ptrace_scope is {}: grant CAP_SYS_PTRACE, or only what the agent started can be paused",
                yama.trim()
            ),
            _ => "only processes of this user can be paused: grant CAP_SYS_PTRACE".to_owned(),
        });
    }
    Capability {
        fault: FaultKind::Pause,
        means: if works.is_ok() && !nobody {
            vec![Means::Process]
        } else {
            Vec::new()
        },
        held: FaultKind::Pause.holding(),
        notes,
    }
}

/// What is frozen is a group with a freezer; that the kernel has one is all that can be seen without freezing something.
fn freeze(hierarchies: &[Hierarchy], policy: &Policy) -> Capability {
    let fault = FaultKind::Freeze;
    let v1 = hierarchies
        .iter()
        .any(|h| h.controllers.iter().any(|c| c == "freezer"));
    let v2 = hierarchies.iter().any(Hierarchy::is_v2);
    let mut notes = Vec::new();
    if !v1 && !v2 {
        notes.push(
            "no cgroup hierarchy here has a freezer: mount cgroup v2, or v1's freezer".to_owned(),
        );
    }
    let root = rustix::process::geteuid().is_root();
    if !root {
        notes.push("cgroups are frozen, and the journal is kept, as root: run as root".to_owned());
    }
    notes.extend(by_journal(fault, policy));
    Capability {
        fault,
        means: if root && (v1 || v2) {
            vec![Means::Journal]
        } else {
            Vec::new()
        },
        held: fault.holding(),
        notes,
    }
}

/// Whether links may be changed is asked of the capability: there is none to try it on.
fn nic_down(policy: &Policy) -> Capability {
    let fault = FaultKind::NicDown;
    let has =
        |cap| rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(cap));
    let able = has(CapabilitySet::NET_ADMIN) && rustix::process::geteuid().is_root();
    let mut notes = Vec::new();
    if !able {
        notes.push(
            "interfaces are set down, and the journal is kept, as root with CAP_NET_ADMIN"
                .to_owned(),
        );
    }
    notes.extend(by_journal(fault, policy));
    Capability {
        fault,
        means: if able {
            vec![Means::Journal]
        } else {
            Vec::new()
        },
        held: fault.holding(),
        notes,
    }
}

/// Whether others' limits may be set is asked of the capabilities: there is nobody to try it on. Root's own processes need none.
fn fds(policy: &Policy) -> Capability {
    let fault = FaultKind::Fds;
    let needed = privileges::kept_for(fault);
    let has = rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(needed));
    let root = rustix::process::geteuid().is_root();
    let mut notes = Vec::new();
    if !root {
        notes.push(
            "others' limits are set, and the journal is kept, as root: run as root".to_owned(),
        );
    } else if !has {
        notes.push(
            "only root's own processes can be hit: grant CAP_SYS_RESOURCE, CAP_SYS_PTRACE and CAP_DAC_OVERRIDE"
                .to_owned(),
        );
    }
    notes.extend(by_journal(fault, policy));
    Capability {
        fault,
        means: if root {
            vec![Means::Journal]
        } else {
            Vec::new()
        },
        held: fault.holding(),
        notes,
    }
}

/// Only what the policy allows is asked for: without that the agent has given up what it would need.
fn node_end(fault: FaultKind, policy: &Policy) -> Capability {
    let forbidden = by_journal(fault, policy);
    let able = match &forbidden {
        Some(_) => Err(None),
        None => node_end::able().map_err(Some),
    };
    let unable = able.clone().err().flatten();
    Capability {
        fault,
        means: able.map_or_else(|_| Vec::new(), |()| vec![Means::Process]),
        held: fault.holding(),
        notes: forbidden.into_iter().chain(unable).collect(),
    }
}

/// What is to be known of a fault that no kernel object holds.
fn by_journal(fault: FaultKind, policy: &Policy) -> Option<String> {
    let leave = Leave::needed_by(fault)?;
    (!policy.allow.contains(&leave)).then(|| {
        let word = leave.word();
        let held = match fault.holding() {
            Holding::Nothing => "taken back by nothing",
            _ => "held by a journal",
        };
        format!(
            "{held}, and so forbidden by this node's policy: write `allow: [ {word} ]` into {PATH}"
        )
    })
}

/// An unnamed file is tried on the node's own file systems; the target's own may differ, and are asked when it comes to it.
fn on_disk(fault: FaultKind, hierarchies: &[Hierarchy]) -> Capability {
    /// Where a node has a file system of its own, and one in memory.
    const TRIED: [&str; 3] = ["/var/tmp", "/tmp", "/dev/shm"];
    let mut capability = pressure(fault, "blkio", hierarchies);
    let works = |path: &&str| {
        let folder = disk::own_root().and_then(|root| disk::folder(root, path));
        folder
            .and_then(|folder| disk::unnamed(folder, false))
            .is_ok()
    };
    if !TRIED.iter().any(works) {
        capability.notes.push(format!(
            "none of {} takes an unnamed file (O_TMPFILE): name a folder on a volume of ext4, xfs, btrfs or tmpfs",
            TRIED.join(", ")
        ));
    }
    capability
}

fn exhaust(hierarchies: &[Hierarchy]) -> Capability {
    let mut capability = pressure(FaultKind::Exhaust, "pids", hierarchies);
    let v2 = hierarchies.iter().find(|h| h.is_v2());
    let has = |h: &Hierarchy| h.controllers.iter().any(|c| c == "pids");
    let counts = hierarchies.iter().any(has)
        || v2.is_some_and(|h| {
            let all = std::fs::read_to_string(h.mount.join("cgroup.controllers"));
            all.is_ok_and(|all| all.split_ascii_whitespace().any(|c| c == "pids"))
        });
    if !counts {
        capability.notes.push(
            "no cgroup here counts processes (the pids controller): only ports, conntrack and inodes can be exhausted".to_owned(),
        );
    }
    capability
}

/// Pressure acts inside the target's cgroup: its controller must be there, and joining must be allowed.
fn pressure(fault: FaultKind, controller: &str, hierarchies: &[Hierarchy]) -> Capability {
    let has = |h: &&Hierarchy| h.controllers.iter().any(|c| c == controller);
    let hierarchy = hierarchies
        .iter()
        .find(has)
        .or_else(|| hierarchies.iter().find(|h| h.is_v2()));
    let mut notes = Vec::new();
    let works = match hierarchy {
        None => {
            notes.push("no cgroup file system is mounted here: mount one".to_owned());
            false
        }
        Some(hierarchy) => {
            let procs = hierarchy.mount.join("cgroup.procs");
            match std::fs::OpenOptions::new().write(true).open(&procs) {
                Ok(_) => true,
                Err(error) => {
                    notes.push(format!(
                        "{} cannot be written ({error}): run as root, with the cgroup tree writable",
                        procs.display()
                    ));
                    false
                }
            }
        }
    };
    if works
        && fault == FaultKind::Memory
        && !std::path::Path::new("/proc/pressure/memory").exists()
    {
        notes.push(
            "this kernel tells no memory pressure: only the reserve bounds the squeeze".to_owned(),
        );
    }
    Capability {
        fault,
        means: if works {
            vec![Means::Process]
        } else {
            Vec::new()
        },
        held: fault.holding(),
        notes,
    }
}
