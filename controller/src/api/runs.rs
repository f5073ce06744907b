//! Runs across nodes: started, listed, watched, stopped, told.

use super::caller::Caller;
use super::openapi::{Accepted, Answers, Body, Created, Operation, Path, Query, Takes, say};
use super::page::{self, Page};
use super::problem::Problem;
use super::{Api, FILE_BODY_BYTES_MAX, practice};
use crate::access::Role;
use crate::git::at_commit;
use crate::report::{self, Summary};
use crate::run::desk::{ENVIRONMENT, Refused, Trigger, Wanted};
use crate::store::{Kept, StoreError};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::Stream;
use futures_util::stream::{self, StreamExt};
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;
use std::convert::Infallible;
use tokio::sync::broadcast;

/// The header with which a reader says what it has seen (HTML, section 9.2.4).
const LAST_EVENT_ID: &str = "last-event-id";

/// A run that somebody wants.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunWanted {
    /// The experiment file.
    pub file: String,
    /// What the file is called, for people.
    #[serde(default)]
    pub path: String,
    /// Where it is to run; `default` where nothing is said.
    #[serde(default = "environment")]
    pub environment: String,
    /// What random decisions start from; drawn where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

fn environment() -> String {
    ENVIRONMENT.to_owned()
}

/// A run that was started.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStarted {
    /// Its name.
    pub run: RunId,
}

/// A run, as the API tells of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSeen {
    /// Its name.
    pub run: RunId,
    /// The experiment's name.
    pub name: String,
    /// When it was created, microseconds since the Unix epoch.
    pub created_us: i64,
    /// Where it runs.
    pub environment: Option<String>,
    /// Who started it.
    pub by: Option<String>,
    /// Whether it is under way.
    pub under_way: bool,
    /// How it ended.
    pub verdict: Option<Verdict>,
    /// Why, in a sentence.
    pub because: Option<String>,
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let said = crate::words::chain(&refused);
        match refused {
            Refused::File(diagnostics) => {
                let diagnostics = diagnostics.iter().map(|one| serde_json::json!(one));
                Self {
                    diagnostics: diagnostics.collect(),
                    ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, said)
                }
            }
            Refused::Probe(_) | Refused::Environment { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, said)
            }
            Refused::StandsBy => Self::new(StatusCode::SERVICE_UNAVAILABLE, said),
            Refused::Taken(_) | Refused::Halted(_) => Self::new(StatusCode::CONFLICT, said),
            Refused::Reach(reasons) | Refused::Gate(reasons) => Self {
                reasons,
                ..Self::new(StatusCode::FORBIDDEN, said)
            },
            Refused::Store(error) => error.into(),
        }
    }
}

pub(super) async fn start(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<RunWanted, FILE_BODY_BYTES_MAX>,
) -> Result<Created<RunStarted>, Problem> {
    let (environment, path) = (&wanted.environment, &wanted.path);
    practice::sent(&caller, Role::Operator, environment, path, &wanted.file)?;
    // Of a file that is in the commit in force, letter by letter, that is said with the run.
    let repository = api.practice.repository();
    let commit = repository.and_then(|git| git.commit_of(&wanted.path, &wanted.file));
    let wanted = Wanted {
        run: None,
        file_text: wanted.file,
        file_path: match commit {
            Some(commit) => at_commit(&wanted.path, &commit),
            None => wanted.path,
        },
        environment: wanted.environment,
        by: caller.name,
        trigger: Trigger::Hand,
        seed: wanted.seed,
    };
    let run = api.desk.start(wanted).await?;
    Ok(Created(RunStarted { run }))
}

