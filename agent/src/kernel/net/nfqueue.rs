//! Queues from the kernel's netfilter to user space (`include/uapi/linux/netfilter/nfnetlink_queue.h`).
//!
//! The kernel keeps the packet; user space sees its length and, if asked, its bytes, and answers with a verdict by
//! number, whenever it likes. When the socket closes, packets still waiting for a verdict are dropped by the kernel
//! and new ones pass (the rule's bypass flag). Any netfilter hook that is taken away in the namespace, by whomever,
//! also drops what waits in *every* queue there (`nf_queue_nf_hook_drop`): a kernel limit that TCP repairs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};

use super::NetError;
use super::attr::{self, Body};
use super::burst::{BURST, Burst};
use super::late;
use super::netlink::{Ask, Netlink, Protocol, frame, replies};
use super::tracked::Tracked;

/// `NFNL_SUBSYS_QUEUE`.
const SUBSYSTEM: u16 = 3;
const MSG_PACKET: u16 = 0;
const MSG_VERDICT: u16 = 1;
const MSG_CONFIG: u16 = 2;
const NFQA_PACKET_HDR: u16 = 1;
const NFQA_VERDICT_HDR: u16 = 2;
const NFQA_IFINDEX_INDEV: u16 = 5;
const NFQA_IFINDEX_OUTDEV: u16 = 6;
const NFQA_PAYLOAD: u16 = 10;
const NFQA_CT: u16 = 11;
const NFQA_CAP_LEN: u16 = 13;
const CFG_CMD: u16 = 1;
const CFG_PARAMS: u16 = 2;
const CFG_QUEUE_MAXLEN: u16 = 3;
const CFG_MASK: u16 = 4;
const CFG_FLAGS: u16 = 5;
const CMD_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const FLAG_FAIL_OPEN: u32 = 1;
/// Tells the tracked connection with each packet, where the kernel can (CONFIG_NETFILTER_NETLINK_GLUE_CT).
const FLAG_TRACKED: u32 = 2;
const FLAG_GSO: u32 = 4;
/// `struct nlattr`.
const ATTRIBUTE_BYTES: usize = 4;
/// `struct nfgenmsg` and the verdict's attribute.
const VERDICT_BYTES: usize = 16;
/// Queue numbers that are tried; below are those people write into their own rules.
const NUMBERS: std::ops::Range<u16> = 0x5100..0xf000;
/// How many tries at numbers that are taken mean that something else is wrong.
const NUMBER_TRIES_MAX: usize = 64;
/// Room for packets that the kernel has announced and we have not read: 80,000 a second for 20 ms, at 1 KB each.
const RECEIVE_BYTES_MAX: usize = 8 << 20;
/// The largest datagram: one packet with headers and attributes. A GSO packet may have 64 KiB.
const DATAGRAM_BYTES_MAX: usize = 80 << 10;
/// Bytes copied when only the length is wanted: with fewer copied than there are, the kernel tells the full length.
const LENGTH_ONLY_BYTES: u32 = 1;

/// The longest headers of IPv4 (60) and of TCP (60), with room for an IPv6 header in place of the first.
const HEADERS_BYTES: u32 = 128;

/// What the kernel does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is gone; its sender is not told.
    Drop = 0,
    /// It goes on.
    Accept = 1,
}

/// How much of each packet user space sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copying {
    /// Its length. Large segments stay whole (GSO), which is what keeps bulk TCP quick.
    Length,
    /// Its headers, and its length; large segments stay whole. Not to be changed: a verdict's bytes replace all of it.
    Headers,
    /// All of it, cut into packets as they go on the wire, with their checksums filled in.
    Whole,
}

/// A packet the kernel holds for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Its number, for the verdict.
    pub(crate) id: u32,
    /// Its bytes from the IP header on, all of them or those copied.
    pub(crate) bytes: Vec<u8>,
    /// How long it really is.
    pub(crate) length: u32,
    /// The netfilter hook it was met at (0 prerouting, 4 postrouting).
    pub(crate) hook: u8,
    /// The index of the link it came by or will leave by.
    pub(crate) link: u32,
    /// The connection that it belongs to, where it is tracked already and the kernel tells; never where only lengths are copied.
    pub(crate) tracked: Option<Tracked>,
}

/// One bound queue.
#[derive(Debug)]
pub(crate) struct Queue {
    netlink: Netlink,
    number: u16,
    /// Room for one whole packet, where packets are read one by one.
    buffer: Vec<u8>,
    /// Room for many, where no packet is copied whole.
    burst: Option<Burst>,
    verdicts: Vec<u8>,
}

