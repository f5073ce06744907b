//! What a step is aimed at.

use super::{object, one_of, or_short, text};
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
    ];
    json!({
        "oneOf": [{ "const": "host" }, one_of("Exactly one target", kinds)],
        "description": "What is hit; network faults need a host or a netns, the others a host, process, cgroup or unit",
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
