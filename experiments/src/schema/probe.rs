//! How the steady state is observed, and what is expected.

use super::{LIST_MOST, list, object, one_of, or_short, quantity, service, text};
use crate::units::{Frequency, Interval, Timeout};
use serde_json::{Value, json};

pub(super) fn steady_state() -> Value {
    let expectation = json!({
        "type": "string",
        "pattern": "^\\s*([Ss]uccess|[Ss]tatus|[Mm]edian|[Mm]ax|[Rr]ate|[Bb]ody|[Vv]alue|[Ee]xit|[Pp][0-9])",
        "description": "A measure, a comparison and a bound",
        "examples": [
            "success >= 99%",
            "p99 <= 400ms",
            "p95 <= 1.5x baseline",
            "value within 10% of baseline",
            "status one of 200, 202",
            "body $.status is \"ok\"",
        ],
    });
    let fields = [
        ("name", text("Unique in the file")),
        ("probe", probe()),
        (
            "expect",
            json!({
                "oneOf": [
                    expectation,
                    { "type": "array", "items": expectation, "minItems": 1, "maxItems": LIST_MOST },
                ],
                "description": "What must hold",
            }),
        ),
        (
            "confirm",
            json!({
                "type": "integer",
                "minimum": 1,
                "maximum": 100,
                "description": "Where only a gauge exists: so many violations in a row confirm one; 3 where nothing is said",
            }),
        ),
    ];
    object(
        "One probe and what is expected of it",
        fields,
        &["name", "probe", "expect"],
    )
}

pub(super) fn every() -> (&'static str, Value) {
    (
        "every",
        quantity::<Interval>("How often; 1s where nothing is said"),
    )
}

pub(super) fn timeout() -> (&'static str, Value) {
    (
        "timeout",
        quantity::<Timeout>("After this it counts as failed; 5s where nothing is said"),
    )
}

fn url() -> Value {
    json!({
        "type": "string",
        "pattern": "^https?://[^/?#\\s@]+([/?#]\\S*)?$",
        "description": "http or https, absolute",
    })
}

fn request() -> Vec<(&'static str, Value)> {
    vec![
        ("url", url()),
        (
            "method",
            json!({
                "enum": ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"],
                "description": "GET where nothing is said",
            }),
        ),
        (
            "headers",
            json!({
                "type": ["object", "null"],
                "additionalProperties": { "type": ["string", "number", "boolean"] },
                "description": "Header fields",
            }),
        ),
        (
            "body",
            json!({ "type": ["string", "number", "boolean"], "description": "The body, as it is sent" }),
        ),
        timeout(),
    ]
}

fn address() -> Value {
    json!({
        "type": "string",
        "pattern": "^(\\[[0-9a-fA-F:.]+\\]|[^:/\\s\\[\\]]+):[0-9]+$",
        "description": "host:port, 1.2.3.4:80 or [::1]:80",
    })
}

fn argv() -> Value {
    let words = json!({ "type": ["string", "number", "boolean"] });
    list(
        words,
        "The program and its arguments; never a line for a shell",
    )
}

fn probe() -> Value {
    let mut http = request();
    http.push(every());
    let http = or_short(
        url(),
        object("", http, &["url"]),
        "One request each interval; success is a status below 400",
    );
    let mut load = request();
    load.push((
        "rate",
        quantity::<Frequency>("How many requests, whatever the answers do"),
    ));
    let load = object(
        "Requests at a constant rate, each timed from when it was due",
        load,
        &["url", "rate"],
    );
    let tcp = [("address", address()), timeout(), every()];
    let tcp = or_short(
        address(),
        object("", tcp, &["address"]),
        "One connection each interval",
    );
    let command = [("argv", argv()), timeout(), every()];
    let command = or_short(
        argv(),
        object("", command, &["argv"]),
        "One program each interval; success is exit code 0, its output is `value` or `body`",
    );
    let mut kinds = vec![
        ("http", http),
        ("load", load),
        ("tcp", tcp),
        ("command", command),
    ];
    kinds.extend(service::probes());
    one_of("How the steady state is observed", kinds)
}
