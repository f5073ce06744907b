//! Which agents have joined, and what lets others join.

use super::change::Change;
use super::{Store, StoreError, failed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{Row, query};
use squall_experiments::join::Fingerprint;

/// A join token as lists show it: its secret is nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinTokenKept {
    /// Its name.
    pub id: String,
    /// What it is for, in its maker's words.
    pub note: String,
    /// Microseconds since the Unix epoch.
    pub created_us: i64,
    /// From when on it is worth nothing.
    pub expires_us: i64,
    /// How many agents may still join by it.
    pub uses_left: i64,
    /// When it was taken back, if it was.
    pub revoked_us: Option<i64>,
}

/// A new join token.
#[derive(Debug, Clone)]
pub struct NewJoinToken<'a> {
    /// Its name.
    pub id: &'a str,
    /// SHA-256 over its secret.
    pub secret: Fingerprint,
    /// What it is for.
    pub note: &'a str,
    /// Now, microseconds since the Unix epoch.
    pub now_us: i64,
    /// From when on it is worth nothing.
    pub expires_us: i64,
    /// How many agents may join by it.
    pub uses: u32,
}

/// An agent that has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The node's name.
    pub node: String,
    /// When it joined, microseconds since the Unix epoch.
    pub joined_us: i64,
    /// When its link was last opened.
    pub seen_us: Option<i64>,
    /// When it was shut out, if it was.
    pub revoked_us: Option<i64>,
}

/// How an attempt to join ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It is a member now.
    Yes,
    /// The token is unknown, wrong, used up, expired or revoked: which one is not told to whom it may not concern.
    BadToken,
    /// An agent of this name has joined already; it must be forgotten first.
    NameTaken,
}

impl Store {
    /// Keeps a new join token.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn add_join_token(&self, token: &NewJoinToken<'_>) -> Result<(), StoreError> {
        query("INSERT INTO join_tokens (id, secret, note, created_us, expires_us, uses_left) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(token.id)
            .bind(token.secret.0.as_slice())
            .bind(token.note)
            .bind(token.now_us)
            .bind(token.expires_us)
            .bind(i64::from(token.uses))
            .change(self)
            .await
            .map_err(|source| failed("a join token cannot be kept", source))?;
        Ok(())
    }

