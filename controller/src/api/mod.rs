//! What the controller serves on its one port: agents' links, the API, and whether it is well.
//!
//! | who | by what | may |
//! | --- | --- | --- |
//! | anybody | - | `/healthz`, `/readyz`; where to log in; what the API is: `/api` (a page), `/api/v1/openapi.json` |
//! | a node | a join token | become an agent |
//! | an agent | its certificate | open its link, renew its certificate |
//! | a person or program | an API token, or a login at the provider ([`login`](crate::login)) | below `/api/v1` what its roles let it: [`endpoints`](crate::access::endpoints); `/api/v1/metrics` for Prometheus |
//!
//! A new endpoint is a row of [`ENDPOINTS`](crate::access::endpoints::ENDPOINTS) (with what it does, in a line) and a line of `people` below.
//! The OpenAPI document reads the rest from the handler's types: take `openapi::{Body, Path, Query}` of types that are `JsonSchema`, answer
//! `Json`, `Created`, `Accepted` or `NoContent`, and whatever else by giving it `Answers` (as `runs.rs` does).

mod access;
mod acts;
mod agents;
mod audit;
mod caller;
mod game_days;
mod gates;
mod git;
pub mod git_hook;
mod halts;
mod led;
pub mod listen;
mod login;
mod metrics;
mod once;
mod openapi;
mod page;
mod plans;
mod practice;
pub mod problem;
mod runs;
mod schedules;
pub mod threads;
mod tokens;

use crate::fleet::authority::Authority;
use crate::fleet::registry::Registry;
use crate::gameday::Days;
use crate::leader::Leadership;
use crate::login::Logins;
use crate::practice::Practice;
use crate::run::desk::Desk;
use crate::store::Store;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use openapi::Paths;
use problem::Problem;
use squall_experiments::join::{JOIN_PATH, LINK_PATH, RENEW_PATH};
use squall_experiments::language::FILE_BYTES_MAX;
use std::sync::Arc;
use std::time::Duration;

pub use access::{AccessMade, AccessWanted, Whoami};
pub use agents::AgentSeen;
pub use game_days::say::{ActionWanted, GoWanted, HandOverWanted, NoGoWanted, NoteWanted, Remark};
pub use game_days::{GameDayOpened, GameDaySeen};
pub use gates::{GateSeen, Question, Release};
pub use halts::{HaltSeen, HaltWanted};
pub use login::PATH as LOGIN_PATH;
pub use page::Page;
pub use plans::{PlanSeen, PlanWanted};
pub use practice::{AnswersWanted, ApprovalWanted, EvidenceKey, PromotionWanted, VoteWanted};
pub use runs::{RunSeen, RunStarted, RunWanted};
pub use schedules::{Because, ScheduleSeen, Upcoming};
pub use tokens::{JoinTokenMade, JoinTokenWanted};

/// The most bytes of a request's body: a certificate request has one KiB.
const BODY_BYTES_MAX: usize = 64 << 10;

/// The same where an experiment file is in it, with every character escaped.
const FILE_BODY_BYTES_MAX: usize = 2 * FILE_BYTES_MAX + BODY_BYTES_MAX;

/// How long the database is waited for by who asks whether this controller is ready: a kubelet waits for 3 s.
const READY_MAX: Duration = Duration::from_secs(2);

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
    /// Logins of people, where they are taken.
    pub logins: Logins,
    /// Where game days are held.
    pub days: Days,
}

/// All that is served.
pub fn router(api: Api) -> Router {
    let (people, document) = people().served();
    let people = people.route_layer(middleware::from_fn_with_state(api.clone(), caller::known));
    Router::new()
        .nest("/api/v1", people)
        .route(JOIN_PATH, post(agents::join))
        .route(RENEW_PATH, post(agents::renew))
        .route(LINK_PATH, get(agents::link))
        // Around all that was named so far.
        .layer(middleware::from_fn_with_state(api.clone(), led::led))
        .merge(openapi::router(&document))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route(LOGIN_PATH, get(login::shown))
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "`Allow` says what can be done here",
            )
        })
        .with_state(api)
}

/// The OpenAPI 3.1 document of all that people and programs may ask.
#[must_use]
pub fn document() -> serde_json::Value {
    people().served().1
}

