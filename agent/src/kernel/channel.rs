//! The control channel between the agent and one holder: whole messages, with descriptors attached.

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The most bytes one message may have. A fault whose names resolve to a thousand addresses takes 40 KiB; the kernel's
/// default send buffer takes 200 KiB at once.
pub(crate) const MESSAGE_BYTES_MAX: usize = 128 << 10;

/// The most descriptors one message may carry: a process, a namespace, and one directory for each of cgroup v1's
/// hierarchies (13 controllers are known to Linux 6.18, named ones aside). The kernel's own limit is 253.
pub(crate) const DESCRIPTORS_MAX: usize = 32;

/// A connected pair. Messages keep their boundaries (SOCK_SEQPACKET), and the other end's death is seen as its end.
///
/// # Errors
/// `EMFILE` and `ENFILE` when there are no descriptors left.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one message, never waiting: `EAGAIN` means that the other side does not read.
///
/// # Errors
/// `EMSGSIZE` above [`MESSAGE_BYTES_MAX`], `EPIPE` when the other side is gone.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.len() > MESSAGE_BYTES_MAX || fds.len() > DESCRIPTORS_MAX {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?;
    Ok(())
}

/// Receives one message if one is there; `None` at the end. Received descriptors are not inherited by children.
///
/// # Errors
/// `EAGAIN` when nothing is there; `EMSGSIZE` when the message, or what came with it, was cut off.
pub(crate) fn receive(socket: impl AsFd, fds: &mut Vec<OwnedFd>) -> io::Result<Option<Vec<u8>>> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    // The length first, so that a holder of a small fault need not keep a buffer for the largest.
    let peek = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    let (_, length) = rustix::net::recv(&socket, [0u8; 0].as_mut_slice(), peek)?;
    let mut bytes = vec![0u8; length.clamp(1, MESSAGE_BYTES_MAX)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let got = rustix::net::recvmsg(&socket, &mut buffers, &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let cut = rustix::net::ReturnFlags::TRUNC | rustix::net::ReturnFlags::CTRUNC;
    if got.flags.intersects(cut) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    bytes.truncate(got.bytes);
    Ok(Some(bytes))
}

/// A peer that is silent for so long is asked whether it is there.
const ASK_AFTER: Duration = Duration::from_secs(10);
/// What was sent and is not acknowledged for so long, or asked and not answered, ends a connection.
const LOST_AFTER_MS: u32 = 20_000;

/// Lets the kernel notice that the other end of a TCP connection is gone, also when nothing is said (RFC 5482; tcp(7)).
pub(crate) fn notice_loss(socket: impl AsFd) -> std::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, ASK_AFTER)?;
    sockopt::set_tcp_keepintvl(&socket, ASK_AFTER / 2)?;
    sockopt::set_tcp_user_timeout(&socket, LOST_AFTER_MS)?;
    Ok(())
}

/// Where a socket leads to, if that is over a network.
pub(crate) fn peer(socket: impl AsFd) -> Option<std::net::SocketAddr> {
    let peer = rustix::net::getpeername(socket).ok()??;
    std::net::SocketAddr::try_from(peer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_where_there_is_a_network() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let stream = std::net::TcpStream::connect(there).unwrap();
        assert_eq!(peer(&stream), Some(there));
        assert_eq!(peer(pair().unwrap().0), None);
    }

    #[test]
    fn messages_keep_their_boundaries_and_descriptors() {
        let (one, other) = pair().unwrap();
        send(&one, b"first", &[one.as_fd()]).unwrap();
        send(&one, b"second", &[]).unwrap();
        let mut fds = Vec::new();
        assert_eq!(receive(&other, &mut fds).unwrap().unwrap(), b"first");
        assert_eq!(fds.len(), 1);
        assert_eq!(receive(&other, &mut fds).unwrap().unwrap(), b"second");
        let nothing = receive(&other, &mut fds).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        fds.clear();
        drop(one);
        assert!(receive(&other, &mut fds).unwrap().is_none());
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        let (one, _other) = pair().unwrap();
        let error = send(&one, &vec![0; MESSAGE_BYTES_MAX + 1], &[]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        send(&one, &vec![0; MESSAGE_BYTES_MAX], &[]).unwrap();
    }
}
