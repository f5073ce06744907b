//! The fault on requests.

use super::dns::{late, pattern, patterns, share};
use super::filter::{self, filter, many};
use super::request::{METHODS, plain_headers};
use crate::fault::{Http, HttpEffect, Replace, Requests, Status};
use crate::filter::{Filter, Protocol};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::pattern::Pattern;
use crate::units::ByteSize;
use std::collections::BTreeMap;

/// The fields that say what happens; exactly one stands in a fault.
const EFFECTS: [&str; 5] = ["abort", "delay", "truncate", "reset", "replace"];
const WHICH: [&str; 5] = ["methods", "paths", "hosts", "headers", "share"];
/// Where encrypted HTTP is expected.
const HTTPS: u16 = 443;

pub(super) fn http(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Http> {
    let known: Vec<&str> = EFFECTS
        .into_iter()
        .chain(WHICH)
        .chain(filter::FIELDS)
        .collect();
    let fields = Fields::open(cx, owner, node, "an http fault", &known)?;
    let effect = effect(cx, &fields);
    let requests = requests(cx, &fields);
    let share = share(cx, &fields);
    let filter = filter(cx, &fields);
    let http = Http {
        effect: effect?,
        requests: Box::new(requests?),
        share: share?,
        filter: filter?,
    };
    at_a_port(cx, &fields, &http.filter).then_some(http)
}

/// Every connection would be read for requests otherwise.
fn at_a_port(cx: &mut Cx<'_, '_>, fields: &Fields<'_>, filter: &Filter) -> bool {
    if let (Some(protocol), Some(entry)) = (filter.protocol, fields.get("protocol"))
        && protocol != Protocol::Tcp
    {
        cx.error(entry.node.at, "an http fault acts on TCP connections")
            .mend("remove `protocol`: HTTP/3 over UDP is encrypted and cannot be read");
        return false;
    }
    let ports = filter.to.as_ref().map_or(&[][..], |to| &to.ports);
    if ports.is_empty() {
        let at = fields.get("to").map_or(fields.owner, |e| e.node.at);
        cx.error(at, "an http fault needs the port that the requests go to")
            .label("no port is named")
            .mend("add one: `to: { port: 8080 }`")
            .missing();
        return false;
    }
    if let (Some(entry), true) = (
        fields.get("to"),
        ports.iter().all(|p| (p.first, p.last) == (HTTPS, HTTPS)),
    ) {
        cx.warning(
            entry.node.at,
            "what goes to port 443 is encrypted as a rule",
        )
        .label("requests inside TLS cannot be read and pass untouched")
        .mend("name the port where plain HTTP is spoken, behind the TLS of a proxy or sidecar");
    }
    true
}

fn effect(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<HttpEffect> {
    let said: Vec<(&str, &Entry)> = EFFECTS
        .into_iter()
        .filter_map(|word| Some((word, fields.get(word)?)))
        .collect();
    match said.as_slice() {
        [] => {
            cx.error(
                fields.owner,
                "an http fault needs `abort`, `delay`, `truncate`, `reset` or `replace`",
            )
            .label("it is not said what happens to a request")
            .mend("add `abort: 503`, or `delay: 300ms`")
            .missing();
            None
        }
        [(word, entry)] => one_effect(cx, word, entry),
        [(_, first), (word, second), ..] => {
            cx.error(
                second.key_at,
                format!("an http fault does one thing; `{word}` is a second"),
            )
            .related(first.key_at, "the first")
            .mend("keep one of them: a port can have one http fault at a time");
            None
        }
    }
}

fn one_effect(cx: &mut Cx<'_, '_>, word: &str, entry: &Entry) -> Option<HttpEffect> {
    let node = &entry.node;
    match word {
        "abort" => {
            let limits = u32::from(Status::LEAST)..=u32::from(Status::MOST);
            let number = cx.whole(node, "a status that ends a request", limits)?;
            let status = u16::try_from(number).ok().and_then(Status::new)?;
            Some(HttpEffect::Abort(status))
        }
        "delay" => late(cx, node).map(HttpEffect::Delay),
        "truncate" => cx
            .quantity::<ByteSize>(node, "a size", "100B")
            .map(HttpEffect::Truncate),
        "reset" => match cx.text(node, "`true`", "`reset: true`")? {
            "true" => Some(HttpEffect::Reset),
            text => {
                cx.error(
                    node.at,
                    format!("{} says nothing about a reset", quoted(text)),
                )
                .mend("write `reset: true`, or remove it");
                None
            }
        },
        _ => replace(cx, entry).map(HttpEffect::Replace),
    }
}

fn replace(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Replace> {
    let what = "a replacement of headers";
    let fields = Fields::open(
        cx,
        entry.key_at,
        &entry.node,
        what,
        &["request", "response"],
    )?;
    let request = fields.or("request", BTreeMap::new(), |e| changeable(cx, e));
    let response = fields.or("response", BTreeMap::new(), |e| changeable(cx, e));
    let replace = Replace {
        request: request?,
        response: response?,
    };
    if replace.request.is_empty() && replace.response.is_empty() {
        cx.error(entry.key_at, "no header is named")
            .mend("write `replace: { response: { cache-control: no-store } }`");
        return None;
    }
    Some(replace)
}

/// Headers, none of which frames a message.
fn changeable(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<BTreeMap<String, String>> {
    let headers = plain_headers(cx, entry)?;
    let headers: BTreeMap<String, String> = headers
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let fixed = headers
        .keys()
        .find(|name| Replace::FIXED.contains(&name.as_str()));
    if let Some(name) = fixed {
        cx.error(
            entry.node.at,
            format!("the header `{name}` frames the message and cannot be replaced"),
        )
        .mend("use `truncate` or `reset` to break a message off");
        return None;
    }
    Some(headers)
}

fn requests(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Requests> {
    let methods = fields.or("methods", Vec::new(), |e| {
        many(cx, &e.node, "a list of methods", "`[ GET, POST ]`", method)
    });
    let paths = fields.or("paths", Vec::new(), |e| paths(cx, e));
    let hosts = fields.or("hosts", Vec::new(), |e| patterns(cx, e, "`[ \"*.shop\" ]`"));
    let headers = fields.or("headers", BTreeMap::new(), |e| wanted(cx, e));
    Some(Requests {
        methods: methods?,
        paths: paths?,
        hosts: hosts?,
        headers: headers?,
    })
}

fn method(cx: &mut Cx<'_, '_>, node: &Node) -> Option<String> {
    let words: Vec<(&str, &str)> = METHODS.iter().map(|word| (*word, *word)).collect();
    cx.word(node, "an HTTP method", &words).map(str::to_owned)
}

/// A path begins with `/`, or with the `*` that may stand for it.
fn paths(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<Pattern>> {
    let paths = patterns(cx, entry, "`[ \"/orders/*\" ]`")?;
    for path in &paths {
        let text = path.text();
        if !text.starts_with(['/', '*']) {
            cx.error(entry.node.at, format!("{} is not a path", quoted(text)))
                .label("no path of a request begins so")
                .mend(format!(
                    "write `/{text}`, or `*{text}` for any that ends so"
                ));
            return None;
        }
        if text.contains(['?', '#']) {
            cx.error(
                entry.node.at,
                format!("{} is more than a path", quoted(text)),
            )
            .label("what is behind the `?` or `#` is not looked at")
            .mend("write the path alone");
            return None;
        }
    }
    Some(paths)
}

/// Headers and the patterns of their values.
fn wanted(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<BTreeMap<String, Pattern>> {
    // Names and values are looked at as a request's are; then each value as a pattern.
    plain_headers(cx, entry)?;
    let Value::Map(entries) = &entry.node.value else {
        return Some(BTreeMap::new());
    };
    entries
        .iter()
        .map(|e| Some((e.key.to_ascii_lowercase(), pattern(cx, &e.node)?)))
        .collect()
}
