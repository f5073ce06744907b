//! The page that shows the document: one file without a script, and with nothing from anywhere else.

use askama::Template;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Where schemas are in the document, as references write it.
const SCHEMA: &str = "#/components/schemas/";
/// Schemas within schemas are told so deep; deeper ones are `object`.
const DEPTH_MAX: usize = 4;

/// The page, ready to be sent.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) html: String,
    pub(super) policy: String,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let heads = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
            (header::CONTENT_SECURITY_POLICY, self.policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (header::REFERRER_POLICY, "no-referrer".to_owned()),
        ];
        (heads, self.html).into_response()
    }
}

#[derive(Template)]
#[template(path = "openapi.html")]
struct Shown<'a> {
    version: &'a str,
    about: Vec<(&'a str, &'a str)>,
    groups: BTreeMap<&'a str, Vec<Operation<'a>>>,
    schemas: Vec<Schema<'a>>,
}

struct Operation<'a> {
    id: &'a str,
    method: String,
    path: &'a str,
    summary: &'a str,
    role: &'a str,
    who: &'a str,
    parameters: Vec<Parameter<'a>>,
    body: Option<Kind>,
    answers: Vec<Answer<'a>>,
}

struct Parameter<'a> {
    name: &'a str,
    place: &'a str,
    required: bool,
    kind: Kind,
    about: &'a str,
}

struct Answer<'a> {
    status: &'a str,
    about: &'a str,
    kinds: Vec<(&'a str, Kind)>,
}

struct Schema<'a> {
    name: &'a str,
    about: &'a str,
    kind: Kind,
    fields: Vec<Field<'a>>,
}

struct Field<'a> {
    name: &'a str,
    required: bool,
    kind: Kind,
    about: &'a str,
}

/// Words, and names of schemas among them.
struct Kind(Vec<(bool, String)>);

/// Makes the page.
///
/// # Errors
/// The template cannot be rendered, which no document causes.
pub(super) fn page(document: &Value) -> Result<Page, askama::Error> {
    let html = Shown::of(document).render()?;
    let style = html
        .split_once("<style>")
        .and_then(|(_, rest)| rest.split_once("</style>"));
    let hash = STANDARD.encode(Sha256::digest(style.map_or("", |(style, _)| style)));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Ok(Page { html, policy })
}

fn text<'a>(value: &'a Value, at: &str) -> &'a str {
    value
        .pointer(at)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn entries<'a>(value: &'a Value, at: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let entries = value.pointer(at).and_then(Value::as_object);
    entries
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
}

fn items<'a>(value: &'a Value, at: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(at)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

impl<'a> Shown<'a> {
    fn of(document: &'a Value) -> Self {
        let mut groups: BTreeMap<&str, Vec<Operation<'_>>> = BTreeMap::new();
        for (path, operations) in entries(document, "/paths") {
            for (method, said) in entries(operations, "") {
                let shown = Operation::of(document, path, method, said);
                groups.entry(text(said, "/tags/0")).or_default().push(shown);
            }
        }
        let about = text(document, "/info/description").split("\n\n");
        Self {
            version: text(document, "/info/version"),
            // A paragraph begins with its subject: `**Who may.** …`.
            about: about
                .map(|part| {
                    part.trim_start_matches("**")
                        .split_once("**")
                        .unwrap_or(("", part))
                })
                .collect(),
            groups,
            schemas: entries(document, "/components/schemas")
                .map(Schema::of)
                .collect(),
        }
    }
}

impl<'a> Operation<'a> {
    fn of(document: &'a Value, path: &'a str, method: &str, said: &'a Value) -> Self {
        let parameters = items(said, "/parameters").map(|said| resolved(document, said));
        let body = said.pointer("/requestBody/content/application~1json/schema");
        let answers = entries(said, "/responses").map(|(status, said)| {
            let whole = resolved(document, said);
            let about = Some(text(said, "/description")).filter(|about| !about.is_empty());
            let kinds = entries(whole, "/content");
            Answer {
                status,
                about: about.unwrap_or_else(|| text(whole, "/description")),
                kinds: kinds
                    .map(|(name, of)| (name, Kind::of(&of["schema"])))
                    .collect(),
            }
        });
        Self {
            id: text(said, "/operationId"),
            method: method.to_uppercase(),
            path,
            summary: text(said, "/summary"),
            role: text(said, "/x-squall-role"),
            who: text(said, "/description"),
            parameters: parameters.map(Parameter::of).collect(),
            body: body.map(Kind::of),
            answers: answers.collect(),
        }
    }
}

