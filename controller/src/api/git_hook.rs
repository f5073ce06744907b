//! Where a Git server tells of a push. It proves who it is with a signature over what it says, and says nothing that is believed: the
//! branch is looked at, that is all.

use super::problem::Problem;
use crate::git::{Follower, Hook};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use std::sync::Arc;

/// The most bytes of a body: GitHub sends up to 25 MB, and of a push far less.
const BODY_BYTES_MAX: usize = 25 << 20;

/// Whose signature it is: GitHub's header, which Gitea and Forgejo send too.
const SIGNATURE: &str = "x-hub-signature-256";

/// `POST /hooks/git`.
pub fn router(follower: Arc<Follower>, hook: Hook) -> Router {
    Router::new()
        .route("/hooks/git", post(told))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state((follower, Arc::new(hook)))
}

async fn told(
    State((follower, hook)): State<(Arc<Follower>, Arc<Hook>)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let signature = headers
        .get(SIGNATURE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !hook.is_from_who_may(signature, &body) {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "sign the body with the secret of the hook, in `X-Hub-Signature-256`",
        ));
    }
    follower.knock();
    Ok(StatusCode::ACCEPTED)
}
