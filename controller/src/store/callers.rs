//! What lets people and programs speak to the API.

use super::{Store, StoreError, failed};
use serde::Serialize;
use sqlx::{Row, query};
use squall_experiments::join::Fingerprint;

/// An API token as lists show it: its secret is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenKept {
    /// Its name.
    pub id: String,
    /// Who has it.
    pub name: String,
    /// Microseconds since the Unix epoch.
    pub created_us: i64,
    /// From when on it is worth nothing; never where there is none.
    pub expires_us: Option<i64>,
    /// When it was taken back, if it was.
    pub revoked_us: Option<i64>,
}

impl Store {
    /// Keeps a new API token; of its secret only the SHA-256.
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
        query("INSERT INTO api_tokens (id, secret, name, created_us, expires_us) VALUES ($1, $2, $3, $4, $5)")
            .bind(id)
            .bind(secret.0.as_slice())
            .bind(name)
            .bind(now_us)
            .bind(expires_us)
            .execute(&self.pool)
            .await
            .map_err(|source| failed("an API token cannot be kept", source))?;
        Ok(())
    }

    /// Whose token it is, where it is good.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn caller(
        &self,
        id: &str,
        secret: Fingerprint,
        now_us: i64,
    ) -> Result<Option<String>, StoreError> {
        // What is compared is a hash of what was sent: how long that takes tells nothing of the secret.
        let row = query(
            "SELECT name FROM api_tokens WHERE id = $1 AND secret = $2 AND revoked_us IS NULL AND (expires_us IS NULL OR expires_us > $3)",
        )
        .bind(id)
        .bind(secret.0.as_slice())
        .bind(now_us)
        .fetch_optional(&self.pool)
        .await
        .map_err(|source| failed("the API tokens cannot be read", source))?;
        Ok(row.map(|row| row.get("name")))
    }

    /// All API tokens, the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn api_tokens(&self) -> Result<Vec<ApiTokenKept>, StoreError> {
        let rows = query("SELECT id, name, created_us, expires_us, revoked_us FROM api_tokens ORDER BY created_us DESC, id")
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("the API tokens cannot be read", source))?;
        let kept = rows.iter().map(|row| ApiTokenKept {
            id: row.get("id"),
            name: row.get("name"),
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
                .execute(&self.pool)
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
            assert_eq!(caller("a", secret, 99).await.unwrap(), Some("ann".into()));
            assert_eq!(caller("a", secret, 100).await.unwrap(), None);
            let other = Fingerprint([2; 32]);
            assert_eq!(caller("b", other, 20).await.unwrap(), None);
            assert!(caller("b", secret, 20).await.unwrap().is_some());
            assert!(store.revoke_api_token("b", 30).await.unwrap());
            assert_eq!(caller("b", secret, 40).await.unwrap(), None);
            assert_eq!(store.api_tokens().await.unwrap().len(), 2);
        })
        .await;
    }
}