/// What people and programs may ask.
fn people() -> Paths {
    let paths = Paths::new()
        .get("/agents", agents::list)
        .delete("/agents/{node}", agents::forget)
        .post("/agents/{node}/revoke", agents::revoke)
        .get("/runs", runs::list)
        .post("/runs", runs::start)
        .get("/runs/{run}", runs::one)
        .get("/runs/{run}/events", runs::events)
        .get("/runs/{run}/report", runs::report)
        .get("/runs/{run}/preflight", practice::preflight)
        .post("/runs/{run}/stop", runs::stop)
        .get("/halt", halts::seen)
        .post("/halt", halts::halt)
        .delete("/halt", halts::lift)
        .get("/metrics", metrics::metrics)
        .get("/join-tokens", tokens::list)
        .post("/join-tokens", tokens::create)
        .delete("/join-tokens/{id}", tokens::revoke);
    who_may(earning(of_game_days(of_schedules(paths))))
}

/// Ready is who can do its part: the leader, and one that stands by for a leader that is alive. Both need the database.
async fn ready(State(api): State<Api>) -> Result<String, Problem> {
    let asked = tokio::time::timeout(READY_MAX, api.store.leader()).await;
    let silent = "the database does not answer: see whether it runs";
    asked.map_err(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, silent))??;
    if api.leader.leads() {
        return Ok("ready: leads\n".into());
    }
    let leader = api.leader.elsewhere().ok_or_else(led::nobody)?;
    Ok(format!("ready: stands by for {leader}\n"))
}

fn of_schedules(paths: Paths) -> Paths {
    paths
        .get("/schedules", schedules::list)
        .get("/schedule-files", schedules::files)
        .put("/schedules/{name}", schedules::put)
        .delete("/schedules/{name}", schedules::remove)
        .post("/schedules/{name}/suspend", schedules::suspend)
        .post("/schedules/{name}/resume", schedules::resume)
        .get("/schedules/{name}/starts", schedules::starts)
        .get("/git/plan", git::plan)
}

fn of_game_days(paths: Paths) -> Paths {
    paths
        .get("/gamedays", game_days::list)
        .post("/gamedays", game_days::open)
        .get("/gamedays/{day}", game_days::one)
        .get("/gamedays/{day}/events", game_days::told::events)
        .get("/gamedays/{day}/report", game_days::told::report)
        .post("/gamedays/{day}/go", game_days::say::go)
        .post(
            "/gamedays/{day}/no-go",
            game_days::say::says::<game_days::say::NoGo>,
        )
        .post(
            "/gamedays/{day}/skip",
            game_days::say::says::<game_days::say::Skip>,
        )
        .post("/gamedays/{day}/notes", game_days::say::says::<NoteWanted>)
        .post(
            "/gamedays/{day}/actions",
            game_days::say::says::<ActionWanted>,
        )
        .post(
            "/gamedays/{day}/lead",
            game_days::say::says::<HandOverWanted>,
        )
        .post("/gamedays/{day}/stop", game_days::say::stop)
        .post("/gamedays/{day}/end", game_days::say::says::<Remark>)
}

/// How a file earns its stage.
fn earning(paths: Paths) -> Paths {
    let one = "/environments/{environment}/approvals/{id}";
    let votes = "/environments/{environment}/approvals/{id}/votes";
    let statement = "/environments/{environment}/evidence/{run}/statement";
    paths
        .get("/policy", practice::policy)
        .post("/environments/{environment}/plans", plans::plan)
        .post(
            "/environments/{environment}/promotions",
            practice::promotion,
        )
        .get("/environments/{environment}/approvals", practice::approvals)
        .post("/environments/{environment}/approvals", practice::ask)
        .get(one, practice::approval)
        .post(votes, practice::vote)
        .post("/environments/{environment}/answers", practice::answer)
        .post("/environments/{environment}/gates/{question}", gates::ask)
        .get("/environments/{environment}/evidence", practice::evidence)
        .get(statement, practice::statement)
        .post("/evidence", practice::import)
        .get("/evidence/key", practice::key)
}

/// Who may what, and who did what.
fn who_may(paths: Paths) -> Paths {
    paths
        .get("/tokens", access::list)
        .post("/tokens", access::create)
        .delete("/tokens/{id}", access::revoke)
        .get("/whoami", access::whoami)
        .get("/audit", audit::list)
        .get("/audit/verification", audit::verify)
}

/// Microseconds since the Unix epoch.
fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod game_days_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod page_tests;
#[cfg(test)]
mod practice_tests;
#[cfg(test)]
mod schedules_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod threads_tests;
#[cfg(test)]
mod world;
