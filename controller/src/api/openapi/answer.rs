//! What is answered: types that are answers, and tell which.

use super::paths::Operation;
use crate::api::caller::Told;
use crate::api::problem::Problem;
use axum::http::StatusCode;
use axum::response::{IntoResponse, NoContent, Response};
use axum::{Extension, Json};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Value, json};

/// An answer.
pub(in crate::api) trait Answers {
    /// Says what is answered where all is well.
    fn answers(operation: &mut Operation, schemas: &mut SchemaGenerator);
}

/// It was made: 201.
#[derive(Debug)]
pub(in crate::api) struct Created<T>(pub(in crate::api) T);

/// It will be done: 202.
#[derive(Debug, Clone, Copy)]
pub(in crate::api) struct Accepted;

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, Json(self.0)).into_response()
    }
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        StatusCode::ACCEPTED.into_response()
    }
}

/// An answer of this status, in these kinds, each with its schema.
pub(in crate::api) fn say(
    operation: &mut Operation,
    status: StatusCode,
    about: &str,
    kinds: &[(&str, Value)],
) {
    let content = kinds
        .iter()
        .map(|(kind, schema)| ((*kind).to_owned(), json!({ "schema": schema })));
    let mut said = json!({ "description": about });
    if !kinds.is_empty() {
        said["content"] = Value::Object(content.collect());
    }
    operation.answers.insert(status.as_u16().to_string(), said);
}

fn say_json<T: JsonSchema>(
    operation: &mut Operation,
    schemas: &mut SchemaGenerator,
    status: StatusCode,
    about: &str,
) {
    let schema = schemas.subschema_for::<T>().to_value();
    say(operation, status, about, &[("application/json", schema)]);
}

impl<T: JsonSchema> Answers for Json<T> {
    fn answers(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        say_json::<T>(operation, schemas, StatusCode::OK, "What was asked for");
    }
}

impl<T: JsonSchema> Answers for Created<T> {
    fn answers(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        say_json::<T>(operation, schemas, StatusCode::CREATED, "Made");
    }
}

impl Answers for Accepted {
    fn answers(operation: &mut Operation, _: &mut SchemaGenerator) {
        say(
            operation,
            StatusCode::ACCEPTED,
            "Said; it will be done",
            &[],
        );
    }
}

impl Answers for NoContent {
    fn answers(operation: &mut Operation, _: &mut SchemaGenerator) {
        say(operation, StatusCode::NO_CONTENT, "Done", &[]);
    }
}

impl<A: Answers> Answers for (Extension<Told>, A) {
    fn answers(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        A::answers(operation, schemas);
    }
}

/// Problems are told of each endpoint alike (`document`).
impl<A: Answers> Answers for Result<A, Problem> {
    fn answers(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        A::answers(operation, schemas);
    }
}
