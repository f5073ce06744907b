//! Removing what a killed holder leaves: idle `sq…` ifbs, and nothing else of anybody's.
//!
//! An ifb is idle when the owned table of its name is gone, and that the kernel removes with its owner. So a live
//! holder's ifb is never taken for idle, whichever pid namespace it lives in.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::held::HoldError;
use super::names;
use crate::kernel::net::netlink::{Netlink, Protocol};
use crate::kernel::net::nft::{self, Family};
use crate::kernel::net::qdisc;
use crate::kernel::net::{NetError, late, links, netns};

/// How long packets that a killed holder left in its netem may still take to come out before the ifb goes.
const DRAIN_MAX: Duration = Duration::from_millis(200);
const DRAIN_STEP: Duration = Duration::from_millis(5);

/// Removes the idle ifbs of the current thread's network namespace; says how many.
pub(crate) fn sweep_here() -> Result<usize, NetError> {
    let mut route = Netlink::open(Protocol::Route)?;
    let named = |l: &links::Link| l.kind == "ifb" && names::owner(&l.name).is_some();
    // Links first, tables second: a table is made before its ifb, so every live ifb listed has its table listed.
    let ours: Vec<_> = links::list(&mut route)?.into_iter().filter(named).collect();
    if ours.is_empty() {
        return Ok(0);
    }
    let mut netfilter = Netlink::open(Protocol::Netfilter)?;
    let tables: HashSet<String> = nft::tables(&mut netfilter, Family::Netdev)?
        .into_iter()
        .map(|t| t.name)
        .collect();
    let idle: Vec<_> = ours
        .into_iter()
        .filter(|l| !tables.contains(&l.name))
        .collect();
    let until = Instant::now() + DRAIN_MAX;
    for link in &idle {
        while Instant::now() < until
            && qdisc::root(&mut route, link)?.is_some_and(|root| root.stats.waiting > 0)
        {
            std::thread::sleep(DRAIN_STEP);
        }
        links::delete(&mut route, link)?;
    }
    late::keep(netfilter);
    Ok(idle.len())
}

/// The tables in the current thread's network namespace that a holder of that pid owns, for people.
pub(crate) fn in_force_here(holder: u32) -> Result<Vec<String>, NetError> {
    let mut netfilter = Netlink::open(Protocol::Netfilter)?;
    let mut found = Vec::new();
    for family in [Family::Netdev, Family::Inet] {
        let tables = nft::tables(&mut netfilter, family)?;
        let his = tables
            .iter()
            .filter(|t| names::owner(&t.name) == Some(holder));
        found.extend(his.map(|t| format!("table {} {} is still there", family.name(), t.name)));
    }
    late::keep(netfilter);
    Ok(found)
}

/// Removes the idle ifbs of every network namespace of the node. All are tried; the errors come together.
pub(crate) fn sweep_everywhere() -> Result<usize, HoldError> {
    let mut removed = 0;
    let mut failed = Vec::new();
    for namespace in netns::all()? {
        match namespace.inside(sweep_here) {
            Ok(count) => removed += count,
            Err(error) => failed.push(format!(
                "{}: {}",
                namespace.label(),
                super::held::chain(&error)
            )),
        }
    }
    if failed.is_empty() {
        Ok(removed)
    } else {
        Err(HoldError::Unable(format!(
            "idle ifbs could not be swept everywhere (removed {removed}): {}",
            failed.join("; ")
        )))
    }
}
