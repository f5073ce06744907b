//! Game days: opened, listed, shown; what is said on one is in [`say`], how one is told in [`told`].

pub(super) mod say;
pub(super) mod told;

use super::caller::{Caller, Told};
use super::openapi::{Body, Created, Path, Query};
use super::page::{Page, Wanted};
use super::problem::Problem;
use super::{Api, practice};
use crate::access::Role;
use crate::gameday::{Day, DayId, Days, DaysError, Phase, Planned};
use crate::practice as stages;
use crate::run::desk::ENVIRONMENT;
use crate::store::{GameDayFiles, GameDayKept, Origin};
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::game_day::{Person, Round};
use squall_experiments::language::{self, Diagnostic};

/// The most bytes of a game day with all its files.
const FILES_BYTES_MAX: usize = 16 << 20;

/// A game day that was opened.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GameDayOpened {
    /// Its name from now on.
    pub id: DayId,
}

/// A game day, as the API tells of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GameDaySeen {
    /// The name it was opened under.
    pub id: DayId,
    /// The name in its file.
    pub name: String,
    /// On which day it is to be held: YYYY-MM-DD.
    pub held_on: String,
    /// When it was opened, microseconds since the Unix epoch.
    pub opened_us: i64,
    /// By whom.
    pub opened_by: String,
    /// When it was over; none while it is not.
    pub ended_us: Option<i64>,
    /// Where it is.
    pub phase: Phase,
    /// Who has the lead.
    pub lead: String,
    /// Who takes part.
    pub people: Vec<Person>,
    /// Its experiments, in order.
    pub experiments: Vec<Planned>,
}

impl From<DaysError> for Problem {
    fn from(error: DaysError) -> Self {
        match error {
            DaysError::No(no) => {
                let status = match no.is_about_who() {
                    true => StatusCode::FORBIDDEN,
                    false => StatusCode::CONFLICT,
                };
                Self::new(status, no.to_string())
            }
            DaysError::Run(refused) => refused.into(),
            DaysError::Store(error) => error.into(),
            error @ DaysError::Record { .. } => {
                let said = crate::words::chain(&error);
                tracing::error!(error = said, "a game day cannot go on");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, said)
            }
        }
    }
}

pub(super) async fn open(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(files): Body<GameDayFiles, FILES_BYTES_MAX>,
) -> Result<(Extension<Told>, Created<GameDayOpened>), Problem> {
    let own = &files.game_day;
    let read = language::read_game_day(&own.name, &own.text);
    let game_day = read.value.ok_or_else(|| unusable(&read.diagnostics))?;
    if !stages::knows_zone(&game_day.time_zone) {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("there is no time zone `{}`", game_day.time_zone),
        ));
    }
    let planned = game_day.experiments.iter();
    let planned = planned.map(|round| planned_round(&api, &caller, &files, round));
    let planned = planned.collect::<Result<Vec<Planned>, Problem>>()?;
    let by = Origin::Person(&caller.name);
    let id = api.days.open(game_day, planned, &files, by).await?;
    let told = serde_json::json!({ "gameDay": id });
    Ok((Extension(Told(told)), Created(GameDayOpened { id })))
}

fn unusable(diagnostics: &[Diagnostic]) -> Problem {
    let said = format!(
        "the game day's file cannot be used: {} mistakes",
        diagnostics.len()
    );
    let diagnostics = diagnostics.iter().map(|one| serde_json::json!(one));
    Problem {
        diagnostics: diagnostics.collect(),
        ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, said)
    }
}

/// An experiment of the day, which the caller could start now as well.
fn planned_round(
    api: &Api,
    caller: &Caller,
    files: &GameDayFiles,
    round: &Round,
) -> Result<Planned, Problem> {
    let file = files.experiments.iter().find(|f| f.name == round.file);
    let file = file.ok_or_else(|| {
        let said = format!("the game day names `{}`, which was not sent", round.file);
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, said)
    })?;
    let environment = round.environment.as_deref().unwrap_or(ENVIRONMENT);
    stages::environment(&api.practice.policy(), environment)
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let sent = practice::sent(caller, Role::Operator, environment, &file.name, &file.text);
    let sent = sent.map_err(|problem| Problem {
        detail: format!("{}: {}", file.name, problem.detail),
        ..problem
    })?;
    Ok(Planned {
        name: sent.experiment.metadata.name,
        hypothesis: sent.experiment.hypothesis,
        digest: sent.digest,
        environment: environment.to_owned(),
    })
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<GameDayKept>>, Problem> {
    // Names begin with the time at which they were given: the page behind begins with what is older.
    let before = Some(wanted.after_name()).filter(|name| !name.is_empty());
    let days = api.store.game_days(before, wanted.most()?);
    let mut page = wanted.page(days.await?, |day| day.id.0.clone())?;
    page.items.retain(|day| sees(&caller, day));
    Ok(Json(page))
}

/// Whether the caller may know of a day: of all that runs on it.
fn sees(caller: &Caller, day: &GameDayKept) -> bool {
    let mut environments = day.environments.iter();
    environments.all(|environment| caller.grants.has_in(Role::Viewer, environment))
}

/// A day that the caller may know of. Of others they are told what they would be told of one that is not there.
async fn visible(api: &Api, caller: &Caller, name: &str) -> Result<GameDayKept, Problem> {
    let found = api.store.find_game_day(name).await?;
    let found = found.filter(|day| sees(caller, day));
    found.ok_or_else(|| Problem::missing("game day", name))
}

pub(super) async fn one(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<GameDaySeen>, Problem> {
    let kept = visible(&api, &caller, &name).await?;
    let now = Days::kept(&api.store, &kept.id).await?;
    Ok(Json(seen(kept, now.day)))
}

fn seen(kept: GameDayKept, day: Day) -> GameDaySeen {
    GameDaySeen {
        id: kept.id,
        name: kept.name,
        held_on: kept.held_on,
        opened_us: kept.opened_us,
        opened_by: kept.opened_by,
        ended_us: kept.ended_us,
        phase: day.phase,
        lead: day.lead,
        people: day.opened.game_day.people,
        experiments: day.opened.experiments,
    }
}
