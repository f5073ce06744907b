//! What Prometheus asks for, with an API token as everybody.

use super::Api;
use super::openapi::{Answers, Operation, say};
use crate::metrics::{Agents, Look};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::SchemaGenerator;
use serde_json::json;

/// OpenMetrics 1.0.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What Prometheus reads.
pub(super) struct Metrics(String);

impl IntoResponse for Metrics {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, TEXT)], self.0).into_response()
    }
}

impl Answers for Metrics {
    fn answers(operation: &mut Operation, _: &mut SchemaGenerator) {
        let kinds = [(TEXT, json!({ "type": "string" }))];
        say(operation, StatusCode::OK, "OpenMetrics 1.0", &kinds);
    }
}

pub(super) async fn metrics(State(api): State<Api>) -> Metrics {
    let look = Look {
        leads: api.leader.leads(),
        halted: api.desk.still().is().is_some(),
        runs: api.desk.under_way().len(),
        targets: api.desk.with_budget(|budget| budget.taken().count()),
        agents: agents(&api).await,
    };
    Metrics(api.desk.metrics().text(look))
}

async fn agents(api: &Api) -> Option<Agents> {
    let members = api.store.members().await;
    let members = members.inspect_err(|error| {
        let error = crate::words::chain(error);
        tracing::warn!(error, "the agents cannot be counted");
    });
    let mut agents = Agents::default();
    for member in members.ok()? {
        if member.revoked_us.is_some() {
            agents.revoked += 1;
        } else if api.registry.is_connected(&member.node) {
            agents.connected += 1;
        } else {
            agents.away += 1;
        }
    }
    Some(agents)
}
