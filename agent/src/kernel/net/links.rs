//! Links of the current network namespace: listing, and making and removing our own `ifb` devices.

use netlink_packet_core::Emitable;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoKind, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};

use super::NetError;
use super::attr::{self, Body};
use super::netlink::{Ask, CREATE, EXCLUSIVE, Netlink};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
/// `struct rtnl_link_stats64`, whose second u64 is the packets sent.
const IFLA_STATS64: u16 = 23;
const IFLA_EXT_MASK: u16 = 29;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_INFO_KIND: u16 = 1;
/// `struct ifinfomsg`: family, pad, u16 type, i32 index, u32 flags, u32 change.
const IFINFOMSG_BYTES: usize = 16;

/// The longest name of a link, without its NUL (`IFNAMSIZ` - 1).
pub(crate) const NAME_BYTES_MAX: usize = 15;

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its index, unique in its namespace for as long as it lives.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its kind ("veth", "ifb", "bridge"); empty for hardware and `lo`.
    pub(crate) kind: String,
    /// Administratively up.
    pub(crate) up: bool,
    /// `lo`.
    pub(crate) loopback: bool,
    /// The bridge, bond or VRF it is a port of.
    pub(crate) master: Option<u32>,
    /// The link it sits on, where that is in this same namespace (a VLAN's or macvlan's parent).
    pub(crate) lower: Option<u32>,
    /// Packets it has sent since it was made; an ifb counts those it has handed back. Not told in a list.
    pub(crate) sent_packets: u64,
}

/// All links of the namespace the socket was opened in, without their counters.
///
/// # Errors
/// When the kernel refuses the list.
pub(crate) fn list(route: &mut Netlink) -> Result<Vec<Link>, NetError> {
    let ask = Ask {
        operation: "list",
        object: "the network links",
    };
    // A node with a thousand containers has a thousand links, and most of each answer would be counters.
    let mut body = Body::with_header(&ifinfomsg(0));
    body.put(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    // Read by hand: one attribute a newer kernel spells differently must not hide a link from us.
    let found = route.dump(ask, RTM_GETLINK, body.bytes())?;
    Ok(found
        .iter()
        .filter(|(kind, _)| *kind == RTM_NEWLINK)
        .filter_map(|(_, body)| parse(body))
        .collect())
}

/// The link of that name, if there is one.
///
/// # Errors
/// When the kernel refuses to tell.
pub(crate) fn by_name(route: &mut Netlink, name: &str) -> Result<Option<Link>, NetError> {
    let mut body = Body::with_header(&ifinfomsg(0));
    body.put_str(IFLA_IFNAME, name);
    one(route, name, &body)
}

/// The link of that index, if there is one.
///
/// # Errors
/// When the kernel refuses to tell.
pub(crate) fn by_index(route: &mut Netlink, index: u32) -> Result<Option<Link>, NetError> {
    one(
        route,
        &format!("number {index}"),
        &Body::with_header(&ifinfomsg(index)),
    )
}

fn one(route: &mut Netlink, name: &str, body: &Body) -> Result<Option<Link>, NetError> {
    let object = format!("link {name}");
    match route.fetch(
        Ask {
            operation: "look up",
            object: &object,
        },
        RTM_GETLINK,
        body.bytes(),
    ) {
        Ok(found) => Ok(found.iter().find_map(|body| parse(body))),
        Err(e) if e.is_absent() => Ok(None),
        Err(e) => Err(e),
    }
}

fn ifinfomsg(index: u32) -> [u8; IFINFOMSG_BYTES] {
    let mut header = [0; IFINFOMSG_BYTES];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// Creates an `ifb` device, down. It must not exist yet.
///
/// # Errors
/// When the kernel has no `ifb`, the name is taken, or rights are missing.
pub(crate) fn create_ifb(route: &mut Netlink, name: &str) -> Result<(), NetError> {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ];
    let object = format!("ifb link {name}");
    route.request(
        Ask {
            operation: "create",
            object: &object,
        },
        RTM_NEWLINK,
        CREATE | EXCLUSIVE,
        &emit(&message),
    )
}

/// Sets a link up.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn set_up(route: &mut Netlink, link: &Link) -> Result<(), NetError> {
    set(route, link, "set up", LinkFlags::Up)
}

/// Sets a link down.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn set_down(route: &mut Netlink, link: &Link) -> Result<(), NetError> {
    set(route, link, "set down", LinkFlags::empty())
}

fn set(
    route: &mut Netlink,
    link: &Link,
    operation: &'static str,
    flags: LinkFlags,
) -> Result<(), NetError> {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    message.header.flags = flags;
    message.header.change_mask = LinkFlags::Up;
    let object = format!("link {}", link.name);
    route.request(
        Ask {
            operation,
            object: &object,
        },
        RTM_SETLINK,
        0,
        &emit(&message),
    )
}

