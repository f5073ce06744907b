//! What is not in force yet: a branch of the repository that is followed, held against the commit that is.

use super::Api;
use super::openapi::Query;
use super::problem::Problem;
use crate::git::{FollowError, GitError, Plan};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

/// Which branch is asked about.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// A branch of the repository; the one that is followed where nothing is said.
    branch: Option<String>,
}

impl From<FollowError> for Problem {
    fn from(error: FollowError) -> Self {
        let error = match error {
            FollowError::Store(error) => return error.into(),
            FollowError::Days(error) => return error.into(),
            FollowError::Git(error) => error,
        };
        let status = match error {
            GitError::Source { .. } | GitError::Failed { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            GitError::Unsigned { .. } | GitError::Large { .. } => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, crate::words::chain(&error))
    }
}

pub(super) async fn plan(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Plan>, Problem> {
    let repository = api.practice.repository().ok_or_else(|| {
        let none = "this controller follows no repository: see `git` in its configuration";
        Problem::new(StatusCode::NOT_FOUND, none)
    })?;
    Ok(Json(repository.would(wanted.branch.as_deref()).await?))
}
