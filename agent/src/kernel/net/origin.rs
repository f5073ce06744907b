//! Connections that were led here: where they were meant for, and how our own are told from others'.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind, getsockopt, listen, setsockopt,
    socket, sockopt,
};

/// Connections that may wait to be taken.
const BACKLOG: i32 = 1_024;

/// The queueing priority of everything that a holder itself sends on behalf of others. All holders use one: what one of
/// them sends on must not be led to another, or two of them could send a connection round and round. No router and no
/// other namespace sees it; a firewall mark would steer policy routing.
pub(crate) const OWN_PRIORITY: u32 = 0x5351_4c4c;

/// Where a connection was meant for before it was led here (`SO_ORIGINAL_DST`). Its own address where it was not.
///
/// # Errors
/// When connection tracking does not know it.
pub(crate) fn meant_for(socket: &impl AsFd, ip_v6: bool) -> io::Result<SocketAddr> {
    if ip_v6 {
        let found = getsockopt(socket, sockopt::Ip6tOriginalDst)?;
        let port = u16::from_be(found.sin6_port);
        let address = found.sin6_addr.s6_addr.into();
        return Ok(SocketAddrV6::new(address, port, 0, found.sin6_scope_id).into());
    }
    let found = getsockopt(socket, sockopt::OriginalDst)?;
    let address = u32::from_be(found.sin_addr.s_addr).into();
    Ok(SocketAddrV4::new(address, u16::from_be(found.sin_port)).into())
}

/// Marks a socket as a holder's own, before it connects.
///
/// # Errors
/// Without CAP_NET_ADMIN.
pub(crate) fn mark_own(socket: &impl AsFd) -> io::Result<()> {
    let priority = i32::from_ne_bytes(OWN_PRIORITY.to_ne_bytes());
    Ok(setsockopt(socket, sockopt::Priority, &priority)?)
}

/// A listener for IPv6 alone, so that the same port can be had for IPv4.
///
/// # Errors
/// When the port is taken, or there is no IPv6.
pub(crate) fn listen_v6_only(address: Ipv6Addr, port: u16) -> io::Result<TcpListener> {
    let made = socket(
        AddressFamily::Inet6,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&made, sockopt::Ipv6V6Only, &true)?;
    bind(
        made.as_raw_fd(),
        &SockaddrIn6::from(SocketAddrV6::new(address, port, 0, 0)),
    )?;
    listen(&made, Backlog::new(BACKLOG)?)?;
    Ok(made.into())
}

/// Makes the socket's end a reset: what was not sent is thrown away and the other end is told at once.
pub(crate) fn end_by_reset(socket: &impl AsFd) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // Where it does not work, the end is an ordinary one.
    let _ = setsockopt(socket, sockopt::Linger, &linger);
}

/// Where the descriptors of listeners and led connections begin: above those that a holder has otherwise.
const HIGH: i32 = 256;

/// Gives a socket a descriptor by which it is closed before the table that leads connections to it.
///
/// The kernel lets go of a dying process's files last in, first out (`task_work_run`), and so from the highest
/// descriptor down. A connection must end while its addresses are still translated, or its client would never hear of it.
pub(crate) fn close_early<T: From<OwnedFd> + Into<OwnedFd>>(socket: T) -> T {
    let own = socket.into();
    match twin(&own) {
        Some(high) => high.into(),
        None => own.into(),
    }
}

/// A second descriptor of the same socket, closed as early; none where the process has none left.
pub(crate) fn twin(socket: &impl AsFd) -> Option<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(socket, HIGH).ok()
}
