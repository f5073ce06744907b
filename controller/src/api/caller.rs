//! Who calls the API.

use super::{Api, now_us};
use crate::api::problem::Problem;
use crate::fleet::secret::ApiSecret;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Who calls, as the token was named.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) String);

/// Lets through who shows a good token, and nobody else.
pub(super) async fn known(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    match who(&api, request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => {
            let ask = [(header::WWW_AUTHENTICATE, "Bearer")];
            (ask, problem).into_response()
        }
    }
}

async fn who(api: &Api, headers: &HeaderMap) -> Result<Caller, Problem> {
    // One answer for all that is wrong with a token: which it was helps only those who guess.
    let unknown = || {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "send `Authorization: Bearer TOKEN` with an API token that is neither expired nor revoked",
        )
    };
    let said = headers.get(header::AUTHORIZATION).ok_or_else(unknown)?;
    let said = said.to_str().map_err(|_| unknown())?;
    let token = said.strip_prefix("Bearer ").ok_or_else(unknown)?;
    let token: ApiSecret = token.parse().map_err(|_| unknown())?;
    let caller = api.store.caller(&token.id, token.hash(), now_us()).await?;
    caller.map(Caller).ok_or_else(unknown)
}
