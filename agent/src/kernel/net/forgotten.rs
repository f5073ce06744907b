//! What the kernel forgets with a link that is set down: IPv6 addresses, routes and permanent neighbours, of the link and of
//! those that sit on it. They are kept as the kernel tells them and given back as they were told, which it takes
//! (`ip route save` and `ip address save` do the same).
//!
//! Left out is what comes back by itself with the link: what the kernel makes (addresses of IPv4 stay, routes to what is
//! connected), and what a router tells again when it is asked.

use super::NetError;
use super::attr::{self, Body};
use super::links::{self, Link};
use super::netlink::{Ask, CREATE, Netlink};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;

const INET: u8 = 2;
const INET6: u8 = 10;
/// `struct ifaddrmsg`: family, prefix, flags, scope, u32 index.
const IFADDRMSG_BYTES: usize = 8;
/// `struct rtmsg`: family, two lengths, tos, table, protocol, scope, type, u32 flags.
const RTMSG_BYTES: usize = 12;
/// `struct ndmsg`: family, pad, u16 pad, i32 index, u16 state, flags, type.
const NDMSG_BYTES: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_MULTIPATH: u16 = 9;
const RTA_NH_ID: u16 = 30;
/// Who made a route: an ICMP redirect, the kernel, a router's advertisement. The three come back by themselves.
const BY_THEMSELVES: [u8; 3] = [1, 2, 9];
/// Of a route's flags those that may be asked for: pervasive and on-link. The others are the kernel's to say.
const FLAGS_ASKED: u32 = 2 | 4;
const NUD_PERMANENT: u16 = 0x80;

/// The most that is kept: a node in a large mesh has some hundred routes over one interface, and each is some 100 bytes.
pub(crate) const MOST: usize = 2000;
/// How long it is tried to give back what builds on what has just been given back: an IPv6 address may be used a second or
/// two after it came (duplicate address detection).
const BACK_LIMIT: Duration = Duration::from_secs(4);
const AGAIN: Duration = Duration::from_millis(20);

/// One address, route or neighbour, as the kernel told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Forgotten {
    /// The type of the message that makes it.
    kind: u16,
    /// The message.
    body: Vec<u8>,
}

/// What of the links with these numbers would be forgotten.
///
/// # Errors
/// The kernel refuses the lists; or there is something among it that cannot be given back, or more than [`MOST`].
pub(crate) fn with(route: &mut Netlink, indexes: &[u32]) -> Result<Vec<Forgotten>, NetError> {
    let mut all = Vec::new();
    let mut keep = |kind, body: &[u8]| {
        let body = body.to_vec();
        all.push(Forgotten { kind, body });
    };
    let asked = |object| Ask {
        operation: "list",
        object,
    };
    let mut of6 = [0; IFADDRMSG_BYTES];
    of6[0] = INET6;
    for (kind, body) in route.dump(asked("the IPv6 addresses"), RTM_GETADDR, &of6)? {
        let index = body.get(4..).and_then(attr::u32_ne);
        if kind == RTM_NEWADDR && index.is_some_and(|index| indexes.contains(&index)) {
            keep(kind, &body);
        }
    }
    for family in [INET, INET6] {
        let mut of = [0; RTMSG_BYTES];
        of[0] = family;
        for (kind, body) in route.dump(asked("the routes"), RTM_GETROUTE, &of)? {
            if kind == RTM_NEWROUTE && is_over(&body, indexes) {
                keep(kind, &restated(body)?);
            }
        }
        for (kind, body) in route.dump(asked("the neighbours"), RTM_GETNEIGH, &of)? {
            if kind == RTM_NEWNEIGH && is_permanent(&body, family, indexes) {
                keep(kind, &body);
            }
        }
    }
    if all.len() > MOST {
        return Err(NetError::TooMany {
            what: "an interface's addresses and routes",
            wanted: all.len(),
            limit: MOST,
        });
    }
    Ok(all)
}

/// A route that somebody made, over one of these links.
fn is_over(body: &[u8], indexes: &[u32]) -> bool {
    let (Some(header), Some(rest)) = (body.get(..RTMSG_BYTES), body.get(RTMSG_BYTES..)) else {
        return false;
    };
    let here = |bytes: &[u8]| attr::u32_ne(bytes).is_some_and(|index| indexes.contains(&index));
    let by_oif = attr::find(rest, RTA_OIF).is_some_and(here);
    // `struct rtnexthop`: u16 length, flags, hops, i32 index; then attributes.
    let mut hops = attr::find(rest, RTA_MULTIPATH).unwrap_or_default();
    let mut by_hop = false;
    while let Some(length) = hops.first_chunk().map(|b| u16::from_ne_bytes(*b)) {
        by_hop |= hops.get(4..).is_some_and(here);
        hops = hops
            .get(usize::from(length).max(8).next_multiple_of(4)..)
            .unwrap_or_default();
    }
    !BY_THEMSELVES.contains(&header[5]) && (by_oif || by_hop)
}

