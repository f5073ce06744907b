//! What is asked to be done is done on the controller's own threads, and what is asked to be told on those of the API.
//!
//! A connection to the database is given back on the threads on which it was used: one of those that runs live on, used for a start or a stop on a
//! thread of the API, would be theirs again only after whatever that thread answers next.

use super::{Api, problem::Problem};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Has it done there, where it changes anything. Whoever hangs up meanwhile leaves nothing half done.
pub(super) async fn acts(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let done = there(&api, next.run(request)).await;
    done.unwrap_or_else(IntoResponse::into_response)
}

/// Does it on the controller's own threads.
///
/// # Errors
/// It panicked, or the controller is ending.
pub(super) async fn there<T: Send + 'static>(
    api: &Api,
    what: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let done = api.desk.threads().spawn(what).await;
    done.map_err(|error| {
        tracing::error!(%error, "a request was not seen through");
        let detail = "this was not seen through: the controller's log says why; see what stands before you ask again";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    })
}
