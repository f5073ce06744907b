//! Connections as the kernel tracks them (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`).
//!
//! Where addresses are translated, as kube-proxy does for what goes to a service, a packet on the wire has other ends than its socket
//! has. The kernel knows both.

use std::net::{IpAddr, SocketAddr};

use super::NetError;
use super::attr::{self, Body};
use super::netlink::{Ask, Netlink, Protocol};

/// `NFNL_SUBSYS_CTNETLINK`, `IPCTNL_MSG_CT_GET`.
const GET: u16 = 1 << 8 | 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
/// Source and destination, of each IP version.
const CTA_IP_V4: [u16; 2] = [1, 2];
const CTA_IP_V6: [u16; 2] = [3, 4];
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_PORTS: [u16; 2] = [2, 3];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Source and destination.
type Ends = (SocketAddr, SocketAddr);

/// A connection, or a conversation of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tracked {
    /// Its first packet as it was sent.
    original: Ends,
    /// Its answers as they are sent.
    reply: Ends,
}

impl Tracked {
    /// Of the kernel's attributes; `None` where they have no ports.
    #[must_use]
    pub(crate) fn parse(attributes: &[u8]) -> Option<Self> {
        let ends = |kind| attr::find(attributes, kind).and_then(parse_ends);
        Some(Self {
            original: ends(CTA_TUPLE_ORIG)?,
            reply: ends(CTA_TUPLE_REPLY)?,
        })
    }

    /// This host's end and the other one as the socket here has them, where packets on the wire have these.
    #[must_use]
    pub(crate) fn socket_of(&self, local: SocketAddr, remote: SocketAddr) -> Option<Ends> {
        if self.reply == (remote, local) {
            // It began here, and is answered from another address than it asked.
            Some(self.original)
        } else if self.original == (remote, local) {
            // It came to another address than it is answered from.
            Some(self.reply)
        } else {
            None
        }
    }
}

/// What the tracking is asked through.
#[derive(Debug)]
pub(crate) struct Tracking(Netlink);

impl Tracking {
    /// Opens it in the current namespace.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub(crate) fn open() -> Result<Self, NetError> {
        Netlink::open(Protocol::Netfilter).map(Self)
    }

    /// The connection whose packets have these ends on the wire, by what comes from `remote`; `None` where the kernel tracks none.
    ///
    /// # Errors
    /// Where the kernel has no ctnetlink.
    pub(crate) fn of(
        &mut self,
        is_tcp: bool,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<Option<Tracked>, NetError> {
        let ask = Ask {
            operation: "ask for",
            object: "a tracked connection",
        };
        match self.0.fetch(ask, GET, &request(is_tcp, remote, local)) {
            Ok(found) => Ok(found
                .first()
                .and_then(|body| Tracked::parse(body.get(HEADER_BYTES..)?))),
            Err(e) if e.is_absent() => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// `struct nfgenmsg`.
const HEADER_BYTES: usize = 4;

fn request(is_tcp: bool, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (family, kinds) = if from.is_ipv4() {
        (libc::AF_INET, CTA_IP_V4)
    } else {
        (libc::AF_INET6, CTA_IP_V6)
    };
    let ends = [from, to];
    let mut body = Body::with_header(&[family as u8, 0, 0, 0]);
    body.nest(CTA_TUPLE_ORIG, |tuple| {
        tuple.nest(CTA_TUPLE_IP, |addresses| {
            for (kind, end) in kinds.into_iter().zip(ends) {
                match end.ip() {
                    IpAddr::V4(v4) => addresses.put(kind, &v4.octets()),
                    IpAddr::V6(v6) => addresses.put(kind, &v6.octets()),
                };
            }
        });
        tuple.nest(CTA_TUPLE_PROTO, |protocol| {
            protocol.put(CTA_PROTO_NUM, &[if is_tcp { TCP } else { UDP }]);
            for (kind, end) in CTA_PROTO_PORTS.into_iter().zip(ends) {
                protocol.put_be16(kind, end.port());
            }
        });
    });
    body.into_bytes()
}

fn parse_ends(tuple: &[u8]) -> Option<Ends> {
    let addresses = attr::find(tuple, CTA_TUPLE_IP)?;
    let protocol = attr::find(tuple, CTA_TUPLE_PROTO)?;
    let end = |which: usize| {
        let v4 = attr::find(addresses, CTA_IP_V4[which])
            .and_then(|bytes| Some(IpAddr::from(*bytes.first_chunk::<4>()?)));
        let v6 = || {
            attr::find(addresses, CTA_IP_V6[which])
                .and_then(|bytes| Some(IpAddr::from(*bytes.first_chunk::<16>()?)))
        };
        let port = attr::find(protocol, CTA_PROTO_PORTS[which])?.first_chunk::<2>()?;
        Some(SocketAddr::new(v4.or_else(v6)?, u16::from_be_bytes(*port)))
    };
    Some((end(0)?, end(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_socket_is_found_on_either_side_of_a_translation() {
        let to_a_service = Tracked {
            original: (at("10.0.0.1:40000"), at("10.96.0.10:80")),
            reply: (at("10.1.0.7:8080"), at("10.0.0.1:40000")),
        };
        let socket = to_a_service.socket_of(at("10.0.0.1:40000"), at("10.1.0.7:8080"));
        assert_eq!(socket, Some(to_a_service.original), "who asked");
        let to_a_node = Tracked {
            original: (at("192.0.2.1:40000"), at("10.0.0.1:30080")),
            reply: (at("10.0.0.1:8080"), at("192.0.2.1:40000")),
        };
        let socket = to_a_node.socket_of(at("10.0.0.1:30080"), at("192.0.2.1:40000"));
        assert_eq!(socket, Some(to_a_node.reply), "who answers");
        let socket = to_a_node.socket_of(at("10.0.0.1:8080"), at("192.0.2.1:40001"));
        assert_eq!(socket, None, "another conversation");
    }

    #[test]
    fn what_is_asked_for_is_read_as_it_was_written() {
        for (from, to) in [
            (at("10.0.0.1:40000"), at("10.96.0.10:80")),
            (at("[fd00::1]:40000"), at("[fd00::2]:80")),
        ] {
            let body = request(false, from, to);
            let tuple = attr::find(&body[HEADER_BYTES..], CTA_TUPLE_ORIG).expect("a tuple");
            assert_eq!(parse_ends(tuple), Some((from, to)));
        }
        assert_eq!(parse_ends(&[]), None);
    }
}
