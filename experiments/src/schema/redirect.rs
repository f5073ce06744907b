//! The faults on names, requests and connections.

use super::fault::packets;
use super::{list, object, or_short, quantity, text, word};
use crate::fault::{RecordType, Status};
use crate::pattern::Pattern;
use crate::units::{ByteSize, Delay, Percent};
use serde_json::{Value, json};

const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE",
];

/// One, or a list of them.
fn several(one: Value, description: &str) -> Value {
    let many = list(one.clone(), description);
    or_short(one, many, description)
}

fn pattern() -> Value {
    quantity::<Pattern>("Matches the whole")
}

/// Exactly one of these fields must be there.
fn exactly_one(mut schema: Value, of: &[&str]) -> Value {
    if let Value::Object(schema) = &mut schema {
        let each: Vec<Value> = of.iter().map(|f| json!({ "required": [f] })).collect();
        schema.insert("oneOf".into(), json!(each));
    }
    schema
}

fn share() -> (&'static str, Value) {
    (
        "share",
        quantity::<Percent>(
            "How many of them are hit, each drawn on its own; all where nothing is said",
        ),
    )
}

pub(super) fn dns() -> Value {
    let answers = ["nxdomain", "servfail", "timeout"];
    let short = || {
        json!({
            "anyOf": [
                word(&answers, "No such name, a failed resolver, or no answer at all"),
                { "type": "string", "pattern": "^[0-9a-fA-F.:]+$", "description": "A false address" },
                { "type": "array", "items": text("A false address"), "minItems": 1, "maxItems": 16 },
            ],
            "description": "What a query is answered with",
        })
    };
    let types = RecordType::ALL.map(|(word, _, _)| word);
    let own = vec![
        ("answer", short()),
        ("delay", quantity::<Delay>("How late the query goes on")),
        (
            "names",
            several(pattern(), "The names asked for: db.shop, *.payment.svc"),
        ),
        (
            "types",
            several(word(&types, "A record type"), "The record types asked for"),
        ),
        share(),
    ];
    let long = exactly_one(packets("", own, &[]), &["answer", "delay"]);
    or_short(short(), long, "Names do not resolve, or falsely, or late")
}

pub(super) fn tcp() -> Value {
    let modes = || {
        word(
            &["reset", "refuse", "stall"],
            "Connections are reset, new ones are refused, or they stand still",
        )
    };
    let own = vec![
        ("mode", modes()),
        (
            "close",
            quantity::<Delay>("How long the end of a connection takes"),
        ),
        share(),
    ];
    let long = exactly_one(packets("", own, &[]), &["mode", "close"]);
    or_short(
        modes(),
        long,
        "Connections are reset, refused, slow to close, or stand still",
    )
}

pub(super) fn http() -> Value {
    let status = json!({
        "type": "integer",
        "minimum": Status::LEAST,
        "maximum": Status::MOST,
        "description": "The status it is answered with, without reaching the service",
    });
    let headers = |description: &str| {
        json!({
            "type": ["object", "null"],
            "additionalProperties": { "type": ["string", "number", "boolean"] },
            "description": description,
        })
    };
    let replace = object(
        "Headers to set",
        [
            ("request", headers("On the way to the service")),
            ("response", headers("On the way back")),
        ],
        &[],
    );
    let own = vec![
        ("abort", status),
        ("delay", quantity::<Delay>("How late the request goes on")),
        (
            "truncate",
            quantity::<ByteSize>("How much of the answer's body gets through"),
        ),
        (
            "reset",
            json!({ "const": true, "description": "The connection is reset instead of an answer" }),
        ),
        ("replace", replace),
        (
            "methods",
            several(word(&METHODS, "A method"), "The requests' methods"),
        ),
        (
            "paths",
            several(pattern(), "The requests' paths, without the query"),
        ),
        ("hosts", several(pattern(), "The hosts that requests name")),
        (
            "headers",
            headers("Headers that requests have, and patterns of their values"),
        ),
        share(),
    ];
    let effects = ["abort", "delay", "truncate", "reset", "replace"];
    exactly_one(
        packets(
            "Requests are refused, late, cut short or changed",
            own,
            &["to"],
        ),
        &effects,
    )
}
