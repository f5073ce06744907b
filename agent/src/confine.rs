//! What the agent and its holders are never to do, whoever makes them try: said to the kernel, which then refuses it to root
//! as well, and of which nobody gets rid again.
//!
//! - seccomp: system calls that nothing here makes fail with `EPERM`. The agent gives up what changes the node as a whole
//!   (mounts, modules, another kernel, its clocks, other programs' memory); a holder, once its fault is in force, also
//!   starting a program, going to another namespace, and being a tracer where the fault is not that.
//! - Landlock: a holder that works on files opens no other than those in the folder that was named, and reads /proc and cgroups.
//!
//! Lists of what is refused, not of what is allowed: what a C library calls changes with its version, and a fault that ends
//! because of that is worse than a call more.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use squall_experiments::fault::FaultKind;
use std::os::fd::AsFd;

/// What nothing here does: see the module.
const NEVER: [i64; 38] = [
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    // Its requests pass no filter.
    libc::SYS_io_uring_setup,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_acct,
    libc::SYS_quotactl,
];

/// What a holder does before its fault is in force, and never after.
const NOT_ONCE_ARMED: [i64; 4] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_setns,
    libc::SYS_unshare,
];

/// Why there is no such limit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfineError {
    /// The kernel takes no filter.
    #[error("system calls cannot be given up")]
    Seccomp(#[from] seccompiler::Error),
    /// No filter could be made of the list.
    #[error("no filter can be made of the system calls to be given up")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel takes no rules.
    #[error("files cannot be given up")]
    Landlock(#[from] landlock::RulesetError),
    /// A folder that the rules are about.
    #[error("a folder that stays readable cannot be opened")]
    Folder(#[from] landlock::PathFdError),
}

fn filter(refused: impl Iterator<Item = i64>) -> Result<BpfProgram, ConfineError> {
    let rules = refused.map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let here = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, here)?.try_into()?)
}

/// For the agent, and whatever it starts; `ends_the_node` where its policy lets a fault do that. Call it before there is a
/// second thread.
///
/// # Errors
/// The kernel knows no filters, or another one forbids it.
pub(crate) fn agent(ends_the_node: bool) -> Result<(), ConfineError> {
    let filter = filter(refused_to_agent(ends_the_node))?;
    Ok(seccompiler::apply_filter(&filter)?)
}

fn refused_to_agent(ends_the_node: bool) -> impl Iterator<Item = i64> {
    NEVER
        .into_iter()
        .filter(move |call| !ends_the_node || *call != libc::SYS_reboot)
}

fn refused_to_holders(kind: FaultKind) -> impl Iterator<Item = i64> {
    let traces = kind == FaultKind::Pause;
    let traces = (!traces).then_some(libc::SYS_ptrace);
    // What ends a node is another process, which its holder started before.
    let reboot = [libc::SYS_reboot];
    NOT_ONCE_ARMED.into_iter().chain(reboot).chain(traces)
}

/// For a holder whose fault is in force: for all of its threads, and those that it will start.
///
/// # Errors
/// As of [`agent`].
pub(crate) fn holder(kind: FaultKind) -> Result<(), ConfineError> {
    let filter = filter(refused_to_holders(kind))?;
    Ok(seccompiler::apply_filter_all_threads(&filter)?)
}

/// For this thread and those that it will start: no file is opened but in that folder, or to be read in `/proc` and `/sys`.
/// Says whether the kernel keeps to it; one without Landlock does not.
///
/// # Errors
/// The folders cannot be opened.
pub(crate) fn to_folder(folder: impl AsFd) -> Result<bool, ConfineError> {
    let known = ABI::V5;
    let use_files = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(known))?
        .create()?
        .add_rule(PathBeneath::new(folder, use_files))?;
    for read in ["/proc", "/sys"] {
        let from_there = AccessFs::ReadFile | AccessFs::ReadDir;
        rules = rules.add_rule(PathBeneath::new(PathFd::new(read)?, from_there))?;
    }
    let status = rules.restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Whether this kernel can limit files at all.
