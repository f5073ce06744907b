//! API tokens: made, listed, taken back; and who one is.

use super::openapi::{Body, Created, Path, Query};
use super::page::{Page, Wanted};
use super::problem::Problem;
use super::{Api, now_us};
use crate::access::{Caller, Grant, Grants};
use crate::fleet::secret::ApiSecret;
use crate::store::{ApiTokenKept, NewApiToken};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::NoContent;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How long a token may live: who needs longer makes another.
const DAYS_MAX: u32 = 366;
/// Letters of a person's or program's name.
const NAME_BYTES_MAX: usize = 100;
/// Roles of one token.
const GRANTS_MAX: usize = 50;
const DAY_US: i64 = 86_400_000_000;

/// What a token is to be like.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessWanted {
    /// Who is to have it: one person or program has one name, however many tokens.
    pub name: String,
    /// What they may.
    pub grants: Vec<Grant>,
    /// For how many days it is good, up to 366.
    pub days: u32,
}

/// A token, shown this once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessMade {
    /// Its name.
    pub id: String,
    /// The whole of it.
    pub token: String,
    /// From when on it is worth nothing, microseconds since the Unix epoch.
    pub expires_us: i64,
}

/// Who one is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Whoami {
    /// The person or program.
    pub name: String,
    /// The token's name.
    pub token: String,
    /// What one may.
    pub grants: Grants,
}

pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<AccessWanted>,
) -> Result<Created<AccessMade>, Problem> {
    check(&api, &wanted)?;
    let secret = ApiSecret::new();
    let now_us = now_us();
    let expires_us = now_us + i64::from(wanted.days) * DAY_US;
    let grants = Grants(wanted.grants);
    let token = NewApiToken {
        id: &secret.id,
        secret: secret.hash(),
        name: wanted.name.trim(),
        grants: &grants,
        now_us,
        expires_us: Some(expires_us),
    };
    api.store.add_token(&token).await?;
    tracing::info!(
        by = caller.name,
        name = wanted.name,
        token = secret.id,
        "made an API token"
    );
    let made = AccessMade {
        id: secret.id.clone(),
        token: secret.reveal(),
        expires_us,
    };
    Ok(Created(made))
}

fn check(api: &Api, wanted: &AccessWanted) -> Result<(), Problem> {
    let bad = |why: String| Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why));
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"._-@+".contains(&b);
    let name = wanted.name.trim();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(letter) {
        return bad(format!(
            "`name` is 1 to {NAME_BYTES_MAX} letters, digits, or . _ - @ +, such as ann@example.com"
        ));
    }
    if wanted.days == 0 || wanted.days > DAYS_MAX {
        return bad(format!("`days` is 1 to {DAYS_MAX}, not {}", wanted.days));
    }
    if wanted.grants.is_empty() || wanted.grants.len() > GRANTS_MAX {
        return bad(format!("`grants` has 1 to {GRANTS_MAX} roles"));
    }
    let policy = api.practice.policy();
    let named = wanted
        .grants
        .iter()
        .flat_map(|grant| grant.environments.iter().flatten());
    for name in named {
        if policy.environment(name).is_none() {
            return bad(format!(
                "there is no environment `{name}`; `squall whoami` lists yours"
            ));
        }
    }
    Ok(())
}

pub(super) async fn list(
    State(api): State<Api>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<ApiTokenKept>>, Problem> {
    let (before, most) = (wanted.before()?, wanted.most()?);
    let all = api.store.api_tokens(before, most).await?;
    let place = |one: &ApiTokenKept| format!("{}:{}", one.created_us, one.id);
    Ok(Json(wanted.page(all, place)?))
}

pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<NoContent, Problem> {
    if !api.store.revoke_api_token(&id, now_us()).await? {
        return Err(Problem::missing("API token", &id));
    }
    tracing::info!(by = caller.name, token = id, "revoked an API token");
    Ok(NoContent)
}

pub(super) async fn whoami(Extension(caller): Extension<Caller>) -> Json<Whoami> {
    Json(Whoami {
        name: caller.name,
        token: caller.token,
        grants: caller.grants,
    })
}
