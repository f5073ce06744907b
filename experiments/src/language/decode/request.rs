//! The request that an `http` or `load` probe sends.

use super::experiment::texts;
use super::probe::timeout;
use crate::language::reader::{Cx, Fields};
use crate::language::suggest::{closest, quoted};
use crate::language::tree::{Entry, Node};
use crate::probe::Request;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// RFC 9110 section 9 and RFC 5789.
pub(super) const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE",
];

/// The request's fields among those of its probe.
pub(super) fn request(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Request> {
    let url = fields
        .need(cx, "url", "url: http://orders.shop:8080/orders")
        .and_then(|e| url(cx, &e.node));
    let method = fields.or("method", "GET".to_owned(), |e| method(cx, e));
    let headers = fields.or("headers", BTreeMap::new(), |e| headers(cx, e));
    let body = fields.option("body", |e| {
        cx.text(&e.node, "a text", "it in quotes, as it is sent")
            .map(str::to_owned)
    });
    let timeout = timeout(cx, fields);
    if let (Some(method), Some(Some(_)), Some(entry)) = (&method, &body, fields.get("body"))
        && matches!(method.as_str(), "GET" | "HEAD" | "TRACE")
    {
        cx.warning(entry.key_at, format!("a {method} request with a body"))
            .label("many servers ignore or refuse it")
            .mend("say `method: POST`, or remove the body");
    }
    Some(Request {
        url: url?,
        method: method?,
        headers: headers?,
        body: body?,
        timeout: timeout?,
    })
}

/// A request of which only the URL is said.
pub(super) fn bare(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Request> {
    Some(Request {
        url: url(cx, node)?,
        method: "GET".to_owned(),
        headers: BTreeMap::new(),
        body: None,
        timeout: Request::timeout_default(),
    })
}

fn url(cx: &mut Cx<'_, '_>, node: &Node) -> Option<String> {
    let text = cx.words(node, "a URL", "`http://orders.shop:8080/orders`")?;
    let shown = quoted(&text);
    let Some((scheme, rest)) = text.split_once("://") else {
        cx.error(node.at, format!("{shown} is not an absolute URL"))
            .mend(format!("write `http://{}`", text.trim_start_matches('/')));
        return None;
    };
    if !matches!(scheme, "http" | "https") {
        cx.error(node.at, format!("{shown} is neither http nor https"))
            .mend("use a `tcp` probe for other protocols, or `http://…` or `https://…`");
        return None;
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        cx.error(node.at, format!("{shown} contains a blank"))
            .mend("write %20 for a blank");
        return None;
    }
    let authority_text = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority_text.contains('@') {
        cx.error(node.at, "this URL carries a user or a password")
            .label("it would stand in reports and in the database")
            .mend("send it with `headers:`, or let the service accept the probe without it");
        return None;
    }
    if let Err(problem) = authority(authority_text) {
        cx.error(node.at, format!("{shown} is not a URL: {problem}"))
            .mend("write one such as `http://orders.shop:8080/orders`");
        return None;
    }
    Some(text)
}

/// `host`, `host:port`, `[v6]` or `[v6]:port` to its port, or what is wrong with it.
pub(super) fn authority(text: &str) -> Result<Option<u16>, &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest
            .split_once(']')
            .ok_or("the `]` after the address is missing")?;
        address
            .parse::<Ipv6Addr>()
            .map_err(|_| "what is in brackets is not an IPv6 address")?;
        match rest {
            "" => return Ok(None),
            _ => (
                "v6",
                Some(
                    rest.strip_prefix(':')
                        .ok_or("after `]` comes `:` and a port")?,
                ),
            ),
        }
    } else if text.matches(':').count() > 1 {
        return Err("an IPv6 address stands in brackets: `[fd00::2]:80`");
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host != "v6" && host.parse::<crate::filter::Host>().is_err() || host.contains('/') {
        return Err("the host is neither an address nor a DNS name");
    }
    match port {
        None => Ok(None),
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err("the port is not a number from 1 to 65535"),
        },
    }
}

fn method(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let text = cx.words(&entry.node, "an HTTP method", "`POST`")?;
    if METHODS.contains(&text.as_str()) {
        return Some(text);
    }
    let near = closest(&text, METHODS);
    let draft = cx.error(
        entry.node.at,
        format!("{} is not an HTTP method", quoted(&text)),
    );
    match near {
        Some(near) => draft.label(format!("did you mean `{near}`?")),
        None => draft.label("unknown"),
    };
    draft.mend(format!("write one of {}", METHODS.join(", ")));
    None
}

/// Names are tokens and values one line (RFC 9110, section 5): what is not would be another request.
pub(super) fn headers(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<BTreeMap<String, String>> {
    let headers = texts(cx, &entry.node, "headers")?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    for (name, value) in &headers {
        if name.is_empty() || !name.bytes().all(token) {
            cx.error(
                entry.node.at,
                format!("{} is not a header's name", quoted(name)),
            )
            .mend("use letters, digits and hyphens, such as `content-type`");
            return None;
        }
        if value.contains(['\r', '\n', '\0']) {
            cx.error(
                entry.node.at,
                format!("the header {} has more than one line", quoted(name)),
            )
            .mend("write its value on one line");
            return None;
        }
    }
    Some(headers)
}
