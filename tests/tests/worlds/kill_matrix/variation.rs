//! The ways in which a fault can be asked for, each a row of the matrix of its own: as it is, by a means that the node would take only
//! where it lacked the first, coming and going, for the packets of one process among others, and for each thing that can be used up.

use lab::world::agent::written;
use serde_json::json;
use squall_experiments::capability::{Capabilities, Means};
use squall_experiments::fault::{Exhausted, FaultKind};
use squall_experiments::pulse::Pulse;

use crate::scene::exhausted::USUAL;
use crate::scene::owned::strong;

/// How a fault is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variation {
    Plain,
    Fallback,
    Pulsed,
    Owned,
    /// Something else is used up than by the plain fault, and so is held in another way.
    Exhausting(Exhausted),
}

impl Variation {
    /// Every way there is. Something new that can be used up is in it by itself. Only ports also come and go: that one holder follows
    /// another is the same for all of them.
    fn all() -> impl Iterator<Item = Self> {
        let others = Exhausted::ALL.into_iter().filter(|what| *what != USUAL);
        let ways = [Self::Plain, Self::Fallback, Self::Pulsed, Self::Owned];
        ways.into_iter().chain(others.map(Self::Exhausting))
    }

    /// What a fault of that kind uses up when it is asked for like this, where using something up is what it does.
    pub(super) fn exhausts(self, kind: FaultKind) -> Option<Exhausted> {
        match self {
            Self::Exhausting(what) => Some(what),
            Self::Plain | Self::Fallback | Self::Pulsed | Self::Owned => {
                (kind == FaultKind::Exhaust).then_some(USUAL)
            }
        }
    }

    /// What it adds to a row's name.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Plain | Self::Fallback | Self::Exhausting(_) => "",
            Self::Pulsed => "_pulsed",
            Self::Owned => "_owned",
        }
    }

    /// The beat. A fault that beat on after its end would be back before it is looked away.
    pub(super) fn pulse(self) -> Option<Pulse> {
        let beat = json!({ "on": "2s", "off": "200ms" });
        (self == Self::Pulsed).then(|| written(beat))
    }

    /// By which means the node can do that.
    fn means(self, kind: FaultKind, capabilities: &Capabilities) -> Vec<Means> {
        let of = |kind| {
            capabilities
                .of(kind)
                .map_or(Vec::new(), |c| c.means.clone())
        };
        match self {
            Self::Plain => of(kind).into_iter().take(1).collect(),
            Self::Fallback => of(kind).into_iter().skip(1).collect(),
            Self::Pulsed if kind.can_pulse() => of(kind),
            Self::Owned if strong(kind).may_have_owner() => {
                // Whose a packet is, is told while it waits, and be it only the first of a connection; a partition of one's
                // is a loss of all.
                let queued = of(if kind == FaultKind::Partition {
                    FaultKind::Loss
                } else {
                    kind
                });
                let asks = |means: &Means| matches!(means, Means::Queue | Means::Redirect);
                queued.into_iter().filter(asks).collect()
            }
            Self::Exhausting(_) if kind == FaultKind::Exhaust => {
                of(kind).into_iter().take(1).collect()
            }
            Self::Pulsed | Self::Owned | Self::Exhausting(_) => Vec::new(),
        }
    }
}

/// Every row that a kind of fault has on this node.
pub(super) fn rows(
    kind: FaultKind,
    capabilities: &Capabilities,
) -> Vec<(FaultKind, Means, Variation)> {
    let each = Variation::all().flat_map(|variation| {
        let means = variation.means(kind, capabilities).into_iter();
        means.map(move |means| (kind, means, variation))
    });
    each.collect()
}
