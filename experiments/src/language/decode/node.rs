//! Faults on the node itself, and what a step with one that nothing takes back must look like.

use super::fault::is_short;
use crate::experiment::Step;
use crate::fault::{Fault, InterfaceName, Irreversible, NicDown};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::Node;
use crate::target::{Share, Target};

/// `nicDown: eth1`, or with its field.
pub(super) fn nic_down(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<NicDown> {
    if is_short(node) {
        return interface(cx, node).map(|interface| NicDown { interface });
    }
    let fields = Fields::open(cx, owner, node, "an interface that is down", &["interface"])?;
    let entry = fields.need(cx, "interface", "interface: eth1")?;
    let interface = interface(cx, &entry.node)?;
    Some(NicDown { interface })
}

fn interface(cx: &mut Cx<'_, '_>, node: &Node) -> Option<InterfaceName> {
    let text = cx.text(node, "an interface's name", "`eth1`")?;
    // `ip` shows what is at the other end behind the name.
    let read = text.parse().ok().filter(|_| !text.contains('@'));
    if read.is_none() {
        cx.error(
            node.at,
            format!("{} cannot be an interface's name", quoted(text)),
        )
        .mend("write it as `ip link` shows it, without what follows an `@`: `eth1`");
    }
    read
}

/// What is said of a reboot or shutdown: that it is known to be for good.
pub(super) fn for_good(
    cx: &mut Cx<'_, '_>,
    owner: At,
    node: &Node,
    word: &str,
) -> Option<Irreversible> {
    if is_short(node) {
        not_said(cx, node.at, word);
        return None;
    }
    let fields = Fields::open(cx, owner, node, "a node's end", &["irreversible"])?;
    let Some(entry) = fields.get("irreversible") else {
        not_said(cx, owner, word);
        return None;
    };
    let words = [("true", true), ("false", false)];
    let known = cx.word(&entry.node, "an answer to `irreversible`", &words)?;
    if !known {
        not_said(cx, entry.node.at, word);
    }
    known.then_some(Irreversible)
}

/// There is no such fault without the word.
pub(super) fn not_said(cx: &mut Cx<'_, '_>, at: At, word: &str) {
    cx.error(at, format!("nothing takes a {word} back, and this does not say that it is known"))
        .label("ends the node, Squall's agent with it, and all that runs there")
        .mend(format!(
            "write `{{ {word}: {{ irreversible: true }} }}`; a node that is cut off for a while is `{{ partition: {{ mode: drop }} }}` \
             on `host`, which ends with its holder"
        ));
}

/// Whether a step with a fault that nothing takes back is about one node, once, and nothing else.
pub(super) fn alone(
    cx: &mut Cx<'_, '_>,
    faults: &[(Fault, At)],
    (target, on): (&Target, At),
    ramp: &[Share],
) {
    let Some((fault, at)) = faults.iter().find(|(fault, _)| fault.kind().is_for_good()) else {
        return;
    };
    let (kind, at) = (fault.kind(), *at);
    if !matches!(target, Target::Host(_)) {
        cx.error(on, format!("{kind} acts on a node, and on nothing smaller"))
            .related(at, "ends a node")
            .mend("write `on: host`, and which by `nodes`");
    }
    if ramp != [Share::Count(1)] {
        cx.error(
            at,
            format!("a {kind} of several nodes is not taken back by anything"),
        )
        .mend("write `share: 1` on the step: one node is ended, and a run ends no other");
    }
    if let Some((_, other)) = faults.iter().find(|(other, _)| other != fault) {
        cx.error(*other, format!("a {kind} ends what else acts on the node"))
            .related(at, "ends the node")
            .mend("put the other fault into a step of its own, before this one");
    }
}

/// A run ends one node at most.
pub(super) fn once(cx: &mut Cx<'_, '_>, steps: &[(&Step, At)]) {
    let ends = |step: &Step| step.faults.iter().any(|fault| fault.kind().is_for_good());
    let mut ending = steps.iter().filter(|(step, _)| ends(step));
    if let (Some((_, first)), Some((_, second))) = (ending.next(), ending.next()) {
        cx.error(*second, "a run ends one node, and this is the second")
            .related(*first, "the first")
            .mend("make another experiment of it");
    }
}
