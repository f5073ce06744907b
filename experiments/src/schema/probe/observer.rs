//! Probes that ask somebody who watches the system.

use super::super::{object, or_short, quantity, text, word};
use super::{auth, every, source, timeout, tls, trouble, url};
use crate::units::{Hold, Interval};
use serde_json::{Value, json};

pub(super) fn prometheus() -> Value {
    let over = || quantity::<Hold>("How much of the time just past");
    let range = [
        ("over", over()),
        (
            "step",
            quantity::<Interval>("From one point to the next; 1s where nothing is said"),
        ),
        (
            "reduce",
            word(
                &["last", "avg", "max", "min", "sum"],
                "How the points become one number; last where nothing is said",
            ),
        ),
    ];
    let mut fields = source();
    fields.extend([
        ("query", text("Any PromQL that comes to one number")),
        (
            "range",
            or_short(
                over(),
                object("", range, &["over"]),
                "Looks at a stretch of time and not at now alone",
            ),
        ),
        every(),
    ]);
    fields.extend(trouble());
    object(
        "One PromQL query each interval; its one number is `value`",
        fields,
        &["url", "query"],
    )
}

pub(super) fn webhook() -> Value {
    let mut fields = source();
    fields.push(every());
    fields.extend(trouble());
    or_short(
        url(),
        object("", fields, &["url"]),
        "One question each interval to anything that answers { ok, value, reason }",
    )
}

pub(super) fn log() -> Value {
    let [_, on_error] = trouble();
    let fields = [
        (
            "file",
            text("A file on the controller's machine, followed from its end"),
        ),
        (
            "journal",
            text("A unit whose messages in systemd's journal are followed from its end"),
        ),
        (
            "folder",
            text("Where the journal's files are; /var/log/journal and /run/log/journal by default"),
        ),
        (
            "pattern",
            text("A regular expression, found anywhere in a line"),
        ),
        every(),
        on_error,
    ];
    let mut schema = object(
        "How many new lines match, per second, is `value`; success is none",
        fields,
        &["pattern"],
    );
    if let Value::Object(schema) = &mut schema {
        let one = ["file", "journal"].map(|word| json!({ "required": [word] }));
        schema.insert("oneOf".into(), json!(one));
        schema.insert("dependentRequired".into(), json!({ "folder": ["journal"] }));
    }
    schema
}

/// A name of Kubernetes (RFC 1123).
fn name(description: &str) -> Value {
    json!({
        "type": "string",
        "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
        "description": description,
    })
}

/// The cluster whose services and pods are ends of conversations.
pub(in crate::schema) fn cluster() -> Value {
    let mut schema = object(
        "The Kubernetes cluster whose services and pods are named as ends of conversations; the controller's own where nothing is said",
        [
            (
                "kubeconfig",
                text("A kubeconfig file; its current context is used"),
            ),
            ("url", url()),
            auth(),
            tls(),
        ],
        &[],
    );
    if let Value::Object(schema) = &mut schema {
        schema.insert("not".into(), json!({ "required": ["kubeconfig", "url"] }));
        schema.insert(
            "dependentRequired".into(),
            json!({ "auth": ["url"], "tls": ["url"] }),
        );
    }
    schema
}

pub(super) fn kubernetes() -> Value {
    let namespace = || ("namespace", name("The namespace"));
    let deployment = [namespace(), ("name", name("The deployment's name"))];
    let selector = text("A label selector, as kubectl takes it");
    let pods = [namespace(), ("selector", selector)];
    let [retries, on_error] = trouble();
    let fields = [
        (
            "deployment",
            object(
                "Success is that all wanted replicas are available; `value` is how many are",
                deployment,
                &["namespace", "name"],
            ),
        ),
        (
            "pods",
            object(
                "`value` is how often containers of these pods were restarted since the run began",
                pods,
                &["namespace", "selector"],
            ),
        ),
        (
            "events",
            object(
                "`value` is how many warnings there were per second",
                [namespace()],
                &["namespace"],
            ),
        ),
        (
            "kubeconfig",
            text("A kubeconfig file; its current context is used"),
        ),
        ("url", url()),
        auth(),
        tls(),
        timeout(),
        every(),
        retries,
        on_error,
    ];
    let mut schema = object(
        "What a Kubernetes cluster says of its own objects",
        fields,
        &[],
    );
    if let Value::Object(schema) = &mut schema {
        let one = ["deployment", "pods", "events"].map(|word| json!({ "required": [word] }));
        schema.insert("oneOf".into(), json!(one));
        schema.insert("not".into(), json!({ "required": ["kubeconfig", "url"] }));
        schema.insert(
            "dependentRequired".into(),
            json!({ "auth": ["url"], "tls": ["url"] }),
        );
    }
    schema
}
