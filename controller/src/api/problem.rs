//! What goes wrong, as RFC 9457 says it.

use crate::store::StoreError;
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An error as a caller reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What kind of thing went wrong.
    pub title: String,
    /// What exactly, and what to do.
    pub detail: String,
    /// Each reason by itself, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What is wrong with a file, as `squall check --json` says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<serde_json::Value>,
}

impl Problem {
    /// What kind is said by the status.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("error").to_owned(),
            detail: detail.into(),
            reasons: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// There is no such thing.
    pub fn missing(what: &str, name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("there is no {what} `{name}`"),
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, Json(self)).into_response()
    }
}

impl From<StoreError> for Problem {
    /// What the database said is for the log: it may name files.
    fn from(error: StoreError) -> Self {
        tracing::error!(error = crate::words::chain(&error), "the store failed");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the controller cannot use its database now; its log says why",
        )
    }
}
