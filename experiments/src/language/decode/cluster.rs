//! Services and pods of a cluster as the ends of a conversation.

use super::kubernetes::name;
use crate::filter::{ClusterHost, Host, POD_NAME};
use crate::language::reader::{Cx, Fields};
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Value};

/// `service: { namespace: shop, name: payment }`.
pub(super) fn service(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Host> {
    let known = ["namespace", "name"];
    let of = Fields::open(cx, entry.key_at, &entry.node, "`service`", &known)?;
    let namespace = name(cx, &of, "namespace", "namespace: shop");
    let name = name(cx, &of, "name", "name: payment");
    Some(Host::Cluster(ClusterHost::Service {
        namespace: namespace?,
        name: name?,
    }))
}

/// `pod: { namespace: shop, labels: { app: payment } }`, or by its `name`; by both, where both are said.
pub(super) fn pods(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Host> {
    let known = ["namespace", "name", "labels"];
    let of = Fields::open(cx, entry.key_at, &entry.node, "`pod`", &known)?;
    let namespace = name(cx, &of, "namespace", "namespace: shop");
    let by_name = of.get("name").is_some();
    let pod = by_name.then(|| name(cx, &of, "name", "name: payment-0"));
    let labels = match of.get("labels") {
        None if by_name => Some(Vec::new()),
        _ => of
            .need(
                cx,
                "labels",
                "labels: { app: payment }` or `name: payment-0",
            )
            .and_then(|e| labels_of(cx, e)),
    };
    let mut selector = labels?;
    if let Some(pod) = pod {
        selector.insert(0, format!("{POD_NAME}={}", pod?));
    }
    Some(Host::Cluster(ClusterHost::Pods {
        namespace: namespace?,
        selector: selector.join(","),
    }))
}

fn labels_of(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<String>> {
    let Value::Map(entries) = &entry.node.value else {
        cx.error(entry.node.at, "`labels` is a mapping")
            .mend("write `labels: { app: payment }`");
        return None;
    };
    // Letters, digits and what is allowed between them (Kubernetes: "Labels and Selectors"): a selector is made of them.
    let plain = |text: &str, more: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        text.len() <= 253 && text.chars().all(letter)
    };
    let mut selector = Some(Vec::new());
    for label in entries {
        let value = cx.text(&label.node, "a label's value", "`payment`");
        let value = value.map(str::to_owned);
        let good = value.as_ref().is_some_and(|v| plain(v, "-_.")) && plain(&label.key, "-_./");
        if value.is_some() && !good {
            cx.error(label.key_at, format!("{} is not a label of Kubernetes", quoted(&label.key)))
                .mend("write letters, digits, `-`, `_` and `.`, as `kubectl get pods --show-labels` shows it");
        }
        let good = good && !is_name(cx, label, value.as_deref());
        match (&mut selector, value.filter(|_| good)) {
            (Some(all), Some(value)) => all.push(format!("{}={value}", label.key)),
            _ => selector = None,
        }
    }
    let mut selector = selector?;
    if selector.is_empty() {
        cx.error(
            entry.node.at,
            "no labels would be every pod of the namespace",
        )
        .mend("write `labels: { app: payment }`");
        return None;
    }
    selector.sort();
    Some(selector)
}

/// A selector of labels has one word that is none.
fn is_name(cx: &mut Cx<'_, '_>, label: &Entry, value: Option<&str>) -> bool {
    let is = label.key == POD_NAME;
    if is {
        let value = value.unwrap_or("payment-0");
        cx.error(
            label.key_at,
            format!("`{POD_NAME}` is a pod's name, not a label"),
        )
        .mend(format!("write `name: {value}` beside `labels`"));
    }
    is
}