/// A page of all runs, without those that the caller may not know of: it may have fewer items than it could, and another behind it.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(wanted): Query<page::Wanted>,
) -> Result<Json<Page<RunSeen>>, Problem> {
    let (before, most) = (wanted.before()?, wanted.most()?);
    let listed = api.store.runs_before(before, most).await?;
    let page = wanted.page(listed, |one| {
        format!("{}:{}", one.kept.created_us, one.kept.run)
    })?;
    let under_way = api.desk.under_way();
    let seen = page.items.into_iter().map(|one| {
        let under_way = under_way.contains(&one.kept.run);
        seen(one.kept, one.environment, one.by, under_way)
    });
    let items = seen.filter(|run: &RunSeen| sees(&caller, run.environment.as_deref()));
    Ok(Json(Page {
        items: items.collect(),
        next: page.next,
    }))
}

fn seen(kept: Kept, environment: Option<String>, by: Option<String>, under_way: bool) -> RunSeen {
    RunSeen {
        run: kept.run,
        name: kept.name,
        created_us: kept.created_us,
        environment,
        by,
        under_way,
        verdict: kept.verdict,
        because: kept.because,
    }
}

/// Whether the caller may know of what runs there; what ran on this machine alone is in no environment.
fn sees(caller: &Caller, environment: Option<&str>) -> bool {
    let grants = &caller.grants;
    environment.map_or_else(
        || grants.has_everywhere(Role::Viewer),
        |environment| grants.has_in(Role::Viewer, environment),
    )
}

/// A run that the caller may know of. Of others they are told what they would be told of one that is not there.
async fn visible(api: &Api, caller: &Caller, name: &str) -> Result<RunId, Problem> {
    let run = named(api, name).await?;
    let started = api.store.started(&run).await?;
    let environment = started.map(|started| started.environment);
    match sees(caller, environment.as_deref()) {
        true => Ok(run),
        false => Err(Problem::missing("run", name)),
    }
}

