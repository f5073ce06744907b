//! Who did what, in a chain: each entry's hash is over its words and the hash of the entry before, so that none can be
//! changed, taken out or put in without all that follow telling of it.
//!
//! Whoever can write the database can write a whole new chain; who has noted an entry's hash elsewhere sees that too
//! ([`Store::audit_verify`]).

use super::{Store, StoreError, failed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;
use sqlx::{Row, query};
use squall_experiments::join::Fingerprint;

/// What the first entry has for the hash of the one before.
const BEGINNING: [u8; 32] = [0; 32];
/// Another may have written the next entry meanwhile; so often it is tried again.
const TRIES_MAX: usize = 64;
/// Entries read at once.
const PAGE: i64 = 1000;

/// Something that somebody did, or tried to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed<'a> {
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Who.
    pub who: &'a str,
    /// By which token.
    pub token: &'a str,
    /// What: `POST /api/v1/runs`.
    pub action: &'a str,
    /// How it ended, as an HTTP status.
    pub status: u16,
    /// More of it, as JSON.
    pub detail: &'a str,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its place, from 1.
    pub sequence: i64,
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
    /// Who.
    pub who: String,
    /// By which token.
    pub token: String,
    /// What.
    pub action: String,
    /// How it ended, as an HTTP status.
    pub status: i64,
    /// More of it, as JSON.
    pub detail: String,
    /// SHA-256 over this entry and the one before, in hexadecimal.
    pub hash: String,
}

/// What verifying the log found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// So many entries are as they were written, from the first one.
    pub good: i64,
    /// The hash of the last of them: note it where nobody who can write the database can write.
    pub head: String,
    /// The first entry that is not as it was written, and why.
    pub broken: Option<Broken>,
}

/// An entry that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Broken {
    /// Its place.
    pub sequence: i64,
    /// What is wrong.
    pub why: String,
}

impl Entry {
    fn chained(&self, before: &[u8; 32]) -> [u8; 32] {
        // A JSON array: no two lists of words are written the same.
        let words = serde_json::json!([
            self.sequence,
            self.at_us,
            self.who,
            self.token,
            self.action,
            self.status,
            self.detail,
            Fingerprint(*before).to_string(),
        ]);
        Sha256::digest(words.to_string().as_bytes()).into()
    }
}

impl Store {
    /// Adds an entry behind the last one.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn audit(&self, deed: &Deed<'_>) -> Result<(), StoreError> {
        let failed = |source| failed("the audit log cannot be written", source);
        for _ in 0..TRIES_MAX {
            let last = query("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")
                .fetch_optional(&self.pool)
                .await
                .map_err(failed)?;
            let (last, before) = last.map_or((0, BEGINNING), |row| {
                let hash: Vec<u8> = row.get("hash");
                (row.get("sequence"), hash.try_into().unwrap_or(BEGINNING))
            });
            let entry = Entry {
                sequence: last + 1,
                at_us: deed.at_us,
                who: deed.who.to_owned(),
                token: deed.token.to_owned(),
                action: deed.action.to_owned(),
                status: i64::from(deed.status),
                detail: deed.detail.to_owned(),
                hash: String::new(),
            };
            let hash = entry.chained(&before);
            let done = query("INSERT INTO audit (sequence, at_us, who, token, action, status, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (sequence) DO NOTHING")
                .bind(entry.sequence)
                .bind(entry.at_us)
                .bind(entry.who)
                .bind(entry.token)
                .bind(entry.action)
                .bind(entry.status)
                .bind(entry.detail)
                .bind(hash.as_slice())
                .execute(&self.pool)
                .await
                .map_err(failed)?;
            if done.rows_affected() == 1 {
                return Ok(());
            }
        }
        Err(failed(sqlx::Error::PoolTimedOut))
    }

    /// Entries behind `after`, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn audit_entries(&self, after: i64, most: i64) -> Result<Vec<Entry>, StoreError> {
        let rows = query("SELECT sequence, at_us, who, token, action, status, detail, hash FROM audit WHERE sequence > $1 ORDER BY sequence LIMIT $2")
            .bind(after)
            .bind(most)
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("the audit log cannot be read", source))?;
        Ok(rows.iter().map(entry).collect())
    }

    /// Follows the chain from its beginning. `noted` is an entry's place and hash from an earlier time, which must still be there.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn audit_verify(&self, noted: Option<(i64, &str)>) -> Result<Verified, StoreError> {
        let (mut last, mut before) = (0, BEGINNING);
        let broken = |good: i64, before: [u8; 32], sequence, why: &str| Verified {
            good,
            head: Fingerprint(before).to_string(),
            broken: Some(Broken {
                sequence,
                why: why.to_owned(),
            }),
        };
        loop {
            let entries = self.audit_entries(last, PAGE).await?;
            for entry in &entries {
                let next = last + 1;
                if entry.sequence != next {
                    return Ok(broken(last, before, next, "it is missing"));
                }
                let hash = entry.chained(&before);
                if Fingerprint(hash).to_string() != entry.hash {
                    return Ok(broken(last, before, next, "it, or its hash, was changed"));
                }
                if noted.is_some_and(|(at, noted)| at == next && noted != entry.hash) {
                    let why = "the log was written anew: this is not the entry that was noted";
                    return Ok(broken(last, before, next, why));
                }
                (last, before) = (next, hash);
            }
            if entries.is_empty() {
                break;
            }
        }
        if let Some((at, _)) = noted.filter(|(at, _)| *at > last) {
            return Ok(broken(last, before, at, "it was noted, and is missing"));
        }
        Ok(Verified {
            good: last,
            head: Fingerprint(before).to_string(),
            broken: None,
        })
    }
}

