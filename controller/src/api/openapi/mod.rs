//! The API described by itself: OpenAPI 3.1, made of the table of endpoints and of the types of what serves them.
//!
//! ```text
//! access/endpoints.rs ─ method, path, role, words ─┐
//! a handler's arguments ── `take` ─────────────────┼──▶ Paths ──▶ router, and document ──▶ page
//! a handler's answer ───── `answer` ───────────────┘
//! ```
//!
//! Schemas are those of `schemars`, as everywhere else: JSON Schema 2020-12 is what OpenAPI 3.1 speaks, and a type has one description.

mod answer;
mod browse;
mod document;
mod paths;
mod take;

pub(super) use answer::{Accepted, Answers, Created, say};
pub(super) use paths::{Operation, Paths};
pub(super) use take::{Body, Path, Query, Takes};

use super::problem::Problem;
use axum::Router;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;
use std::sync::Arc;

/// The document, and the page that shows it: the same for everybody, and nothing of what this controller knows.
pub(super) fn router<S: Clone + Send + Sync + 'static>(document: &Value) -> Router<S> {
    let (page, text) = (
        Arc::new(browse::page(document)),
        Bytes::from(document.to_string()),
    );
    let told = move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], text));
    let shown = move || std::future::ready(show(&page));
    Router::new()
        .route("/api/v1/openapi.json", get(told))
        .route("/api", get(shown))
}

fn show(page: &Result<browse::Page, askama::Error>) -> Response {
    match page {
        Ok(page) => page.clone().into_response(),
        Err(error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
