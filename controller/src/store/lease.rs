//! Who leads, as the database knows it: one line with a token that grows, and the time until which the leader has said that it is there.
//!
//! Time is the database's alone: the controllers' clocks may differ. What a leader that was replaced still writes is refused by its
//! token ([`super::Writer`]).

use super::{Dialect, Store, StoreError, failed};
use sqlx::{AssertSqlSafe, Row, query};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Grows with each leader; 0 before the first.
    pub token: i64,
    /// Where it is reached.
    pub address: String,
    /// Whether it has said lately that it is there.
    pub is_live: bool,
}

impl Dialect {
    /// Now, in microseconds since the Unix epoch, by the database's clock.
    const fn now_us(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)",
            Self::Postgres => "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
        }
    }
}

impl Store {
    /// Leads from now on for `time`, at `address`, where nobody else does; the new token. With `whoever`, in anybody's place:
    /// for who knows otherwise that no other controller lives.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn take_lead(
        &self,
        address: &str,
        time: Duration,
        whoever: bool,
    ) -> Result<Option<i64>, StoreError> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated
                .take_lead(address, time, whoever)
                .await
                .map_err(|source| failed("the lead cannot be taken", source));
        }
        let now = self.dialect.now_us();
        let taken = query(AssertSqlSafe(format!(
            "UPDATE leader SET token = token + 1, address = $1, until_us = {now} + $2 \
             WHERE until_us <= {now} OR $3 = 1 RETURNING token"
        )))
        .bind(address)
        .bind(micros(time))
        .bind(i64::from(whoever))
        .fetch_optional(&self.pool)
        .await
        .map_err(|source| failed("the lead cannot be taken", source))?;
        Ok(taken.map(|row| row.get("token")))
    }

    /// Says again that the leader with this token is there; `false` where another leads.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn keep_lead(&self, token: i64, time: Duration) -> Result<bool, StoreError> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated
                .keep_lead(token, time)
                .await
                .map_err(|source| failed("the lead cannot be kept", source));
        }
        let now = self.dialect.now_us();
        let kept = query(AssertSqlSafe(format!(
            "UPDATE leader SET until_us = {now} + $2 WHERE token = $1"
        )))
        .bind(token)
        .bind(micros(time))
        .execute(&self.pool)
        .await
        .map_err(|source| failed("the lead cannot be kept", source))?;
        Ok(kept.rows_affected() == 1)
    }

    /// Lets another lead at once.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn leave_lead(&self, token: i64) -> Result<(), StoreError> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            let left = simulated.leave_lead(token).await;
            return left.map_err(|source| failed("the lead cannot be left", source));
        }
        query("UPDATE leader SET until_us = 0 WHERE token = $1")
            .bind(token)
            .execute(&self.pool)
            .await
            .map_err(|source| failed("the lead cannot be left", source))?;
        Ok(())
    }

    /// Who leads, or did last.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn leader(&self) -> Result<Lease, StoreError> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated
                .leader()
                .await
                .map_err(|source| failed("who leads cannot be read", source));
        }
        let now = self.dialect.now_us();
        let row = query(AssertSqlSafe(format!(
            "SELECT token, address, CASE WHEN until_us > {now} THEN 1 ELSE 0 END AS live FROM leader"
        )))
        .fetch_one(&self.pool)
        .await
        .map_err(|source| failed("who leads cannot be read", source))?;
        Ok(Lease {
            token: row.get("token"),
            address: row.get("address"),
            is_live: row.get::<i64, _>("live") == 1,
        })
    }

    /// The certificate and the key of the authority that the controllers share, in PEM.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn authority(&self) -> Result<Option<(String, String)>, StoreError> {
        let row = query("SELECT certificate, key FROM authority")
            .fetch_optional(&self.pool)
            .await
            .map_err(|source| failed("the controllers' authority cannot be read", source))?;
        Ok(row.map(|row| (row.get("certificate"), row.get("key"))))
    }

    /// Keeps the controllers' authority, where there is none yet.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn keep_authority(&self, certificate: &str, key: &str) -> Result<(), StoreError> {
        query("INSERT INTO authority (one, certificate, key) VALUES (1, $1, $2) ON CONFLICT (one) DO NOTHING")
            .bind(certificate)
            .bind(key)
            .execute(&self.pool)
            .await
            .map_err(|source| failed("the controllers' authority cannot be kept", source))?;
        Ok(())
    }

    /// From now on new [`super::Writer`]s of this store, and of its other handles, write as the leader with this token: what
    /// they write is refused as soon as another leads.
    pub fn write_as(&self, token: i64) {
        self.term.store(token, Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::both::on_both;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn one_leads_until_its_time_is_over_or_it_leaves() {
        on_both(async |place| {
            let store = place.open().await;
            let take = |address: &'static str, time| store.take_lead(address, time, false);
            assert!(!store.leader().await.unwrap().is_live);
            assert_eq!(take("https://a", LONG).await.unwrap(), Some(1));
            assert_eq!(take("https://b", LONG).await.unwrap(), None);
            let leader = store.leader().await.unwrap();
            assert_eq!(
                (leader.address.as_str(), leader.is_live),
                ("https://a", true)
            );
            // Over at once.
            assert!(store.keep_lead(1, Duration::ZERO).await.unwrap());
            assert!(!store.leader().await.unwrap().is_live);
            assert_eq!(take("https://b", LONG).await.unwrap(), Some(2));
            // It comes back too late.
            assert!(!store.keep_lead(1, LONG).await.unwrap());
            store.leave_lead(1).await.unwrap();
            assert_eq!(take("https://a", LONG).await.unwrap(), None);
            store.leave_lead(2).await.unwrap();
            assert_eq!(take("https://a", LONG).await.unwrap(), Some(3));
            let whoever = store.take_lead("https://b", LONG, true).await.unwrap();
            assert_eq!(whoever, Some(4));
        })
        .await;
    }

    #[tokio::test]
    async fn of_many_who_come_at_once_one_leads() {
        on_both(async |place| {
            let store = place.open().await;
            let all = (0..8).map(|_| {
                let store = store.clone();
                tokio::spawn(async move { store.take_lead("https://a", LONG, false).await })
            });
            let mut led = Vec::new();
            for one in all.collect::<Vec<_>>() {
                led.extend(one.await.unwrap().unwrap());
            }
            assert_eq!(led, [1]);
        })
        .await;
    }
}