fn entry(row: &AnyRow) -> Entry {
    let hash: Vec<u8> = row.get("hash");
    let hash = hash.try_into().map(|hash| Fingerprint(hash).to_string());
    Entry {
        sequence: row.get("sequence"),
        at_us: row.get("at_us"),
        who: row.get("who"),
        token: row.get("token"),
        action: row.get("action"),
        status: row.get("status"),
        detail: row.get("detail"),
        hash: hash.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::both::on_both;

    async fn write(store: &Store, who: &str) {
        let deed = Deed {
            at_us: 7,
            who,
            token: "t",
            action: "POST /api/v1/runs",
            status: 201,
            detail: "{}",
        };
        store.audit(&deed).await.unwrap();
    }

    async fn tamper(store: &Store, sql: &'static str) {
        query(sql).execute(&store.pool).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_changed_is_found_at_its_place() {
        let each = [
            ("UPDATE audit SET who = 'eve' WHERE sequence = 3", 3, None),
            ("UPDATE audit SET status = 403 WHERE sequence = 5", 5, None),
            (
                "UPDATE audit SET hash = (SELECT hash FROM audit WHERE sequence = 1) WHERE sequence = 2",
                2,
                None,
            ),
            ("DELETE FROM audit WHERE sequence = 4", 4, None),
            ("DELETE FROM audit WHERE sequence = 1", 1, None),
            ("DELETE FROM audit WHERE sequence > 4", 6, Some(6)),
        ];
        for (sql, place, noted) in each {
            on_both(async |where_| {
                let store = where_.open().await;
                for who in ["ann", "bob", "ann", "carl", "ann", "bob"] {
                    write(&store, who).await;
                }
                let entries = store.audit_entries(0, 10).await.unwrap();
                let good = store.audit_verify(None).await.unwrap();
                assert_eq!(
                    (good.good, &good.head, good.broken),
                    (6, &entries[5].hash, None)
                );
                tamper(&store, sql).await;
                let hash = entries[5].hash.as_str();
                let found = store
                    .audit_verify(noted.map(|at| (at, hash)))
                    .await
                    .unwrap();
                assert_eq!(found.broken.map(|b| b.sequence), Some(place), "{sql}");
            })
            .await;
        }
    }

    #[tokio::test]
    async fn those_who_write_at_once_make_one_chain_and_a_new_chain_is_found_by_what_was_noted() {
        on_both(async |place| {
            let store = place.open().await;
            let all = (0..8).map(|_| {
                let store = store.clone();
                tokio::spawn(async move { write(&store, "ann").await })
            });
            for one in all.collect::<Vec<_>>() {
                one.await.unwrap();
            }
            let before = store.audit_verify(None).await.unwrap();
            assert_eq!((before.good, before.broken), (8, None));
            tamper(&store, "DELETE FROM audit").await;
            for _ in 0..9 {
                write(&store, "eve").await;
            }
            assert_eq!(store.audit_verify(None).await.unwrap().broken, None);
            let noted = store.audit_verify(Some((8, &before.head))).await.unwrap();
            assert_eq!(noted.broken.map(|b| b.sequence), Some(8));
        })
        .await;
    }
}
