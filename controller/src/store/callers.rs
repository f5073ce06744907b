//! What lets people and programs speak to the API.

use super::change::Change;
use super::{Store, StoreError, failed};
use crate::access::{Caller, Grant, Grants, Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{Row, query};
use squall_experiments::join::Fingerprint;
use subtle::ConstantTimeEq;

/// An API token as lists show it: its secret is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenKept {
    /// Its name.
    pub id: String,
    /// Who has it.
    pub name: String,
    /// What they may.
    pub grants: Grants,
    /// Microseconds since the Unix epoch.
    pub created_us: i64,
    /// From when on it is worth nothing; never where there is none.
    pub expires_us: Option<i64>,
    /// When it was taken back, if it was.
    pub revoked_us: Option<i64>,
}

/// A new API token.
#[derive(Debug, Clone)]
pub struct NewApiToken<'a> {
    /// Its name.
    pub id: &'a str,
    /// SHA-256 over its secret.
    pub secret: Fingerprint,
    /// Who is to have it.
    pub name: &'a str,
    /// What they may.
    pub grants: &'a Grants,
    /// Now, microseconds since the Unix epoch.
    pub now_us: i64,
    /// From when on it is worth nothing; never where there is none.
    pub expires_us: Option<i64>,
}

/// What cannot be understood lets nobody do anything.
pub(super) fn grants(row: &AnyRow) -> Grants {
    let text: String = row.get("grants");
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::error!(%error, "a token's roles cannot be understood: it is worth nothing");
        Grants::default()
    })
}

impl Store {
    /// Keeps a new API token whose holder may do everything; see [`add_token`](Self::add_token).
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn add_api_token(
        &self,
        id: &str,
        secret: Fingerprint,
        name: &str,
        now_us: i64,
        expires_us: Option<i64>,
    ) -> Result<(), StoreError> {
        let grants = Grants(vec![Grant::everywhere(Role::Admin)]);
        let token = NewApiToken {
            id,
            secret,
            name,
            grants: &grants,
            now_us,
            expires_us,
        };
        self.add_token(&token).await
    }

    /// Keeps a new API token; of its secret only the SHA-256.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn add_token(&self, token: &NewApiToken<'_>) -> Result<(), StoreError> {
        let failed = |source| failed("an API token cannot be kept", source);
        let grants = serde_json::to_string(token.grants)
            .map_err(|error| failed(sqlx::Error::Encode(error.into())))?;
        query("INSERT INTO api_tokens (id, secret, name, created_us, expires_us, grants) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(token.id)
            .bind(token.secret.0.as_slice())
            .bind(token.name)
            .bind(token.now_us)
            .bind(token.expires_us)
            .bind(grants)
            .change(self)
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// Whose token it is and what they may, where it is good.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn caller(
        &self,
        id: &str,
        secret: Fingerprint,
        now_us: i64,
    ) -> Result<Option<Caller>, StoreError> {
        let row = query(
            "SELECT secret, name, expires_us, revoked_us, grants FROM api_tokens WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await
        .map_err(|source| failed("the API tokens cannot be read", source))?;
        let kept: Vec<u8> = row
            .as_ref()
            .map(|row| row.get("secret"))
            .unwrap_or_default();
        // Compared to its end, whatever differs; a name that is not there costs the same.
        let kept: [u8; 32] = kept.try_into().unwrap_or_default();
        let same = bool::from(kept.ct_eq(&secret.0));
        let Some(row) = row.filter(|_| same) else {
            return Ok(None);
        };
        let expires_us: Option<i64> = row.get("expires_us");
        let revoked_us: Option<i64> = row.get("revoked_us");
        let is_good = revoked_us.is_none() && expires_us.is_none_or(|at_us| at_us > now_us);
        Ok(is_good.then(|| Caller {
            name: row.get("name"),
            token: id.to_owned(),
            grants: grants(&row),
        }))
    }

    /// API tokens made before a moment (of that moment, those with an earlier name), the newest first, at most so many.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn api_tokens(
        &self,
        (before_us, name): (i64, &str),
        most: i64,
    ) -> Result<Vec<ApiTokenKept>, StoreError> {
        let rows = query("SELECT id, name, created_us, expires_us, revoked_us, grants FROM api_tokens WHERE created_us < $1 OR (created_us = $1 AND id < $2) ORDER BY created_us DESC, id DESC LIMIT $3")
            .bind(before_us)
            .bind(name)
            .bind(most)
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("the API tokens cannot be read", source))?;
        let kept = rows.iter().map(|row| ApiTokenKept {
            id: row.get("id"),
            name: row.get("name"),
            grants: grants(row),
            created_us: row.get("created_us"),
            expires_us: row.get("expires_us"),
            revoked_us: row.get("revoked_us"),
        });
        Ok(kept.collect())
    }

    /// Takes an API token back; `false` where there is none of that name.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn revoke_api_token(&self, id: &str, now_us: i64) -> Result<bool, StoreError> {
        let done =
            query("UPDATE api_tokens SET revoked_us = coalesce(revoked_us, $1) WHERE id = $2")
                .bind(now_us)
                .bind(id)
                .change(self)
                .await
                .map_err(|source| failed("an API token cannot be revoked", source))?;
        Ok(done.rows_affected() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::both::on_both;

    #[tokio::test]
    async fn a_token_is_good_until_it_expires_or_is_taken_back() {
        on_both(async |place| {
            let store = place.open().await;
            let secret = Fingerprint([1; 32]);
            let add = |id, expires| store.add_api_token(id, secret, "ann", 10, expires);
            add("a", Some(100)).await.unwrap();
            add("b", None).await.unwrap();
            let caller = |id, secret, now| store.caller(id, secret, now);
            let ann = caller("a", secret, 99).await.unwrap().unwrap();
            assert_eq!((ann.name.as_str(), ann.token.as_str()), ("ann", "a"));
            assert!(ann.grants.has_everywhere(Role::Admin));
            assert_eq!(caller("a", secret, 100).await.unwrap(), None);
            let other = Fingerprint([2; 32]);
            assert_eq!(caller("b", other, 20).await.unwrap(), None);
            assert!(caller("b", secret, 20).await.unwrap().is_some());
            // A secret that is wrong in one bit, wherever that is, is as wrong as any.
            for at in 0..32 {
                let mut near = secret.0;
                near[at] ^= 1;
                assert_eq!(caller("b", Fingerprint(near), 20).await.unwrap(), None);
            }
            assert!(store.revoke_api_token("b", 30).await.unwrap());
            assert_eq!(caller("b", secret, 40).await.unwrap(), None);
            assert_eq!(store.api_tokens((i64::MAX, ""), 10).await.unwrap().len(), 2);
        })
        .await;
    }
}
