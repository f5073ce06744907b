//! The fault on connections.

use super::dns::{late, share};
use super::fault::is_short;
use super::filter::{self, filter};
use crate::fault::{Tcp, TcpEffect};
use crate::filter::{Filter, Protocol};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::tree::Node;
use crate::units::Percent;

const MODES: [(&str, TcpEffect); 3] = [
    ("reset", TcpEffect::Reset),
    ("refuse", TcpEffect::Refuse),
    ("stall", TcpEffect::Stall),
];

pub(super) fn tcp(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Tcp> {
    if is_short(node) {
        return Some(Tcp {
            effect: mode(cx, node)?,
            share: Percent::ALL,
            filter: Filter::default(),
        });
    }
    let known: Vec<&str> = ["mode", "close", "share"]
        .into_iter()
        .chain(filter::FIELDS)
        .collect();
    let fields = Fields::open(cx, owner, node, "a tcp fault", &known)?;
    let effect = effect(cx, &fields);
    let share = share(cx, &fields);
    let filter = filter(cx, &fields);
    let tcp = Tcp {
        effect: effect?,
        share: share?,
        filter: filter?,
    };
    sensible(cx, &fields, &tcp).then_some(tcp)
}

fn mode(cx: &mut Cx<'_, '_>, node: &Node) -> Option<TcpEffect> {
    cx.word(node, "what happens to connections", &MODES)
}

fn effect(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<TcpEffect> {
    match (fields.get("mode"), fields.get("close")) {
        (Some(one), Some(other)) => {
            cx.error(other.key_at, "a tcp fault has `mode` or `close`, not both")
                .related(one.key_at, "the other")
                .mend("put them into two faults, or keep one of them");
            None
        }
        (Some(entry), None) => mode(cx, &entry.node),
        (None, Some(entry)) => late(cx, &entry.node).map(TcpEffect::Close),
        (None, None) => {
            cx.error(fields.owner, "a tcp fault needs `mode` or `close`")
                .label("it is not said what happens to a connection")
                .mend("add `mode: reset`, `refuse` or `stall`, or `close: 2s`")
                .missing();
            None
        }
    }
}

fn sensible(cx: &mut Cx<'_, '_>, fields: &Fields<'_>, tcp: &Tcp) -> bool {
    if let (Some(protocol), Some(entry)) = (tcp.filter.protocol, fields.get("protocol"))
        && protocol != Protocol::Tcp
    {
        cx.error(entry.node.at, "a tcp fault acts on TCP connections")
            .mend("remove `protocol`");
        return false;
    }
    if let (TcpEffect::Stall, true, Some(entry)) =
        (tcp.effect, tcp.share != Percent::ALL, fields.get("share"))
    {
        cx.error(entry.key_at, "a stall has no share")
            .label("every matched connection stands still")
            .mend("remove `share`, and name fewer of them with `to` and `from`");
        return false;
    }
    true
}
