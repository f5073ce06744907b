//! The rules that lead packets into a queue, by whichever way the kernel has.

use std::sync::OnceLock;

use squall_experiments::filter::{Direction, ResolvedFilter};

use crate::hold::held::{HoldError, chain};
use crate::hold::steer;
use crate::kernel::net::nft::expr::{Expressions, Meta, QueueMeans, Verdict};
use crate::kernel::net::nft::{Draft, Family, Hook, OwnedTable};

/// Before connection tracking (-200) and address translation: what arrives is judged by its addresses on the wire.
const IN_PRIORITY: i32 = -300;
/// After source address translation (100), for the same reason.
const OUT_PRIORITY: i32 = 300;

/// Makes the chains with nft's own `queue`, or, where the kernel lacks that, with the xtables target. Each is a
/// transaction of its own: a refused one leaves nothing.
pub(super) fn commit_rules(
    table: &mut OwnedTable,
    filter: &ResolvedFilter,
    (first, total): (u16, u16),
    copies: Option<u32>,
) -> Result<QueueMeans, HoldError> {
    let draft_by = |means| {
        let mut act = passing(filter.direction, copies);
        act.push(Expressions::default().counter().queue(means, first, total));
        let mut draft = Draft::default();
        steer::draft_chains(&mut draft, Family::Inet, filter, act);
        draft_hooks(&mut draft, filter);
        draft_copies(&mut draft, copies);
        draft
    };
    commit_by(table, draft_by)
}

/// The way into a queue that the agent's probe found to work.
static KNOWN: OnceLock<QueueMeans> = OnceLock::new();

/// Says which way into a queue works here, once in a process; where nothing is said, both are tried.
pub(in crate::hold) fn known(means: QueueMeans) {
    // Said twice is said once: a holder has one order.
    let _ = KNOWN.set(means);
}

/// Makes the chains of a draft by whichever way into a queue the kernel has.
pub(in crate::hold) fn commit_by(
    table: &mut OwnedTable,
    draft_by: impl Fn(QueueMeans) -> Draft,
) -> Result<QueueMeans, HoldError> {
    // Asked for what it lacks, the kernel looks for a module first: 12 ms on a 6.18 that has none.
    if KNOWN.get() == Some(&QueueMeans::Compat)
        && table.commit(&draft_by(QueueMeans::Compat)).is_ok()
    {
        return Ok(QueueMeans::Compat);
    }
    let Err(native) = table.commit(&draft_by(QueueMeans::Native)) else {
        return Ok(QueueMeans::Native);
    };
    // ENOENT: no such expression.
    if native.errno() != Some(libc::ENOENT) {
        return Err(native.into());
    }
    match table.commit(&draft_by(QueueMeans::Compat)) {
        Ok(()) => Ok(QueueMeans::Compat),
        Err(compat) => Err(HoldError::Unable(format!(
            "this kernel has no way into a queue: nft `queue`: {}; xtables NFQUEUE: {}",
            chain(&native),
            chain(&compat)
        ))),
    }
}

/// The base chains of a direction: name, hook, priority.
pub(in crate::hold) fn hooks(direction: Direction) -> Vec<(&'static str, Hook, i32)> {
    let arriving = ("in", Hook::Prerouting, IN_PRIORITY);
    let leaving = ("out", Hook::Postrouting, OUT_PRIORITY);
    match direction {
        Direction::Ingress => vec![arriving],
        Direction::Egress => vec![leaving],
        Direction::Both => vec![arriving, leaving],
    }
}

/// Drafts them. What is picked is led to [`steer::ACT`], which begins with what is [`passing`].
pub(in crate::hold) fn draft_hooks(draft: &mut Draft, filter: &ResolvedFilter) {
    for (chain, hook, priority) in hooks(filter.direction) {
        draft.base_chain(chain, hook, priority);
    }
    steer::draft_bases(draft, Family::Inet, filter, bases(filter.direction));
}

/// Drafts other addresses for what [`draft_hooks`] has made in that direction.
pub(in crate::hold) fn draft_update(
    draft: &mut Draft,
    direction: Direction,
    endpoints: &ResolvedFilter,
) {
    steer::draft_update(draft, Family::Inet, endpoints, bases(direction));
}

fn bases(direction: Direction) -> impl Iterator<Item = &'static str> + Clone {
    hooks(direction).into_iter().map(|(chain, ..)| chain)
}

/// What passes though it was picked, asked of no other packet: what is sent by ourselves, told by its queueing priority, and what is
/// met elsewhere.
pub(in crate::hold) fn passing(direction: Direction, own: Option<u32>) -> Vec<Expressions> {
    let meta = |what, is: u32| {
        let is = Expressions::default().meta(what).equals(&is.to_ne_bytes());
        is.verdict(&Verdict::Accept)
    };
    // It has met its fate already.
    let own = own.map(|tag| meta(Meta::Priority, tag));
    // What is sent over lo arrives here too, and is met there: `lo` has index 1 in every namespace. What arrives has no way out yet.
    let on_lo = (direction == Direction::Both).then(|| meta(Meta::OutLink, 1));
    own.into_iter().chain(on_lo).collect()
}

fn draft_copies(draft: &mut Draft, copies: Option<u32>) {
    // A copy whose source was translated would look like a new connection and be translated again.
    if let Some(tag) = copies {
        draft.base_chain("copies", Hook::Output, IN_PRIORITY);
        let own = Expressions::default()
            .meta(Meta::Priority)
            .equals(&tag.to_ne_bytes());
        draft.rule("copies", own.no_track());
    }
}

pub(in crate::hold) fn action_expression(means: QueueMeans) -> &'static str {
    match means {
        QueueMeans::Native => "queue",
        QueueMeans::Compat => "target",
    }
}
