//! Schedules: put into force, shown with their next times, suspended and resumed.

use super::caller::Caller;
use super::openapi::{Body, Path, Query};
use super::page::{Page, Wanted};
use super::problem::Problem;
use super::{Api, now_us};
use crate::access::Role;
use crate::calendar::{Prepared, upcoming};
use crate::store::{Origin, ScheduleFiles, ScheduleKept, StartKept};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::NoContent;
use axum::{Extension, Json};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::calendar::Upcoming;

/// The most bytes of a schedule with all its files: calendars are the largest.
const FILES_BYTES_MAX: usize = 16 << 20;
/// So many of its next times are shown.
const NEXT_SHOWN: usize = 3;
/// The most letters of a reason.
const BECAUSE_MAX: usize = 500;

/// A schedule, as the API tells of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleSeen {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub experiment: String,
    /// When.
    pub cron: String,
    /// By which clock.
    pub time_zone: String,
    /// The commit it comes from; none where a person gave it.
    pub source: Option<String>,
    /// Who put it into force, where a person did: it starts nothing that they may not start themselves.
    pub owner: Option<String>,
    /// Where its runs are.
    pub environment: String,
    /// Since when it starts nothing, microseconds since the Unix epoch, if so.
    pub suspended_us: Option<i64>,
    /// Why.
    pub suspended_because: Option<String>,
    /// Its next times, and what will keep a run from beginning then.
    pub next: Vec<Upcoming>,
}

/// Why a schedule is to be suspended.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Because {
    /// In a sentence.
    pub because: String,
}

fn seen(kept: &ScheduleKept) -> Result<ScheduleSeen, Problem> {
    let prepared = prepared(&kept.files)?;
    Ok(ScheduleSeen {
        name: kept.name.clone(),
        experiment: prepared.schedule.experiment.clone(),
        cron: prepared.schedule.cron.to_string(),
        time_zone: prepared.schedule.time_zone.clone(),
        source: kept.source.clone(),
        owner: kept.owner.clone(),
        environment: prepared.environment().to_owned(),
        suspended_us: kept.suspended_us,
        suspended_because: kept.suspended_because.clone(),
        next: upcoming(&prepared.timetable, Timestamp::now(), NEXT_SHOWN),
    })
}

fn prepared(files: &ScheduleFiles) -> Result<Prepared, Problem> {
    let bad = |error: crate::calendar::PrepareError| {
        Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            crate::words::chain(&error),
        )
    };
    Prepared::new(files).map_err(bad)
}

async fn found(api: &Api, name: &str) -> Result<ScheduleKept, Problem> {
    let all = api.store.schedules().await?;
    let found = all.into_iter().find(|kept| kept.name == name);
    found.ok_or_else(|| Problem::missing("schedule", name))
}

/// A schedule in whose environment the caller has a role. Of others they are told what they would be told of one that is not there.
async fn theirs(
    api: &Api,
    caller: &Caller,
    role: Role,
    name: &str,
) -> Result<ScheduleKept, Problem> {
    let kept = found(api, name).await?;
    let prepared = prepared(&kept.files)?;
    if !caller.grants.has_in(Role::Viewer, prepared.environment()) {
        return Err(Problem::missing("schedule", name));
    }
    may(caller, role, &prepared).map(|()| kept)
}

/// Whether the caller has a role for all that a schedule's runs hit.
fn may(caller: &Caller, role: Role, prepared: &Prepared) -> Result<(), Problem> {
    let environment = prepared.environment();
    let has = match role {
        Role::Viewer => caller.grants.has_in(role, environment),
        _ => caller.grants.may(role, environment, &prepared.namespaces()),
    };
    has.then_some(()).ok_or_else(|| {
        let who = &caller.name;
        Problem::new(
            StatusCode::FORBIDDEN,
            format!(
                "{who} is no {role} of `{environment}` for all namespaces that this schedule hits"
            ),
        )
    })
}

/// A page of all schedules, without those whose environment the caller may not know of: it may have fewer items than it could, and another
/// behind it.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<ScheduleSeen>>, Problem> {
    let kept = page(&api, &wanted).await?;
    let items: Result<Vec<ScheduleSeen>, Problem> = kept.items.iter().map(seen).collect();
    let mut items = items?;
    items.retain(|one| caller.grants.has_in(Role::Viewer, &one.environment));
    Ok(Json(Page {
        items,
        next: kept.next,
    }))
}

/// They are as many as people write files: all are read for each page.
async fn page(api: &Api, wanted: &Wanted) -> Result<Page<ScheduleKept>, Problem> {
    let mut kept = api.store.schedules().await?;
    kept.retain(|one| one.name.as_str() > wanted.after_name());
    wanted.page(kept, |one| one.name.clone())
}

/// With all their files.
pub(super) async fn files(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<ScheduleKept>>, Problem> {
    Ok(Json(page(&api, &wanted).await?))
}

pub(super) async fn put(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Body(files): Body<ScheduleFiles, FILES_BYTES_MAX>,
) -> Result<Json<ScheduleSeen>, Problem> {
    let prepared = prepared(&files)?;
    let own = &prepared.schedule.metadata.name;
    if *own != name {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the file is of the schedule `{own}`, and was put as `{name}`"),
        ));
    }
    may(&caller, Role::Operator, &prepared)?;
    // Nor may they take another's out of force by its name.
    let all = api.store.schedules().await?;
    if all.iter().any(|kept| kept.name == name) {
        theirs(&api, &caller, Role::Operator, &name).await?;
    }
    api.store
        .put_schedule(&name, &files, Origin::Person(&caller.name), now_us())
        .await?;
    tracing::info!(
        by = caller.name,
        schedule = name,
        "put a schedule into force"
    );
    Ok(Json(seen(&found(&api, &name).await?)?))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<NoContent, Problem> {
    theirs(&api, &caller, Role::Operator, &name).await?;
    if !api.store.remove_schedule(&name).await? {
        return Err(Problem::missing("schedule", &name));
    }
    tracing::info!(by = caller.name, schedule = name, "removed a schedule");
    Ok(NoContent)
}

pub(super) async fn suspend(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Body(why): Body<Because>,
) -> Result<Json<ScheduleSeen>, Problem> {
    let words = why.because.trim();
    if words.is_empty()
        || words.chars().count() > BECAUSE_MAX
        || words.chars().any(char::is_control)
    {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("`because` is a line of at most {BECAUSE_MAX} letters"),
        ));
    }
    let because = format!("{}: {words}", caller.name);
    if !api
        .store
        .suspend_schedule(&name, &because, now_us())
        .await?
    {
        return Err(Problem::missing("schedule", &name));
    }
    tracing::info!(by = caller.name, schedule = name, "suspended a schedule");
    Ok(Json(seen(&found(&api, &name).await?)?))
}

pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleSeen>, Problem> {
    theirs(&api, &caller, Role::Operator, &name).await?;
    if !api.store.resume_schedule(&name, now_us()).await? {
        return Err(Problem::missing("schedule", &name));
    }
    tracing::info!(by = caller.name, schedule = name, "resumed a schedule");
    Ok(Json(seen(&found(&api, &name).await?)?))
}

pub(super) async fn starts(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<StartKept>>, Problem> {
    // What became of one that was removed stays, for those who see everything.
    if !caller.grants.has_everywhere(Role::Viewer) {
        theirs(&api, &caller, Role::Viewer, &name).await?;
    }
    let (before_us, _) = wanted.before()?;
    let all = api.store.starts_before(&name, before_us, wanted.most()?);
    Ok(Json(
        wanted.page(all.await?, |one| format!("{}:", one.due_us))?,
    ))
}
