//! What the agent may do, and why: everything else it gives up when it starts, and each holder gives up what its own
//! fault does not need, before it arms.

use rustix::thread::{CapabilitySet, CapabilitySets};
use squall_experiments::fault::FaultKind;
use std::io;

/// A capability that the agent keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    /// Its bit.
    pub(crate) set: CapabilitySet,
    /// Its name, as in capabilities(7).
    pub(crate) name: &'static str,
    /// What for.
    pub(crate) what_for: &'static str,
}

/// All that the agent keeps. The README gives the same table, with what is lost without each.
pub(crate) const NEEDS: [Need; 7] = [
    need(
        CapabilitySet::NET_ADMIN,
        "CAP_NET_ADMIN",
        "faults on packets",
    ),
    need(
        CapabilitySet::SYS_ADMIN,
        "CAP_SYS_ADMIN",
        "entering network namespaces",
    ),
    need(
        CapabilitySet::KILL,
        "CAP_KILL",
        "signals to other users' processes",
    ),
    need(
        CapabilitySet::SYS_PTRACE,
        "CAP_SYS_PTRACE",
        "looking into other users' processes, and pausing them",
    ),
    need(
        CapabilitySet::DAC_OVERRIDE,
        "CAP_DAC_OVERRIDE",
        "joining cgroups, and files in others' folders",
    ),
    need(
        CapabilitySet::NET_RAW,
        "CAP_NET_RAW",
        "sending packets again from user space, and false DNS answers",
    ),
    need(
        CapabilitySet::SYS_RESOURCE,
        "CAP_SYS_RESOURCE",
        "protection from the OOM killer, priority for what packets wait for, more open files, and other users' limits of them",
    ),
];

const fn need(set: CapabilitySet, name: &'static str, what_for: &'static str) -> Need {
    Need {
        set,
        name,
        what_for,
    }
}

/// All of [`NEEDS`].
pub(crate) fn all() -> CapabilitySet {
    NEEDS
        .iter()
        .fold(CapabilitySet::empty(), |all, need| all | need.set)
}

/// What a holder keeps for its fault, once it is inside the target. `exhaust` enters the namespace whose ports it takes
/// by itself, and a file is opened through the root of a process of the target's.
pub(crate) const fn kept_for(kind: FaultKind) -> CapabilitySet {
    use CapabilitySet as Cap;
    match kind {
        FaultKind::Kill | FaultKind::Pause => {
            Cap::KILL.union(Cap::SYS_PTRACE).union(Cap::DAC_OVERRIDE)
        }
        // Its guard, which it starts, has the same.
        FaultKind::Freeze => Cap::SYS_PTRACE.union(Cap::DAC_OVERRIDE),
        // Its guard sets the interface up, in the namespace in which it was started.
        FaultKind::NicDown => Cap::NET_ADMIN,
        // Its guard, which has the same, gives other users' processes their limits back.
        FaultKind::Fds => Cap::SYS_PTRACE
            .union(Cap::DAC_OVERRIDE)
            .union(Cap::SYS_RESOURCE),
        FaultKind::Reboot | FaultKind::Shutdown => TO_END_THE_NODE,
        FaultKind::Cpu => Cap::empty(),
        FaultKind::Memory => Cap::SYS_RESOURCE,
        FaultKind::Fill | FaultKind::Io => Cap::DAC_OVERRIDE
            .union(Cap::SYS_PTRACE)
            .union(Cap::SYS_RESOURCE),
        FaultKind::Exhaust => Cap::DAC_OVERRIDE
            .union(Cap::SYS_PTRACE)
            .union(Cap::SYS_RESOURCE)
            .union(Cap::SYS_ADMIN),
        _ => Cap::NET_ADMIN.union(Cap::NET_RAW),
    }
}

/// What the agent keeps besides where its policy lets a fault end the node.
pub(crate) const TO_END_THE_NODE: CapabilitySet = CapabilitySet::SYS_BOOT;

/// What a holder of `exhaust: conntrack` keeps besides.
pub(crate) const TO_OWN_A_TABLE: CapabilitySet = CapabilitySet::NET_ADMIN;

/// What a holder keeps besides where it must tell whose a packet is: it looks into `/proc/PID/fd` all along.
pub(crate) const TO_TELL_OWNERS: CapabilitySet =
    CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_OVERRIDE);

/// Gives up everything but [`NEEDS`] and what is named, for this process and whatever it will execute: bounding set, permitted, effective,
/// and no privileges by execution any more. Call it before there is a second thread: each has its own.
///
/// A user other than root keeps what it was given through ambient capabilities, which its holders then have as well.
///
/// # Errors
/// None that is documented for giving something up, but `EPERM` for the bounding set without `CAP_SETPCAP`, which is
/// harmless: what is not permitted cannot be had from a bounding set once `no_new_privs` is set.
pub(crate) fn shed(besides: CapabilitySet) -> io::Result<()> {
    let keep = all() | besides;
    for bit in CapabilitySet::all().difference(keep).iter() {
        // Numbers that this kernel does not know are EINVAL.
        let _ = rustix::thread::remove_capability_from_bounding_set(bit);
    }
    rustix::thread::set_no_new_privs(true)?;
    let permitted = rustix::thread::capabilities(None)?.permitted & keep;
    let root = rustix::process::geteuid().is_root();
    let inheritable = if root {
        CapabilitySet::empty()
    } else {
        permitted
    };
    rustix::thread::clear_ambient_capability_set()?;
    set(permitted, inheritable)?;
    for bit in inheritable.iter() {
        rustix::thread::configure_capability_in_ambient_set(bit, true)?;
    }
    Ok(())
}

/// Gives up everything but this, for this thread and those it will start.
///
/// # Errors
/// None that is documented for giving something up.
pub(crate) fn keep_only(keep: CapabilitySet) -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    let permitted = rustix::thread::capabilities(None)?.permitted & keep;
    set(permitted, CapabilitySet::empty())
}

fn set(permitted: CapabilitySet, inheritable: CapabilitySet) -> io::Result<()> {
    let sets = CapabilitySets {
        effective: permitted,
        permitted,
        inheritable,
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// What of [`NEEDS`] this process does not have in effect.
pub(crate) fn missing() -> Vec<Need> {
    let has =
        rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    NEEDS
        .into_iter()
        .filter(|need| !has.contains(need.set))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_gives_a_reason_for_each_and_for_no_other() {
        let readme = include_str!("../README.md");
        let rows: Vec<&str> = readme
            .lines()
            .filter_map(|line| line.strip_prefix("| CAP_"))
            .filter_map(|row| row.split(' ').next())
            .collect();
        let names: Vec<&str> = NEEDS
            .iter()
            .map(|need| need.name.trim_start_matches("CAP_"))
            .collect();
        assert_eq!(rows, names);
    }

    #[test]
    fn no_holder_keeps_what_the_agent_does_not() {
        for kind in FaultKind::ALL {
            assert!(
                all()
                    .union(TO_END_THE_NODE)
                    .contains(kept_for(kind).union(TO_TELL_OWNERS)),
                "{kind}"
            );
        }
    }
}
