//! The document: what all endpoints have in common, and each of them.

use super::paths::Operation;
use crate::access::endpoints::Scope;
use crate::api::problem::Problem;
use regex::Regex;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// What is to be known of all endpoints.
const ABOUT: &str = "\
Squall's controller: what `squall` does, and any program may.

**Who may.** Each request shows an API token (`Authorization: Bearer TOKEN`, made by `squall access create`). What its holder must be, and where, \
is said of each endpoint (`x-squall-role`, `x-squall-scope`).

**What goes wrong** is said as RFC 9457 has it (`application/problem+json`), with `diagnostics` of a file and `reasons` of a gate.

**Once.** A POST with an `Idempotency-Key` is done once, however often it is sent; the answer to the first is given again.

**Lists** that grow come page by page: `limit` items, and `next`, which is the `after` of the page behind.

**Events** come as server-sent events, numbered: who comes back with the last number as `Last-Event-ID` misses nothing.

**Several controllers.** One that stands by answers what is kept, and sends on to the leader (307) otherwise.";

/// What parameters of paths are, by their names.
const NAMED: &[(&str, &str)] = &[
    ("day", "A game day's name, the beginning of it, or `last`"),
    ("environment", "An environment of the policy"),
    ("id", "What was answered as `id` when it was made"),
    ("name", "Its name"),
    ("node", "A node's name"),
    ("question", "`judge`, `pass`, `confirm` or `rollback`"),
    ("run", "A run's name, the beginning of it, or `last`"),
];

/// OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.1.html>).
pub(super) fn document(operations: &[Operation], schemas: &mut SchemaGenerator) -> Value {
    let problem = schemas.subschema_for::<Problem>().to_value();
    let mut paths = Map::new();
    for operation in operations {
        let path = paths
            .entry(operation.endpoint.path)
            .or_insert_with(|| json!({}));
        path[operation.endpoint.method.to_lowercase()] = described(operation);
    }
    let mut document = json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Squall",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/api/v1" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": { "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "An API token: squallapi1.NAME.SECRET",
            } },
            "parameters": { "once": {
                "name": "Idempotency-Key",
                "in": "header",
                "required": false,
                "description": "Done once, however often it is sent with this key: 1 to 200 letters, such as a UUID",
                "schema": { "type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$" },
            } },
            "responses": {
                "problem": {
                    "description": "What went wrong, and what to do",
                    "content": { "application/problem+json": { "schema": problem } },
                },
                "leader": {
                    "description": "Another controller leads: ask there",
                    "headers": { "Location": { "schema": { "type": "string", "format": "uri" } } },
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        },
    });
    without_links(&mut document);
    document
}

/// Links from one piece of code to another lead nowhere here: their words stay.
fn without_links(value: &mut Value) {
    static LINK: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\[(`[^`]*`)\](\([^)]*\))?").ok());
    match value {
        Value::Object(map) => {
            if let (Some(Value::String(text)), Some(link)) = (map.get_mut("description"), &*LINK) {
                *text = link.replace_all(text, "$1").into_owned();
            }
            map.values_mut().for_each(without_links);
        }
        Value::Array(list) => list.iter_mut().for_each(without_links),
        _ => {}
    }
}

fn described(operation: &Operation) -> Value {
    let endpoint = &operation.endpoint;
    let (role, place) = (endpoint.role, place(endpoint.scope));
    let mut parameters: Vec<Value> = named_in(endpoint.path).map(named).collect();
    parameters.extend(operation.parameters.iter().cloned());
    if endpoint.method == "POST" && !endpoint.is_stop {
        parameters.push(json!({ "$ref": "#/components/parameters/once" }));
    }
    let mut said = json!({
        "operationId": id(endpoint.method, endpoint.path),
        "summary": endpoint.says,
        "description": format!("For who is {role} {}.", place.1),
        "tags": [tag(endpoint.path)],
        "security": [{ "token": [role.to_string()] }],
        "x-squall-role": role,
        "x-squall-scope": place.0,
        "parameters": parameters,
        "responses": answers(operation),
    });
    if let Some(schema) = &operation.body {
        said["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": schema } },
        });
    }
    said
}

const fn place(scope: Scope) -> (&'static str, &'static str) {
    match scope {
        Scope::Anywhere => ("anywhere", "in the environment that it is about"),
        Scope::Everywhere => ("everywhere", "in all environments"),
        Scope::Environment => ("environment", "in this environment"),
    }
}

fn named_in(path: &str) -> impl Iterator<Item = &str> {
    let parts = path.split('/');
    parts.filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn named(name: &str) -> Value {
    let about = NAMED.iter().find(|(known, _)| *known == name);
    json!({
        "name": name,
        "in": "path",
        "required": true,
        "description": about.map(|(_, about)| about),
        "schema": { "type": "string", "minLength": 1 },
    })
}

/// `GET /runs/{run}/events` is `getRunsRunEvents`.
fn id(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric());
    let capital = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    words.fold(method.to_lowercase(), |id, word| id + &capital(word))
}

/// What it is about: the path's first word, or the first below an environment.
fn tag(path: &str) -> &str {
    let below = path.strip_prefix("/environments/{environment}");
    let mut words = below.unwrap_or(path).split('/');
    words.nth(1).unwrap_or_default()
}

/// What is answered where all is well, and what may go wrong with a request of this form.
fn answers(operation: &Operation) -> Value {
    let endpoint = &operation.endpoint;
    let mut all = operation.answers.clone();
    let mut add = |status: &str, about: &str| {
        let problem = json!({ "$ref": "#/components/responses/problem", "description": about });
        all.insert(status.to_owned(), problem);
    };
    add("401", "No API token, or none that is good");
    add(
        "403",
        "The token's roles do not let it, or a gate is not met",
    );
    if endpoint.path.contains('{') {
        add(
            "404",
            "There is no such thing, or none that the token may know of",
        );
    }
    if operation.body.is_some() {
        add("413", "The body is too long");
        add("415", "The body is no JSON");
        add("422", "The body, or a file in it, is not what is asked for");
    }
    if !endpoint.is_stop {
        add(
            "429",
            "Too many requests from this token or address: try again in a second",
        );
    }
    add(
        "503",
        "The database cannot be used now, or no controller leads",
    );
    add("default", "What went wrong, and what to do");
    all.insert(
        "307".to_owned(),
        json!({ "$ref": "#/components/responses/leader" }),
    );
    Value::Object(all)
}
