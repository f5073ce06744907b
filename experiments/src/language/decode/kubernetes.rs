//! What a Kubernetes cluster says of its own objects.

use super::connection;
use super::probe::{every, timeout};
use super::request::source;
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node};
use crate::probe::{Api, Cluster, Deployment, Events, Kubernetes, Object, Pods};

/// What can be looked at.
const OBJECTS: [&str; 3] = ["deployment", "pods", "events"];

/// What a `kubernetes` probe looks at.
pub(super) fn kubernetes(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Kubernetes> {
    let known = [
        "deployment",
        "pods",
        "events",
        "kubeconfig",
        "url",
        "auth",
        "tls",
        "timeout",
        "every",
        "retries",
        "onError",
    ];
    let fields = Fields::open(cx, owner, node, "a `kubernetes` probe", &known)?;
    let object = object(cx, &fields);
    let cluster = cluster(cx, &fields);
    let timeout = timeout(cx, &fields);
    let every = every(cx, &fields);
    let trouble = connection::trouble(cx, &fields);
    Some(Kubernetes {
        object: object?,
        cluster: cluster?,
        timeout: timeout?,
        every: every?,
        trouble: trouble?,
    })
}

fn object(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Object> {
    let said: Vec<(&str, &Entry)> = OBJECTS
        .iter()
        .filter_map(|word| Some((*word, fields.get(word)?)))
        .collect();
    let example = "deployment: { namespace: shop, name: payment }";
    let Some((word, entry)) = said.first() else {
        cx.error(
            fields.owner,
            "it is not said what of the cluster is looked at",
        )
        .label("`deployment`, `pods` or `events` is missing")
        .mend(format!("add `{example}`"))
        .missing();
        return None;
    };
    if let Some((second, more)) = said.get(1) {
        cx.error(
            more.key_at,
            format!("a probe looks at one thing; `{second}` is a second"),
        )
        .related(entry.key_at, "the first")
        .mend("make the other a steady state of its own");
        return None;
    }
    match *word {
        "deployment" => {
            let known = ["namespace", "name"];
            let of = Fields::open(cx, entry.key_at, &entry.node, "`deployment`", &known)?;
            let namespace = name(cx, &of, "namespace", "namespace: shop");
            let name = name(cx, &of, "name", "name: payment");
            Some(Object::Deployment(Deployment {
                namespace: namespace?,
                name: name?,
            }))
        }
        "pods" => {
            let known = ["namespace", "selector"];
            let of = Fields::open(cx, entry.key_at, &entry.node, "`pods`", &known)?;
            let namespace = name(cx, &of, "namespace", "namespace: shop");
            let selector = of
                .need(cx, "selector", "selector: app=payment")
                .and_then(|e| cx.words(&e.node, "a label selector", "`app=payment`"));
            Some(Object::Pods(Pods {
                namespace: namespace?,
                selector: selector?,
            }))
        }
        _ => {
            let of = Fields::open(cx, entry.key_at, &entry.node, "`events`", &["namespace"])?;
            let namespace = name(cx, &of, "namespace", "namespace: shop")?;
            Some(Object::Events(Events { namespace }))
        }
    }
}

/// A name of Kubernetes (RFC 1123): it becomes part of a path.
pub(super) fn name(
    cx: &mut Cx<'_, '_>,
    fields: &Fields<'_>,
    field: &str,
    example: &str,
) -> Option<String> {
    let entry = fields.need(cx, field, example)?;
    let name = cx.words(&entry.node, "a name", "`payment`")?;
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = name.bytes().all(|b| letter(b) || b == b'-' || b == b'.');
    let ends = name.bytes().next().is_some_and(letter) && name.bytes().last().is_some_and(letter);
    if !inner || !ends {
        cx.error(
            entry.node.at,
            format!("{} is not a name of Kubernetes", quoted(&name)),
        )
        .mend("write lower-case letters, digits and hyphens, as `kubectl get` shows it");
        return None;
    }
    Some(name)
}

/// Reads the file's own `cluster:`.
pub(super) fn of_file(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Option<Cluster>> {
    let known = ["kubeconfig", "url", "auth", "tls"];
    let fields = Fields::open(cx, entry.key_at, &entry.node, "`cluster`", &known)?;
    cluster(cx, &fields)
}

/// The cluster that is named, if any.
fn cluster(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Option<Cluster>> {
    match (fields.get("kubeconfig"), fields.get("url")) {
        (Some(file), Some(url)) => {
            cx.error(url.key_at, "a cluster is reached in one way")
                .related(file.key_at, "the first")
                .mend("keep `kubeconfig`, or `url` with `auth` and `tls`");
            None
        }
        (Some(file), None) => {
            let path = cx.words(&file.node, "a kubeconfig file", "`/etc/squall/kubeconfig`")?;
            alone(cx, fields)?;
            Some(Some(Cluster::Kubeconfig(path)))
        }
        (None, Some(_)) => {
            let source = source(cx, fields, "https://10.0.0.1:6443")?;
            Some(Some(Cluster::Api(Api {
                url: source.url,
                auth: source.auth,
                tls: source.tls,
            })))
        }
        (None, None) => alone(cx, fields).map(|()| None),
    }
}

/// Proof and trust belong to an address.
fn alone(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<()> {
    let stray = ["auth", "tls"]
        .into_iter()
        .find_map(|field| fields.get(field));
    let Some(stray) = stray else { return Some(()) };
    cx.error(stray.key_at, format!("`{}` belongs to a `url`", stray.key))
        .mend("add `url: https://HOST:6443`, or remove it: a kubeconfig and a service account bring their own");
    None
}
