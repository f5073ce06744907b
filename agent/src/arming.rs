//! From an order to a holder: the descriptors it needs, the addresses of the fault's names, and the names kept current.

use crate::hold::speech::Attached;
use crate::hold::supervise::{self, Start, Wish};
use crate::inventory::containers::grasp::HeldContainer;
use crate::inventory::{self, Grasp};
use crate::kernel::cgroup;
use crate::names::Aimed;
use squall_experiments::fault::FaultKind;
use squall_experiments::ids::FaultId;
use squall_experiments::wire::{self, FromAgent};
use std::io;
use std::os::fd::OwnedFd;
use tokio::sync::watch;

/// Resolves the fault's names, then holds it. A stop while names are being resolved ends it before it began, and what moves meanwhile is
/// known when it begins.
pub(crate) async fn begin<T: supervise::Tell>(
    mut start: Start,
    aim: Option<Aimed>,
    mut wished: watch::Receiver<Wish>,
    tell: T,
) {
    if let Some(aim) = aim {
        let stopped = async {
            // An error means that nobody can wish anything any more: as good as a stop.
            let _ = wished.wait_for(|wish| wish.stop.is_some()).await;
        };
        let reason = tokio::select! {
            biased;
            () = stopped => Err("it was stopped before it was in force".to_owned()),
            resolved = aim.look_up() => resolved,
        };
        let filter = aim.lock().resolved();
        let filter =
            reason.and_then(|()| filter.ok_or_else(|| "its names have no addresses".into()));
        match filter {
            // No move comes between this and the holder's birth: nothing is waited for.
            Ok(filter) => start.spec.filter = filter,
            Err(reason) => {
                return tell(FromAgent::Refused(wire::Refused {
                    id: start.spec.id.clone(),
                    reason,
                    denied: false,
                    gone: false,
                }));
            }
        }
    }
    supervise::hold(start, wished, tell).await;
}

/// Resolves a live fault's names again. What does not resolve just now keeps its last addresses.
pub(crate) async fn rename(id: FaultId, aim: Aimed, wish: watch::Sender<Wish>) {
    match aim.look_up().await {
        Ok(()) => aim_anew(&aim, &wish),
        Err(error) => {
            tracing::warn!(fault = %id, error, "a name does not resolve any more; its last addresses stay");
        }
    }
}

/// The fault is wished to be where its aim is now.
pub(crate) fn aim_anew(aim: &Aimed, wish: &watch::Sender<Wish>) {
    let Some(resolved) = aim.lock().resolved() else {
        return;
    };
    wish.send_if_modified(|wish| {
        let news = wish.filter.1.as_ref() != Some(&resolved);
        if news {
            wish.filter = (wish.filter.0 + 1, Some(resolved));
        }
        news
    });
}

/// What a kind of pressure is accounted by besides processor time and memory.
const fn accounts(kind: FaultKind) -> Option<&'static str> {
    match kind {
        FaultKind::Io => Some("blkio"),
        FaultKind::Exhaust => Some("pids"),
        _ => None,
    }
}

/// What a holder needs of a container, but for its groups: these are returned.
fn container(
    held: &HeldContainer,
    kind: FaultKind,
    attached: &mut Vec<(Attached, OwnedFd)>,
) -> io::Result<Vec<cgroup::Group>> {
    let missing = || io::Error::other(format!("it was not resolved for {kind}: resolve it again"));
    if kind.is_network() {
        let (netns, keepers) = held.netns.as_ref().ok_or_else(missing)?;
        attached.push((Attached::Netns, netns.fd.try_clone()?));
        for (pidfd, pid) in keepers {
            attached.push((Attached::Process { pid: *pid }, pidfd.try_clone()?));
        }
        return Ok(Vec::new());
    }
    let (pidfd, id) = held.main.as_ref().ok_or_else(missing)?;
    attached.push((Attached::Process { pid: id.pid }, pidfd.try_clone()?));
    // A signal is for the main process; what stands still or is pressed on is the container.
    if kind == FaultKind::Kill {
        return Ok(Vec::new());
    }
    let groups = cgroup::groups_of(id.pid, &cgroup::hierarchies()?)?;
    // Still the same process, so these are its groups.
    if inventory::process::identity(id.pid) != Some(*id) {
        return Err(io::Error::other("it has just ended"));
    }
    Ok(groups)
}

