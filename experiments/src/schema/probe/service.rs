//! Probes that speak the protocol of one kind of service.

use super::super::{object, or_short, word};
use super::{every, timeout, trouble};
use crate::probe::RecordType;
use serde_json::{Value, json};

/// Each with its word.
pub(super) fn probes() -> Vec<(&'static str, Value)> {
    vec![("dns", dns())]
}

fn dns() -> Value {
    let name = || {
        json!({
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,63}(\\.[A-Za-z0-9_-]{1,63})*\\.?$",
            "description": "The whole name that is asked for",
        })
    };
    let server = json!({
        "type": "string",
        "pattern": "^(\\[[0-9a-fA-F:.]+\\]|[^:/\\s\\[\\]]+)(:[0-9]+)?$",
        "description": "Who is asked; the first name server of /etc/resolv.conf where nothing is said, port 53 where none is",
    });
    let [retries, on_error] = trouble();
    let fields = [
        ("server", server),
        ("name", name()),
        (
            "type",
            word(
                &RecordType::ALL.map(RecordType::word),
                "Which records; A where nothing is said",
            ),
        ),
        (
            "transport",
            word(
                &["udp", "tcp"],
                "udp where nothing is said; what does not fit is fetched over tcp",
            ),
        ),
        timeout(),
        every(),
        retries,
        on_error,
    ];
    or_short(
        name(),
        object("", fields, &["name"]),
        "One question to a name server each interval; success is at least one record, `value` is how many",
    )
}
