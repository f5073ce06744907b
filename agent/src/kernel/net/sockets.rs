//! The sockets of this network namespace as the kernel lists them (`include/uapi/linux/inet_diag.h`), and ending one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use super::NetError;
use super::attr;
use super::netlink::{Ask, Netlink, Protocol};

/// `SOCK_DIAG_BY_FAMILY`, `SOCK_DESTROY`.
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const TCP: u8 = 6;
const UDP: u8 = 17;
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
    /// Its inode, by which /proc shows who has it open; 0 where nobody has.
    pub(crate) inode: u32,
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

    /// The inode of a socket: `None` where there is none, 0 where no process has it open.
    ///
    /// # Errors
    /// Where the kernel has no tcp_diag or udp_diag.
    pub(crate) fn inode_of(&mut self, asked: Asked) -> Result<Option<u32>, NetError> {
        let family = match asked.local {
            SocketAddr::V4(_) => libc::AF_INET,
            SocketAddr::V6(_) => libc::AF_INET6,
        };
        let mut body = request(family as u8, u32::MAX, &asked.id());
        if !asked.is_tcp {
            body[1] = UDP;
        }
        let ask = Ask {
            operation: "ask for",
            object: "the socket of a packet",
        };
        match self.0.fetch(ask, BY_FAMILY, &body) {
            Ok(found) => Ok(found.first().and_then(|body| inode(body))),
            // ESTALE: it is no full socket, as while a handshake is under way.
            Err(e) if e.is_absent() || e.errno() == Some(libc::ESTALE) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Asks for a TCP and a UDP socket opened for this: a kernel that cannot be asked answers as if there were none.
    ///
    /// # Errors
    /// Where they are not found.
    pub(crate) fn try_out(&mut self) -> Result<(), NetError> {
        let failed = |e| NetError::io("open", "a socket to ask for", e);
        let any = (Ipv4Addr::UNSPECIFIED, 0);
        let tcp = TcpListener::bind(any).map_err(failed)?;
        let udp = UdpSocket::bind(any).map_err(failed)?;
        let remote = SocketAddr::from(any);
        for (is_tcp, at) in [(true, tcp.local_addr()), (false, udp.local_addr())] {
            let local = SocketAddr::from((Ipv4Addr::LOCALHOST, at.map_err(failed)?.port()));
            let found = self.inode_of(Asked {
                is_tcp,
                local,
                remote,
                link: 0,
            })?;
            if found.unwrap_or(0) == 0 {
                return Err(NetError::ReadBack {
                    object: if is_tcp {
                        "a TCP socket"
                    } else {
                        "a UDP socket"
                    }
                    .to_owned(),
                    expected: "its inode".to_owned(),
                    found: "no such socket".to_owned(),
                });
            }
        }
        Ok(())
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
        inode: inode(body)?,
        id,
        family,
    })
}

/// Of `struct inet_diag_msg`, behind four bytes, the id and four numbers.
fn inode(body: &[u8]) -> Option<u32> {
    attr::u32_ne(body.get(4 + ID_BYTES + 16..)?)
}

/// Whose socket is looked for: the one that packets between these ends belong to here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// TCP; otherwise UDP.
    pub(crate) is_tcp: bool,
    /// The end that is here.
    pub(crate) local: SocketAddr,
    /// The other.
    pub(crate) remote: SocketAddr,
    /// The link they come or go by: a socket may be bound to it.
    pub(crate) link: u32,
}

impl Asked {
    /// The socket that listens where a connection came in.
    pub(crate) fn listener(self) -> Self {
        let any: IpAddr = match self.remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self {
            remote: SocketAddr::new(any, 0),
            ..self
        }
    }

    /// `struct inet_diag_sockid`, with no cookie.
    fn id(self) -> [u8; ID_BYTES] {
        // For UDP the kernel takes the ends the other way round (`udp_dump_one`, "for historical reasons").
        let (first, second) = if self.is_tcp {
            (self.local, self.remote)
        } else {
            (self.remote, self.local)
        };
        let mut id = [0; ID_BYTES];
        for (port_at, address_at, end) in [(0, 4, first), (2, 20, second)] {
            id[port_at..port_at + 2].copy_from_slice(&end.port().to_be_bytes());
            match end.ip() {
                IpAddr::V4(v4) => id[address_at..address_at + 4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => id[address_at..address_at + 16].copy_from_slice(&v6.octets()),
            }
        }
        id[36..40].copy_from_slice(&self.link.to_ne_bytes());
        id[40..].fill(0xff);
        id
    }
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
        body.extend([0; 16]);
        body.extend(4711u32.to_ne_bytes());
        let read = parse(&body).expect("a connection");
        assert_eq!(read.local, "10.0.0.1:8080".parse().expect("an address"));
        assert_eq!(read.remote, "10.0.0.2:80".parse().expect("an address"));
        assert_eq!(read.inode, 4711);
        assert_eq!(parse(&body[..40]), None);
    }
}
