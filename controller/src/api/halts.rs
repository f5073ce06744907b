//! The halt of everything.

use super::Api;
use super::caller::Caller;
use super::openapi::Body;
use super::problem::Problem;
use crate::run::Halted;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::NoContent;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most letters of a reason; those behind are left out.
const BECAUSE_MAX: usize = 500;

/// Why everything is to stand still.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HaltWanted {
    /// In words.
    #[serde(default)]
    pub because: String,
}

/// Whether everything stands still.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HaltSeen {
    /// The halt that is in force.
    pub halted: Option<Halted>,
}

pub(super) async fn seen(State(api): State<Api>) -> Json<HaltSeen> {
    let halted = api.desk.still().is();
    Json(HaltSeen { halted })
}

/// First everything stops; then it is kept that it did.
pub(super) async fn halt(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<HaltWanted>,
) -> Result<Json<HaltSeen>, Problem> {
    // A stop is not refused for its words.
    let letters = wanted.because.chars().take(BECAUSE_MAX);
    let because: String = letters
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    tracing::warn!(by = caller.name, because, "halt");
    let said = api.desk.still().halt(&caller.name, &because);
    said.await?;
    Ok(seen(State(api)).await)
}

pub(super) async fn lift(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<NoContent, Problem> {
    tracing::warn!(by = caller.name, "the halt is lifted");
    api.desk.still().lift(&caller.name).await?;
    match api.desk.still().is() {
        None => Ok(NoContent),
        Some(halted) => Err(Problem::new(
            StatusCode::CONFLICT,
            format!(
                "everything is still {halted}: remove the file `halt` in the controller's data directory"
            ),
        )),
    }
}
