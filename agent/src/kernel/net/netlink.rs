//! Synchronous netlink: one request, its acknowledgement, dumps, and nfnetlink's atomic batches.
//!
//! Errors carry the kernel's extended acknowledgement ("Specified qdisc kind is unknown") beside the number.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::NetError;
use super::attr;

const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The first message type that is not netlink's own control (`NLMSG_MIN_TYPE`).
const TYPE_MIN: u16 = 0x10;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NFNL_BATCH_BEGIN: u16 = 0x10;
const NFNL_BATCH_END: u16 = 0x11;

/// Create it (`NLM_F_CREATE`).
pub(crate) const CREATE: u16 = 0x400;
/// It must not exist yet (`NLM_F_EXCL`).
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// After what is there (`NLM_F_APPEND`), for rules of a chain.
pub(crate) const APPEND: u16 = 0x800;

/// How long the kernel may take to answer. It answers within the system call that asks, so any wait at all means
/// a lost answer; the limit only keeps a holder from hanging on it.
const ANSWER_SECONDS_MAX: i64 = 5;
/// Room for a whole batch in one send, which nfnetlink needs for atomicity: 1,024 rules of some 600 bytes, with a margin.
const SEND_BYTES_MAX: usize = 4 << 20;
/// A dump that the kernel marks as interrupted (something changed meanwhile) is asked for again, this often.
const DUMP_RETRIES_MAX: usize = 8;

/// Which netlink subsystem a socket speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Links, addresses, qdiscs (`NETLINK_ROUTE`).
    Route,
    /// nftables and queues (`NETLINK_NETFILTER`).
    Netfilter,
    /// Sockets (`NETLINK_SOCK_DIAG`).
    Sockets,
}

/// What is being asked, for the error that may come of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// As a verb: "create".
    pub(crate) operation: &'static str,
    /// Of what: "link sq1".
    pub(crate) object: &'a str,
}

/// One message of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The message's type with its subsystem in the high byte.
    pub(crate) kind: u16,
    /// `CREATE`, `EXCLUSIVE`, `APPEND`, or 0.
    pub(crate) flags: u16,
    /// Family header and attributes.
    pub(crate) body: Vec<u8>,
    /// What it concerns, for the error.
    pub(crate) object: String,
}

/// The answers to a dump: each its type and its body.
pub(crate) type Answers = Vec<(u16, Vec<u8>)>;

/// A netlink socket in the namespace it was opened in. Close-on-exec.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// The kernel's refusal of one message.
struct Refusal {
    sequence: u32,
    errno: i32,
    text: Option<String>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// When the kernel gives no socket (no such protocol compiled in, descriptors exhausted).
    pub(crate) fn open(protocol: Protocol) -> Result<Self, NetError> {
        let (number, name) = match protocol {
            Protocol::Route => (
                netlink_sys::protocols::NETLINK_ROUTE,
                "netlink route socket",
            ),
            Protocol::Netfilter => (
                netlink_sys::protocols::NETLINK_NETFILTER,
                "netlink netfilter socket",
            ),
            Protocol::Sockets => (
                netlink_sys::protocols::NETLINK_SOCK_DIAG,
                "netlink socket for sockets",
            ),
        };
        Self::open_number(number).map_err(|e| NetError::io("open", name, e))
    }

    fn open_number(number: isize) -> io::Result<Self> {
        let mut socket = Socket::new(number)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::new(ANSWER_SECONDS_MAX, 0),
        )?;
        // Needs CAP_NET_ADMIN over the initial user namespace; without it the default still fits small batches.
        if setsockopt(&socket, sockopt::SndBufForce, &SEND_BYTES_MAX).is_err() {
            setsockopt(&socket, sockopt::SndBuf, &SEND_BYTES_MAX)?;
        }
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// The kernel's name for this socket (its port id), which an owned table shows as its owner.
    ///
    /// # Errors
    /// When the socket's address cannot be read.
    pub(crate) fn port_id(&self) -> Result<u32, NetError> {
        let mut address = SocketAddr::new(0, 0);
        self.socket
            .get_address(&mut address)
            .map_err(|e| NetError::io("read the address of", "a netlink socket", e))?;
        Ok(address.port_number())
    }

