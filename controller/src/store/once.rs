//! Requests that are done once, however often they are sent (`Idempotency-Key`).

use super::change::Change;
use super::{Store, StoreError, failed};
use sqlx::{Row, query};
use squall_experiments::join::Fingerprint;

/// An answer is kept for so long: who has not tried again within a day does not.
const KEPT_US: i64 = 24 * 3_600_000_000;

/// What is known of a request of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is to be done now, and is noted as begun.
    New,
    /// It is being done.
    UnderWay,
    /// The name was used for another request.
    Another,
    /// It was done, and this was answered; the body is none where it was a secret.
    Done(u16, Option<String>),
}

impl Store {
    /// Begins a request, or says what is known of it.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn begin_once(
        &self,
        who: &str,
        name: &str,
        request: Fingerprint,
        now_us: i64,
    ) -> Result<Known, StoreError> {
        let failed = |source| failed("whether a request was done cannot be kept", source);
        query("DELETE FROM idempotency WHERE at_us < $1")
            .bind(now_us - KEPT_US)
            .change(self)
            .await
            .map_err(failed)?;
        let done = query("INSERT INTO idempotency (who, name, request, at_us) VALUES ($1, $2, $3, $4) ON CONFLICT (who, name) DO NOTHING")
            .bind(who)
            .bind(name)
            .bind(request.0.as_slice())
            .bind(now_us)
            .change(self)
            .await
            .map_err(failed)?;
        if done.rows_affected() == 1 {
            return Ok(Known::New);
        }
        let row =
            query("SELECT request, status, body FROM idempotency WHERE who = $1 AND name = $2")
                .bind(who)
                .bind(name)
                .fetch_optional(&self.pool)
                .await
                .map_err(failed)?;
        let Some(row) = row else {
            return Ok(Known::UnderWay);
        };
        let same = row.get::<Vec<u8>, _>("request") == request.0;
        let status: Option<i64> = row.get("status");
        let status = status.and_then(|status| u16::try_from(status).ok());
        Ok(match (same, status) {
            (false, _) => Known::Another,
            (true, None) => Known::UnderWay,
            (true, Some(status)) => Known::Done(status, row.get("body")),
        })
    }

    /// Notes what was answered; a request that was not done is forgotten, so that it can be tried again.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn end_once(
        &self,
        who: &str,
        name: &str,
        answer: Option<(u16, Option<&str>)>,
    ) -> Result<(), StoreError> {
        let ended = match answer {
            Some((status, body)) => {
                query("UPDATE idempotency SET status = $3, body = $4 WHERE who = $1 AND name = $2")
                    .bind(who)
                    .bind(name)
                    .bind(i64::from(status))
                    .bind(body)
                    .change(self)
                    .await
            }
            None => {
                query("DELETE FROM idempotency WHERE who = $1 AND name = $2")
                    .bind(who)
                    .bind(name)
                    .change(self)
                    .await
            }
        };
        ended.map_err(|source| failed("whether a request was done cannot be kept", source))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::both::on_both;

    #[tokio::test]
    async fn a_request_is_done_once_and_a_name_means_one_request() {
        on_both(async |place| {
            let store = place.open().await;
            let [one, other] = [Fingerprint([1; 32]), Fingerprint([2; 32])];
            let begin = |who, request, at| store.begin_once(who, "k", request, at);
            assert_eq!(begin("ann", one, 5).await.unwrap(), Known::New);
            assert_eq!(begin("ann", one, 6).await.unwrap(), Known::UnderWay);
            assert_eq!(begin("bob", one, 6).await.unwrap(), Known::New);
            store
                .end_once("ann", "k", Some((201, Some("{}"))))
                .await
                .unwrap();
            assert_eq!(
                begin("ann", one, 7).await.unwrap(),
                Known::Done(201, Some("{}".into()))
            );
            assert_eq!(begin("ann", other, 7).await.unwrap(), Known::Another);
            store.end_once("bob", "k", None).await.unwrap();
            assert_eq!(begin("bob", other, 8).await.unwrap(), Known::New);
            assert_eq!(begin("ann", other, 6 + KEPT_US).await.unwrap(), Known::New);
        })
        .await;
    }
}
