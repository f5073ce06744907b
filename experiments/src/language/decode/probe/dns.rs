//! One question to a name server.

use super::super::connection::trouble;
use super::server::server;
use super::{every, is_text, timeout};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::Node;
use crate::probe::{Dns, DnsTransport, RecordType, Trouble, every_default, timeout_default};

const FIELDS: &[&str] = &[
    "server",
    "name",
    "type",
    "transport",
    "timeout",
    "every",
    "retries",
    "onError",
];

/// RFC 1035, section 2.3.4; without the dot at the end.
const NAME_BYTES_MOST: usize = 253;
const LABEL_BYTES_MOST: usize = 63;

/// Where name servers listen.
const PORT: u16 = 53;

pub(super) fn dns(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Dns> {
    if is_text(node) {
        return Some(Dns {
            server: None,
            name: name(cx, node)?,
            kind: RecordType::default(),
            transport: DnsTransport::default(),
            timeout: timeout_default(),
            every: every_default(),
            trouble: Trouble::default(),
        });
    }
    let fields = Fields::open(cx, owner, node, "a `dns` probe", FIELDS)?;
    let server = fields.option("server", |e| server(cx, &e.node, "10.0.0.53", PORT));
    let name = fields
        .need(cx, "name", "name: orders.shop")
        .and_then(|e| name(cx, &e.node));
    let kinds = RecordType::ALL.map(|kind| (kind.word(), kind));
    let kind = fields.or("type", RecordType::default(), |e| {
        cx.word(&e.node, "a type of record", &kinds)
    });
    let transports = [("udp", DnsTransport::Udp), ("tcp", DnsTransport::Tcp)];
    let transport = fields.or("transport", DnsTransport::default(), |e| {
        cx.word(&e.node, "a transport", &transports)
    });
    let timeout = timeout(cx, &fields);
    let every = every(cx, &fields);
    let trouble = trouble(cx, &fields);
    Some(Dns {
        server: server?,
        name: name?,
        kind: kind?,
        transport: transport?,
        timeout: timeout?,
        every: every?,
        trouble: trouble?,
    })
}

/// Without the dot at the end, which changes nothing: no search list is used here.
fn name(cx: &mut Cx<'_, '_>, node: &Node) -> Option<String> {
    let text = cx.words(node, "a DNS name", "`orders.shop`")?;
    let name = text.strip_suffix('.').unwrap_or(&text);
    let Err(problem) = check_name(name) else {
        return Some(name.to_owned());
    };
    cx.error(
        node.at,
        format!("{} is not a DNS name: {problem}", quoted(&text)),
    )
    .mend("write the whole name, such as `orders.shop.example` or `_http._tcp.orders.shop`");
    None
}

/// Underscores, too: services are found by names such as `_http._tcp.orders.shop` (RFC 2782).
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.contains("://") {
        return Err("it is a URL");
    }
    if name.len() > NAME_BYTES_MOST {
        return Err("it is longer than 253 letters");
    }
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err("it is an address already");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("there is nothing between two of its dots");
        }
        if label.len() > LABEL_BYTES_MOST {
            return Err("one of its parts is longer than 63 letters");
        }
        let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !label.bytes().all(known) {
            return Err("it has more than letters, digits, hyphens and underscores");
        }
    }
    Ok(())
}
