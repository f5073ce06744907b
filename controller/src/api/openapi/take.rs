//! What a request brings: axum's extractors, which refuse as RFC 9457 says it, and tell what they take.

use super::paths::Operation;
use crate::access::Caller;
use crate::api::problem::Problem;
use crate::api::{Api, BODY_BYTES_MAX};
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::{Extension, extract};
use http_body_util::LengthLimitError;
use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::error::Error as _;

/// A part of a request.
pub(in crate::api) trait Takes {
    /// Says what it takes of a request; what is not the caller's to say is nothing.
    fn takes(_operation: &mut Operation, _schemas: &mut SchemaGenerator) {}
}

impl Takes for State<Api> {}
impl Takes for Extension<Caller> {}
impl Takes for HeaderMap {}
// The path's parameters are in its pattern.
impl<T> Takes for Path<T> {}

/// A JSON body of at most so many bytes.
#[derive(Debug)]
pub(in crate::api) struct Body<T, const BYTES_MAX: usize = BODY_BYTES_MAX>(pub(in crate::api) T);

/// What is behind the question mark.
#[derive(Debug)]
pub(in crate::api) struct Query<T>(pub(in crate::api) T);

/// What the path names.
#[derive(Debug)]
pub(in crate::api) struct Path<T>(pub(in crate::api) T);

impl<T: JsonSchema, const BYTES_MAX: usize> Takes for Body<T, BYTES_MAX> {
    fn takes(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        operation.body = Some(schemas.subschema_for::<T>().to_value());
    }
}

impl<T: JsonSchema> Takes for Query<T> {
    fn takes(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        let schema = T::json_schema(schemas).to_value();
        let required = |name: &str| {
            let all = schema.get("required").and_then(Value::as_array);
            all.is_some_and(|all| all.iter().any(|one| one == name))
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            let mut schema = schema.clone();
            // A description is the parameter's; what is left out is none, and there is no null in a URL.
            let about = schema.as_object_mut().and_then(|s| s.remove("description"));
            operation.parameters.push(json!({
                "name": name,
                "in": "query",
                "required": required(name),
                "description": about.unwrap_or_default(),
                "schema": without_null(schema),
            }));
        }
    }
}

fn without_null(mut schema: Value) -> Value {
    if let Some(types) = schema.get_mut("type").filter(|types| types.is_array()) {
        let others = types.as_array().into_iter().flatten();
        let others: Vec<Value> = others.filter(|one| *one != "null").cloned().collect();
        *types = match <[Value; 1]>::try_from(others) {
            Ok([only]) => only,
            Err(several) => Value::Array(several),
        };
    }
    schema
}

impl<T: DeserializeOwned, const BYTES_MAX: usize> FromRequest<Api> for Body<T, BYTES_MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Api) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send JSON, with `Content-Type: application/json`",
            ));
        }
        let body = to_bytes(request.into_body(), BYTES_MAX).await;
        let body = body.map_err(|error| {
            let long = error
                .source()
                .is_some_and(|why| why.is::<LengthLimitError>());
            match long {
                true => Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("a body here has at most {BYTES_MAX} bytes"),
                ),
                false => Problem::new(StatusCode::BAD_REQUEST, "the body broke off"),
            }
        })?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            let status = match error.is_data() {
                true => StatusCode::UNPROCESSABLE_ENTITY,
                false => StatusCode::BAD_REQUEST,
            };
            Problem::new(
                status,
                format!("the body is not what is asked for: {error}"),
            )
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json") || kind.to_ascii_lowercase().ends_with("+json")
}

impl<T: DeserializeOwned> FromRequestParts<Api> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let taken = extract::Query::from_request_parts(parts, api).await;
        taken
            .map(|extract::Query(taken)| Self(taken))
            .map_err(|bad| Problem::new(bad.status(), bad.body_text()))
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let taken = extract::Path::from_request_parts(parts, api).await;
        taken
            .map(|extract::Path(taken)| Self(taken))
            .map_err(|bad| Problem::new(bad.status(), bad.body_text()))
    }
}
