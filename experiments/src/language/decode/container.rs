//! Pods and containers as targets.

use super::experiment::texts;
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::target::{ContainerSelector, PodSelector, Runtime};
use std::collections::BTreeMap;

/// Labels and annotations of one selector.
type Pairs = BTreeMap<String, String>;

/// Reads `pod:`.
pub(super) fn pod(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<PodSelector> {
    if let Some(text) = bare(node) {
        let mend = match text.split_once('/') {
            Some((namespace, name)) => {
                format!("write `pod: {{ namespace: {namespace}, name: {name} }}`")
            }
            None => format!("write `pod: {{ namespace: default, name: {text} }}`"),
        };
        cx.error(node.at, "it is not said by what the pod is selected")
            .mend(mend);
        return None;
    }
    let known = ["namespace", "name", "labels", "annotations", "container"];
    let fields = Fields::open(cx, owner, node, "a pod selector", &known)?;
    let namespace = fields
        .need(cx, "namespace", "namespace: default")
        .and_then(|e| name(cx, e, "a namespace", "`shop`"));
    let pod = fields.option("name", |e| name(cx, e, "a pod's name", "`payment-0`"));
    let labels = fields.or("labels", Pairs::new(), |e| pairs(cx, e, "labels"));
    let annotations = fields.or("annotations", Pairs::new(), |e| pairs(cx, e, "annotations"));
    let container = fields.option("container", |e| {
        name(cx, e, "a container's name", "`payment`")
    });
    Some(PodSelector {
        namespace: namespace?,
        name: pod?,
        labels: labels?,
        annotations: annotations?,
        container: container?,
    })
}

/// Reads `container:`.
pub(super) fn container(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<ContainerSelector> {
    if let Some(text) = bare(node) {
        cx.error(node.at, "it is not said by what the container is selected")
            .mend(format!("write `container: {{ name: {text} }}`"));
        return None;
    }
    let known = ["name", "labels", "image", "runtime"];
    let fields = Fields::open(cx, owner, node, "a container selector", &known)?;
    let said = ["name", "labels", "image"]
        .iter()
        .any(|field| fields.get(field).is_some());
    let name = fields.option("name", |e| {
        container_name(cx, e, "a container's name", "`payment`")
    });
    let labels = fields.or("labels", Pairs::new(), |e| pairs(cx, e, "labels"));
    let image = fields.option("image", |e| {
        cx.words(&e.node, "an image", "`registry.example/payment:1.4`")
    });
    let runtime = fields.option("runtime", |e| {
        cx.word(&e.node, "a container runtime", &Runtime::WORDS)
    });
    if !said {
        cx.error(
            owner,
            "a container selector that says no more matches every container",
        )
        .mend("say at least one of `name`, `labels` and `image`");
        return None;
    }
    Some(ContainerSelector {
        name: name?,
        labels: labels?,
        image: image?,
        runtime: runtime?,
    })
}

fn bare(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Some(text),
        _ => None,
    }
}

/// A name of Kubernetes: a DNS subdomain (RFC 1123), in lower case.
fn name(cx: &mut Cx<'_, '_>, entry: &Entry, what: &str, example: &str) -> Option<String> {
    const NAME_BYTES_MAX: usize = 253;
    let text = cx.words(&entry.node, what, example)?;
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let end = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if text.len() <= NAME_BYTES_MAX
        && text.bytes().all(letter)
        && end(text.bytes().next())
        && end(text.bytes().last())
    {
        return Some(text);
    }
    let draft = cx.error(entry.node.at, format!("{} is not {what}", quoted(&text)));
    draft.label("lower-case letters, digits, `-` and `.`");
    if text.contains('*') {
        draft.mend("a name is matched as it stands: several pods are selected by `labels`");
    } else {
        draft.mend(format!("write one such as {example}"));
    }
    None
}

/// Docker's names have more letters than those of Kubernetes, and are told with a `/` before them by some tools.
fn container_name(cx: &mut Cx<'_, '_>, entry: &Entry, what: &str, example: &str) -> Option<String> {
    let text = cx.words(&entry.node, what, example)?;
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if text.bytes().all(letter) {
        return Some(text);
    }
    let draft = cx.error(entry.node.at, format!("{} is not {what}", quoted(&text)));
    match text.rsplit_once('/') {
        Some((_, base)) if !base.is_empty() => draft.mend(format!("write `name: {base}`")),
        _ => draft.mend("a name is matched as it stands: several containers are selected by `labels` or `image`"),
    };
    None
}

/// Pairs that must all be there; none at all would match everything.
fn pairs(cx: &mut Cx<'_, '_>, entry: &Entry, what: &'static str) -> Option<Pairs> {
    let pairs = texts(cx, &entry.node, what)?;
    if pairs.is_empty() {
        cx.error(entry.key_at, format!("no {what} are said"))
            .label("this matches everything")
            .mend(format!("write `{what}: {{ app: payment }}`, or remove it"));
        return None;
    }
    Some(pairs)
}
