//! What a run would hit, where and how much. Touches nothing.

use super::caller::Caller;
use super::openapi::{Body, Path};
use super::problem::Problem;
use super::{Api, FILE_BODY_BYTES_MAX, practice};
use crate::access::Role;
use crate::run::desk::{Trigger, Wanted};
use axum::extract::State;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::plan::Plan;
use squall_experiments::wire::Excluded;

/// A file that somebody wants to know the plan of.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanWanted {
    /// The experiment file.
    pub file: String,
    /// What the file is called, for people.
    #[serde(default)]
    pub path: String,
    /// What the draw is made with; a run that is given the same draws the same of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// What would be done.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanSeen {
    /// The experiment's name.
    pub name: String,
    /// The digest over what it does.
    pub digest: String,
    /// What would be hit, stage by stage; without stages where nothing can be done.
    pub plan: Plan,
    /// What matched a target and is left alone.
    pub excluded: Vec<Excluded>,
    /// Why a run would be refused, where it would; what a gate asks is said of a promotion.
    pub refused: Option<String>,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

pub(super) async fn plan(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
    Body(wanted): Body<PlanWanted, FILE_BODY_BYTES_MAX>,
) -> Result<Json<PlanSeen>, Problem> {
    practice::sent(
        &caller,
        Role::Operator,
        &environment,
        &wanted.path,
        &wanted.file,
    )?;
    let wanted = Wanted {
        run: None,
        file_text: wanted.file,
        file_path: wanted.path,
        environment,
        by: caller.name,
        trigger: Trigger::Hand,
        seed: wanted.seed,
    };
    let (experiment, digest, planned) = api.desk.plan(&wanted).await?;
    Ok(Json(PlanSeen {
        name: experiment.metadata.name,
        digest,
        plan: planned.plan,
        excluded: planned.excluded,
        refused: planned.refused,
        notes: planned.notes,
    }))
}