impl Queue {
    /// Binds a free queue number in the current namespace. `waiting_max` packets may wait for a verdict in the kernel;
    /// beyond it they pass untouched.
    ///
    /// # Errors
    /// When the kernel has no queues, or no number is free.
    pub(crate) fn bind(copying: Copying, waiting_max: u32) -> Result<Self, NetError> {
        let mut one = Self::bind_in_a_row(1, copying, waiting_max)?;
        Ok(one.swap_remove(0))
    }

    /// Binds so many free numbers, at least one, each the one before and one more: what one rule can choose from.
    ///
    /// # Errors
    /// As of [`Queue::bind`].
    pub(crate) fn bind_in_a_row(
        count: u16,
        copying: Copying,
        waiting_max: u32,
    ) -> Result<Vec<Self>, NetError> {
        let count = count.max(1);
        let span = NUMBERS.end - NUMBERS.start - count;
        for _ in 0..NUMBER_TRIES_MAX {
            let first = NUMBERS.start + rand::random::<u16>() % span;
            let numbers = first..first + count;
            let bound =
                numbers.map_while(|number| Self::bind_to(number, copying, waiting_max).transpose());
            let bound = bound.collect::<Result<Vec<_>, _>>()?;
            if bound.len() == usize::from(count) {
                return Ok(bound);
            }
        }
        Err(NetError::io(
            "bind",
            "a free queue number",
            io::Error::from_raw_os_error(libc::EBUSY),
        ))
    }

    /// Binds that number; `None` where somebody else has it.
    fn bind_to(number: u16, copying: Copying, waiting_max: u32) -> Result<Option<Self>, NetError> {
        let mut netlink = Netlink::open(Protocol::Netfilter)?;
        if !claim(&mut netlink, number)? {
            return Ok(None);
        }
        let object = format!("queue {number}");
        let ask = Ask {
            operation: "configure",
            object: &object,
        };
        let (range, flags) = match copying {
            Copying::Length => (LENGTH_ONLY_BYTES, FLAG_FAIL_OPEN | FLAG_GSO),
            Copying::Headers => (HEADERS_BYTES, FLAG_FAIL_OPEN | FLAG_GSO | FLAG_TRACKED),
            Copying::Whole => (0xffff, FLAG_FAIL_OPEN | FLAG_TRACKED),
        };
        let mut body = config(number);
        let mut params = range.to_be_bytes().to_vec();
        params.push(COPY_PACKET);
        body.put(CFG_PARAMS, &params)
            .put_be32(CFG_QUEUE_MAXLEN, waiting_max);
        let mut configure = |flags: u32| {
            let mut body = body.clone();
            body.put_be32(CFG_FLAGS, flags)
                .put_be32(CFG_MASK, FLAG_FAIL_OPEN | FLAG_GSO | FLAG_TRACKED);
            netlink.request(ask, SUBSYSTEM << 8 | MSG_CONFIG, 0, body.bytes())
        };
        match configure(flags) {
            Err(e) if flags & FLAG_TRACKED != 0 && e.errno() == Some(libc::EOPNOTSUPP) => {
                configure(flags & !FLAG_TRACKED)?;
            }
            other => other?,
        }

        let failed = |e: io::Error| NetError::io("configure the socket of", object.clone(), e);
        netlink.socket().set_no_enobufs(true).map_err(failed)?;
        netlink.socket().set_non_blocking(true).map_err(failed)?;
        if setsockopt(&netlink, sockopt::RcvBufForce, &RECEIVE_BYTES_MAX).is_err() {
            setsockopt(&netlink, sockopt::RcvBuf, &RECEIVE_BYTES_MAX)
                .map_err(|e| failed(e.into()))?;
        }
        Ok(Some(Self {
            netlink,
            number,
            buffer: Vec::new(),
            burst: (copying != Copying::Whole).then(Burst::new),
            verdicts: Vec::new(),
        }))
    }

    /// Its number, for the rule.
    #[must_use]
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// The next packet the kernel has announced; `None` when there is none just now.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) fn receive(&mut self) -> io::Result<Option<Packet>> {
        if self.buffer.is_empty() {
            self.buffer.resize(DATAGRAM_BYTES_MAX, 0);
        }
        // The kernel sends one packet in one datagram.
        loop {
            // `recv` of netlink-sys appends to a BufMut; a slice of it is overwritten from the start.
            let received = match self.netlink.socket().recv(&mut &mut self.buffer[..], 0) {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let bytes = self.buffer.get(..received).unwrap_or_default();
            let mut packets = replies(bytes).filter(|r| r.kind == SUBSYSTEM << 8 | MSG_PACKET);
            if let Some(packet) = packets.find_map(|r| parse(r.body)) {
                return Ok(Some(packet));
            }
        }
    }

