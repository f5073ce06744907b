//! On which nodes a step looks for its target.

use super::experiment::texts;
use crate::join::Labels;
use crate::language::reader::{Cx, Fields};
use crate::language::tree::{Entry, Value};
use crate::nodes::Nodes;
use std::rc::Rc;

/// Reads `nodes:`.
pub(super) fn nodes(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Nodes> {
    let known = ["names", "zone", "labels"];
    let fields = Fields::open(cx, entry.key_at, &entry.node, "`nodes`", &known)?;
    let names = fields.or("names", Vec::new(), |e| names(cx, e));
    let zone = fields.option("zone", |e| cx.words(&e.node, "a zone", "`eu-1`"));
    let labels = fields.or("labels", Labels::new(), |e| texts(cx, &e.node, "labels"));
    let nodes = Nodes {
        names: names?,
        zone: zone?,
        labels: labels?,
    };
    if nodes == Nodes::default() {
        cx.error(entry.node.at, "`nodes` says nothing about the nodes")
            .mend("say at least one of `names`, `zone` and `labels`, or remove `nodes` for all that have joined");
        return None;
    }
    Some(nodes)
}

/// One name, or a list of them.
fn names(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<String>> {
    let node = &entry.node;
    let single = [Rc::clone(node)];
    let items = match &node.value {
        Value::Scalar { .. } if !node.is_null() => &single[..],
        _ => cx.list(node, "a list of nodes", "`[ node-7, node-8 ]`")?,
    };
    let names = items
        .iter()
        .map(|item| cx.words(item, "a node's name", "`node-7`"));
    let names: Vec<Option<String>> = names.collect();
    names.into_iter().collect()
}
