//! Join tokens: made, listed, taken back.

use super::caller::Caller;
use super::openapi::{Body, Created, Path, Query};
use super::page::{Page, Wanted};
use super::problem::Problem;
use super::{Api, now_us};
use crate::fleet::secret;
use crate::store::{JoinTokenKept, NewJoinToken};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::NoContent;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a token may live: who needs longer makes another.
const MINUTES_MAX: u32 = 30 * 24 * 60;
/// How many agents may join by one token.
const USES_MAX: u32 = 100_000;
/// The most bytes of a note.
const NOTE_BYTES_MAX: usize = 200;

/// What a token is to be like.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinTokenWanted {
    /// For how many minutes it is good, up to 30 days.
    pub minutes: u32,
    /// How many agents may join by it, up to 100,000.
    pub uses: u32,
    /// What it is for.
    #[serde(default)]
    pub note: String,
}

/// A token, shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenMade {
    /// Its name.
    pub id: String,
    /// The whole of it, for an agent's `--join-token-file`.
    pub token: String,
    /// From when on it is worth nothing, microseconds since the Unix epoch.
    pub expires_us: i64,
}

pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<JoinTokenWanted>,
) -> Result<Created<JoinTokenMade>, Problem> {
    check(&wanted)?;
    let token = secret::join_token(api.authority.fingerprint());
    let now_us = now_us();
    let expires_us = now_us + i64::from(wanted.minutes) * 60_000_000;
    let kept = NewJoinToken {
        id: &token.id,
        secret: secret::hash(&token.secret),
        note: &wanted.note,
        now_us,
        expires_us,
        uses: wanted.uses,
    };
    api.store.add_join_token(&kept).await?;
    tracing::info!(
        by = caller.name,
        token = token.id,
        uses = wanted.uses,
        "made a join token"
    );
    let made = JoinTokenMade {
        id: token.id.clone(),
        token: token.reveal(),
        expires_us,
    };
    Ok(Created(made))
}

fn check(wanted: &JoinTokenWanted) -> Result<(), Problem> {
    let bad = |why: String| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    if wanted.minutes == 0 || wanted.minutes > MINUTES_MAX {
        return bad(format!(
            "`minutes` is 1 to {MINUTES_MAX}, not {}",
            wanted.minutes
        ));
    }
    if wanted.uses == 0 || wanted.uses > USES_MAX {
        return bad(format!("`uses` is 1 to {USES_MAX}, not {}", wanted.uses));
    }
    if wanted.note.len() > NOTE_BYTES_MAX || wanted.note.chars().any(char::is_control) {
        return bad(format!(
            "`note` is at most {NOTE_BYTES_MAX} bytes that print"
        ));
    }
    Ok(())
}

pub(super) async fn list(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<JoinTokenKept>>, Problem> {
    let (before, most) = (wanted.before()?, wanted.most()?);
    let all = api.store.join_tokens(before, most).await?;
    let place = |one: &JoinTokenKept| format!("{}:{}", one.created_us, one.id);
    Ok(Json(wanted.page(all, place)?))
}

pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<NoContent, Problem> {
    if !api.store.revoke_join_token(&id, now_us()).await? {
        return Err(Problem::missing("join token", &id));
    }
    tracing::info!(by = caller.name, token = id, "revoked a join token");
    Ok(NoContent)
}
