//! The detour: matched packets are led through an ifb of our own whose root is netem, and come back where they came from.
//!
//! Needs Linux 5.16 (egress hook) with sch_netem. The table belongs to this process's socket: when the process dies,
//! however it dies, nothing is steered any more; what is left is an idle ifb, which the sweep removes. No other root
//! qdisc is touched. A packet handed back by the ifb skips the netdev hooks, so two detours cannot both act on one
//! packet (the agent chooses the queue for the second), and other people's netdev rules after ours do not see it.
//!
//! Forwarded traffic crosses two links and is met at each.

use std::time::{Duration, Instant};

use squall_experiments::dose::{Dose, Evidence, NetworkDose};
use squall_experiments::filter::ResolvedFilter;

use super::held::{Held, HoldError};
use super::steer::{self, LinkHooks};
use super::{names, sweep};
use crate::kernel::net::netem;
use crate::kernel::net::netlink::{Netlink, Protocol};
use crate::kernel::net::nft::expr::Expressions;
use crate::kernel::net::nft::{Draft, Family, OwnedTable};
use crate::kernel::net::qdisc::{self, OwnIfb, QdiscStats};
use crate::kernel::net::shape::Shape;
use crate::kernel::net::{NetError, links};

/// After partitions (-310), before everybody else's filters (0): what is dropped is not worth delaying.
const PRIORITY: i32 = -300;
/// How long a release waits for packets that are still in netem, so that ending a delay loses nothing. A longer delay
/// than this ends with a small loss rather than late: the agent kills a holder that takes 500 ms to stop.
const DRAIN_MAX: Duration = Duration::from_millis(300);
const DRAIN_STEP: Duration = Duration::from_millis(2);

/// A detour in force. Fields drop in order: the table first, so that nothing is steered into an ifb that is going.
pub(crate) struct Detour {
    table: OwnedTable,
    hooks: LinkHooks,
    ifb: Leftover,
    shape: Shape,
}

/// An ifb that is deleted when this is dropped; where the process is killed, the sweep does it.
struct Leftover {
    route: Netlink,
    ifb: OwnIfb,
}

impl Drop for Leftover {
    fn drop(&mut self) {
        if let Err(error) = self.ifb.delete(&mut self.route) {
            tracing::warn!(ifb = %self.ifb.link().name, %error, "an idle ifb is left for the sweep");
        }
    }
}

impl Detour {
    /// Arms it in the current network namespace and reads it back from the kernel.
    pub(crate) fn arm(
        filter: &ResolvedFilter,
        shape: Shape,
    ) -> Result<(Self, Evidence), HoldError> {
        sweep::sweep_here()?;
        let name = names::mine();
        // The table before the ifb: an ifb whose table is not there counts as idle.
        let mut table = OwnedTable::create(Family::Netdev, &name)?;
        let mut route = Netlink::open(Protocol::Route)?;
        let ifb = OwnIfb::create(&mut route, &name)?;
        let mut ifb = Leftover { route, ifb };
        ifb.ifb.add_netem(&mut ifb.route, &shape)?;
        ifb.ifb.set_up(&mut ifb.route)?;

        let mut draft = Draft::default();
        let act = Expressions::default()
            .counter()
            .forward_to(ifb.ifb.link().index);
        steer::draft_chains(&mut draft, Family::Netdev, filter, vec![act]);
        table.commit(&draft)?;
        let mut hooks = LinkHooks::new(filter, PRIORITY);
        hooks.refresh(&mut ifb.route, &mut table)?;
        let mut detour = Self {
            table,
            hooks,
            ifb,
            shape,
        };
        let evidence = detour.read_back()?;
        Ok((detour, evidence))
    }

    fn read_back(&mut self) -> Result<Evidence, HoldError> {
        let mut lines = self.hooks.read_back(&self.table)?;
        steer::read_action(&self.table, "fwd")?;
        lines.push(steer::picks_read_back(&self.table)?);
        let name = self.ifb.ifb.link().name.clone();
        lines.push(format!(
            "{}: counts and leads packets to {name}",
            self.table
        ));
        let read = self.netem()?.1;
        if let Some(difference) = netem::difference(&self.shape, &read) {
            return Err(NetError::ReadBack {
                object: format!("netem on {name}"),
                expected: "what was asked".into(),
                found: difference,
            }
            .into());
        }
        lines.push(format!("{name}: root netem {read}"));
        Ok(Evidence {
            means: "netem behind a detour".into(),
            read_back: lines,
            warnings: warnings(&self.shape),
        })
    }

