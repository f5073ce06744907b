//! Agents: how they join, open their links, renew their certificates; and what people ask and say of them.

use super::caller::Caller;
use super::listen::Peer;
use super::openapi::{Body, Path, Query};
use super::page::{Page, Wanted};
use super::problem::Problem;
use super::{Api, now_us};
use crate::fleet::authority::Issued;
use crate::fleet::registry::Connected;
use crate::fleet::secret;
use crate::store::Admitted;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, NoContent, Response};
use axum::{Extension, Json};
use hyper_util::rt::TokioIo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::join::{Fingerprint, Join, Joined, Renewal, check_node};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// An agent, as the API tells of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSeen {
    /// The node's name.
    pub node: String,
    /// When it joined, microseconds since the Unix epoch.
    pub joined_us: i64,
    /// When its link was last opened.
    pub seen_us: Option<i64>,
    /// When it was shut out, if it was.
    pub revoked_us: Option<i64>,
    /// What it said when its link was opened, where it is there now.
    pub connected: Option<Connected>,
}

/// A token and a name become a certificate.
pub(super) async fn join(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Body(join): Body<Join>,
) -> Result<Json<Joined>, Problem> {
    let bad = |why: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why);
    check_node(&join.node).map_err(|error| bad(error.to_string()))?;
    let issued = issue(&api, &join.node, &join.request)?;
    let secret: Fingerprint = join.secret.parse().map_err(|_| bad_token())?;
    let secret = secret::hash(&secret.0);
    let admitted = api
        .store
        .admit(&join.token, secret, &join.node, issued.key, now_us())
        .await?;
    match admitted {
        Admitted::Yes => {
            tracing::info!(node = join.node, token = join.token, address = %peer.address, "an agent joined");
            Ok(Json(issued.joined))
        }
        Admitted::BadToken => {
            tracing::warn!(node = join.node, token = ?join.token, address = %peer.address, "refused to join: bad token");
            Err(bad_token())
        }
        Admitted::NameTaken => {
            tracing::warn!(node = join.node, token = join.token, address = %peer.address, "refused to join: the name is taken");
            Err(Problem::new(
                StatusCode::CONFLICT,
                format!(
                    "an agent `{0}` has joined already: `squall agents forget {0}` frees the name",
                    join.node
                ),
            ))
        }
    }
}

fn bad_token() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "this join token lets nobody join: it is unknown, used up, expired or revoked; `squall token create` makes another",
    )
}

fn issue(api: &Api, node: &str, request: &str) -> Result<Issued, Problem> {
    api.authority.agent(node, request).map_err(|error| {
        let why = crate::words::chain(&error);
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why)
    })
}

/// The certificate before becomes the next, with the same key or another.
pub(super) async fn renew(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Body(renewal): Body<Renewal>,
) -> Result<Json<Joined>, Problem> {
    let (node, key) = member(&api, &peer).await?;
    let issued = issue(&api, &node, &renewal.request)?;
    if issued.key != key && !api.store.change_key(&node, key, issued.key).await? {
        return Err(shut_out());
    }
    tracing::info!(node, "renewed an agent's certificate");
    Ok(Json(issued.joined))
}

/// Which agent the peer is, by its certificate and what is kept of it.
async fn member(api: &Api, peer: &Peer) -> Result<(String, Fingerprint), Problem> {
    let Some(named) = &peer.named else {
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "show an agent's certificate: this is for agents that have joined",
        ));
    };
    if !api.store.may_speak(&named.node, named.key).await? {
        tracing::warn!(node = named.node, address = %peer.address, "an agent that was shut out, or forgotten, came back");
        return Err(shut_out());
    }
    Ok((named.node.clone(), named.key))
}

fn shut_out() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "this certificate speaks for no agent any more: it was revoked, forgotten or replaced; join again",
    )
}

/// Opens an agent's link: RFC 6455, section 4.2.
pub(super) async fn link(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Result<Response, Problem> {
    let (node, _) = member(&api, &peer).await?;
    let key = websocket_key(request.headers()).ok_or_else(|| {
        Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "this is a WebSocket (RFC 6455, version 13)",
        )
    })?;
    let upgrade = hyper::upgrade::on(&mut request);
    api.store.seen(&node, now_us()).await?;
    // Not where requests are answered: what a stop says goes through this.
    let threads = api.desk.threads().clone();
    threads.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let stream = TokioIo::new(upgraded);
                api.registry.serve(node, peer.address, stream).await;
            }
            Err(error) => tracing::debug!(node, %error, "a link was not opened"),
        }
    });
    let accept = HeaderValue::from_str(&derive_accept_key(&key))
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the WebSocket key is no text"))?;
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn websocket_key(headers: &HeaderMap) -> Option<Vec<u8>> {
    let says = |name, word: &str| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
            .is_some_and(|value| {
                value
                    .split(',')
                    .any(|one| one.trim().eq_ignore_ascii_case(word))
            })
    };
    let asked = says(header::CONNECTION, "upgrade")
        && says(header::UPGRADE, "websocket")
        && says(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    asked.then(|| key.as_bytes().to_vec())
}

pub(super) async fn list(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<AgentSeen>>, Problem> {
    let members = api.store.members_after(wanted.after_name(), wanted.most()?);
    let members = members.await?;
    let seen = members.into_iter().map(|member| AgentSeen {
        connected: api.registry.connected(&member.node),
        node: member.node,
        joined_us: member.joined_us,
        seen_us: member.seen_us,
        revoked_us: member.revoked_us,
    });
    Ok(Json(wanted.page(seen.collect(), |one| one.node.clone())?))
}

pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
) -> Result<NoContent, Problem> {
    if !api.store.revoke_agent(&node, now_us()).await? {
        return Err(Problem::missing("agent", &node));
    }
    api.registry.hang_up(&node);
    tracing::info!(by = caller.name, node, "shut an agent out");
    Ok(NoContent)
}

pub(super) async fn forget(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(node): Path<String>,
) -> Result<NoContent, Problem> {
    if !api.store.forget_agent(&node).await? {
        return Err(Problem::missing("agent", &node));
    }
    api.registry.hang_up(&node);
    tracing::info!(by = caller.name, node, "forgot an agent");
    Ok(NoContent)
}
