//! Probes that ask somebody who watches the system.

use super::super::{object, or_short, quantity, text, word};
use super::{every, source, trouble, url};
use crate::units::{Hold, Interval};
use serde_json::Value;

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
            "pattern",
            text("A regular expression, found anywhere in a line"),
        ),
        every(),
        on_error,
    ];
    object(
        "How many new lines match, per second, is `value`; success is none",
        fields,
        &["file", "pattern"],
    )
}