    /// Sends one request and waits for its acknowledgement.
    ///
    /// # Errors
    /// What the kernel refuses, with its reason.
    pub(crate) fn request(
        &mut self,
        ask: Ask<'_>,
        kind: u16,
        flags: u16,
        body: &[u8],
    ) -> Result<(), NetError> {
        let sequence = self.next_sequence();
        let mut buffer = Vec::with_capacity(HEADER_BYTES + body.len());
        frame(
            &mut buffer,
            kind,
            flags | NLM_F_REQUEST | NLM_F_ACK,
            sequence,
            body,
        );
        self.send(ask, &buffer)?;
        match self.acknowledgement(ask, sequence..=sequence)? {
            None => Ok(()),
            Some(refusal) => Err(refused(ask, refusal)),
        }
    }

    /// Asks for one object; the bodies of what is answered before the acknowledgement.
    ///
    /// # Errors
    /// What the kernel refuses: that there is no such object, for one.
    pub(crate) fn fetch(
        &mut self,
        ask: Ask<'_>,
        kind: u16,
        body: &[u8],
    ) -> Result<Vec<Vec<u8>>, NetError> {
        let sequence = self.next_sequence();
        let mut buffer = Vec::with_capacity(HEADER_BYTES + body.len());
        frame(&mut buffer, kind, NLM_F_REQUEST | NLM_F_ACK, sequence, body);
        self.send(ask, &buffer)?;
        let mut found = Vec::new();
        loop {
            let bytes = self.receive(ask)?;
            for reply in replies(&bytes).filter(|r| r.sequence == sequence) {
                match reply.kind {
                    NLMSG_ERROR => {
                        return reply.refusal().map_or(Ok(found), |r| Err(refused(ask, r)));
                    }
                    kind if kind >= TYPE_MIN => found.push(reply.body.to_vec()),
                    _ => {}
                }
            }
        }
    }

    /// Asks for all objects of a kind; each answer is its type and body.
    ///
    /// # Errors
    /// What the kernel refuses, or a list that would not hold still for [`DUMP_RETRIES_MAX`] tries.
    pub(crate) fn dump(
        &mut self,
        ask: Ask<'_>,
        kind: u16,
        body: &[u8],
    ) -> Result<Answers, NetError> {
        for _ in 0..DUMP_RETRIES_MAX {
            let sequence = self.next_sequence();
            let mut buffer = Vec::with_capacity(HEADER_BYTES + body.len());
            frame(
                &mut buffer,
                kind,
                NLM_F_REQUEST | NLM_F_DUMP,
                sequence,
                body,
            );
            self.send(ask, &buffer)?;
            if let Some(found) = self.read_dump(ask, sequence)? {
                return Ok(found);
            }
        }
        Err(NetError::io(
            ask.operation,
            ask.object,
            io::Error::from_raw_os_error(libc::EAGAIN),
        ))
    }

    /// Applies messages as one nfnetlink transaction: all of them or none.
    ///
    /// # Errors
    /// The first message the kernel refuses, named; nothing was changed then.
    pub(crate) fn batch(
        &mut self,
        operation: &'static str,
        subsystem: u8,
        messages: &[Message],
    ) -> Result<(), NetError> {
        let Some(last) = messages.len().checked_sub(1) else {
            return Ok(());
        };
        let edge = [0, 0, 0, subsystem]; // struct nfgenmsg: any family, version 0, res_id = subsystem (big-endian)
        let mut buffer = Vec::new();
        let begin = self.next_sequence();
        frame(&mut buffer, NFNL_BATCH_BEGIN, NLM_F_REQUEST, begin, &edge);
        for (at, message) in messages.iter().enumerate() {
            // One acknowledgement, of the last: a thousand would overrun the receive buffer. Refusals always come.
            let ack = if at == last { NLM_F_ACK } else { 0 };
            let sequence = self.next_sequence();
            frame(
                &mut buffer,
                message.kind,
                message.flags | NLM_F_REQUEST | ack,
                sequence,
                &message.body,
            );
        }
        let end = self.next_sequence();
        frame(&mut buffer, NFNL_BATCH_END, NLM_F_REQUEST, end, &edge);

        let whole = Ask {
            operation,
            object: "the nftables transaction",
        };
        self.send(whole, &buffer)?;
        let Some(refusal) = self.acknowledgement(whole, begin..=end.wrapping_sub(1))? else {
            return Ok(());
        };
        let at = refusal.sequence.wrapping_sub(begin).wrapping_sub(1) as usize;
        let object = messages
            .get(at)
            .map_or("the nftables transaction", |m| m.object.as_str());
        Err(refused(Ask { operation, object }, refusal))
    }

    /// Sends without asking for an answer (verdicts).
    ///
    /// # Errors
    /// When the kernel takes no message.
    pub(crate) fn post(&self, buffer: &[u8]) -> io::Result<()> {
        self.socket.send(buffer, 0).map(|_| ())
    }

