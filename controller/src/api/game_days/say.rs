//! What is said on a game day. Who may say it is the day's own to know: its people are named in its file, as their tokens are. Go starts a run, and
//! asks for all that any run asks for beside that.

use super::super::caller::{Caller, Told};
use super::super::openapi::{Body, Created, Operation, Path, Takes};
use super::super::problem::Problem;
use super::super::runs::RunStarted;
use super::super::{Api, practice};
use super::{GameDaySeen, seen, visible};
use crate::access::Role;
use crate::gameday::{Action, Declined, HandedOver, No, Note, Over, What};
use axum::extract::{self, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::{Extension, Json};
use jiff::civil::Date;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

/// The most bytes of anything that is said.
const TEXT_BYTES_MAX: usize = 4000;

/// Go for a step.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GoWanted {
    /// Which, from 1; the one that waits.
    pub step: u32,
    /// What there is to say to it.
    #[serde(default)]
    pub because: String,
}

/// No-go for a step, or that it is left out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NoGoWanted {
    /// Which, from 1; the one that waits.
    pub step: u32,
    /// Why.
    pub because: String,
}

/// Something to write down.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NoteWanted {
    /// What.
    pub text: String,
}

/// Something that is to be done afterwards.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActionWanted {
    /// What.
    pub text: String,
    /// Who does it; need not be one of the day's people.
    pub owner: String,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Date>,
}

/// The lead for somebody else.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HandOverWanted {
    /// Who is to have it; the caller where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Why.
    pub because: String,
}

/// What there is to say to the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Remark {
    /// May be empty.
    #[serde(default)]
    pub because: String,
}

/// Text that somebody has written: it prints, and has an end.
fn prints(field: &str, text: &str) -> Result<String, Problem> {
    let text = text.trim();
    let good = text.chars().all(|c| !c.is_control() || c == '\n');
    if good && text.len() <= TEXT_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        format!("`{field}` has up to {TEXT_BYTES_MAX} bytes that print"),
    ))
}

/// The same, of something that must be said.
fn said(field: &str, text: &str) -> Result<String, Problem> {
    let text = prints(field, text)?;
    if text.is_empty() {
        let empty = format!("`{field}` says nothing");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, empty));
    }
    Ok(text)
}

/// Something that is said on a day, and nothing else: what happens by it.
pub(in super::super) trait Says {
    /// What its caller says with it.
    fn what(self, by: String) -> Result<What, Problem>;
}

/// No-go, as opposed to [`Skip`]: the same is said to both.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub(in super::super) struct NoGo(NoGoWanted);

/// A step is left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub(in super::super) struct Skip(NoGoWanted);

fn declined(wanted: &NoGoWanted, by: String) -> Result<Declined, Problem> {
    Ok(Declined {
        step: wanted.step,
        by,
        because: said("because", &wanted.because)?,
    })
}

impl Says for NoGo {
    fn what(self, by: String) -> Result<What, Problem> {
        declined(&self.0, by).map(What::NoGo)
    }
}

impl Says for Skip {
    fn what(self, by: String) -> Result<What, Problem> {
        declined(&self.0, by).map(What::Skipped)
    }
}

impl Says for NoteWanted {
    fn what(self, by: String) -> Result<What, Problem> {
        let text = said("text", &self.text)?;
        Ok(What::Noted(Note { by, text }))
    }
}

impl Says for ActionWanted {
    fn what(self, by: String) -> Result<What, Problem> {
        Ok(What::Action(Action {
            by,
            text: said("text", &self.text)?,
            owner: said("owner", &self.owner)?,
            due: self.due,
        }))
    }
}

impl Says for HandOverWanted {
    fn what(self, by: String) -> Result<What, Problem> {
        Ok(What::HandedOver(HandedOver {
            to: self.to.unwrap_or_else(|| by.clone()),
            by,
            because: said("because", &self.because)?,
        }))
    }
}

impl Says for Remark {
    fn what(self, by: String) -> Result<What, Problem> {
        let because = prints("because", &self.because)?;
        Ok(What::Over(Over { by, because }))
    }
}

/// Lets happen what is said; the day after it.
pub(in super::super) async fn says<W: Says>(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Body(wanted): Body<W>,
) -> Result<Json<GameDaySeen>, Problem> {
    let what = wanted.what(caller.name.clone())?;
    let id = visible(&api, &caller, &name).await?.id;
    let day = api.days.say(&id, what).await?;
    // Its end may have a time only now.
    let kept = visible(&api, &caller, &id.0).await?;
    Ok(Json(seen(kept, day)))
}

pub(in super::super) async fn go(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Body(wanted): Body<GoWanted>,
) -> Result<(Extension<Told>, Created<RunStarted>), Problem> {
    let because = prints("because", &wanted.because)?;
    let kept = visible(&api, &caller, &name).await?;
    let day = api.days.now(&kept.id).await?.day;
    let index = usize::try_from(wanted.step).unwrap_or_default();
    let round = index.checked_sub(1);
    let round = round.and_then(|index| day.game_day().experiments.get(index));
    // Whether it is this step's turn is the day's to say; who may start its run is asked first.
    if let Some(round) = round {
        let files = api.store.game_day_files(&kept.id).await?;
        let file = files.experiments.iter().find(|f| f.name == round.file);
        let planned = day.opened.experiments.get(index - 1);
        if let Some((file, planned)) = file.zip(planned) {
            let environment = &planned.environment;
            practice::sent(&caller, Role::Operator, environment, &file.name, &file.text)?;
        }
    }
    let run = api.days.go(&kept.id, wanted.step, &caller.name, because);
    let run = run.await?;
    let told = serde_json::json!({ "gameDay": kept.id, "step": wanted.step, "run": run });
    Ok((Extension(Told(told)), Created(RunStarted { run })))
}

/// Why something is stopped, behind the question mark. A stop is not refused for its words: what cannot be read is left out.
pub(in super::super) struct Why(String);

impl<S: Sync> FromRequestParts<S> for Why {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let said = extract::Query::<Remark>::try_from_uri(&parts.uri);
        Ok(Self(said.map(|said| said.0.because).unwrap_or_default()))
    }
}

impl Takes for Why {
    fn takes(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.parameters.push(serde_json::json!({
            "name": "because",
            "in": "query",
            "required": false,
            "description": "Why",
            "schema": { "type": "string" },
        }));
    }
}

/// Whoever may stop any run stops this one before anything is looked at; of the others, the day's people.
pub(in super::super) async fn stop(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Why(because): Why,
) -> Result<Json<GameDaySeen>, Problem> {
    let is_operator = caller.grants.has(Role::Operator);
    let day = crate::gameday::DayId(name.clone());
    let _telling = is_operator.then(|| api.days.stop_now(&day));
    let kept = visible(&api, &caller, &name).await?;
    if !is_operator {
        let day = api.days.now(&kept.id).await?.day;
        let part = day.takes_part(&caller.name);
        part.map_err(|no: No| Problem::new(StatusCode::FORBIDDEN, no.to_string()))?;
    }
    let because = prints("because", &because).unwrap_or_default();
    api.days.stop(&kept.id, &caller.name, because).await?;
    let day = api.days.now(&kept.id).await?.day;
    Ok(Json(seen(kept, day)))
}