    /// Join tokens made before a moment (of that moment, those with an earlier name), the newest first, at most so many.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn join_tokens(
        &self,
        (before_us, name): (i64, &str),
        most: i64,
    ) -> Result<Vec<JoinTokenKept>, StoreError> {
        let rows = query("SELECT id, note, created_us, expires_us, uses_left, revoked_us FROM join_tokens WHERE created_us < $1 OR (created_us = $1 AND id < $2) ORDER BY created_us DESC, id DESC LIMIT $3")
            .bind(before_us)
            .bind(name)
            .bind(most)
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("the join tokens cannot be read", source))?;
        let kept = rows.iter().map(|row| JoinTokenKept {
            id: row.get("id"),
            note: row.get("note"),
            created_us: row.get("created_us"),
            expires_us: row.get("expires_us"),
            uses_left: row.get("uses_left"),
            revoked_us: row.get("revoked_us"),
        });
        Ok(kept.collect())
    }

    /// Takes a join token back; `false` where there is none of that name.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn revoke_join_token(&self, id: &str, now_us: i64) -> Result<bool, StoreError> {
        let done =
            query("UPDATE join_tokens SET revoked_us = coalesce(revoked_us, $1) WHERE id = $2")
                .bind(now_us)
                .bind(id)
                .change(self)
                .await
                .map_err(|source| failed("a join token cannot be revoked", source))?;
        Ok(done.rows_affected() == 1)
    }

    /// Makes `node` a member, known by `key`, at the price of one use of the token; all of it or nothing.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn admit(
        &self,
        token: &str,
        secret: Fingerprint,
        node: &str,
        key: Fingerprint,
        now_us: i64,
    ) -> Result<Admitted, StoreError> {
        let failed = |source| failed("an agent cannot be taken in", source);
        let mut all = self.pool.begin().await.map_err(failed)?;
        // One statement checks and counts, so that two who come at once cannot both have the last use.
        let used = query(
            "UPDATE join_tokens SET uses_left = uses_left - 1 \
             WHERE id = $1 AND secret = $2 AND uses_left > 0 AND expires_us > $3 AND revoked_us IS NULL",
        )
        .bind(token)
        .bind(secret.0.as_slice())
        .bind(now_us)
        .execute(&mut *all)
        .await
        .map_err(failed)?;
        if used.rows_affected() != 1 {
            return Ok(Admitted::BadToken);
        }
        let added = query(
            "INSERT INTO agents (node, key, joined_us) VALUES ($1, $2, $3) ON CONFLICT (node) DO NOTHING",
        )
        .bind(node)
        .bind(key.0.as_slice())
        .bind(now_us)
        .execute(&mut *all)
        .await
        .map_err(failed)?;
        if added.rows_affected() != 1 {
            return Ok(Admitted::NameTaken);
        }
        all.commit().await.map_err(failed)?;
        Ok(Admitted::Yes)
    }

    /// Whether `key` may speak for `node`. The use of a new key ends the one before.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn may_speak(&self, node: &str, key: Fingerprint) -> Result<bool, StoreError> {
        let failed = |source| failed("the agents cannot be read", source);
        let key = key.0.as_slice();
        let row = query("SELECT CASE WHEN key = $1 THEN 1 ELSE 0 END AS newest FROM agents WHERE node = $2 AND revoked_us IS NULL AND (key = $1 OR former_key = $1)")
            .bind(key)
            .bind(node)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        let Some(row) = row else { return Ok(false) };
        if row.get::<i64, _>("newest") == 1 {
            query("UPDATE agents SET former_key = NULL WHERE node = $1 AND key = $2 AND former_key IS NOT NULL")
                .bind(node)
                .bind(key)
                .change(self)
                .await
                .map_err(failed)?;
        }
        Ok(true)
    }

    /// Another key speaks for `node` from now on. The present one does until the new one was used: an answer may be lost.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn change_key(
        &self,
        node: &str,
        present: Fingerprint,
        next: Fingerprint,
    ) -> Result<bool, StoreError> {
        let done = query(
            "UPDATE agents SET former_key = $1, key = $2 WHERE node = $3 AND revoked_us IS NULL AND (key = $1 OR former_key = $1)",
        )
        .bind(present.0.as_slice())
        .bind(next.0.as_slice())
        .bind(node)
        .change(self)
        .await
        .map_err(|source| failed("an agent's key cannot be changed", source))?;
        Ok(done.rows_affected() == 1)
    }

    /// The link of `node` was opened.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn seen(&self, node: &str, now_us: i64) -> Result<(), StoreError> {
        query("UPDATE agents SET seen_us = $1 WHERE node = $2")
            .bind(now_us)
            .bind(node)
            .change(self)
            .await
            .map_err(|source| failed("an agent's visit cannot be kept", source))?;
        Ok(())
    }

    /// All agents that ever joined and were not forgotten, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.members_after("", i64::MAX).await
    }

    /// Those of them whose names come after this one, at most so many.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn members_after(&self, node: &str, most: i64) -> Result<Vec<Member>, StoreError> {
        let rows = query("SELECT node, joined_us, seen_us, revoked_us FROM agents WHERE node > $1 ORDER BY node LIMIT $2")
            .bind(node)
            .bind(most)
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("the agents cannot be read", source))?;
        let members = rows.iter().map(|row| Member {
            node: row.get("node"),
            joined_us: row.get("joined_us"),
            seen_us: row.get("seen_us"),
            revoked_us: row.get("revoked_us"),
        });
        Ok(members.collect())
    }

    /// Shuts an agent out, for good; `false` where there is none of that name.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn revoke_agent(&self, node: &str, now_us: i64) -> Result<bool, StoreError> {
        let done = query("UPDATE agents SET revoked_us = coalesce(revoked_us, $1) WHERE node = $2")
            .bind(now_us)
            .bind(node)
            .change(self)
            .await
            .map_err(|source| failed("an agent cannot be shut out", source))?;
        Ok(done.rows_affected() == 1)
    }

    /// Frees an agent's name, so that it, or another, may join under it; `false` where there is none of that name.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn forget_agent(&self, node: &str) -> Result<bool, StoreError> {
        let done = query("DELETE FROM agents WHERE node = $1")
            .bind(node)
            .change(self)
            .await
            .map_err(|source| failed("an agent cannot be forgotten", source))?;
        Ok(done.rows_affected() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::both::{Place, on_both};
    use std::sync::Arc;

    const SECRET: Fingerprint = Fingerprint([1; 32]);
    const KEY: Fingerprint = Fingerprint([2; 32]);
    const NEXT: Fingerprint = Fingerprint([3; 32]);

    async fn with_token(place: &Place, uses: u32) -> Store {
        let store = place.open().await;
        let token = NewJoinToken {
            id: "t",
            secret: SECRET,
            note: "rack 7",
            now_us: 10,
            expires_us: 100,
            uses,
        };
        store.add_join_token(&token).await.unwrap();
        store
    }

    #[tokio::test]
    async fn a_token_is_good_for_so_many_agents_and_so_long() {
        on_both(async |place| {
            let store = with_token(place, 2).await;
            let admit = |secret, node: &'static str, at| store.admit("t", secret, node, KEY, at);
            assert_eq!(admit(KEY, "a", 20).await.unwrap(), Admitted::BadToken);
            assert_eq!(admit(SECRET, "a", 20).await.unwrap(), Admitted::Yes);
            // A refused name costs no use.
            assert_eq!(admit(SECRET, "a", 20).await.unwrap(), Admitted::NameTaken);
            assert_eq!(
                admit(SECRET, "late", 100).await.unwrap(),
                Admitted::BadToken
            );
            assert_eq!(admit(SECRET, "b", 99).await.unwrap(), Admitted::Yes);
            assert_eq!(admit(SECRET, "c", 99).await.unwrap(), Admitted::BadToken);
            assert_eq!(
                store.join_tokens((i64::MAX, ""), 10).await.unwrap()[0].uses_left,
                0
            );
        })
        .await;
    }

    #[tokio::test]
    async fn the_last_use_is_had_by_one_of_many_who_come_at_once() {
        on_both(async |place| {
            let store = with_token(place, 1).await;
            let store = Arc::new(store);
            let all = (0..8).map(|n| {
                let store = Arc::clone(&store);
                tokio::spawn(
                    async move { store.admit("t", SECRET, &format!("n{n}"), KEY, 20).await },
                )
            });
            let mut taken = 0;
            for one in all.collect::<Vec<_>>() {
                taken += usize::from(one.await.unwrap().unwrap() == Admitted::Yes);
            }
            assert_eq!(taken, 1);
            assert_eq!(store.members().await.unwrap().len(), 1);
        })
        .await;
    }

    #[tokio::test]
    async fn a_revoked_token_and_a_revoked_agent_are_out_at_once() {
        on_both(async |place| {
            let store = with_token(place, 5).await;
            store.admit("t", SECRET, "a", KEY, 20).await.unwrap();
            assert!(store.may_speak("a", KEY).await.unwrap());
            assert!(!store.may_speak("b", KEY).await.unwrap());
            assert!(!store.may_speak("a", NEXT).await.unwrap());
            assert!(store.revoke_agent("a", 30).await.unwrap());
            assert!(!store.may_speak("a", KEY).await.unwrap());
            assert!(!store.change_key("a", KEY, NEXT).await.unwrap());
            assert!(store.revoke_join_token("t", 40).await.unwrap());
            assert!(!store.revoke_join_token("u", 40).await.unwrap());
            let refused = store.admit("t", SECRET, "c", KEY, 50).await.unwrap();
            assert_eq!(refused, Admitted::BadToken);
        })
        .await;
    }

    #[tokio::test]
    async fn a_changed_key_ends_the_one_before_only_when_it_is_used() {
        on_both(async |place| {
            let store = with_token(place, 5).await;
            store.admit("t", SECRET, "a", KEY, 20).await.unwrap();
            assert!(store.change_key("a", KEY, NEXT).await.unwrap());
            assert!(store.may_speak("a", KEY).await.unwrap());
            assert!(store.may_speak("a", NEXT).await.unwrap());
            assert!(!store.may_speak("a", KEY).await.unwrap());
        })
        .await;
    }

    #[tokio::test]
    async fn a_name_is_free_again_once_it_is_forgotten() {
        on_both(async |place| {
            let store = with_token(place, 5).await;
            store.admit("t", SECRET, "a", KEY, 20).await.unwrap();
            store.seen("a", 25).await.unwrap();
            assert_eq!(store.members().await.unwrap()[0].seen_us, Some(25));
            assert!(store.forget_agent("a").await.unwrap());
            assert!(!store.may_speak("a", KEY).await.unwrap());
            let again = store.admit("t", SECRET, "a", NEXT, 30).await.unwrap();
            assert_eq!(again, Admitted::Yes);
        })
        .await;
    }
}