/// A run by its name, the beginning of it, or `last`.
async fn named(api: &Api, name: &str) -> Result<RunId, Problem> {
    let run = RunId::from(name);
    if api.desk.subscribe(&run).is_some() {
        return Ok(run);
    }
    match api.store.find(name).await {
        Ok(run) => Ok(run),
        Err(StoreError::NoRun(_)) => Err(Problem::missing("run", name)),
        Err(error @ StoreError::Ambiguous(_)) => {
            Err(Problem::new(StatusCode::CONFLICT, error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Everything that happened in a run so far.
pub(super) async fn events_of(api: &Api, run: &RunId) -> Result<Vec<Event>, Problem> {
    match api.desk.subscribe(run) {
        Some(feed) => Ok(feed.all()),
        None => Ok(api.store.events(run).await?),
    }
}

pub(super) async fn one(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<RunSeen>, Problem> {
    let run = visible(&api, &caller, &name).await?;
    let under_way = api.desk.subscribe(&run).is_some();
    if let Some(one) = api.store.listed(&run).await? {
        return Ok(Json(seen(one.kept, one.environment, one.by, under_way)));
    }
    // It has just begun, and is written down in a moment.
    let started = api.store.started(&run).await?;
    let (environment, by) = started.map(|one| (one.environment, one.by)).unzip();
    let events = events_of(&api, &run).await?;
    let summary = Summary::of(&events);
    let created_us = events.first().map_or(0, |first| first.at_us);
    let kept = Kept {
        run,
        name: summary.name,
        created_us: i64::try_from(created_us).unwrap_or(i64::MAX),
        verdict: summary.verdict,
        because: Some(summary.because).filter(|because| !because.is_empty()),
    };
    Ok(Json(seen(kept, environment, by, under_way)))
}

pub(super) async fn stop(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Accepted, Problem> {
    let run = named(&api, &name).await?;
    if !api.desk.stop(&run) {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            format!("run {run} is not under way"),
        ));
    }
    tracing::info!(by = caller.name, %run, "a run was told to stop");
    Ok(Accepted)
}

/// A report, in the form that was asked for.
pub(super) struct Report(Response);

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answers for Report {
    fn answers(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        let (text, summary) = (
            json!({ "type": "string" }),
            schemas.subschema_for::<Summary>(),
        );
        let kinds = [
            ("application/json", summary.to_value()),
            ("text/html", text.clone()),
            ("text/markdown", text),
        ];
        say(
            operation,
            StatusCode::OK,
            "The report, in the form that `Accept` names",
            &kinds,
        );
    }
}

/// Who asks for HTML or Markdown gets that, and everybody else JSON.
pub(super) async fn report(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Report, Problem> {
    let run = visible(&api, &caller, &name).await?;
    let summary = Summary::of(&events_of(&api, &run).await?);
    let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok());
    let wants = |kind: &str| accept.is_some_and(|accept| accept.contains(kind));
    let typed = |kind, text: String| Report(([(header::CONTENT_TYPE, kind)], text).into_response());
    if wants("text/html") {
        let html = report::html(&summary);
        let html = html.map_err(|error| {
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                crate::words::chain(&error),
            )
        })?;
        return Ok(typed("text/html; charset=utf-8", html));
    }
    if wants("text/markdown") {
        return Ok(typed(
            "text/markdown; charset=utf-8",
            report::markdown(&summary),
        ));
    }
    Ok(Report(Json(summary).into_response()))
}

/// The last event that a reader has seen.
pub(super) struct LastSeen(pub(super) Option<usize>);

impl<S: Sync> FromRequestParts<S> for LastSeen {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let said = parts.headers.get(LAST_EVENT_ID);
        let said = said.and_then(|id| id.to_str().ok());
        Ok(Self(said.and_then(|id| id.parse().ok())))
    }
}

impl Takes for LastSeen {
    fn takes(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.parameters.push(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "required": false,
            "description": "The number of the last event that was seen; all of them where nothing is said",
            "schema": { "type": "string" },
        }));
    }
}

/// Events, as they happen.
pub(super) struct Events(Response);

impl IntoResponse for Events {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answers for Events {
    fn answers(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        // Of one event of the stream, as those read it who know of streams.
        let stream = json!({
            "type": "object",
            "description": "Server-sent events: `id` counts from 0, `data` is an Event; the last one tells the verdict",
            "required": ["id", "data"],
            "properties": {
                "id": { "type": "string" },
                "data": {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": schemas.subschema_for::<Event>(),
                },
            },
        });
        let kinds = [("text/event-stream", stream)];
        say(
            operation,
            StatusCode::OK,
            "What happened so far, and what happens",
            &kinds,
        );
    }
}

/// What happens in a run, as it happens: server-sent events, numbered from 0, up to the verdict. Who comes back says the last number it
/// has seen, and misses nothing.
pub(super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    LastSeen(seen): LastSeen,
) -> Result<Events, Problem> {
    let run = visible(&api, &caller, &name).await?;
    let from = seen.map_or(0, |seen| seen.saturating_add(1));
    let (past, news) = match api.desk.subscribe(&run) {
        Some(feed) => {
            let (past, news) = feed.from(from);
            (past, Some(news))
        }
        None => {
            let all = api.store.events(&run).await?;
            (all.get(from..).unwrap_or_default().to_vec(), None)
        }
    };
    let events = stream::iter(past).chain(coming(news));
    let numbered = until_finished(events).enumerate();
    let sent = numbered.map(move |(n, event)| {
        let id = (from + n).to_string();
        let data = serde_json::to_string(&event).unwrap_or_default();
        Ok::<_, Infallible>(sse::Event::default().id(id).data(data))
    });
    let events = Sse::new(sent).keep_alive(KeepAlive::default());
    Ok(Events(events.into_response()))
}

/// What is still to come. Who reads too slowly is hung up on, and asks again from where it was.
fn coming(news: Option<broadcast::Receiver<Event>>) -> impl Stream<Item = Event> {
    stream::unfold(news, |news| async move {
        let mut news = news?;
        let event = news.recv().await.ok()?;
        Some((event, Some(news)))
    })
}

fn until_finished(events: impl Stream<Item = Event>) -> impl Stream<Item = Event> {
    events.scan(false, |finished, event| {
        let go_on = !std::mem::replace(finished, matches!(event.what, Happening::Finished(_)));
        std::future::ready(go_on.then_some(event))
    })
}
