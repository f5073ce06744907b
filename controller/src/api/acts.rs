//! What is asked to be done is done on the controller's own threads, and what is asked to be told on those of the API.
//!
//! A connection to the database is given back on the threads on which it was used: one of those that runs live on, used for a start or a stop on a
//! thread of the API, would be theirs again only after whatever that thread answers next.

use super::{Api, problem::Problem};
use axum::http::StatusCode;

/// Does it there, and to its end: who waits for it may go.
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
