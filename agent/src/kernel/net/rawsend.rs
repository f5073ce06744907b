//! Sending a whole IP packet as it is, header included, for the copies of a duplicate and for false answers.
//!
//! A packet for an address of this host is routed over `lo` and received there, one for elsewhere leaves by the route.
//! The copies are told from other packets by their queueing priority (`SO_PRIORITY`), which no router and no other
//! namespace sees; a firewall mark would steer policy routing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
    setsockopt, socket, sockopt,
};

use super::NetError;

/// Two raw sockets, one for each IP version. Close-on-exec.
#[derive(Debug)]
pub(crate) struct RawSender {
    v4: OwnedFd,
    /// None where the kernel has no IPv6.
    v6: Option<OwnedFd>,
}

impl RawSender {
    /// Opens them in the current namespace; what they send carries this priority.
    ///
    /// # Errors
    /// Without CAP_NET_RAW and CAP_NET_ADMIN.
    pub(crate) fn open(priority: u32) -> Result<Self, NetError> {
        let v4 = raw(AddressFamily::Inet, priority)?;
        let v6 = match raw(AddressFamily::Inet6, priority) {
            Ok(socket) => Some(socket),
            Err(e) if e.errno() == Some(libc::EAFNOSUPPORT) => None,
            Err(e) => return Err(e),
        };
        Ok(Self { v4, v6 })
    }

    /// Sends a packet, and says whether it went. Broadcast and multicast never do: a copy of one that was *received*
    /// would go out to everybody.
    pub(crate) fn send(&self, packet: &[u8], link: u32) -> bool {
        match destination(packet) {
            Some(IpAddr::V4(to)) if !to.is_multicast() && !to.is_broadcast() => {
                let address = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendto(
                    self.v4.as_raw_fd(),
                    packet,
                    &address,
                    MsgFlags::MSG_DONTWAIT,
                )
                .is_ok()
            }
            Some(IpAddr::V6(to)) if !to.is_multicast() => {
                let scope = if to.is_unicast_link_local() { link } else { 0 };
                let address = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, scope));
                self.v6.as_ref().is_some_and(|s| {
                    sendto(s.as_raw_fd(), packet, &address, MsgFlags::MSG_DONTWAIT).is_ok()
                })
            }
            _ => false,
        }
    }
}

fn raw(family: AddressFamily, priority: u32) -> Result<OwnedFd, NetError> {
    let failed = |e: nix::Error| NetError::io("open", format!("a raw {family:?} socket"), e.into());
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // IPPROTO_RAW: the header is ours (raw(7); for IPv6 rawv6_sendmsg with inet->hdrincl).
    let socket = socket(family, SockType::Raw, flags, SockProtocol::Raw).map_err(failed)?;
    let priority = i32::from_ne_bytes(priority.to_ne_bytes());
    setsockopt(&socket, sockopt::Priority, &priority).map_err(failed)?;
    Ok(socket)
}

fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => packet
            .get(16..20)?
            .first_chunk::<4>()
            .map(|b| Ipv4Addr::from(*b).into()),
        6 => packet
            .get(24..40)?
            .first_chunk::<16>()
            .map(|b| Ipv6Addr::from(*b).into()),
        _ => None,
    }
}