    /// Adds what the kernel has announced to `packets`, as much as one system call reads; says whether there may be more.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) fn receive_many(&mut self, packets: &mut Vec<Packet>) -> io::Result<bool> {
        let Some(burst) = &mut self.burst else {
            let one = self.receive()?;
            let more = one.is_some();
            packets.extend(one);
            return Ok(more);
        };
        let read = burst.read(self.netlink.as_fd())?;
        let replies = burst.datagrams().flat_map(replies);
        let announced = replies.filter(|r| r.kind == SUBSYSTEM << 8 | MSG_PACKET);
        packets.extend(announced.filter_map(|r| parse(r.body)));
        Ok(read == BURST)
    }

    /// Decides a packet's fate, perhaps with other bytes; sent with the next [`Queue::flush`].
    pub(crate) fn decide(&mut self, id: u32, verdict: Verdict, bytes: Option<&[u8]>) {
        let attribute_bytes = bytes.map_or(0, |b| ATTRIBUTE_BYTES + b.len().next_multiple_of(4));
        let mut body = Body::with_room(VERDICT_BYTES + attribute_bytes, &header(self.number));
        let mut fate = [0; 8];
        fate[..4].copy_from_slice(&(verdict as u32).to_be_bytes());
        fate[4..].copy_from_slice(&id.to_be_bytes());
        body.put(NFQA_VERDICT_HDR, &fate);
        if let Some(bytes) = bytes {
            body.put(NFQA_PAYLOAD, bytes);
        }
        frame(
            &mut self.verdicts,
            SUBSYSTEM << 8 | MSG_VERDICT,
            1,
            0,
            body.bytes(),
        );
        // A send must fit the socket's buffer; many small verdicts in one send is the point, megabytes are not.
        const PENDING_BYTES_MAX: usize = 128 << 10;
        if self.verdicts.len() > PENDING_BYTES_MAX {
            // An error shows again at the flush that ends every turn.
            let _ = self.flush();
        }
    }

    /// From now on every packet passes at once, without coming here; what waits for a verdict goes on waiting for it. No
    /// rule changes for it, so no reader of the packet path is waited for: a full queue lets packets pass (fail-open), and one
    /// with room for none is always full. Done when this returns; no answer is asked for, since packets may come before it.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) fn let_pass(&mut self) -> io::Result<()> {
        let mut body = config(self.number);
        body.put_be32(CFG_QUEUE_MAXLEN, 0);
        let mut buffer = Vec::new();
        frame(&mut buffer, SUBSYSTEM << 8 | MSG_CONFIG, 1, 0, body.bytes());
        self.netlink.post(&buffer)
    }

    /// Leaves the socket to be closed later: the rule that led here is gone.
    pub(crate) fn retire(self) {
        late::keep(self.netlink);
    }

    /// Sends the verdicts decided since the last time, in one system call.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.verdicts.is_empty() {
            return Ok(());
        }
        let sent = self.netlink.post(&self.verdicts);
        self.verdicts.clear();
        sent
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.netlink.as_fd().as_raw_fd()
    }
}

/// `struct nfgenmsg` with the queue's number as resource id.
fn header(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [0, 0, high, low]
}

fn config(number: u16) -> Body {
    Body::with_header(&header(number))
}

/// Whether the number is this socket's from now on.
fn claim(netlink: &mut Netlink, number: u16) -> Result<bool, NetError> {
    let object = format!("queue {number}");
    let ask = Ask {
        operation: "bind",
        object: &object,
    };
    let mut body = config(number);
    body.put(CFG_CMD, &[CMD_BIND, 0, 0, 0]);
    match netlink.request(ask, SUBSYSTEM << 8 | MSG_CONFIG, 0, body.bytes()) {
        Ok(()) => Ok(true),
        // Bound by somebody else: the kernel says EBUSY, or EPERM when another socket configures it.
        Err(e) if matches!(e.errno(), Some(libc::EBUSY | libc::EPERM)) => Ok(false),
        Err(e) => Err(e),
    }
}

fn parse(body: &[u8]) -> Option<Packet> {
    let attributes = body.get(4..)?;
    let packet = attr::find(attributes, NFQA_PACKET_HDR)?;
    let copied = attr::find(attributes, NFQA_PAYLOAD).unwrap_or_default();
    let full = attr::find(attributes, NFQA_CAP_LEN).and_then(attr::u32_be);
    let link = |kind| attr::find(attributes, kind).and_then(attr::u32_be);
    Some(Packet {
        id: attr::u32_be(packet)?,
        hook: *packet.get(6)?,
        length: full.unwrap_or(copied.len() as u32),
        // What was copied for the length's sake alone is of no use.
        bytes: if copied.len() > LENGTH_ONLY_BYTES as usize {
            copied.to_vec()
        } else {
            Vec::new()
        },
        link: link(NFQA_IFINDEX_OUTDEV)
            .or(link(NFQA_IFINDEX_INDEV))
            .unwrap_or(0),
        tracked: attr::find(attributes, NFQA_CT).and_then(Tracked::parse),
    })
}