/// The route as it is to be asked for.
fn restated(mut body: Vec<u8>) -> Result<Vec<u8>, NetError> {
    if attr::find(&body[RTMSG_BYTES..], RTA_NH_ID).is_some() {
        let why = io::Error::other("the kernel forgets its nexthop object, which is not put back");
        return Err(NetError::io("remember", "a route with `nhid`", why));
    }
    let flags = attr::u32_ne(&body[8..]).unwrap_or(0) & FLAGS_ASKED;
    body[8..RTMSG_BYTES].copy_from_slice(&flags.to_ne_bytes());
    Ok(body)
}

fn is_permanent(body: &[u8], family: u8, indexes: &[u32]) -> bool {
    let state = body.get(8..10).map(|b| u16::from_ne_bytes([b[0], b[1]]));
    let index = body.get(4..).and_then(attr::u32_ne);
    body.len() > NDMSG_BYTES
        && body[0] == family
        && state.is_some_and(|state| state & NUD_PERMANENT != 0)
        && index.is_some_and(|index| indexes.contains(&index))
}

/// Gives it all back, to a link that is up. What is there already is as good as given back.
///
/// # Errors
/// The first that the kernel does not take, after all others.
pub(crate) fn give_back(route: &mut Netlink, all: &[Forgotten]) -> Result<(), NetError> {
    let begun = Instant::now();
    let mut left: Vec<&Forgotten> = all.iter().collect();
    loop {
        let mut first = None;
        left.retain(|one| match one.give_back(route) {
            Ok(()) => false,
            Err(error) => {
                first.get_or_insert(error);
                true
            }
        });
        match first {
            None => return Ok(()),
            Some(error) if begun.elapsed() > BACK_LIMIT => return Err(error),
            Some(_) => std::thread::sleep(AGAIN),
        }
    }
}

impl Forgotten {
    fn give_back(&self, route: &mut Netlink) -> Result<(), NetError> {
        let object = match self.kind {
            RTM_NEWADDR => "an IPv6 address",
            RTM_NEWROUTE => "a route",
            _ => "a neighbour",
        };
        let ask = Ask {
            operation: "put back",
            object,
        };
        match route.request(
            ask,
            self.kind,
            CREATE | super::netlink::EXCLUSIVE,
            &self.body,
        ) {
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }
}

/// The number of the link over which this namespace reaches an address; none where it does not.
///
/// # Errors
/// The kernel does not answer.
pub(crate) fn way_to(route: &mut Netlink, address: IpAddr) -> Result<Option<u32>, NetError> {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (INET6, v6.octets().to_vec()),
    };
    let mut header = [0; RTMSG_BYTES];
    header[0] = family;
    header[1] = (bytes.len() * 8) as u8;
    let mut body = Body::with_header(&header);
    body.put(RTA_DST, &bytes);
    let object = format!("the way to {address}");
    let ask = Ask {
        operation: "look up",
        object: &object,
    };
    match route.fetch(ask, RTM_GETROUTE, body.bytes()) {
        Ok(found) => Ok(found
            .iter()
            .find_map(|body| attr::find(body.get(RTMSG_BYTES..)?, RTA_OIF).and_then(attr::u32_ne))),
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The numbers of a link and of all that sit on it.
pub(crate) fn stack_on(all: &[Link], index: u32) -> Vec<u32> {
    let mut found = vec![index];
    let mut at = 0;
    while let Some(&below) = found.get(at) {
        at += 1;
        let above = all.iter().filter(|link| link.lower == Some(below));
        let fresh: Vec<u32> = above
            .map(|link| link.index)
            .filter(|above| !found.contains(above))
            .collect();
        found.extend(fresh);
    }
    found
}

/// Whether what leaves by the link `way` needs the link `index`: it is that, sits on it, or has it as a port.
pub(crate) fn needs(all: &[Link], way: u32, index: u32) -> bool {
    let stack = stack_on(all, index);
    let masters = all
        .iter()
        .filter(|link| stack.contains(&link.index))
        .filter_map(|link| link.master);
    stack.contains(&way)
        || masters
            .flat_map(|master| stack_on(all, master))
            .any(|up| up == way)
}

/// The link of that number and all others, of the namespace that the socket was opened in.
pub(crate) fn named(
    route: &mut Netlink,
    name: &str,
) -> Result<(Option<Link>, Vec<Link>), NetError> {
    let all = links::list(route)?;
    let found = all.iter().find(|link| link.name == name).cloned();
    Ok((found, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, lower: Option<u32>, master: Option<u32>) -> Link {
        Link {
            index,
            name: format!("l{index}"),
            kind: String::new(),
            up: true,
            loopback: false,
            master,
            lower,
            sent_packets: 0,
        }
    }

    #[test]
    fn a_way_needs_what_is_below_it_and_its_ports() {
        // 2 is a port of the bridge 5, on which sits the VLAN 6; 3 stands alone, and 4 sits on it.
        let all = [
            link(2, None, Some(5)),
            link(3, None, None),
            link(4, Some(3), None),
            link(5, None, None),
            link(6, Some(5), None),
        ];
        let needed: Vec<(u32, u32)> = (2..=6)
            .flat_map(|way| (2..=6).map(move |index| (way, index)))
            .filter(|(way, index)| needs(&all, *way, *index))
            .collect();
        let expected = [
            (2, 2),
            (3, 3),
            (4, 3),
            (4, 4),
            (5, 2),
            (5, 5),
            (6, 2),
            (6, 5),
            (6, 6),
        ];
        assert_eq!(needed, expected);
    }
}
