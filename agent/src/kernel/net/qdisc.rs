//! Queueing disciplines: netem as the root of *our own* ifb, its read-back and its counters.
//!
//! There is no function here that changes another link's root: `add_netem` takes an [`OwnIfb`].

use super::NetError;
use super::attr::{self, Body};
use super::links::{self, Link};
use super::netem;
use super::netlink::{Ask, CREATE, EXCLUSIVE, Netlink};
use super::shape::Shape;

const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TC_H_ROOT: u32 = 0xFFFF_FFFF;
/// `struct tcmsg`: family and pad, i32 ifindex, u32 handle, parent, info.
const TCMSG_BYTES: usize = 20;

/// An ifb this process made (its name starts with [`PREFIX`]); the only kind of link that is ever given a qdisc.
#[derive(Debug, Clone)]
pub(crate) struct OwnIfb(Link);

/// What the names of our links and tables start with.
pub(crate) const PREFIX: &str = "sq";

/// A qdisc's counters, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct QdiscStats {
    /// Packets that left it.
    pub(crate) packets_sent: u64,
    /// Bytes that left it.
    pub(crate) bytes_sent: u64,
    /// Packets it dropped: netem's loss, and those over its limit.
    pub(crate) dropped: u64,
    /// Packets over its limit.
    pub(crate) overlimits: u64,
    /// Packets put back.
    pub(crate) requeues: u64,
    /// Packets waiting in it now.
    pub(crate) waiting: u64,
}

/// A root qdisc as the kernel shows it.
#[derive(Debug, Clone)]
pub(crate) struct RootQdisc {
    /// "netem".
    pub(crate) kind: String,
    /// What it is set to, where it is a netem.
    pub(crate) shape: Option<Shape>,
    /// Its counters.
    pub(crate) stats: QdiscStats,
}

impl OwnIfb {
    /// Creates it and reads it back; down.
    ///
    /// # Errors
    /// When the kernel has no ifb, or the name is taken.
    pub(crate) fn create(route: &mut Netlink, name: &str) -> Result<Self, NetError> {
        debug_assert!(name.starts_with(PREFIX) && name.len() <= links::NAME_BYTES_MAX);
        links::create_ifb(route, name)?;
        let found = links::by_name(route, name)?.filter(|l| l.kind == "ifb");
        found.map(Self).ok_or_else(|| NetError::ReadBack {
            object: format!("link {name}"),
            expected: "an ifb".into(),
            found: "none".into(),
        })
    }

    /// The link.
    #[must_use]
    pub(crate) fn link(&self) -> &Link {
        &self.0
    }

    /// Gives it a fresh netem. One that has a root already is refused by the kernel: changing a netem would keep settings.
    ///
    /// # Errors
    /// When the kernel has no netem ("Specified qdisc kind is unknown") or refuses the settings.
    pub(crate) fn add_netem(&self, route: &mut Netlink, shape: &Shape) -> Result<(), NetError> {
        let mut body = Body::with_header(&tcmsg(self.0.index, TC_H_ROOT));
        body.put_str(TCA_KIND, "netem")
            .put(TCA_OPTIONS, &netem::options(shape));
        let object = format!("netem on {}", self.0.name);
        route.request(
            Ask {
                operation: "create",
                object: &object,
            },
            RTM_NEWQDISC,
            CREATE | EXCLUSIVE,
            body.bytes(),
        )
    }

    /// Sets it up, so that it takes packets.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn set_up(&self, route: &mut Netlink) -> Result<(), NetError> {
        links::without_addresses(route, &self.0);
        links::set_up(route, &self.0)
    }

    /// Deletes it, with whatever still waits in it.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than that it is gone.
    pub(crate) fn delete(&self, route: &mut Netlink) -> Result<(), NetError> {
        links::delete(route, &self.0)
    }
}

/// The root qdisc of a link; `None` when it has none of its own.
///
/// # Errors
/// When the kernel refuses the list.
pub(crate) fn root(route: &mut Netlink, link: &Link) -> Result<Option<RootQdisc>, NetError> {
    let object = format!("the qdiscs of {}", link.name);
    // The kernel may list every link's qdiscs despite the index asked for: filter again.
    let found = route.dump(
        Ask {
            operation: "list",
            object: &object,
        },
        RTM_GETQDISC,
        &tcmsg(link.index, 0),
    )?;
    let parsed = found.iter().filter_map(|(_, body)| parse(body));
    Ok(parsed
        .filter(|(index, parent, _)| *index == link.index && *parent == TC_H_ROOT)
        .map(|(_, _, q)| q)
        .next())
}

fn tcmsg(index: u32, parent: u32) -> [u8; TCMSG_BYTES] {
    let mut header = [0; TCMSG_BYTES];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    header
}

fn parse(body: &[u8]) -> Option<(u32, u32, RootQdisc)> {
    let index = attr::u32_ne(body.get(4..)?)?;
    let parent = attr::u32_ne(body.get(12..)?)?;
    let attributes = body.get(TCMSG_BYTES..)?;
    let kind = attr::text(attr::find(attributes, TCA_KIND)?);
    let shape = attr::find(attributes, TCA_OPTIONS)
        .filter(|_| kind == "netem")
        .and_then(netem::parse);
    let stats = attr::find(attributes, TCA_STATS2)
        .map(parse_stats)
        .unwrap_or_default();
    Some((index, parent, RootQdisc { kind, shape, stats }))
}

/// `struct gnet_stats_basic` {u64 bytes, u32 packets} and `gnet_stats_queue` {qlen, backlog, drops, requeues, overlimits}.
fn parse_stats(nest: &[u8]) -> QdiscStats {
    let basic = attr::find(nest, TCA_STATS_BASIC).unwrap_or_default();
    let queue = attr::find(nest, TCA_STATS_QUEUE).unwrap_or_default();
    let word =
        |bytes: &[u8], at: usize| u64::from(bytes.get(at..).and_then(attr::u32_ne).unwrap_or(0));
    QdiscStats {
        bytes_sent: basic.first_chunk().map_or(0, |b| u64::from_ne_bytes(*b)),
        packets_sent: word(basic, 8),
        waiting: word(queue, 0),
        dropped: word(queue, 8),
        requeues: word(queue, 12),
        overlimits: word(queue, 16),
    }
}
