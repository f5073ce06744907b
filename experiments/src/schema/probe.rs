//! How the steady state is observed, and what is expected.

mod observer;
mod service;

pub(super) use observer::cluster;

use super::{LIST_MOST, list, object, one_of, or_short, quantity, text, word};
use crate::probe::{Load, Trouble};
use crate::units::{Frequency, Interval, Timeout};
use serde_json::{Value, json};

pub(super) fn steady_state() -> Value {
    let expectation = json!({
        "type": "string",
        "pattern": "^\\s*([Ss]uccess|[Bb]urn|canary\\s*$|[Ss]tatus|[Mm]edian|[Mm]ax|[Rr]ate|[Bb]ody|[Vv]alue|[Ee]xit|[Pp][0-9])",
        "description": "A measure, a comparison and a bound",
        "examples": [
            "success >= 99%",
            "p99 <= 400ms",
            "p95 <= 1.5x baseline",
            "value within 10% of baseline",
            "status one of 200, 202",
            "body $.status is \"ok\"",
            "p99 <= 1.2x control",
            "burn of 99.9% over 60s and 5s <= 14.4",
            "canary",
        ],
    });
    let fields = [
        ("name", text("Unique in the file")),
        ("probe", probe()),
        ("compare", compare()),
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
        (
            "block",
            quantity::<Interval>(
                "One trial is so long a block of attempts, of which the violating share counts: for attempts that fail together; each attempt is one where nothing is said",
            ),
        ),
        (
            "clear",
            json!({
                "type": "integer",
                "minimum": 1,
                "maximum": 100,
                "description": "After so many good ones in a row the count of violations starts again; 1 where nothing is said",
            }),
        ),
    ];
    object(
        "One probe and what is expected of it",
        fields,
        &["name", "probe", "expect"],
    )
}

/// The fields are the probe's own, whichever it is; what must be the same for both groups is none of them.
fn compare() -> Value {
    let elsewhere = json!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": { "not": { "enum": ["rate", "every", "timeout", "method", "body"] } },
    });
    json!({
        "oneOf": [{ "type": "string", "minLength": 1 }, { "type": "array", "minItems": 1 }, elsewhere],
        "description": "Where the same probe is asked of an untouched control group, at the same moments: { url: http://orders-v1:8080/ }",
    })
}

fn every() -> (&'static str, Value) {
    (
        "every",
        quantity::<Interval>("How often; 1s where nothing is said"),
    )
}

fn timeout() -> (&'static str, Value) {
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

/// Where a secret is: never the secret.
fn secret() -> Value {
    let places = [
        ("env", text("A variable of the controller's environment")),
        ("file", text("A file on the controller's machine")),
    ];
    one_of("Where a secret is; it is read when the run starts", places)
}

fn auth() -> (&'static str, Value) {
    let basic = [("user", text("The user")), ("password", secret())];
    let kinds = [
        ("bearer", secret()),
        (
            "basic",
            object("A user and a password", basic, &["user", "password"]),
        ),
    ];
    ("auth", one_of("How the probe proves who it is", kinds))
}

fn headers() -> (&'static str, Value) {
    (
        "headers",
        json!({
            "type": ["object", "null"],
            "additionalProperties": {
                "oneOf": [{ "type": ["string", "number", "boolean"] }, secret()],
            },
            "description": "Header fields; a secret is `{ env: NAME }` or `{ file: PATH }`",
        }),
    )
}

fn tls() -> (&'static str, Value) {
    let fields = [
        (
            "ca",
            text("A PEM file: whom to trust instead of the system's authorities"),
        ),
        ("cert", text("A PEM file: the client's own certificate")),
        ("key", text("A PEM file: the private key of `cert`")),
        (
            "serverName",
            text("The name in the other side's certificate, where it is not the host's"),
        ),
    ];
    let mut tls = object("Whom TLS trusts, and who it says it is", fields, &[]);
    if let Value::Object(tls) = &mut tls {
        let pair = json!({ "cert": ["key"], "key": ["cert"] });
        tls.insert("dependentRequired".into(), pair);
    }
    ("tls", tls)
}

/// What becomes of an attempt without an answer.
fn trouble() -> [(&'static str, Value); 2] {
    let retries = json!({
        "type": "integer",
        "minimum": 0,
        "maximum": Trouble::RETRIES_MAX,
        "description": "So many more tries before an attempt counts; 0 where nothing is said",
    });
    let on_error = word(
        &["violation", "ignore"],
        "What an attempt is that got no answer; violation where nothing is said",
    );
    [("retries", retries), ("onError", on_error)]
}

/// Whom a probe asks over HTTP, and how.
fn source() -> Vec<(&'static str, Value)> {
    vec![("url", url()), headers(), auth(), tls(), timeout()]
}

fn request() -> Vec<(&'static str, Value)> {
    let mut request = source();
    request.extend([
        (
            "method",
            json!({
                "enum": ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"],
                "description": "GET where nothing is said",
            }),
        ),
        (
            "body",
            json!({ "type": ["string", "number", "boolean"], "description": "The body, as it is sent" }),
        ),
    ]);
    request
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

fn load() -> Value {
    let mut load = request();
    load.extend([
        (
            "rate",
            quantity::<Frequency>("How many requests, whatever the answers do"),
        ),
        (
            "sessions",
            json!({
                "type": "integer",
                "minimum": 1,
                "maximum": Load::SESSIONS_MAX,
                "description": "So many users, each with cookies of its own, who take turns",
            }),
        ),
        (
            "think",
            quantity::<Interval>("At least so long from one request of a user to its next"),
        ),
        (
            "csv",
            text("A CSV file on the controller's machine, for {{csv.column}} in the body"),
        ),
        (
            "http2",
            json!({ "type": "boolean", "description": "HTTP/2: by ALPN on https, known beforehand on http; false where nothing is said" }),
        ),
    ]);
    object(
        "Requests at a constant rate, each timed from when it was due",
        load,
        &["url", "rate"],
    )
}

fn probe() -> Value {
    let mut http = request();
    http.push(every());
    http.extend(trouble());
    let http = or_short(
        url(),
        object("", http, &["url"]),
        "One request each interval; success is a status below 400",
    );
    let [retries, on_error] = trouble();
    let tcp = [
        ("address", address()),
        timeout(),
        every(),
        retries,
        on_error,
    ];
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
        ("load", load()),
        ("tcp", tcp),
        ("command", command),
        ("prometheus", observer::prometheus()),
        ("webhook", observer::webhook()),
        ("log", observer::log()),
        ("kubernetes", observer::kubernetes()),
    ];
    kinds.extend(service::probes());
    one_of("How the steady state is observed", kinds)
}
