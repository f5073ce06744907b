//! What the controller serves on its one port: agents' links, the API, and whether it is well.
//!
//! | who | by what | may |
//! | --- | --- | --- |
//! | anybody | - | `/healthz`, `/readyz` |
//! | a node | a join token | become an agent |
//! | an agent | its certificate | open its link, renew its certificate |
//! | a person or program | an API token | everything below `/api/v1` |

mod agents;
mod caller;
pub mod listen;
pub mod problem;
mod schedules;
mod tokens;

use crate::fleet::authority::Authority;
use crate::fleet::registry::Registry;
use crate::store::Store;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{delete, get, post, put};
use problem::Problem;
use squall_experiments::join::{JOIN_PATH, LINK_PATH, RENEW_PATH};
use std::sync::Arc;

pub use agents::AgentSeen;
pub use schedules::{Because, ScheduleSeen, Upcoming};
pub use tokens::{JoinTokenMade, JoinTokenWanted};

/// The most bytes of a request's body: a certificate request has one KiB.
const BODY_BYTES_MAX: usize = 64 << 10;

/// What every answer is made from. Cloning it is another handle to the same.
#[derive(Clone)]
pub struct Api {
    /// What is kept.
    pub store: Store,
    /// Who signs.
    pub authority: Arc<Authority>,
    /// Who is there.
    pub registry: Registry,
}

/// All that is served.
pub fn router(api: Api) -> Router {
    let people = Router::new()
        .route("/agents", get(agents::list))
        .route("/agents/{node}", delete(agents::forget))
        .route("/agents/{node}/revoke", post(agents::revoke))
        .route("/join-tokens", get(tokens::list).post(tokens::create))
        .route("/join-tokens/{id}", delete(tokens::revoke))
        .merge(of_schedules())
        .route_layer(middleware::from_fn_with_state(api.clone(), caller::known));
    Router::new()
        .nest("/api/v1", people)
        .route(JOIN_PATH, post(agents::join))
        .route(RENEW_PATH, post(agents::renew))
        .route(LINK_PATH, get(agents::link))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}

fn of_schedules() -> Router<Api> {
    let put = put(schedules::put).layer(DefaultBodyLimit::max(schedules::FILES_BYTES_MAX));
    Router::new()
        .route("/schedules", get(schedules::list))
        .route("/schedules/{name}", put.delete(schedules::remove))
        .route("/schedules/{name}/suspend", post(schedules::suspend))
        .route("/schedules/{name}/resume", post(schedules::resume))
        .route("/schedules/{name}/starts", get(schedules::starts))
}

/// Ready is who can keep what happens.
async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    api.store.members().await?;
    Ok("ready\n")
}

/// Microseconds since the Unix epoch.
fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests;