/// Keeps IPv6 from giving a link an address of its own, and so from speaking on it. Without IPv6 there is nothing to keep.
pub(crate) fn without_addresses(route: &mut Netlink, link: &Link) {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    let silent = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
        vec![silent],
    )])];
    let object = format!("the IPv6 address mode of {}", link.name);
    let ask = Ask {
        operation: "set",
        object: &object,
    };
    if let Err(error) = route.request(ask, RTM_SETLINK, 0, &emit(&message)) {
        tracing::debug!(%error, "the link may take an address");
    }
}

/// Deletes a link; one that is gone already is as good as deleted.
///
/// # Errors
/// When the kernel refuses for another reason.
pub(crate) fn delete(route: &mut Netlink, link: &Link) -> Result<(), NetError> {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    let object = format!("link {}", link.name);
    match route.request(
        Ask {
            operation: "delete",
            object: &object,
        },
        RTM_DELLINK,
        0,
        &emit(&message),
    ) {
        Err(e) if e.is_absent() => Ok(()),
        other => other,
    }
}

/// The links on which a packet of this namespace is to be met, each packet once per crossing.
///
/// Left out: links that are down; ours and everybody's `ifb`; ports of a bridge, bond or team (their packets pass the
/// master) and a VRF itself (its packets pass the ports); VLANs and macvlans whose parent is here too (their packets
/// pass the parent). Without this a packet would be met twice, and delayed twice.
#[must_use]
pub(crate) fn hookable(links: &[Link]) -> Vec<Link> {
    let kind_of = |index: u32| {
        links
            .iter()
            .find(|l| l.index == index)
            .map_or("", |l| l.kind.as_str())
    };
    let is_met = |link: &&Link| {
        let ported = link.master.is_some_and(|m| kind_of(m) != "vrf");
        let stacked = matches!(
            link.kind.as_str(),
            "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap"
        ) && link
            .lower
            .is_some_and(|lower| links.iter().any(|l| l.index == lower && l.up));
        link.up && !ported && !stacked && !matches!(link.kind.as_str(), "ifb" | "vrf")
    };
    links.iter().filter(is_met).cloned().collect()
}

fn emit(message: &LinkMessage) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

fn parse(body: &[u8]) -> Option<Link> {
    let index = attr::u32_ne(body.get(4..)?)?;
    let flags = attr::u32_ne(body.get(8..)?)?;
    let attributes = body.get(IFINFOMSG_BYTES..)?;
    let number = |kind| attr::find(attributes, kind).and_then(attr::u32_ne);
    let foreign = attr::find(attributes, IFLA_LINK_NETNSID).is_some();
    let info = attr::find(attributes, IFLA_LINKINFO).unwrap_or_default();
    Some(Link {
        index,
        name: attr::text(attr::find(attributes, IFLA_IFNAME)?),
        kind: attr::find(info, IFLA_INFO_KIND)
            .map(attr::text)
            .unwrap_or_default(),
        up: flags & LinkFlags::Up.bits() != 0,
        loopback: flags & LinkFlags::Loopback.bits() != 0,
        master: number(IFLA_MASTER),
        lower: number(IFLA_LINK).filter(|_| !foreign),
        sent_packets: attr::find(attributes, IFLA_STATS64)
            .and_then(|v| v.get(8..)?.first_chunk().map(|b| u64::from_ne_bytes(*b)))
            .unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str) -> Link {
        Link {
            index,
            name: name.into(),
            kind: kind.into(),
            up: true,
            loopback: name == "lo",
            master: None,
            lower: None,
            sent_packets: 0,
        }
    }

    fn names(links: &[Link]) -> Vec<String> {
        hookable(links).into_iter().map(|l| l.name).collect()
    }

    #[test]
    fn each_packet_is_met_once() {
        let port = Link {
            master: Some(2),
            ..link(3, "veth0", "veth")
        };
        let vlan = Link {
            lower: Some(1),
            ..link(4, "eth0.7", "vlan")
        };
        let peer = Link {
            lower: Some(6),
            ..link(5, "va", "veth")
        };
        let other = Link {
            lower: Some(5),
            ..link(6, "vb", "veth")
        };
        let all = [
            link(1, "eth0", ""),
            link(2, "br0", "bridge"),
            port,
            vlan,
            peer,
            other,
            link(9, "sq1", "ifb"),
        ];
        assert_eq!(names(&all), ["eth0", "br0", "va", "vb"]);
    }

    #[test]
    fn the_ports_of_a_vrf_are_met_not_the_vrf() {
        let port = Link {
            master: Some(2),
            ..link(3, "eth1", "")
        };
        assert_eq!(names(&[link(2, "blue", "vrf"), port]), ["eth1"]);
    }

    #[test]
    fn a_vlan_on_a_parent_elsewhere_is_met() {
        assert_eq!(names(&[link(4, "eth0.7", "vlan")]), ["eth0.7"]);
        let down = Link {
            up: false,
            ..link(4, "eth1", "")
        };
        assert!(names(&[down]).is_empty());
    }
}