/// The group in the first hierarchy where it has processes: they are the same in nearly all, and in some it is empty.
fn peopled(groups: &[cgroup::Group]) -> Option<&cgroup::Group> {
    groups
        .iter()
        .find(|group| !cgroup::processes_below(&group.fd).is_empty())
}

/// The network namespace that a process, or all of a group, lives in.
fn shared_netns(grasp: &Grasp) -> io::Result<OwnedFd> {
    let mut found: Option<inventory::netns::Netns> = None;
    let pids = match grasp {
        Grasp::Process { id, .. } => vec![id.pid],
        Grasp::Groups(groups) => peopled(groups)
            .map(|group| cgroup::processes_below(&group.fd))
            .unwrap_or_default(),
        Grasp::Host | Grasp::Netns { .. } | Grasp::Container(_) => Vec::new(),
    };
    for pid in pids {
        // One that has just ended is in none.
        let Ok(netns) = inventory::netns::of_process(pid) else {
            continue;
        };
        match &found {
            Some(first) if first.inode != netns.inode => {
                return Err(io::Error::other(
                    "its processes live in several network namespaces: name one of them",
                ));
            }
            _ => found = Some(netns),
        }
    }
    found
        .map(|netns| netns.fd)
        .ok_or_else(|| io::Error::other("no process of it lives any more"))
}

/// The descriptors that a holder needs, and what each is.
pub(crate) fn attach(grasp: &Grasp, kind: FaultKind) -> io::Result<Vec<(Attached, OwnedFd)>> {
    let pressure = kind.is_pressure();
    let mut attached = Vec::new();
    if kind.is_network() && grasp.shares_its_netns() {
        attached.push((Attached::Netns, shared_netns(grasp)?));
    }
    let mut groups = Vec::new();
    match grasp {
        Grasp::Host if pressure => groups = cgroup::groups_at("/", &cgroup::hierarchies()?)?,
        Grasp::Host => {}
        Grasp::Process { pidfd, id } => {
            if pressure {
                groups = cgroup::groups_of(id.pid, &cgroup::hierarchies()?)?;
            }
            if !attached.is_empty() || pressure {
                // Still the same process, so these are its groups, and its namespace.
                if inventory::process::identity(id.pid) != Some(*id) {
                    return Err(io::Error::other("it has just ended"));
                }
            }
            attached.push((Attached::Process { pid: id.pid }, pidfd.try_clone()?));
        }
        Grasp::Groups(held) => {
            let one = kind.is_network().then(|| peopled(held)).flatten();
            let wanted = one.map_or(held.as_slice(), std::slice::from_ref);
            for group in wanted {
                groups.push(cgroup::Group {
                    controllers: group.controllers.clone(),
                    path: group.path.clone(),
                    fd: group.fd.try_clone()?,
                });
            }
        }
        Grasp::Netns { netns, found_by } => {
            attached.push((Attached::Netns, netns.fd.try_clone()?));
            for (pidfd, pid) in found_by {
                attached.push((Attached::Process { pid: *pid }, pidfd.try_clone()?));
            }
        }
        Grasp::Container(held) => groups = container(held, kind, &mut attached)?,
    }
    if pressure {
        groups = cgroup::that_account(groups, accounts(kind));
    }
    for group in groups {
        let what = Attached::Cgroup {
            controllers: group.controllers,
            path: group.path,
        };
        attached.push((what, group.fd));
    }
    Ok(attached)
}