pub(crate) fn knows_landlock() -> bool {
    std::thread::spawn(|| {
        std::fs::File::open("/").is_ok_and(|root| to_folder(root).unwrap_or(false))
    })
    .join()
    .unwrap_or(false)
}

/// Whether it can limit system calls: by being asked for the actions that a filter may take.
pub(crate) fn knows_seccomp() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").is_ok_and(|actions| {
        actions
            .split_ascii_whitespace()
            .any(|action| action == "errno")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    /// In a thread of its own: nobody gets rid of it again.
    fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().unwrap()
    }

    fn keep(refused: impl Iterator<Item = i64>) {
        seccompiler::apply_filter(&filter(refused).unwrap()).unwrap();
    }

    #[test]
    fn what_was_given_up_is_refused_by_the_kernel() {
        // This very program is there, wherever the test runs; it only prints the names of its tests.
        let start = || {
            std::process::Command::new("/proc/self/exe")
                .arg("--list")
                .stdout(std::process::Stdio::null())
                .status()
        };
        let leave = || nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS);
        // Where this process's root is already: it changes nothing, and only root may do it.
        let chroot = || nix::unistd::chroot("/");
        let (before, inside, after) = apart(move || {
            let before = (start().is_ok(), chroot());
            keep(NEVER.into_iter());
            let inside = (start().is_ok(), chroot());
            keep(refused_to_holders(FaultKind::Cpu));
            let after = (start().map_err(|error| error.kind()), leave());
            (before, inside, after)
        });
        let root = rustix::process::geteuid().is_root();
        assert_eq!(before.1.is_ok(), root);
        assert!(before.0 && inside.0, "the agent starts its holders");
        assert_eq!(inside.1, Err(nix::errno::Errno::EPERM));
        assert_eq!(after.0.unwrap_err(), ErrorKind::PermissionDenied);
        assert_eq!(after.1, Err(nix::errno::Errno::EPERM));
    }

    #[test]
    fn the_node_is_ended_only_where_its_policy_lets_that_be_and_never_by_a_holder() {
        let ends = |mut refused: Box<dyn Iterator<Item = i64>>| {
            !refused.any(|call| call == libc::SYS_reboot)
        };
        assert!(!ends(Box::new(refused_to_agent(false))));
        assert!(ends(Box::new(refused_to_agent(true))));
        for kind in FaultKind::ALL {
            assert!(!ends(Box::new(refused_to_holders(kind))), "{kind}");
        }
        let count = |ends_the_node| refused_to_agent(ends_the_node).count();
        assert_eq!(count(true) + 1, count(false), "nothing else is let go");
    }

    #[test]
    fn only_a_pause_is_a_tracer() {
        let traces = |kind| !refused_to_holders(kind).any(|call| call == libc::SYS_ptrace);
        let all: Vec<FaultKind> = FaultKind::ALL.into_iter().filter(|k| traces(*k)).collect();
        assert_eq!(all, [FaultKind::Pause]);
    }

    #[test]
    fn no_file_is_opened_outside_of_the_folder() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let other = outside.path().join("other");
        std::fs::write(&other, "a secret").unwrap();
        let folder = std::fs::File::open(inside.path()).unwrap();
        let told = apart(move || {
            if !to_folder(&folder).unwrap() {
                return None;
            }
            let unnamed = crate::kernel::disk::unnamed(&folder, false).is_ok();
            let accounts = std::fs::read_to_string("/proc/self/status").is_ok();
            let others = std::fs::read(&other).map_err(|error| error.kind());
            Some((unnamed, accounts, others))
        });
        let Some((unnamed, accounts, others)) = told else {
            assert!(!knows_landlock());
            return;
        };
        assert!(unnamed && accounts);
        assert_eq!(others, Err(ErrorKind::PermissionDenied));
    }
}
