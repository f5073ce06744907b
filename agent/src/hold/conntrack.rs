//! The table of tracked connections, full but for a rest.
//!
//! An entry that was really made would stay for its timeout, whoever made it. What a full table does to others is held instead:
//! right after the kernel has looked a packet up (-200), what would begin one connection too many is dropped, as
//! `nf_conntrack_alloc` refuses it (net/netfilter/nf_conntrack_core.c, "table full, dropping packet"). What is
//! tracked already goes on. A local sender is told (`EPERM`), as it is by a full table.
//!
//! What the kernel knows to belong to a connection that is there (RELATED) passes: errors about it, which need no entry, and the data
//! connection of a helper (FTP), which would need one.
//!
//! How many new ones may be open at once is counted by the kernel (nft_connlimit). One that is refused is counted too for up to some
//! seconds, until the kernel has seen that it is tracked by nobody.

use squall_experiments::dose::{Dose, Evidence, ExhaustDose};
use squall_experiments::fault::Exhaust;
use squall_experiments::filter::ResolvedFilter;

use super::held::{Held, HoldError};
use super::{names, steer};
use crate::kernel::net::nft::expr::{Expressions, Verdict};
use crate::kernel::net::nft::{Draft, Family, Hook, OwnedTable};

/// Right after the kernel's own look (`NF_IP_PRI_CONNTRACK`, -200), before anybody translates addresses.
const PRIORITY: i32 = -199;
/// Where connections begin: the same places in which the kernel begins to track them.
const HOOKS: [(&str, Hook); 2] = [("come", Hook::Prerouting), ("go", Hook::Output)];

struct Full {
    table: OwnedTable,
    /// How many there were when it was armed, and how many of what was left then are left over.
    before: u64,
    rest: u64,
    max: u64,
}

/// Arms it in the current network namespace and reads it back from the kernel. `filter` says who is spared.
pub(super) fn arm(
    fault: &Exhaust,
    filter: &ResolvedFilter,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    let (before, max) = (number("count")?, number("max")?);
    if before == 0 {
        return Err(HoldError::Unable(
            "no connection is tracked in this network namespace, so none there depends on it: name one with address \
             translation or stateful rules, such as the node's own (`on: host`)"
                .to_owned(),
        ));
    }
    let (left, rest) = (max.saturating_sub(before), fault.goal.leaves(max));
    if left <= rest {
        return Err(HoldError::Unable(format!(
            "of {max} conntrack only {left} are left, and {rest} are to be left: there is nothing to use up"
        )));
    }
    let mut table = OwnedTable::create(Family::Inet, &names::mine())?;
    let mut draft = Draft::default();
    steer::draft_chains(&mut draft, Family::Inet, filter, vec![refusal(rest)]);
    for (chain, hook) in HOOKS {
        draft.base_chain(chain, hook, PRIORITY);
    }
    steer::draft_bases(&mut draft, Family::Inet, filter, HOOKS.map(|(c, _)| c));
    table.commit(&draft)?;
    let full = Full {
        table,
        before,
        rest,
        max,
    };
    full.look()?;
    let mut read_back = steer::hooks_read_back(&full.table, HOOKS.map(|(c, _)| (c, PRIORITY)))?;
    read_back.push(format!(
        "of {max} conntrack {left} were left before, and {rest} are; packets that would begin more connections are dropped"
    ));
    let evidence = Evidence {
        means: "nftables drop of what begins a connection".to_owned(),
        read_back,
        warnings: Vec::new(),
    };
    Ok((Box::new(full), evidence))
}

/// A figure of the kernel's for the network namespace that this process is in.
fn number(of: &str) -> Result<u64, HoldError> {
    let path = format!("/proc/sys/net/netfilter/nf_conntrack_{of}");
    let text = std::fs::read_to_string(&path).map_err(HoldError::kernel("read", path.clone()))?;
    text.trim().parse().map_err(|_| {
        HoldError::Unable(format!("{path} says {:?}, which is no number", text.trim()))
    })
}

fn refusal(rest: u64) -> Expressions {
    let new = Expressions::default().begins_a_connection();
    let too_many = match u32::try_from(rest).unwrap_or(u32::MAX) {
        0 => new,
        rest => new.more_open_than(rest),
    };
    too_many.counter().verdict(&Verdict::Drop)
}

impl Full {
    /// Packets that were dropped; an error where the rule is gone.
    fn look(&self) -> Result<u64, HoldError> {
        let needed = if self.rest == 0 { "ct" } else { "connlimit" };
        steer::read_action(&self.table, needed).map(|(packets, _)| packets)
    }
}

impl Held for Full {
    fn dose(&mut self) -> Result<Dose, HoldError> {
        let dropped = self.look()?;
        let grown = number("count")?.saturating_sub(self.before);
        Ok(Dose::Exhaust(ExhaustDose {
            held: self.max.saturating_sub(self.before + self.rest),
            left: self.rest.saturating_sub(grown),
            limit: self.max,
            dropped: Some(dropped),
            back_off: None,
        }))
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        let mut draft = Draft::default();
        steer::draft_nothing(&mut draft);
        self.table.commit(&draft)?;
        let dose = self.dose();
        self.table.delete()?;
        dose
    }
}
