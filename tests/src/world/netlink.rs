//! Asks the kernel for all that a network namespace holds: links, addresses, routes, rules, queueing disciplines and nftables.
//!
//! A tool for each question would be a process for each question, and starting processes is what costs on an emulated machine: a
//! namespace takes a few milliseconds this way and half a second that way. This reads what the kernel says without a library of the
//! agent's, so that it is evidence of its own. What is not understood is kept as it is: as bytes.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use super::Result;

/// One thing the kernel lists: its fixed part, and its attributes by number.
struct Item {
    head: Vec<u8>,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A question and what is kept of its answers: figures that change by themselves are not.
struct Question {
    section: &'static str,
    protocol: SockProtocol,
    /// The message's type (linux/rtnetlink.h, linux/netfilter/nf_tables.h).
    kind: u16,
    /// How long the fixed part of an answer is.
    head: usize,
    /// The bytes of the fixed part that change by themselves.
    fickle_head: std::ops::Range<usize>,
    /// The attributes that are left out.
    fickle: &'static [u16],
    /// The attributes that are kept; all but the former where none is named.
    kept: &'static [u16],
}

const NETFILTER: u16 = 10 << 8;

const fn nft(section: &'static str, kind: u16, fickle: &'static [u16]) -> Question {
    Question {
        section,
        protocol: SockProtocol::NetlinkNetFilter,
        kind: NETFILTER | kind,
        head: 4,
        // The generation of the whole ruleset (`res_id` of nfnetlink.h).
        fickle_head: 2..4,
        fickle,
        kept: &[],
    }
}

const fn route(section: &'static str, kind: u16, head: usize) -> Question {
    Question {
        section,
        protocol: SockProtocol::NetlinkRoute,
        kind,
        head,
        fickle_head: 0..0,
        fickle: &[],
        kept: &[],
    }
}

/// `NFT_MSG_GETSET`, and the message that asks for a set's elements.
const SETS: u16 = NETFILTER | 10;
const ELEMENTS: u16 = NETFILTER | 13;

const QUESTIONS: [Question; 10] = [
    Question {
        // Address, name, MTU, qdisc, master, kind, XDP program: statistics and timers are among the rest.
        kept: &[1, 3, 4, 6, 10, 18, 43],
        ..route("link", 18, 16)
    },
    Question {
        // Without the age of an address, and its flags, which change while it is looked for twice.
        fickle: &[6, 8],
        fickle_head: 2..3,
        ..route("address", 22, 8)
    },
    Question {
        // Without usage, expiry.
        fickle: &[12, 23],
        ..route("route", 26, 12)
    },
    route("rule", 34, 12),
    Question {
        // Kind and options; `info` of tcmsg is a reference count.
        kept: &[1, 2],
        fickle_head: 16..20,
        ..route("qdisc", 38, 20)
    },
    nft("nft table", 1, &[]),
    // Without counters.
    nft("nft chain", 4, &[8]),
    nft("nft rule", 7, &[]),
    nft("nft set", 10, &[]),
    nft("nft object", 19, &[]),
];

/// Everything the calling thread's network namespace holds, by section, a line each.
///
/// # Errors
/// When the kernel does not answer.
pub(super) fn everything() -> Result<Vec<(&'static str, Vec<String>)>> {
    let mut sections = Vec::new();
    let sockets = [SockProtocol::NetlinkRoute, SockProtocol::NetlinkNetFilter].map(|protocol| {
        let family = AddressFamily::Netlink;
        socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
    });
    let [route, netfilter] = sockets;
    let (route, netfilter) = (route?, netfilter?);
    for question in &QUESTIONS {
        let socket = if question.protocol == SockProtocol::NetlinkRoute {
            &route
        } else {
            &netfilter
        };
        let asked = |error| format!("cannot list each {}: {error}", question.section);
        let items = list(
            socket,
            question.kind,
            &vec![0; question.head],
            question.head,
        );
        let items = items.map_err(asked)?;
        if question.kind == SETS {
            let mut lines = Vec::new();
            for set in &items {
                lines.extend(elements(socket, set)?);
            }
            sections.push(("nft element", lines));
        }
        let lines = items.iter().map(|item| question.line(item));
        sections.push((question.section, lines.collect()));
    }
    Ok(sections)
}

impl Question {
    fn line(&self, item: &Item) -> String {
        let mut head = item.head.clone();
        if let Some(fickle) = head.get_mut(self.fickle_head.clone()) {
            fickle.fill(0);
        }
        let mut line = bytes(&head);
        for (number, value) in &item.attributes {
            let wanted = self.kept.is_empty() || self.kept.contains(number);
            if !wanted || self.fickle.contains(number) {
                continue;
            }
            // A rule's expressions (`NFTA_RULE_EXPRESSIONS`) have a state of their own.
            let shown = if self.kind == NETFILTER | 7 && *number == 4 {
                expressions(value)
            } else {
                bytes(value)
            };
            let _ = write!(line, " {number}:{shown}");
        }
        line
    }
}

/// Expressions that count what they see (`nft --stateless` leaves out as much).
const STATEFUL: [&[u8]; 5] = [
    b"counter\0",
    b"quota\0",
    b"limit\0",
    b"last\0",
    b"connlimit\0",
];

fn expressions(list: &[u8]) -> String {
    let mut shown = String::new();
    for (_, expression) in attributes(list) {
        let parts = attributes(&expression);
        let name = parts.iter().find(|(number, _)| *number == 1);
        let name = name.map(|(_, name)| name.as_slice()).unwrap_or_default();
        let _ = write!(shown, "[{}", bytes(name));
        let data = parts.iter().filter(|(number, _)| *number != 1);
        for (_, data) in data.filter(|_| !STATEFUL.contains(&name)) {
            let _ = write!(shown, " {}", bytes(data));
        }
        shown.push(']');
    }
    shown
}

/// A set's elements, without their age and their counters.
fn elements(socket: &OwnedFd, set: &Item) -> Result<Vec<String>> {
    const LIST: u16 = 3;
    const FICKLE: [u16; 2] = [5, 7];
    let mut asked = vec![*set.head.first().unwrap_or(&0), 0, 0, 0];
    let mut named = Vec::new();
    // Table and set are numbered alike in the set's description and in the question.
    for (number, value) in set.attributes.iter().filter(|(number, _)| *number <= 2) {
        asked.extend((u16::try_from(value.len())? + 4).to_ne_bytes());
        asked.extend(number.to_ne_bytes());
        asked.extend(value);
        asked.resize(asked.len().next_multiple_of(4), 0);
        named.push(bytes(value));
    }
    let mut lines = Vec::new();
    for answer in list(socket, ELEMENTS, &asked, 4)? {
        let lists = answer
            .attributes
            .iter()
            .filter(|(number, _)| *number == LIST);
        for (_, element) in lists.flat_map(|(_, list)| attributes(list)) {
            let parts = attributes(&element);
            let kept = parts.iter().filter(|(number, _)| !FICKLE.contains(number));
            let shown: Vec<String> = kept
                .map(|(n, value)| format!("{n}:{}", bytes(value)))
                .collect();
            lines.push(format!("{} {}", named.join(" "), shown.join(" ")));
        }
    }
    Ok(lines)
}

const HEADER: usize = 16;
const REQUEST_A_DUMP: u16 = 0x301;
const INTERRUPTED: u16 = 0x10;
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// How often a list is asked for again that changed while it was told.
const AGAIN_MAX: usize = 20;

/// All that the kernel lists for one question (linux/netlink.h).
fn list(socket: &OwnedFd, kind: u16, asked: &[u8], head: usize) -> io::Result<Vec<Item>> {
    for _ in 0..AGAIN_MAX {
        if let Some(items) = list_once(socket, kind, asked, head)? {
            return Ok(items);
        }
    }
    Err(io::Error::other("it changes all the time"))
}

/// None where it changed meanwhile.
fn list_once(
    socket: &OwnedFd,
    kind: u16,
    asked: &[u8],
    head: usize,
) -> io::Result<Option<Vec<Item>>> {
    let length = u32::try_from(HEADER + asked.len()).map_err(io::Error::other)?;
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(kind.to_ne_bytes());
    request.extend(REQUEST_A_DUMP.to_ne_bytes());
    request.extend([0; 8]);
    request.extend(asked);
    send(socket.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut buffer = vec![0; 64 << 10];
    let (mut items, mut steady) = (Vec::new(), true);
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while rest.len() >= HEADER {
            let size = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]);
            let size = usize::try_from(size).map_err(io::Error::other)?;
            let (kind, flags) = (two(rest, 4), two(rest, 6));
            let Some(body) = rest.get(HEADER..size) else {
                return Err(io::Error::other("the kernel's answer is cut off"));
            };
            steady &= flags & INTERRUPTED == 0;
            let code = body
                .first_chunk::<4>()
                .map_or(0, |b| i32::from_ne_bytes(*b));
            match kind {
                ERROR | DONE if code != 0 => return Err(io::Error::from_raw_os_error(-code)),
                ERROR | DONE => return Ok(steady.then_some(items)),
                _ => items.push(Item {
                    head: body[..head.min(body.len())].to_vec(),
                    attributes: attributes(body.get(head..).unwrap_or_default()),
                }),
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn two(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn attributes(mut rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
    /// A number's upper bits say how its value is to be read.
    const NUMBER: u16 = 0x3fff;
    let mut found = Vec::new();
    while rest.len() >= 4 {
        let size = usize::from(two(rest, 0));
        let Some(value) = rest.get(4..size) else {
            break;
        };
        found.push((two(rest, 2) & NUMBER, value.to_vec()));
        rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// A text as itself, all else as bytes.
fn bytes(value: &[u8]) -> String {
    if let Some((0, text)) = value.split_last()
        && !text.is_empty()
        && text.iter().all(u8::is_ascii_graphic)
    {
        return String::from_utf8_lossy(text).into_owned();
    }
    value.iter().fold(String::new(), |mut shown, byte| {
        let _ = write!(shown, "{byte:02x}");
        shown
    })
}
