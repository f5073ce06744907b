//! What the controller serves on its one port: agents' links, the API, and whether it is well.
//!
//! | who | by what | may |
//! | --- | --- | --- |
//! | anybody | - | `/healthz`, `/readyz` |
//! | a node | a join token | become an agent |
//! | an agent | its certificate | open its link, renew its certificate |
//! | a person or program | an API token | below `/api/v1` what its roles let it: [`endpoints`](crate::access::endpoints); `/api/v1/metrics` for Prometheus |

mod access;
mod agents;
mod audit;
mod caller;
pub mod git_hook;
mod halts;
mod led;
pub mod listen;
mod metrics;
mod once;
mod page;
mod practice;
pub mod problem;
mod runs;
mod schedules;
mod tokens;

use crate::fleet::authority::Authority;
use crate::fleet::registry::Registry;
use crate::leader::Leadership;
use crate::practice::Practice;
use crate::run::desk::Desk;
use crate::store::Store;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{delete, get, post, put};
use problem::Problem;
use squall_experiments::join::{JOIN_PATH, LINK_PATH, RENEW_PATH};
use squall_experiments::language::FILE_BYTES_MAX;
use std::sync::Arc;

pub use access::{AccessMade, AccessWanted, Whoami};
pub use agents::AgentSeen;
pub use halts::{HaltSeen, HaltWanted};
pub use page::Page;
pub use practice::{AnswersWanted, ApprovalWanted, EvidenceKey, PromotionWanted, VoteWanted};
pub use runs::{RunSeen, RunStarted, RunWanted};
pub use schedules::{Because, ScheduleSeen, Upcoming};
pub use tokens::{JoinTokenMade, JoinTokenWanted};

/// The most bytes of a request's body: a certificate request has one KiB.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The same where an experiment file is in it, with every character escaped.
const FILE_BODY_BYTES_MAX: usize = 2 * FILE_BYTES_MAX + BODY_BYTES_MAX;

/// What every answer is made from. Cloning it is another handle to the same.
#[derive(Clone)]
pub struct Api {
    /// What is kept.
    pub store: Store,
    /// Who signs.
    pub authority: Arc<Authority>,
    /// Who is there.
    pub registry: Registry,
    /// Whether this controller leads.
    pub leader: Leadership,
    /// The policy, and what it asks for.
    pub practice: Practice,
    /// Where runs are started and stopped.
    pub desk: Desk,
}

/// All that is served.
pub fn router(api: Api) -> Router {
    let people = Router::new()
        .route("/agents", get(agents::list))
        .route("/agents/{node}", delete(agents::forget))
        .route("/agents/{node}/revoke", post(agents::revoke))
        .route(
            "/runs",
            get(runs::list)
                .post(runs::start)
                .layer(DefaultBodyLimit::max(FILE_BODY_BYTES_MAX)),
        )
        .route("/runs/{run}", get(runs::one))
        .route("/runs/{run}/events", get(runs::events))
        .route("/runs/{run}/report", get(runs::report))
        .route("/runs/{run}/stop", post(runs::stop))
        .route(
            "/halt",
            get(halts::seen).post(halts::halt).delete(halts::lift),
        )
        .route("/metrics", get(metrics::metrics))
        .route("/join-tokens", get(tokens::list).post(tokens::create))
        .route("/join-tokens/{id}", delete(tokens::revoke))
        .merge(of_schedules())
        .merge(earning())
        .merge(who_may())
        .route_layer(middleware::from_fn_with_state(api.clone(), caller::known));
    Router::new()
        .nest("/api/v1", people)
        .route(JOIN_PATH, post(agents::join))
        .route(RENEW_PATH, post(agents::renew))
        .route(LINK_PATH, get(agents::link))
        // Around all that was named so far.
        .layer(middleware::from_fn_with_state(api.clone(), led::led))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}

/// Ready is who can do its part: the leader, and one that stands by for a leader that is alive. Both need the database.
async fn ready(State(api): State<Api>) -> Result<String, Problem> {
    api.store.leader().await?;
    if api.leader.leads() {
        return Ok("ready: leads\n".into());
    }
    let leader = api.leader.elsewhere().ok_or_else(led::nobody)?;
    Ok(format!("ready: stands by for {leader}\n"))
}

fn of_schedules() -> Router<Api> {
    let put = put(schedules::put).layer(DefaultBodyLimit::max(schedules::FILES_BYTES_MAX));
    Router::new()
        .route("/schedules", get(schedules::list))
        .route("/schedule-files", get(schedules::files))
        .route("/schedules/{name}", put.delete(schedules::remove))
        .route("/schedules/{name}/suspend", post(schedules::suspend))
        .route("/schedules/{name}/resume", post(schedules::resume))
        .route("/schedules/{name}/starts", get(schedules::starts))
}

/// How a file earns its stage.
fn earning() -> Router<Api> {
    let files = Router::new()
        .route(
            "/environments/{environment}/promotions",
            post(practice::promotion),
        )
        .route(
            "/environments/{environment}/approvals",
            get(practice::approvals).post(practice::ask),
        )
        .route(
            "/environments/{environment}/answers",
            post(practice::answer),
        )
        .layer(DefaultBodyLimit::max(FILE_BODY_BYTES_MAX));
    files
        .route("/policy", get(practice::policy))
        .route(
            "/environments/{environment}/approvals/{id}",
            get(practice::approval),
        )
        .route(
            "/environments/{environment}/approvals/{id}/votes",
            post(practice::vote),
        )
        .route(
            "/environments/{environment}/evidence",
            get(practice::evidence),
        )
        .route(
            "/environments/{environment}/evidence/{run}/statement",
            get(practice::statement),
        )
        .route("/evidence", post(practice::import))
        .route("/evidence/key", get(practice::key))
        .route("/runs/{run}/preflight", get(practice::preflight))
}

/// Who may what, and who did what.
fn who_may() -> Router<Api> {
    Router::new()
        .route("/tokens", get(access::list).post(access::create))
        .route("/tokens/{id}", delete(access::revoke))
        .route("/whoami", get(access::whoami))
        .route("/audit", get(audit::list))
        .route("/audit/verification", get(audit::verify))
}

/// Microseconds since the Unix epoch.
fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod practice_tests;
#[cfg(test)]
mod schedules_tests;
#[cfg(test)]
mod tests;
