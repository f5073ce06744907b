//! The faults that use up what there is a limited amount of.

use super::{object, or_short, quantity, word};
use crate::units::{ByteRate, ByteSize, Frequency, Percent};
use serde_json::{Value, json};

fn folder(description: &str) -> Value {
    json!({ "type": "string", "pattern": "^/", "maxLength": 4095, "description": description })
}

/// Exactly one of these fields, or at least one.
fn needs(schema: &mut Value, how: &str, names: &[&str]) {
    let each: Vec<Value> = names
        .iter()
        .map(|name| json!({ "required": [name] }))
        .collect();
    if let Value::Object(schema) = schema {
        schema.insert(how.into(), json!(each));
    }
}

pub(super) fn fill() -> Value {
    let fields = [
        ("path", folder("A folder on it, as the target sees it")),
        ("size", quantity::<ByteSize>("By so much")),
        (
            "to",
            quantity::<Percent>("Until so much of it is in use, as df counts"),
        ),
        (
            "leave",
            quantity::<ByteSize>("Until no more than this is free"),
        ),
        (
            "rate",
            quantity::<ByteRate>("How fast it grows; at once where nothing is said"),
        ),
        (
            "reserve",
            quantity::<ByteSize>("What stays free; 64MiB where nothing is said; not with `leave`"),
        ),
    ];
    let mut long = object("A file system is filled", fields, &["path"]);
    needs(&mut long, "oneOf", &["size", "to", "leave"]);
    if let Value::Object(long) = &mut long {
        long.insert("not".into(), json!({ "required": ["leave", "reserve"] }));
    }
    long
}

pub(super) fn io() -> Value {
    let rate = |what: &str| {
        json!({
            "type": "string",
            "pattern": "^[0-9][0-9_.]* *((B|[kK]B|MB|GB|KiB|MiB|GiB)/s|/(s|min|h))$",
            "description": format!("{what}: bytes (20MiB/s) or operations (200/s)"),
        })
    };
    let fields = [
        (
            "path",
            folder("A folder on the file system, as the target sees it"),
        ),
        ("read", rate("Reads past the page cache")),
        ("write", rate("Writes past the page cache")),
        (
            "sync",
            quantity::<Frequency>("Small writes with an fdatasync each"),
        ),
        (
            "block",
            quantity::<ByteSize>(
                "The size of one read or write, 4KiB to 4MiB; 64KiB where bytes are counted, 4KiB where operations are",
            ),
        ),
        (
            "file",
            quantity::<ByteSize>("The size of the file, 1MiB to 1GiB; 16MiB where nothing is said"),
        ),
    ];
    let mut long = object("A file system is kept busy", fields, &["path"]);
    needs(&mut long, "anyOf", &["read", "write", "sync"]);
    long
}

/// How much is left over, in one of two ways.
pub(super) fn rest(leave: &str, to: &str) -> [(&'static str, Value); 2] {
    let number = json!({
        "type": "integer", "minimum": 0, "maximum": 1_000_000_000,
        "description": leave,
    });
    [("leave", number), ("to", quantity::<Percent>(to))]
}

pub(super) fn exhaust() -> Value {
    let [leave, to] = rest(
        "How many are left over; none where nothing is said",
        "Until this share of the limit is in use",
    );
    let fields = [
        (
            "what",
            word(
                &["pids", "ports", "conntrack", "inodes", "pageCache"],
                "Processes of the target's cgroup, its ports for outgoing connections, connections that its network namespace \
                 can track, a file system's files, or memory by a file that is kept in it",
            ),
        ),
        leave,
        to,
        (
            "path",
            folder("A folder on the file system whose inodes, or files, are meant"),
        ),
    ];
    let mut long = object("", fields, &["what"]);
    if let Value::Object(long) = &mut long {
        long.insert("not".into(), json!({ "required": ["leave", "to"] }));
        long.insert(
            "if".into(),
            json!({ "properties": { "what": { "enum": ["inodes", "pageCache"], "description": "What is a file system's" } } }),
        );
        long.insert("then".into(), json!({ "required": ["path"] }));
        long.insert("else".into(), json!({ "not": { "required": ["path"] } }));
        long.insert(
            "dependentSchemas".into(),
            json!({ "path": {
                "if": { "properties": { "what": { "const": "pageCache" } } },
                "then": { "required": ["to"] },
            } }),
        );
    }
    or_short(
        word(&["pids", "ports", "conntrack"], "All of them"),
        long,
        "Something that the target has a limited number of is used up",
    )
}
