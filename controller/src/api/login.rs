//! What anybody may know of the logins that this controller takes: where to ask for a token, and as which client
//! (RFC 9728, OAuth 2.0 Protected Resource Metadata).

use super::Api;
use super::problem::Problem;
use crate::login::Shown;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

/// Where it is (RFC 9728, section 3).
pub const PATH: &str = "/.well-known/oauth-protected-resource";

pub(super) async fn shown(State(api): State<Api>) -> Result<Json<Shown>, Problem> {
    let none = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "this controller takes no logins, only API tokens: see `login` in its configuration",
        )
    };
    api.logins.shown().map(Json).ok_or_else(none)
}
