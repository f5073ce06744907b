//! What a step is aimed at.

use super::{object, one_of, or_short, text, word};
use crate::target::Runtime;
use serde_json::{Value, json};

pub(super) fn target() -> Value {
    let process = || json!({ "$ref": "#/$defs/process" });
    let netns = or_short(
        text("A name under /run/netns"),
        one_of(
            "",
            [
                ("name", text("A name under /run/netns")),
                ("process", process()),
            ],
        ),
        "A network namespace, by its name or by a process in it",
    );
    let kinds = [
        (
            "host",
            json!({ "type": ["object", "null"], "additionalProperties": false, "description": "The node itself" }),
        ),
        ("process", process()),
        ("cgroup", text("A cgroup's path below the hierarchy's root")),
        (
            "unit",
            json!({
                "type": "string",
                "pattern": "^[A-Za-z0-9:_.\\\\@-]+\\.(service|scope|slice)$",
                "description": "A systemd unit",
            }),
        ),
        ("netns", netns),
        ("pod", pod()),
        ("container", container()),
    ];
    json!({
        "oneOf": [{ "const": "host" }, one_of("Exactly one target", kinds)],
        "description": "What is hit; network faults need a host, netns, pod or container, the others anything but a netns",
    })
}

pub(super) fn process() -> Value {
    let fields = [
        ("name", text("The program's name")),
        (
            "command",
            text("A regular expression found somewhere in the command line"),
        ),
        (
            "pid",
            json!({ "type": "integer", "minimum": 2, "maximum": 4_194_304, "description": "The process id" }),
        ),
        (
            "user",
            json!({ "type": ["string", "integer"], "description": "The user it runs as: a name or a number" }),
        ),
        (
            "port",
            json!({ "type": "integer", "minimum": 1, "maximum": 65535, "description": "A TCP port that it listens on" }),
        ),
    ];
    let mut schema = object("Processes that match all that is said", fields, &[]);
    if let Value::Object(schema) = &mut schema {
        schema.insert("minProperties".into(), json!(1));
    }
    schema
}

fn pairs(description: &str) -> Value {
    json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": { "type": ["string", "number", "boolean"] },
        "description": description,
    })
}

fn pod() -> Value {
    const NAME: &str = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$";
    let name = |description: &str| json!({ "type": "string", "pattern": NAME, "maxLength": 253, "description": description });
    let fields = [
        (
            "namespace",
            name("The namespace of Kubernetes that it is in"),
        ),
        ("name", name("The pod's name")),
        ("labels", pairs("Labels that it has")),
        ("annotations", pairs("Annotations that it has")),
        (
            "container",
            name(
                "The container that is hit; the pod's main one where nothing is said; not for network faults, which hit the whole pod",
            ),
        ),
    ];
    object("Pods that match all that is said", fields, &["namespace"])
}

fn container() -> Value {
    let runtimes: Vec<&str> = Runtime::WORDS.iter().map(|(word, _)| *word).collect();
    let fields = [
        (
            "name",
            json!({ "type": "string", "pattern": "^[A-Za-z0-9_.-]+$", "description": "The container's name" }),
        ),
        (
            "labels",
            pairs("Labels that it has, or the pod that it is in"),
        ),
        ("image", text("Its image, with or without registry and tag")),
        (
            "runtime",
            word(&runtimes, "The container runtime that runs it"),
        ),
    ];
    let mut schema = object("Containers that match all that is said", fields, &[]);
    if let Value::Object(schema) = &mut schema {
        let needs = ["name", "labels", "image"].map(|field| json!({ "required": [field] }));
        schema.insert("anyOf".into(), json!(needs));
    }
    schema
}
