//! What somebody may who is not here: for what they left to run by itself.

use super::{Store, StoreError, failed};
use crate::access::{Caller, Grants};
use sqlx::query;

/// Who has not logged in for so long, in microseconds, may have left: a month, which is longer than most holidays.
const LOGIN_GOOD_US: i64 = 31 * 86_400_000_000;

impl Store {
    /// Notes what somebody may by their login.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn note_login(&self, caller: &Caller, now_us: i64) -> Result<(), StoreError> {
        let grants = serde_json::to_string(&caller.grants).unwrap_or_default();
        query(
            "INSERT INTO logins (name, grants, seen_us) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET grants = $2, seen_us = $3",
        )
        .bind(&caller.name)
        .bind(grants)
        .bind(now_us)
        .execute(&self.pool)
        .await
        .map_err(|source| failed("a login cannot be noted", source))?;
        Ok(())
    }

    /// What somebody may now: by all of their API tokens that are good, and by their last login.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn rights_of(&self, name: &str, now_us: i64) -> Result<Grants, StoreError> {
        let rows = query(
            "SELECT grants FROM api_tokens WHERE name = $1 AND revoked_us IS NULL AND (expires_us IS NULL OR expires_us > $2) \
             UNION ALL SELECT grants FROM logins WHERE name = $1 AND seen_us > $3",
        )
        .bind(name)
        .bind(now_us)
        .bind(now_us - LOGIN_GOOD_US)
        .fetch_all(&self.pool)
        .await
        .map_err(|source| failed("what somebody may cannot be read", source))?;
        let all = rows.iter().flat_map(|row| super::callers::grants(row).0);
        Ok(Grants(all.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Grant, Role};
    use crate::store::both::on_both;
    use squall_experiments::join::Fingerprint;

    #[tokio::test]
    async fn rights_are_those_of_good_tokens_and_of_the_last_login() {
        on_both(async |place| {
            let store = place.open().await;
            let of = async |now_us| store.rights_of("ann", now_us).await.unwrap();
            assert_eq!(of(0).await, Grants::default());
            let add =
                |id, expires| store.add_api_token(id, Fingerprint([1; 32]), "ann", 10, expires);
            add("a", Some(100)).await.unwrap();
            assert!(of(99).await.has_everywhere(Role::Operator));
            assert!(!of(100).await.has(Role::Viewer));
            add("b", None).await.unwrap();
            store.revoke_api_token("b", 50).await.unwrap();
            assert!(!of(100).await.has(Role::Viewer));
            let login = |role| Caller {
                name: "ann".into(),
                token: "login of ann".into(),
                grants: Grants(vec![Grant::everywhere(role)]),
            };
            store
                .note_login(&login(Role::Operator), 1_000)
                .await
                .unwrap();
            assert!(of(2_000).await.has(Role::Operator));
            // Another role counts at once.
            store.note_login(&login(Role::Viewer), 2_000).await.unwrap();
            assert!(!of(2_000).await.has(Role::Operator));
            assert!(!of(2_000 + LOGIN_GOOD_US).await.has(Role::Viewer));
        })
        .await;
    }
}
