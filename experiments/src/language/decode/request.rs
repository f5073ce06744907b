//! The request that an `http` or `load` probe sends.

use super::connection::{self, REFERENCE};
use super::probe::timeout;
use crate::language::reader::{Cx, Fields};
use crate::language::suggest::{closest, quoted};
use crate::language::tree::{Entry, Node, Value};
use crate::probe::{Auth, Request, Source};
use crate::secret::Said;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// RFC 9110 section 9 and RFC 5789.
pub(super) const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE",
];

/// The request's fields among those of its probe.
pub(super) fn request(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Request> {
    let source = source(cx, fields, "http://orders.shop:8080/orders");
    let method = fields.or("method", "GET".to_owned(), |e| method(cx, e));
    let body = fields.option("body", |e| {
        cx.text(&e.node, "a text", "it in quotes, as it is sent")
            .map(str::to_owned)
    });
    if let (Some(method), Some(Some(_)), Some(entry)) = (&method, &body, fields.get("body"))
        && matches!(method.as_str(), "GET" | "HEAD" | "TRACE")
    {
        cx.warning(entry.key_at, format!("a {method} request with a body"))
            .label("many servers ignore or refuse it")
            .mend("say `method: POST`, or remove the body");
    }
    Some(Request {
        source: source?,
        method: method?,
        body: body?,
    })
}

/// Whom a probe asks over HTTP, and how: `url`, `headers`, `auth`, `tls`, `timeout`.
pub(super) fn source(cx: &mut Cx<'_, '_>, fields: &Fields<'_>, example: &str) -> Option<Source> {
    let url = fields
        .need(cx, "url", &format!("url: {example}"))
        .and_then(|e| url(cx, &e.node));
    let credentials = credentials(cx, fields);
    let plain = fields
        .get("url")
        .filter(|_| url.as_ref().is_some_and(|url| url.starts_with("http://")))
        .map(|entry| entry.node.at);
    let tls = connection::tls(cx, fields, plain);
    let timeout = timeout(cx, fields);
    let (headers, auth) = credentials?;
    Some(Source {
        url: url?,
        headers,
        auth,
        tls: tls?,
        timeout: timeout?,
    })
}

/// What a probe says of itself: `headers` and `auth`.
pub(super) fn credentials(
    cx: &mut Cx<'_, '_>,
    fields: &Fields<'_>,
) -> Option<(BTreeMap<String, Said>, Option<Auth>)> {
    let headers = fields.or("headers", BTreeMap::new(), |e| headers(cx, e));
    let auth = connection::auth(cx, fields);
    if let (Some(Some(_)), Some(headers), Some(entry)) = (&auth, &headers, fields.get("auth"))
        && let Some(name) = headers.keys().find(|name| is_authorization(name))
    {
        cx.error(
            entry.key_at,
            format!("`auth` and the header `{name}` say the same"),
        )
        .mend("remove one of them");
        return None;
    }
    Some((headers?, auth?))
}

/// A request of which only the URL is said.
pub(super) fn bare(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Request> {
    url(cx, node).map(Request::bare)
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
            .mend("write `auth: { basic: { user: …, password: { env: NAME } } }`");
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
fn headers(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<BTreeMap<String, Said>> {
    of_each(cx, entry, header)
}

/// Headers of other people's requests, in which nothing of ours can be secret.
pub(super) fn plain_headers(
    cx: &mut Cx<'_, '_>,
    entry: &Entry,
) -> Option<BTreeMap<String, String>> {
    of_each(cx, entry, |cx, entry| {
        named(cx, entry)?;
        one_line(cx, entry).map(str::to_owned)
    })
}

fn of_each<'n, T>(
    cx: &mut Cx<'_, '_>,
    entry: &'n Entry,
    mut header: impl FnMut(&mut Cx<'_, '_>, &'n Entry) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let entries = match &entry.node.value {
        Value::Map(entries) => entries,
        _ if entry.node.is_null() => return Some(BTreeMap::new()),
        _ => {
            cx.error(entry.node.at, "`headers` is a mapping of texts")
                .mend("write `headers: { accept: application/json }`");
            return None;
        }
    };
    let mut headers = Some(BTreeMap::new());
    for entry in entries {
        match (header(cx, entry), &mut headers) {
            (Some(value), Some(headers)) => {
                headers.insert(entry.key.clone(), value);
            }
            _ => headers = None,
        }
    }
    headers
}

fn named(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<()> {
    let name = entry.key.as_str();
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        cx.error(
            entry.key_at,
            format!("{} is not a header's name", quoted(name)),
        )
        .mend("use letters, digits and hyphens, such as `content-type`");
        return None;
    }
    Some(())
}

fn one_line<'n>(cx: &mut Cx<'_, '_>, entry: &'n Entry) -> Option<&'n str> {
    let value = cx.text(&entry.node, "a text", "it in quotes")?;
    if value.contains(['\r', '\n', '\0']) {
        let name = quoted(&entry.key);
        cx.error(
            entry.node.at,
            format!("the header {name} has more than one line"),
        )
        .mend("write its value on one line");
        return None;
    }
    Some(value)
}

fn header(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Said> {
    named(cx, entry)?;
    let name = entry.key.as_str();
    if let Value::Map(_) = entry.node.value {
        return connection::secret(cx, entry.key_at, &entry.node, "a secret header")
            .map(Said::Secret);
    }
    let value = one_line(cx, entry)?;
    if is_authorization(name) {
        cx.error(entry.node.at, format!("the header `{name}` holds a secret"))
            .label("it would stand in reports and in the database")
            .mend("write `auth: { bearer: { env: NAME } }` beside `headers`, or give the header as `{ env: NAME }`");
        return None;
    }
    if looks_secret(name) {
        cx.warning(
            entry.node.at,
            format!("the header `{name}` looks like a secret"),
        )
        .label("it stands in reports and in the database")
        .mend(format!("write {REFERENCE} in its place"));
    }
    Some(Said::Plain(value.to_owned()))
}

fn is_authorization(name: &str) -> bool {
    ["authorization", "proxy-authorization"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// Header names under which services take keys: `x-api-key`, `x-vault-token`, `cookie`.
fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts = ["token", "secret", "password", "apikey", "api-key", "cookie"];
    parts.iter().any(|part| name.contains(part))
}