/// What a reference is to; everything else is itself.
fn resolved<'a>(document: &'a Value, said: &'a Value) -> &'a Value {
    let place = text(said, "/$ref").strip_prefix('#');
    place
        .and_then(|place| document.pointer(place))
        .unwrap_or(said)
}

impl<'a> Parameter<'a> {
    fn of(said: &'a Value) -> Self {
        Self {
            name: text(said, "/name"),
            place: text(said, "/in"),
            required: said["required"] == true,
            kind: Kind::of(&said["schema"]),
            about: text(said, "/description"),
        }
    }
}

impl<'a> Schema<'a> {
    fn of((name, said): (&'a str, &'a Value)) -> Self {
        let required = |name: &str| items(said, "/required").any(|one| one == name);
        let fields = entries(said, "/properties").map(|(name, field)| Field {
            name,
            required: required(name),
            kind: Kind::of(field),
            about: text(field, "/description"),
        });
        Self {
            name,
            about: text(said, "/description"),
            kind: Kind::of(said),
            fields: fields.collect(),
        }
    }
}

impl Kind {
    fn of(schema: &Value) -> Self {
        let mut words = Self(Vec::new());
        words.tell(schema, 0);
        words
    }

    fn word(&mut self, word: impl Into<String>) {
        self.0.push((false, word.into()));
    }

    fn tell(&mut self, schema: &Value, depth: usize) {
        if let Some(name) = text(schema, "/$ref").strip_prefix(SCHEMA) {
            return self.0.push((true, name.to_owned()));
        }
        if depth > DEPTH_MAX {
            return self.word("object");
        }
        if let Some(only) = schema.get("const") {
            return self.word(only.to_string());
        }
        let choices: Vec<&Value> = ["/oneOf", "/anyOf", "/allOf"]
            .into_iter()
            .flat_map(|at| items(schema, at))
            .collect();
        if !choices.is_empty() {
            return self.tell_each(&choices, depth);
        }
        let named: Vec<String> = items(schema, "/enum").map(Value::to_string).collect();
        if !named.is_empty() {
            return self.word(named.join(" or "));
        }
        self.tell_type(schema, depth);
    }

    fn tell_each(&mut self, choices: &[&Value], depth: usize) {
        for (n, choice) in choices.iter().enumerate() {
            if n > 0 {
                self.word(" or ");
            }
            let fields: Vec<(&str, &Value)> = entries(choice, "/properties").collect();
            // A variant of an enum: its name, and what it holds.
            match fields.as_slice() {
                [(name, held)] => {
                    self.word(format!("{name}: "));
                    self.tell(held, depth + 1);
                }
                _ => self.tell(choice, depth + 1),
            }
        }
    }

    fn tell_type(&mut self, schema: &Value, depth: usize) {
        let types: Vec<&str> = match &schema["type"] {
            Value::String(one) => vec![one],
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            _ => return self.word("anything"),
        };
        for (n, kind) in types.iter().enumerate() {
            if n > 0 {
                self.word(" or ");
            }
            match (
                *kind,
                schema.get("items"),
                schema.get("additionalProperties"),
            ) {
                ("array", Some(of), _) => {
                    self.word("list of ");
                    self.tell(of, depth + 1);
                }
                ("object", _, Some(of)) if of.is_object() => {
                    self.word("names, each with ");
                    self.tell(of, depth + 1);
                }
                (kind, _, _) => self.word(kind),
            }
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str) {
            self.word(format!(" ({format})"));
        }
    }
}