    /// netem's counters and settings, from the kernel.
    fn netem(&mut self) -> Result<(QdiscStats, Shape, u64), HoldError> {
        let index = self.ifb.ifb.link().index;
        let link = links::by_index(&mut self.ifb.route, index)?;
        let root = match &link {
            Some(link) => qdisc::root(&mut self.ifb.route, link)?,
            None => None,
        };
        match (link, root) {
            (Some(link), Some(root)) if root.kind == "netem" && link.up => Ok((
                root.stats,
                root.shape.unwrap_or_default(),
                link.sent_packets,
            )),
            // Steering packets into a link that is gone or down would lose them all: this fault must end.
            (link, root) => Err(HoldError::Unable(format!(
                "the detour's ifb {} is no longer up with its netem (link {}, root {}): somebody changed it, so the fault ends",
                self.ifb.ifb.link().name,
                link.map_or("gone", |l| if l.up { "up" } else { "down" }),
                root.map_or("none".to_owned(), |r| r.kind),
            ))),
        }
    }

    fn count(&mut self) -> Result<NetworkDose, HoldError> {
        let (matched, bytes) = steer::read_action(&self.table, "fwd")?;
        let (stats, _, handed_back) = self.netem()?;
        let late = !self.shape.delay.is_zero() || self.shape.rate_bytes_per_s > 0;
        let through = matched.saturating_sub(stats.dropped);
        let copies = self.shape.duplicate.probability > 0.0;
        Ok(NetworkDose {
            matched,
            bytes,
            dropped: stats.dropped,
            delayed: if late { through } else { 0 },
            // Packets that came out (or still wait) beyond those that went in and were not lost.
            duplicated: if copies {
                (handed_back + stats.waiting).saturating_sub(through)
            } else {
                0
            },
            ..NetworkDose::default()
        })
    }
}

impl Held for Detour {
    fn dose(&mut self) -> Result<Dose, HoldError> {
        let dose = self.count()?;
        // Once a second is soon enough for a link that has just come.
        self.hooks.refresh(&mut self.ifb.route, &mut self.table)?;
        Ok(Dose::Network(dose))
    }

    fn update(&mut self, endpoints: &ResolvedFilter) -> Result<(), HoldError> {
        Ok(self.hooks.update(&mut self.table, endpoints)?)
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        let mut draft = Draft::default();
        steer::draft_nothing(&mut draft);
        // The fault ends here: nothing more is led away. The counter stays readable until the table goes.
        self.table.commit(&draft)?;
        let dose = self.count();
        let Self { table, mut ifb, .. } = *self;
        table.delete()?;
        drain(&mut ifb)?;
        ifb.ifb.delete(&mut ifb.route)?;
        dose.map(Dose::Network)
    }
}

/// Waits until netem has handed back what it still holds, within [`DRAIN_MAX`].
fn drain(ifb: &mut Leftover) -> Result<(), HoldError> {
    let until = Instant::now() + DRAIN_MAX;
    while Instant::now() < until {
        match qdisc::root(&mut ifb.route, ifb.ifb.link())? {
            Some(root) if root.stats.waiting > 0 => std::thread::sleep(DRAIN_STEP),
            _ => break,
        }
    }
    Ok(())
}

fn warnings(shape: &Shape) -> Vec<String> {
    let mut warnings = Vec::new();
    if shape.corrupt.probability > 0.0 {
        warnings.push(
            "netem does not count the packets it corrupts: `corrupted` stays 0 here; the receivers' checksum errors tell"
                .into(),
        );
    }
    if shape.reorder.probability > 0.0 {
        warnings.push(
            "netem does not count the packets it lets overtake: `reordered` stays 0 here".into(),
        );
    }
    warnings
}
