//! Schedules and game days.

use super::{list, metadata, object, quantity, text, word};
use crate::game_day::Role;
use crate::units::{Hold, Wait};
use serde_json::{Value, json};

/// The schema of a schedule's file.
#[must_use]
pub fn schedule() -> Value {
    let fields = [
        (
            "apiVersion",
            json!({ "const": "squall/v1", "description": "The version of this language" }),
        ),
        (
            "kind",
            json!({ "const": "Schedule", "description": "What the file describes" }),
        ),
        ("metadata", metadata()),
        (
            "experiment",
            beside("The experiment's file, beside this one"),
        ),
        (
            "environment",
            text("Where it is run; the controller's own default where nothing is said"),
        ),
        (
            "cron",
            text(
                "Minute, hour, day of the month, month, day of the week: 30 2 * * MON-FRI; or @daily and the like",
            ),
        ),
        (
            "timeZone",
            text("By which clock: an IANA time zone, such as Europe/Berlin"),
        ),
    ];
    let required = [
        "apiVersion",
        "kind",
        "metadata",
        "experiment",
        "cron",
        "timeZone",
    ];
    titled(
        "Squall schedule",
        object(
            "When an experiment is run by itself, and what keeps it from running",
            fields.into_iter().chain(bounds()),
            &required,
        ),
    )
}

/// What keeps runs from beginning.
fn bounds() -> [(&'static str, Value); 6] {
    [
        (
            "windows",
            list(window(), "A run begins and ends within one of these"),
        ),
        (
            "blackouts",
            list(
                beside("An iCalendar file"),
                "iCalendar files, beside this one: no run touches an event in them",
            ),
        ),
        (
            "jitter",
            quantity::<Hold>("Each run starts up to so much later than its time"),
        ),
        (
            "startWithin",
            quantity::<Wait>("So late a run may still start; 1min where nothing is said"),
        ),
        (
            "atMost",
            json!({ "type": "integer", "minimum": 1, "maximum": 100, "description": "So many of its runs at once; 1 where nothing is said" }),
        ),
        (
            "suspendAfter",
            word(
                &["broken", "inconclusive", "never"],
                "After which end of a run nothing more is started; broken where nothing is said",
            ),
        ),
    ]
}

/// The schema of a game day's file.
#[must_use]
pub fn game_day() -> Value {
    let fields = [
        (
            "apiVersion",
            json!({ "const": "squall/v1", "description": "The version of this language" }),
        ),
        (
            "kind",
            json!({ "const": "GameDay", "description": "What the file describes" }),
        ),
        ("metadata", metadata()),
        (
            "date",
            json!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "description": "When: 2026-12-03" }),
        ),
        ("timeZone", text("Where that is a day: an IANA time zone")),
        ("objectives", sentences("What is to be learnt")),
        ("people", list(person(), "Who takes part")),
        (
            "experiments",
            list(round(), "What is done, one after another"),
        ),
    ];
    let required = [
        "apiVersion",
        "kind",
        "metadata",
        "date",
        "timeZone",
        "objectives",
        "people",
        "experiments",
    ];
    titled(
        "Squall game day",
        object(
            "A day on which people break something together, to learn from it",
            fields,
            &required,
        ),
    )
}

/// A list of sentences, or one.
fn sentences(description: &str) -> Value {
    let one = text("A sentence");
    json!({ "oneOf": [one, list(text("A sentence"), description)], "description": description })
}

fn person() -> Value {
    let roles = [
        Role::Leader,
        Role::Deputy,
        Role::Operator,
        Role::Scribe,
        Role::Observer,
    ]
    .map(Role::word);
    object(
        "Somebody who takes part",
        [
            ("name", text("As their API token is named")),
            ("role", word(&roles, "What they do; one leads")),
        ],
        &["name", "role"],
    )
}

fn round() -> Value {
    let round = object(
        "One experiment of the day",
        [
            ("file", beside("Its file, beside this one")),
            (
                "environment",
                text("Where it is run; the controller's own default where nothing is said"),
            ),
            (
                "before",
                sentences("What the leader makes sure of before saying go"),
            ),
        ],
        &["file"],
    );
    json!({ "oneOf": [beside("The experiment's file alone"), round] })
}

fn window() -> Value {
    let clock = |description: &str| json!({ "type": "string", "pattern": "^([01][0-9]|2[0-4]):[0-5][0-9]$", "description": description });
    object(
        "A stretch of some days of the week",
        [
            (
                "days",
                text("On which days it begins: MON-FRI, SAT,SUN; on all where nothing is said"),
            ),
            ("from", clock("From this time on: 09:00")),
            (
                "to",
                clock("Up to this time: 17:00; on the next day where it is not later than `from`"),
            ),
        ],
        &["from", "to"],
    )
}

fn beside(description: &str) -> Value {
    json!({ "type": "string", "pattern": "^[^/\\\\]+(/[^/\\\\]+)*$", "description": description })
}

fn titled(title: &str, mut schema: Value) -> Value {
    if let Value::Object(fields) = &mut schema {
        fields.insert(
            "$schema".into(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        fields.insert("title".into(), json!(title));
    }
    schema
}