    /// The socket beneath, for those that read it in their own way.
    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, ask: Ask<'_>, buffer: &[u8]) -> Result<(), NetError> {
        self.post(buffer)
            .map_err(|e| NetError::io(ask.operation, ask.object, e))
    }

    fn receive(&self, ask: Ask<'_>) -> Result<Vec<u8>, NetError> {
        loop {
            match self.socket.recv_from_full() {
                Ok((bytes, from)) if from.port_number() == 0 => return Ok(bytes),
                Ok(_) => {} // Only the kernel is believed.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(NetError::io(ask.operation, ask.object, e)),
            }
        }
    }

    /// Waits for the acknowledgement of the range's last message, keeping the first refusal within the range.
    fn acknowledgement(
        &self,
        ask: Ask<'_>,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<Refusal>, NetError> {
        let mut first = None;
        loop {
            let bytes = match self.receive(ask) {
                Ok(bytes) => bytes,
                // A batch given up half-way acknowledges no last message.
                Err(e) => return if first.is_some() { Ok(first) } else { Err(e) },
            };
            for reply in replies(&bytes) {
                if reply.kind != NLMSG_ERROR || !range.contains(&reply.sequence) {
                    continue;
                }
                let refusal = reply.refusal();
                let ends = reply.sequence == *range.end()
                    || (reply.sequence == *range.start() && refusal.is_some());
                if first.is_none() {
                    first = refusal;
                }
                if ends {
                    return Ok(first);
                }
            }
        }
    }

    /// `None` when the kernel says that the list changed while it was read.
    fn read_dump(&self, ask: Ask<'_>, sequence: u32) -> Result<Option<Answers>, NetError> {
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            let bytes = self.receive(ask)?;
            for reply in replies(&bytes) {
                if reply.sequence != sequence {
                    continue;
                }
                interrupted |= reply.flags & NLM_F_DUMP_INTR != 0;
                match reply.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match reply.refusal() {
                            Some(refusal) => Err(refused(ask, refusal)),
                            None if interrupted => Ok(None),
                            None => Ok(Some(found)),
                        };
                    }
                    kind if kind >= TYPE_MIN => found.push((kind, reply.body.to_vec())),
                    _ => {}
                }
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn refused(ask: Ask<'_>, refusal: Refusal) -> NetError {
    NetError::Refused {
        operation: ask.operation,
        object: ask.object.to_owned(),
        text: refusal.text,
        errno: io::Error::from_raw_os_error(refusal.errno),
    }
}

/// Appends one message with its header (`struct nlmsghdr`), padded.
pub(crate) fn frame(buffer: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    let length = HEADER_BYTES + body.len();
    buffer.extend_from_slice(&(length as u32).to_ne_bytes());
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(&flags.to_ne_bytes());
    buffer.extend_from_slice(&sequence.to_ne_bytes());
    buffer.extend_from_slice(&0u32.to_ne_bytes()); // The kernel fills in the port.
    buffer.extend_from_slice(body);
    while !buffer.len().is_multiple_of(4) {
        buffer.push(0);
    }
}

/// One message of the kernel's.
pub(crate) struct Reply<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

impl Reply<'_> {
    /// The refusal in an error or "done" message; `None` for a plain acknowledgement.
    fn refusal(&self) -> Option<Refusal> {
        let code = attr::u32_ne(self.body).unwrap_or(0) as i32;
        if code == 0 {
            return None;
        }
        Some(Refusal {
            sequence: self.sequence,
            errno: code.saturating_neg(),
            text: self.text(),
        })
    }

    /// The extended acknowledgement: attributes behind the echoed request, whose body is left out when capped.
    fn text(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let attributes = if self.kind == NLMSG_DONE {
            self.body.get(4..)?
        } else {
            let echoed = self.body.get(4..)?;
            let length = if self.flags & NLM_F_CAPPED != 0 {
                HEADER_BYTES
            } else {
                attr::u32_ne(echoed)? as usize
            };
            echoed.get(length.next_multiple_of(4)..)?
        };
        attr::find(attributes, NLMSGERR_ATTR_MSG).map(attr::text)
    }
}

/// The messages of one datagram.
pub(crate) fn replies(mut bytes: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let length = attr::u32_ne(bytes)? as usize;
        let head = bytes.get(..HEADER_BYTES)?;
        let reply = Reply {
            kind: u16::from_ne_bytes([head[4], head[5]]),
            flags: u16::from_ne_bytes([head[6], head[7]]),
            sequence: u32::from_ne_bytes([head[8], head[9], head[10], head[11]]),
            body: bytes.get(HEADER_BYTES..length)?,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(reply)
    })
}
