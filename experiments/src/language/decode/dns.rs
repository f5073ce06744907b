//! The fault on names.

use super::fault::is_short;
use super::filter::{self, filter, many};
use crate::fault::{Dns, DnsEffect, RecordType};
use crate::filter::{Filter, Protocol};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::{closest, quoted};
use crate::language::tree::{Entry, Node, Value};
use crate::pattern::Pattern;
use crate::units::{Delay, Percent};
use std::net::IpAddr;

const ANSWERS: [(&str, DnsEffect); 3] = [
    ("nxdomain", DnsEffect::Nxdomain),
    ("servfail", DnsEffect::Servfail),
    ("timeout", DnsEffect::Timeout),
];

pub(super) fn dns(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Dns> {
    if is_short(node) || matches!(node.value, Value::List(_)) {
        return Some(Dns {
            effect: answer(cx, node)?,
            names: Vec::new(),
            types: Vec::new(),
            share: Percent::ALL,
            filter: Filter::default(),
        });
    }
    let known: Vec<&str> = ["answer", "delay", "names", "types", "share"]
        .into_iter()
        .chain(filter::FIELDS)
        .collect();
    let fields = Fields::open(cx, owner, node, "a dns fault", &known)?;
    let effect = effect(cx, &fields);
    let names = fields.or("names", Vec::new(), |e| {
        many(
            cx,
            &e.node,
            "a list of names",
            "`[ \"*.payment.svc\" ]`",
            name,
        )
    });
    let types = fields.or("types", Vec::new(), |e| {
        many(cx, &e.node, "a list of record types", "`[ A, AAAA ]`", kind)
    });
    let share = share(cx, &fields);
    let filter = filter(cx, &fields);
    let dns = Dns {
        effect: effect?,
        names: names?,
        types: types?,
        share: share?,
        filter: filter?,
    };
    sensible(cx, &fields, &dns).then_some(dns)
}

/// What queries have no part in.
fn sensible(cx: &mut Cx<'_, '_>, fields: &Fields<'_>, dns: &Dns) -> bool {
    if let (Some(Protocol::Icmp), Some(entry)) = (dns.filter.protocol, fields.get("protocol")) {
        cx.error(entry.node.at, "DNS does not travel over ICMP")
            .mend("write `udp` or `tcp`, or remove it for both");
        return false;
    }
    let addresses = |kind: &RecordType| matches!(kind, RecordType::A | RecordType::Aaaa);
    if let (DnsEffect::Address(_), Some(entry)) = (&dns.effect, fields.get("types"))
        && !dns.types.iter().any(addresses)
    {
        cx.error(
            entry.node.at,
            "an address answers queries for A and AAAA, and neither is named here",
        )
        .mend("write `types: [ A, AAAA ]`, or remove `types`");
        return false;
    }
    true
}

fn effect(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<DnsEffect> {
    match (fields.get("answer"), fields.get("delay")) {
        (Some(one), Some(other)) => {
            cx.error(
                other.key_at,
                "a dns fault has `answer` or `delay`, not both",
            )
            .related(one.key_at, "the other")
            .mend("put them into two faults for different names, or keep one of them");
            None
        }
        (Some(entry), None) => answer(cx, &entry.node),
        (None, Some(entry)) => late(cx, &entry.node).map(DnsEffect::Delay),
        (None, None) => {
            cx.error(fields.owner, "a dns fault needs `answer` or `delay`")
                .label("it is not said what happens to a query")
                .mend("add `answer: nxdomain`, or `delay: 2s`")
                .missing();
            None
        }
    }
}

/// A delay above zero: one of nothing is a slip.
pub(super) fn late(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Delay> {
    let time: Delay = cx.quantity(node, "a time", "2s")?;
    if time.get() == 0 {
        cx.error(node.at, "a delay of nothing does nothing")
            .mend("write how late it is, such as `2s`");
        return None;
    }
    Some(time)
}

/// A share above zero; all where nothing is said.
pub(super) fn share(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Percent> {
    fields.or("share", Percent::ALL, |e| {
        let share: Percent = cx.quantity(&e.node, "a percentage", "50%")?;
        if share.get() == 0 {
            cx.error(e.node.at, "a share of 0% does nothing")
                .mend("write one such as `50%`, or remove it for all");
            return None;
        }
        Some(share)
    })
}

/// A word, an address, or several.
fn answer(cx: &mut Cx<'_, '_>, node: &Node) -> Option<DnsEffect> {
    if let Value::List(items) = &node.value {
        let all: Vec<Option<IpAddr>> = items.iter().map(|item| address(cx, item)).collect();
        let mut all = all.into_iter().collect::<Option<Vec<IpAddr>>>()?;
        all.sort_unstable();
        all.dedup();
        // More do not fit into an answer over UDP.
        const ADDRESSES_MAX: usize = 16;
        if all.is_empty() || all.len() > ADDRESSES_MAX {
            cx.error(node.at, format!("{} addresses are no answer", all.len()))
                .mend(format!("write from 1 to {ADDRESSES_MAX}"));
            return None;
        }
        return Some(DnsEffect::Address(all));
    }
    let text = cx.words(node, "an answer", EXAMPLE)?;
    if let Some((_, effect)) = ANSWERS.iter().find(|(word, _)| *word == text) {
        return Some(effect.clone());
    }
    if let Ok(address) = text.parse() {
        return Some(DnsEffect::Address(vec![address]));
    }
    let words = ANSWERS.map(|(word, _)| word);
    let near = closest(&text, &words);
    let draft = cx.error(
        node.at,
        format!("{} is not an answer to a query", quoted(&text)),
    );
    if let Some(near) = near {
        draft.label(format!("did you mean `{near}`?"));
    }
    draft.mend(format!("write {EXAMPLE}"));
    None
}

const EXAMPLE: &str = "`nxdomain`, `servfail`, `timeout` or an address such as `10.0.0.99`";

fn address(cx: &mut Cx<'_, '_>, node: &Node) -> Option<IpAddr> {
    let text = cx.words(node, "an address", "`10.0.0.99` or `fd00::99`")?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        cx.error(node.at, format!("{} is not an address", quoted(&text)))
            .mend("write one such as `10.0.0.99` or `fd00::99`");
    }
    parsed
}

/// A name as queries have it: no scheme, no port, no blank; a last dot is taken away.
fn name(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Pattern> {
    let text = cx.words(node, "a name", "`db.shop` or `*.payment.svc`")?;
    let plain = text.strip_suffix('.').unwrap_or(&text);
    let letter = |c: char| c.is_ascii_alphanumeric() || "-_.*".contains(c);
    match plain.parse() {
        Ok(pattern) if plain.chars().all(letter) => Some(pattern),
        _ => {
            cx.error(node.at, format!("{} is not a DNS name", quoted(&text)))
                .mend("write one such as `db.shop`, or a pattern such as `*.payment.svc`");
            None
        }
    }
}

fn kind(cx: &mut Cx<'_, '_>, node: &Node) -> Option<RecordType> {
    let words = RecordType::ALL.map(|(word, kind, _)| (word, kind));
    cx.word(node, "a record type", &words)
}

/// For other decoders: an entry's patterns, one or several.
pub(super) fn patterns(cx: &mut Cx<'_, '_>, entry: &Entry, example: &str) -> Option<Vec<Pattern>> {
    many(cx, &entry.node, "a list of patterns", example, pattern)
}

/// Any pattern.
pub(super) fn pattern(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Pattern> {
    let text = cx.words(node, "a pattern", "`/orders/*`")?;
    match text.parse() {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            cx.error(node.at, format!("{} is not a pattern", quoted(&text)))
                .mend(format!("write one such as `/orders/*`: {error}"));
            None
        }
    }
}
