//! TCP ports of the network namespace that this process is in.

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

/// The ports that outgoing connections are given (`net.ipv4.ip_local_port_range`, for IPv6 as well).
///
/// # Errors
/// /proc/sys is not there, or says something else.
pub(crate) fn ephemeral() -> io::Result<RangeInclusive<u16>> {
    // The file shows the namespace of whoever opens it.
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let mut ends = text.split_ascii_whitespace().map(str::parse::<u16>);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => Ok(first..=last),
        _ => Err(io::Error::other(format!(
            "{text:?} is not a range of ports"
        ))),
    }
}

/// Takes a port for every address of both families; `None` where somebody has it, for any address.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOBUFS`.
pub(crate) fn take(port: u16) -> io::Result<Option<OwnedFd>> {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    match bound(AddressFamily::INET6, any) {
        // No IPv6 in this kernel, or none in this namespace.
        Err(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL) => {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            taken(bound(AddressFamily::INET, any))
        }
        result => taken(result),
    }
}

fn taken(result: rustix::io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match result {
        Ok(socket) => Ok(Some(socket)),
        // A port below ip_unprivileged_port_start is nobody's to be given either.
        Err(rustix::io::Errno::ADDRINUSE | rustix::io::Errno::ACCESS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn bound(family: AddressFamily, at: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    rustix::net::bind(&socket, &at)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_taken_for_everybody() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(take(port).unwrap().is_none());
        drop(listener);
        let held = take(port).unwrap();
        assert!(held.is_some());
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err());
        drop(held);
        assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_ok());
    }
}
