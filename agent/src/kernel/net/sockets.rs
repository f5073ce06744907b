//! The sockets of this network namespace as the kernel lists them (`include/uapi/linux/inet_diag.h`), and ending one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::NetError;
use super::netlink::{Ask, Netlink, Protocol};

/// `SOCK_DIAG_BY_FAMILY`, `SOCK_DESTROY`.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const TCP: u8 = 6;
/// Of `enum tcp_state`, those in which there is a connection that can be reset: established, the two waits for a FIN,
/// and the wait for this side's own.
const CONNECTED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8;
/// `struct inet_diag_sockid`.
const ID_BYTES: usize = 48;

/// One TCP connection of this namespace's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The end that is here.
    pub(crate) local: SocketAddr,
    /// The other.
    pub(crate) remote: SocketAddr,
    /// The kernel's own name for the socket, whole (`struct inet_diag_sockid`), and its address family.
    id: [u8; ID_BYTES],
    family: u8,
}

/// What sockets are asked through.
#[derive(Debug)]
pub(crate) struct Sockets(Netlink);

impl Sockets {
    /// Opens it in the current namespace.
    ///
    /// # Errors
    /// Where the kernel has no sock_diag.
    pub(crate) fn open() -> Result<Self, NetError> {
        Netlink::open(Protocol::Sockets).map(Self)
    }

    /// The TCP connections there are, over IPv4 and IPv6.
    ///
    /// # Errors
    /// Where the kernel has no tcp_diag.
    pub(crate) fn connections(&mut self) -> Result<Vec<Connection>, NetError> {
        let ask = Ask {
            operation: "list",
            object: "the TCP connections",
        };
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = family as u8;
            let body = request(family, CONNECTED, &[0; ID_BYTES]);
            let answers = self.0.dump(ask, BY_FAMILY, &body)?;
            found.extend(answers.iter().filter_map(|(_, body)| parse(body)));
        }
        Ok(found)
    }

    /// Ends a connection: a reset to the other end, an error to this one.
    ///
    /// # Errors
    /// Where the kernel lacks CONFIG_INET_DIAG_DESTROY, or the connection is gone.
    pub(crate) fn destroy(&mut self, connection: &Connection) -> Result<(), NetError> {
        let object = format!(
            "the connection from {} to {}",
            connection.local, connection.remote
        );
        let ask = Ask {
            operation: "reset",
            object: &object,
        };
        let body = request(connection.family, u32::MAX, &connection.id);
        self.0.request(ask, DESTROY, 0, &body)
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, states: u32, id: &[u8; ID_BYTES]) -> Vec<u8> {
    let mut body = vec![family, TCP, 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend(id);
    body
}

/// `struct inet_diag_msg`.
fn parse(body: &[u8]) -> Option<Connection> {
    let family = *body.first()?;
    let id: [u8; ID_BYTES] = *body.get(4..)?.first_chunk()?;
    let port = |at: usize| u16::from_be_bytes([id[at], id[at + 1]]);
    let address = |at: usize| -> Option<IpAddr> {
        let bytes = id.get(at..)?;
        if i32::from(family) == libc::AF_INET {
            Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into())
        } else {
            // What an IPv6 socket does over IPv4 is IPv4 on the wire.
            Some(IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)).to_canonical())
        }
    };
    Some(Connection {
        local: SocketAddr::new(address(4)?, port(0)),
        remote: SocketAddr::new(address(20)?, port(2)),
        id,
        family,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_read_as_its_packets_show_it() {
        let mut body = vec![10, 1, 0, 0];
        body.extend([0x1f, 0x90, 0x00, 0x50]);
        body.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
        body.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2]);
        body.extend([0; 12]);
        let read = parse(&body).expect("a connection");
        assert_eq!(read.local, "10.0.0.1:8080".parse().expect("an address"));
        assert_eq!(read.remote, "10.0.0.2:80".parse().expect("an address"));
        assert_eq!(parse(&body[..40]), None);
    }
}
