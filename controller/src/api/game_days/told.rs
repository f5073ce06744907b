//! How a game day is told: as it happens, and afterwards.

use super::super::caller::Caller;
use super::super::openapi::{Answers, Operation, Path, say};
use super::super::problem::Problem;
use super::super::runs::LastSeen;
use super::super::{Api, runs};
use super::visible;
use crate::gameday::report::{self, DayReport};
use crate::gameday::{DayEvent, DayId, What};
use crate::store::Store;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::Stream;
use futures_util::stream::{self, StreamExt};
use schemars::SchemaGenerator;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;

/// Where nobody says that something has happened, it is looked at so often: another controller may have written it.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Events, as they happen.
pub(in super::super) struct Events(Response);

impl IntoResponse for Events {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answers for Events {
    fn answers(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        let stream = json!({
            "type": "string",
            "description": "Server-sent events: `id` counts from 0, `data` is a DayEvent; the last one tells that the day is over",
            "contentMediaType": "application/json",
            "contentSchema": schemas.subschema_for::<DayEvent>(),
        });
        let kinds = [("text/event-stream", stream)];
        let about = "What happened so far, and what happens";
        say(operation, StatusCode::OK, about, &kinds);
    }
}

/// What happens on a game day, as it happens: server-sent events, numbered from 0, up to its end. Who comes back says the last number it has
/// seen, and misses nothing; also what was written down after the end.
pub(in super::super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    LastSeen(seen): LastSeen,
) -> Result<Events, Problem> {
    let day = visible(&api, &caller, &name).await?.id;
    let from = seen.map_or(0, |seen| seen.saturating_add(1));
    let follow = Follow {
        store: api.store,
        changes: api.days.changes(),
        day,
        from,
        read: VecDeque::new(),
    };
    let sent = follow.events().map(|(id, event)| {
        let data = serde_json::to_string(&event).unwrap_or_default();
        Ok::<_, Infallible>(sse::Event::default().id(id.to_string()).data(data))
    });
    let events = Sse::new(sent).keep_alive(KeepAlive::default());
    Ok(Events(events.into_response()))
}

/// One reader of a day's events.
struct Follow {
    store: Store,
    changes: watch::Receiver<u64>,
    day: DayId,
    /// The number of the next event.
    from: usize,
    read: VecDeque<DayEvent>,
}

impl Follow {
    fn events(self) -> impl Stream<Item = (usize, DayEvent)> {
        stream::unfold(self, |mut follow| async move {
            let event = follow.next().await?;
            let id = follow.from;
            follow.from += 1;
            Some(((id, event), follow))
        })
    }

    /// The next event; none behind the end of the day, or where the store fails: who reads asks again then.
    async fn next(&mut self) -> Option<DayEvent> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Some(event);
            }
            self.changes.mark_unchanged();
            let events = self.store.game_day_events(&self.day, self.from).await;
            self.read = events.ok()?.into();
            if self.read.is_empty() {
                if self.is_over().await? {
                    return None;
                }
                let changed = tokio::time::timeout(LOOK_EVERY, self.changes.changed());
                // Looked at again, whichever it was.
                let _either = changed.await;
            }
        }
    }

    async fn is_over(&self) -> Option<bool> {
        let kept = self.store.find_game_day(&self.day.0).await.ok()??;
        Some(kept.ended_us.is_some())
    }
}

/// A day's report, in the form that was asked for.
pub(in super::super) struct Report(Response);

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Answers for Report {
    fn answers(operation: &mut Operation, schemas: &mut SchemaGenerator) {
        let (text, told) = (
            json!({ "type": "string" }),
            schemas.subschema_for::<DayReport>(),
        );
        let kinds = [
            ("application/json", told.to_value()),
            ("text/html", text.clone()),
            ("text/markdown", text),
        ];
        let about = "The report, in the form that `Accept` names";
        say(operation, StatusCode::OK, about, &kinds);
    }
}

/// The report of the whole day. Who asks for HTML or Markdown gets that, and everybody else JSON.
pub(in super::super) async fn report(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Report, Problem> {
    let day = visible(&api, &caller, &name).await?.id;
    let events = api.store.game_day_events(&day, 0).await?;
    let mut of_runs = BTreeMap::new();
    for event in &events {
        if let What::Began(began) = &event.what {
            let events = runs::events_of(&api, &began.run).await?;
            of_runs.insert(began.run.clone(), events);
        }
    }
    let told = DayReport::of(&day, &events, &of_runs);
    let accept = headers.get(header::ACCEPT).and_then(|a| a.to_str().ok());
    let wants = |kind: &str| accept.is_some_and(|accept| accept.contains(kind));
    let typed = |kind, text: String| Report(([(header::CONTENT_TYPE, kind)], text).into_response());
    if wants("text/html") {
        let html = report::html(&told).map_err(|error| {
            let said = crate::words::chain(&error);
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, said)
        })?;
        return Ok(typed("text/html; charset=utf-8", html));
    }
    if wants("text/markdown") {
        let text = report::markdown(&told);
        return Ok(typed("text/markdown; charset=utf-8", text));
    }
    Ok(Report(Json(told).into_response()))
}
