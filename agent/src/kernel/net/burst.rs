//! Many datagrams read with one system call (recvmmsg(2)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Datagrams read at once: more than come between two looks of a reader that keeps up.
pub(crate) const BURST: usize = 32;
/// The longest datagram that has room.
const SLOT_BYTES: usize = 512;

/// Room for datagrams, and those that were read last.
#[derive(Debug)]
pub(crate) struct Burst {
    room: Vec<u8>,
    lengths: [usize; BURST],
    read: usize,
}

impl Burst {
    /// Empty.
    pub(crate) fn new() -> Self {
        Self {
            room: vec![0; BURST * SLOT_BYTES],
            lengths: [0; BURST],
            read: 0,
        }
    }

    /// Reads what has come, never waiting, and forgets what was read before; says how many there were. Fewer than [`BURST`] means
    /// that there are no more just now.
    ///
    /// # Errors
    /// When the socket fails; `EMSGSIZE` where a datagram had no room.
    pub(crate) fn read(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.read = 0;
        // SAFETY: an array of `mmsghdr` and `iovec` of zeros is valid: null pointers and no lengths.
        let (mut heads, mut parts): ([libc::mmsghdr; BURST], [libc::iovec; BURST]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let slots = self.room.chunks_exact_mut(SLOT_BYTES);
        for ((head, part), slot) in heads.iter_mut().zip(&mut parts).zip(slots) {
            part.iov_base = slot.as_mut_ptr().cast();
            part.iov_len = slot.len();
            head.msg_hdr.msg_iov = part;
            head.msg_hdr.msg_iovlen = 1;
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: each header points to one part, each part to a slot of its own in `room`; all outlive the call, which keeps none.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                heads.as_mut_ptr(),
                BURST as libc::c_uint,
                flags,
                std::ptr::null_mut(),
            )
        };
        let got = match usize::try_from(got) {
            Ok(got) => got,
            Err(_) => {
                let error = io::Error::last_os_error();
                let none = matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                );
                return if none { Ok(0) } else { Err(error) };
            }
        };
        for (head, length) in heads.iter().take(got).zip(&mut self.lengths) {
            if head.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            *length = head.msg_len as usize;
        }
        self.read = got;
        Ok(got)
    }

    /// Those that were read last, in the order they came.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let slots = self.room.chunks_exact(SLOT_BYTES).zip(self.lengths);
        slots
            .take(self.read)
            .map(|(slot, length)| slot.get(..length).unwrap_or(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn all_that_has_come_is_read_in_order_and_once() {
        let (from, to) = UnixDatagram::pair().unwrap();
        let mut burst = Burst::new();
        assert_eq!(burst.read(to.as_fd()).unwrap(), 0);
        for number in 0..40u8 {
            from.send(&vec![number; usize::from(number)]).unwrap();
            if number % 8 == 7 {
                assert_eq!(burst.read(to.as_fd()).unwrap(), 8);
                let seen: Vec<&[u8]> = burst.datagrams().collect();
                let sent: Vec<Vec<u8>> = (number - 7..=number)
                    .map(|n| vec![n; usize::from(n)])
                    .collect();
                assert_eq!(seen, sent);
            }
        }
        assert_eq!(burst.read(to.as_fd()).unwrap(), 0);
        assert_eq!(burst.datagrams().count(), 0);
    }

    #[test]
    fn what_has_no_room_is_an_error() {
        let (from, to) = UnixDatagram::pair().unwrap();
        let mut burst = Burst::new();
        from.send(&[0; SLOT_BYTES]).unwrap();
        assert_eq!(burst.read(to.as_fd()).unwrap(), 1);
        from.send(&[0; SLOT_BYTES + 1]).unwrap();
        let error = burst.read(to.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(burst.datagrams().count(), 0);
    }
}
