//! JSON Schema (2020-12) of an experiment file, for editors: what they complete, explain and underline.
//!
//! It describes the file as people write it, short forms included, and checks its structure. What parts mean
//! together (a jitter longer than its delay, a network fault on a process) only
//! [`language::read`](crate::language::read) knows; whatever the schema refuses, that refuses too.

mod calendar;
mod disk;
mod fault;
mod probe;
mod redirect;
mod target;

pub use calendar::{game_day, schedule};

use crate::units::{Hold, Interval, Lease, Percent};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The schema of an experiment file.
#[must_use]
pub fn experiment() -> Value {
    let fields = [
        (
            "apiVersion",
            json!({ "const": "squall/v1", "description": "The version of this language" }),
        ),
        (
            "kind",
            json!({ "const": "Experiment", "description": "What the file describes" }),
        ),
        ("metadata", metadata()),
        (
            "hypothesis",
            text(
                "What is believed, in a sentence: Orders keep succeeding while payment answers 300 ms late.",
            ),
        ),
        (
            "steadyState",
            list(
                probe::steady_state(),
                "What must stay true before, during and after the faults",
            ),
        ),
        ("method", list(step(), "What is done, step after step")),
    ];
    let required = [
        "apiVersion",
        "kind",
        "metadata",
        "hypothesis",
        "steadyState",
        "method",
    ];
    let fields = fields.into_iter().chain(phases());
    let fields = fields.chain([("cluster", probe::cluster())]);
    let mut schema = object(
        "A hypothesis about a system, how it is observed, and what is done to it",
        fields,
        &required,
    );
    if let Value::Object(schema) = &mut schema {
        schema.insert(
            "$schema".into(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        schema.insert("title".into(), json!("Squall experiment"));
        let defs = [
            ("fault", fault::fault()),
            ("endpoint", fault::endpoint()),
            ("process", target::process()),
            ("share", share()),
        ];
        let defs: Map<String, Value> = defs.into_iter().map(|(n, s)| (n.to_owned(), s)).collect();
        schema.insert("$defs".into(), Value::Object(defs));
    }
    schema
}

/// How long the parts of a run last, and how careful it is.
fn phases() -> [(&'static str, Value); 5] {
    [
        (
            "baseline",
            quantity::<Hold>(
                "How long the steady state is watched before anything is injected; 20s where nothing is said",
            ),
        ),
        (
            "recovery",
            quantity::<Hold>(
                "Within this after the faults are gone, the steady state must be back; 60s where nothing is said",
            ),
        ),
        (
            "falseStop",
            quantity::<Percent>(
                "The chance, per run, of ever stopping a healthy system; 0.1% where nothing is said, at most 20%",
            ),
        ),
        (
            "confidence",
            quantity::<Percent>(
                "How sure a run must be that every share of attempts was within its bound, before it is called held; 95% where nothing is said, 50% to 99.99%",
            ),
        ),
        (
            "lease",
            quantity::<Lease>(
                "How long an agent keeps a fault without word from the controller; 10s where nothing is said",
            ),
        ),
    ]
}

fn metadata() -> Value {
    let fields = [
        (
            "name",
            json!({
                "type": "string",
                "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
                "description": "Lower-case words joined by hyphens, up to 63 letters",
            }),
        ),
        ("owner", text("The team that answers for it")),
        (
            "runbook",
            text("Where it is written what to do when it goes wrong"),
        ),
        (
            "labels",
            json!({
                "type": ["object", "null"],
                "additionalProperties": { "type": ["string", "number", "boolean"] },
                "description": "Free labels",
            }),
        ),
    ];
    object(
        "Whose experiment it is; not part of its digest",
        fields,
        &["name"],
    )
}

fn step() -> Value {
    let fields = [
        ("name", text("For people; `step 1` where nothing is said")),
        ("fault", json!({ "$ref": "#/$defs/fault" })),
        (
            "faults",
            list(json!({ "$ref": "#/$defs/fault" }), "Several faults at once"),
        ),
        ("on", target::target()),
        (
            "ramp",
            json!({
                "oneOf": [
                    { "$ref": "#/$defs/share" },
                    { "type": "array", "items": { "$ref": "#/$defs/share" }, "minItems": 1, "maxItems": LIST_MOST },
                ],
                "description": "Shares of the matching targets, one after another, never shrinking: [ 5%, 50%, all ]",
            }),
        ),
        ("share", json!({ "$ref": "#/$defs/share" })),
        ("hold", quantity::<Hold>("How long each share is held")),
        (
            "pulse",
            object(
                "The faults come and go while the step holds",
                [
                    (
                        "on",
                        quantity::<Hold>("How long they are in force each time"),
                    ),
                    (
                        "off",
                        quantity::<Hold>("How long they are absent in between"),
                    ),
                ],
                &["on", "off"],
            ),
        ),
        ("follow", follow()),
        ("nodes", nodes()),
        (
            "keepPrevious",
            json!({ "type": "boolean", "description": "Whether the faults of the steps before stay while this one holds" }),
        ),
    ];
    let mut step = object(
        "Faults on a target, on a growing share of it, for a time",
        fields,
        &["on", "hold"],
    );
    if let Value::Object(step) = &mut step {
        step.insert(
            "oneOf".into(),
            json!([{ "required": ["fault"] }, { "required": ["faults"] }]),
        );
        step.insert("not".into(), json!({ "required": ["ramp", "share"] }));
    }
    step
}

fn follow() -> Value {
    or_short(
        json!({ "type": "boolean" }),
        object(
            "How the target is followed",
            [
                (
                    "every",
                    quantity::<Interval>("How often it is looked for; 1s where nothing is said"),
                ),
                (
                    "atMost",
                    json!({ "type": "integer", "minimum": 1, "maximum": 10_000, "description": "Never more targets at once" }),
                ),
            ],
            &[],
        ),
        "Whether what replaces a target, or is new and matches, is hit too while the step holds",
    )
}

fn nodes() -> Value {
    let texts = |what: &str| json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] }, "description": what });
    let mut nodes = object(
        "On which of the nodes that have joined the target is looked for; on all where nothing is said",
        [
            (
                "names",
                json!({ "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1, "description": "Any of these nodes" }),
            ),
            ("zone", text("Nodes in this zone")),
            ("labels", texts("Nodes with each of these labels")),
        ],
        &[],
    );
    if let Value::Object(nodes) = &mut nodes {
        nodes.insert("minProperties".into(), json!(1));
    }
    nodes
}

fn share() -> Value {
    json!({
        "oneOf": [
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": "^(all|[0-9]+|[0-9][0-9_.]* *%)$" },
        ],
        "description": "How many of the matching targets: all, a count (3) or a percentage (10%, rounded up)",
    })
}

/// As in `language`: items in one list.
const LIST_MOST: usize = 100;

/// A mapping with these fields and no others.
fn object<'f>(
    description: &str,
    fields: impl IntoIterator<Item = (&'f str, Value)>,
    required: &[&str],
) -> Value {
    let properties: Map<String, Value> =
        fields.into_iter().map(|(n, s)| (n.to_owned(), s)).collect();
    json!({
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// A mapping with exactly one of these fields.
fn one_of<'f>(description: &str, kinds: impl IntoIterator<Item = (&'f str, Value)>) -> Value {
    let mut schema = object(description, kinds, &[]);
    if let Value::Object(schema) = &mut schema {
        schema.insert("minProperties".into(), json!(1));
        schema.insert("maxProperties".into(), json!(1));
    }
    schema
}

fn list(items: Value, description: &str) -> Value {
    json!({ "type": "array", "items": items, "minItems": 1, "maxItems": LIST_MOST, "description": description })
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "description": description })
}

/// A unit's own schema, with a description of what it is for.
fn quantity<T: JsonSchema>(description: &str) -> Value {
    let mut schema = Value::from(T::json_schema(&mut SchemaGenerator::default()));
    if let Value::Object(schema) = &mut schema {
        let limits = schema
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let both = format!("{description} ({limits})");
        schema.insert("description".into(), json!(both));
    }
    schema
}

/// A mapping, or its short form in one word.
fn or_short(short: Value, long: Value, description: &str) -> Value {
    json!({ "oneOf": [short, long], "description": description })
}

/// One of a few words.
fn word(words: &[&str], description: &str) -> Value {
    json!({ "enum": words, "description": description })
}
