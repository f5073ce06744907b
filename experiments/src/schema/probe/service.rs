//! Probes that speak the protocol of one kind of service.

use super::super::{LIST_MOST, object, or_short, text, word};
use super::{address, auth, every, headers, secret, timeout, tls, trouble};
use crate::probe::{RecordType, Redis};
use serde_json::{Value, json};

type Field = (&'static str, Value);

/// Each with its word.
pub(super) fn probes() -> Vec<Field> {
    vec![
        ("grpc", grpc()),
        ("dns", dns()),
        ("postgres", postgres()),
        ("redis", redis()),
    ]
}

/// With what every probe of a service can say.
fn fields<const N: usize>(own: [Field; N]) -> Vec<Field> {
    let mut fields = Vec::from(own);
    fields.extend([timeout(), every()]);
    fields.extend(trouble());
    fields
}

/// An address whose port may be left out.
fn server(description: &str) -> Value {
    json!({
        "type": "string",
        "pattern": "^(\\[[0-9a-fA-F:.]+\\]|[^:/\\s\\[\\]@]+)(:[0-9]+)?$",
        "description": description,
    })
}

fn grpc() -> Value {
    let service = json!({
        "type": "string",
        "pattern": "^[^/\\s]{1,255}$",
        "description": "Whose health is asked for; the whole server's where nothing is said",
    });
    let own = [
        ("address", address()),
        ("service", service),
        headers(),
        auth(),
        tls(),
    ];
    or_short(
        address(),
        object("", fields(own), &["address"]),
        "One call of grpc.health.v1.Health/Check each interval; success is SERVING",
    )
}

fn dns() -> Value {
    let name = || {
        json!({
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,63}(\\.[A-Za-z0-9_-]{1,63})*\\.?$",
            "description": "The whole name that is asked for",
        })
    };
    let kinds = RecordType::ALL.map(RecordType::word);
    let own = [
        (
            "server",
            server(
                "Who is asked; the first name server of /etc/resolv.conf where nothing is said, port 53 where none is",
            ),
        ),
        ("name", name()),
        (
            "type",
            word(&kinds, "Which records; A where nothing is said"),
        ),
        (
            "transport",
            word(
                &["udp", "tcp"],
                "udp where nothing is said; what does not fit is fetched over tcp",
            ),
        ),
    ];
    or_short(
        name(),
        object("", fields(own), &["name"]),
        "One question to a name server each interval; success is at least one record, `value` is how many",
    )
}

fn connection() -> Field {
    (
        "connection",
        word(
            &["kept", "new"],
            "kept for the next attempt, or new for each; kept where nothing is said",
        ),
    )
}

fn postgres() -> Value {
    let own = [
        (
            "address",
            server("Where the server is; port 5432 where none is said"),
        ),
        ("user", text("Who asks")),
        ("password", secret()),
        (
            "database",
            text("The database; named as the user where nothing is said"),
        ),
        (
            "query",
            text("What is asked, in a read-only transaction; `select 1` where nothing is said"),
        ),
        connection(),
        tls(),
    ];
    object(
        "One query each interval; the first column of the first row is `value` when it is a number",
        fields(own),
        &["address", "user"],
    )
}

fn redis() -> Value {
    let one = json!({ "enum": Redis::COMMANDS });
    let words = json!({
        "type": "array",
        "prefixItems": [one],
        "items": { "type": ["string", "number", "boolean"] },
        "minItems": 1,
        "maxItems": LIST_MOST,
    });
    let command = json!({
        "oneOf": [one, words],
        "description": "What is sent, PING where nothing is said: only what neither changes anything nor is slow",
    });
    let db = json!({
        "type": "integer",
        "minimum": 0,
        "maximum": Redis::DB_MAX,
        "description": "The number of the database; 0 where nothing is said",
    });
    let address = || server("Where the server is; port 6379 where none is said");
    let own = [
        ("address", address()),
        ("user", text("Who asks, where the server has users")),
        ("password", secret()),
        ("db", db),
        ("command", command),
        connection(),
        tls(),
    ];
    or_short(
        address(),
        object("", fields(own), &["address"]),
        "One command each interval; a reply that is a number is `value`",
    )
}
