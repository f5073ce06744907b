//! The audit log: read, and held against its own chain.

use super::Api;
use super::openapi::Query;
use super::page::{Page, Wanted};
use super::problem::Problem;
use crate::store::{Entry, Verified};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

/// An entry that was noted at an earlier time.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Noted {
    /// Its place and hash: `7:…`.
    noted: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<Entry>>, Problem> {
    let entries = api
        .store
        .audit_entries(wanted.after_number()?, wanted.most()?)
        .await?;
    Ok(Json(
        wanted.page(entries, |entry| entry.sequence.to_string())?,
    ))
}

pub(super) async fn verify(
    State(api): State<Api>,
    Query(noted): Query<Noted>,
) -> Result<Json<Verified>, Problem> {
    let bad = || {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "`noted` is an entry's place and hash: 7:0123…",
        )
    };
    let noted = match noted.noted.as_deref().map(|noted| noted.split_once(':')) {
        None => None,
        Some(Some((place, hash))) => Some((place.parse().map_err(|_| bad())?, hash)),
        Some(None) => return Err(bad()),
    };
    Ok(Json(api.store.audit_verify(noted).await?))
}
