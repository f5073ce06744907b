//! What digests have earned: evidence, approvals, answers, and why each run was allowed to start.

use super::change::Change;
use super::{Store, StoreError, failed};
use crate::stage::{Answer, Approval, Decision, Evidence, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::AnyRow;
use sqlx::{Row, query};
use squall_experiments::ids::RunId;

/// Pieces of evidence of one digest that are looked at: the latest. A digest that runs each minute makes so many in a week.
const EVIDENCE_MOST: i64 = 10_000;
/// Requests for approval of one digest in one environment that are looked at: the latest.
const APPROVALS_MOST: i64 = 200;
/// Answers of one digest in one environment that are looked at: the latest.
const ANSWERS_MOST: i64 = 1000;

fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| {
        failed(
            "it cannot be written as JSON",
            sqlx::Error::Encode(error.into()),
        )
    })
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| {
        let what = "what is kept cannot be understood: it was written by another version of Squall";
        failed(what, sqlx::Error::Decode(error.into()))
    })
}

fn evidence(row: &AnyRow) -> Result<Evidence, StoreError> {
    let what: String = row.get("what");
    let signed_by: String = row.get("signed_by");
    Ok(Evidence {
        recorded: row.get("recorded"),
        signed_by: Some(signed_by).filter(|key| !key.is_empty()),
        ..from_json(&what)?
    })
}

fn approval(row: &AnyRow) -> Approval {
    Approval {
        id: row.get("id"),
        digest: row.get("digest"),
        experiment: row.get("experiment"),
        environment: row.get("environment"),
        requested_by: row.get("requested_by"),
        because: row.get("because"),
        requested_us: row.get("requested_us"),
        votes: Vec::new(),
    }
}

/// The query for approvals that the rest of it chooses.
macro_rules! approvals {
    ($rest:literal) => {
        query(concat!(
            "SELECT id, digest, experiment, environment, requested_by, because, requested_us FROM approvals ",
            $rest
        ))
    };
}

impl Store {
    /// Keeps what a run has shown; `false` where the same run was kept before from the same hand.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn add_evidence(&self, evidence: &Evidence) -> Result<bool, StoreError> {
        let done = query("INSERT INTO evidence (run, signed_by, digest, environment, ended_us, what) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (run, signed_by) DO NOTHING")
            .bind(&evidence.run.0)
            .bind(evidence.signed_by.as_deref().unwrap_or_default())
            .bind(&evidence.digest)
            .bind(&evidence.environment)
            .bind(evidence.ended_us)
            .bind(to_json(evidence)?)
            .change(self)
            .await
            .map_err(|source| failed("evidence cannot be kept", source))?;
        Ok(done.rows_affected() == 1)
    }

    /// The latest evidence of a digest, in all environments, in the order in which it was kept.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn evidence_of(&self, digest: &str) -> Result<Vec<Evidence>, StoreError> {
        let rows = query("SELECT recorded, signed_by, what FROM evidence WHERE digest = $1 ORDER BY recorded DESC LIMIT $2")
            .bind(digest)
            .bind(EVIDENCE_MOST)
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("evidence cannot be read", source))?;
        rows.iter().rev().map(evidence).collect()
    }

    /// Evidence of an environment behind `after`, in the order in which it was kept.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn evidence_in(
        &self,
        environment: &str,
        after: i64,
        most: i64,
    ) -> Result<Vec<Evidence>, StoreError> {
        let rows = query("SELECT recorded, signed_by, what FROM evidence WHERE environment = $1 AND recorded > $2 ORDER BY recorded LIMIT $3")
            .bind(environment)
            .bind(after)
            .bind(most)
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("evidence cannot be read", source))?;
        rows.iter().map(evidence).collect()
    }

    /// What this controller itself saw of a run.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn evidence_of_run(&self, run: &RunId) -> Result<Option<Evidence>, StoreError> {
        let row = query(
            "SELECT recorded, signed_by, what FROM evidence WHERE run = $1 AND signed_by = ''",
        )
        .bind(&run.0)
        .fetch_optional(&self.pool)
        .await
        .map_err(|source| failed("evidence cannot be read", source))?;
        row.as_ref().map(evidence).transpose()
    }

    /// The place of the last evidence of all; 0 where there is none.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn evidence_seen(&self) -> Result<i64, StoreError> {
        let row = query("SELECT coalesce(max(recorded), 0) AS seen FROM evidence")
            .fetch_one(&self.pool)
            .await
            .map_err(|source| failed("evidence cannot be read", source))?;
        Ok(row.get("seen"))
    }

    /// Keeps a request for approval.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn add_approval(&self, approval: &Approval) -> Result<(), StoreError> {
        query("INSERT INTO approvals (id, digest, experiment, environment, requested_by, because, requested_us) VALUES ($1, $2, $3, $4, $5, $6, $7)")
            .bind(&approval.id)
            .bind(&approval.digest)
            .bind(&approval.experiment)
            .bind(&approval.environment)
            .bind(&approval.requested_by)
            .bind(&approval.because)
            .bind(approval.requested_us)
            .change(self)
            .await
            .map_err(|source| failed("the request for approval cannot be kept", source))?;
        Ok(())
    }

    /// Keeps what somebody said to a request; `false` where they had said something before.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn add_vote(&self, approval: &str, vote: &Vote) -> Result<bool, StoreError> {
        // One person is one voter, however they write their name.
        let voter = vote.by.trim().to_ascii_lowercase();
        let done = query("INSERT INTO votes (approval, voter, agree, because, at_us, seen) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (approval, voter) DO NOTHING")
            .bind(approval)
            .bind(voter)
            .bind(i64::from(vote.agree))
            .bind(&vote.because)
            .bind(vote.at_us)
            .bind(vote.seen)
            .change(self)
            .await
            .map_err(|source| failed("the vote cannot be kept", source))?;
        Ok(done.rows_affected() == 1)
    }

    /// The request of that name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn approval(&self, id: &str) -> Result<Option<Approval>, StoreError> {
        let row = approvals!("WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(|source| failed("approvals cannot be read", source))?;
        match row {
            Some(row) => self
                .with_votes(vec![approval(&row)])
                .await
                .map(|mut all| all.pop()),
            None => Ok(None),
        }
    }

    /// The latest requests for a digest in an environment.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn approvals_of(
        &self,
        digest: &str,
        environment: &str,
    ) -> Result<Vec<Approval>, StoreError> {
        let rows = approvals!(
            "WHERE digest = $1 AND environment = $2 ORDER BY requested_us DESC, id LIMIT $3"
        )
        .bind(digest)
        .bind(environment)
        .bind(APPROVALS_MOST)
        .fetch_all(&self.pool)
        .await
        .map_err(|source| failed("approvals cannot be read", source))?;
        self.with_votes(rows.iter().map(approval).collect()).await
    }

    /// Requests in an environment, the newest first, behind the one that was made at `before_us` and is called `before`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn approvals_in(
        &self,
        environment: &str,
        before: (i64, &str),
        most: i64,
    ) -> Result<Vec<Approval>, StoreError> {
        let rows = approvals!("WHERE environment = $1 AND (requested_us < $2 OR (requested_us = $2 AND id < $3)) ORDER BY requested_us DESC, id DESC LIMIT $4")
            .bind(environment)
            .bind(before.0)
            .bind(before.1)
            .bind(most)
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("approvals cannot be read", source))?;
        self.with_votes(rows.iter().map(approval).collect()).await
    }

    async fn with_votes(&self, mut approvals: Vec<Approval>) -> Result<Vec<Approval>, StoreError> {
        for approval in &mut approvals {
            let rows = query("SELECT voter, agree, because, at_us, seen FROM votes WHERE approval = $1 ORDER BY at_us, voter")
                .bind(&approval.id)
                .fetch_all(&self.pool)
                .await
                .map_err(|source| failed("approvals cannot be read", source))?;
            let votes = rows.iter().map(|row| Vote {
                by: row.get("voter"),
                agree: row.get::<i64, _>("agree") != 0,
                because: row.get("because"),
                at_us: row.get("at_us"),
                seen: row.get("seen"),
            });
            approval.votes = votes.collect();
        }
        Ok(approvals)
    }

    /// Keeps an answer to the checklist.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn add_answer(&self, answer: &Answer) -> Result<(), StoreError> {
        query("INSERT INTO answers (digest, environment, item, yes, because, answered_by, at_us) VALUES ($1, $2, $3, $4, $5, $6, $7)")
            .bind(&answer.digest)
            .bind(&answer.environment)
            .bind(i64::from(answer.item))
            .bind(i64::from(answer.yes))
            .bind(&answer.because)
            .bind(&answer.by)
            .bind(answer.at_us)
            .change(self)
            .await
            .map_err(|source| failed("the answer cannot be kept", source))?;
        Ok(())
    }

    /// The latest answers for a digest in an environment, in the order in which they were given.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn answers_of(
        &self,
        digest: &str,
        environment: &str,
    ) -> Result<Vec<Answer>, StoreError> {
        let rows = query("SELECT digest, environment, item, yes, because, answered_by, at_us FROM answers WHERE digest = $1 AND environment = $2 ORDER BY number DESC LIMIT $3")
            .bind(digest)
            .bind(environment)
            .bind(ANSWERS_MOST)
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("answers cannot be read", source))?;
        let answers = rows.iter().rev().map(|row| Answer {
            digest: row.get("digest"),
            environment: row.get("environment"),
            item: u8::try_from(row.get::<i64, _>("item")).unwrap_or_default(),
            yes: row.get::<i64, _>("yes") != 0,
            because: row.get("because"),
            by: row.get("answered_by"),
            at_us: row.get("at_us"),
        });
        Ok(answers.collect())
    }

    /// Keeps why a run may start. The first word counts: a run does not become another.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn add_preflight(&self, run: &RunId, decision: &Decision) -> Result<(), StoreError> {
        query(
            "INSERT INTO preflights (run, decision) VALUES ($1, $2) ON CONFLICT (run) DO NOTHING",
        )
        .bind(&run.0)
        .bind(to_json(decision)?)
        .change(self)
        .await
        .map_err(|source| failed("why the run may start cannot be kept", source))?;
        Ok(())
    }

    /// Why a run was allowed to start; none for one that nobody asked a gate for.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn preflight(&self, run: &RunId) -> Result<Option<Decision>, StoreError> {
        let row = query("SELECT decision FROM preflights WHERE run = $1")
            .bind(&run.0)
            .fetch_optional(&self.pool)
            .await
            .map_err(|source| failed("why the run may start cannot be read", source))?;
        row.map(|row| from_json(&row.get::<String, _>("decision")))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::fixture;
    use crate::store::both::on_both;
    use squall_experiments::policy::Stage;
    use squall_experiments::verdict::Verdict;

    #[tokio::test]
    async fn what_was_earned_is_read_as_it_was_kept_and_once() {
        on_both(async |place| {
            let store = place.open().await;
            let staging = ("staging", Stage::NonProduction);
            let one = fixture::run("d", staging, Verdict::Held, 10, 1);
            assert!(store.add_evidence(&one).await.unwrap());
            assert!(!store.add_evidence(&one).await.unwrap());
            let signed = Evidence {
                signed_by: Some("k".into()),
                ..one.clone()
            };
            assert!(store.add_evidence(&signed).await.unwrap());
            let kept = store.evidence_of("d").await.unwrap();
            assert_eq!(kept[0], one);
            assert_eq!(
                (kept[1].signed_by.as_deref(), kept[1].recorded > 1),
                (Some("k"), true)
            );
            assert_eq!(store.evidence_of_run(&one.run).await.unwrap(), Some(one));
            assert_eq!(
                store
                    .evidence_in("staging", kept[0].recorded, 9)
                    .await
                    .unwrap()
                    .len(),
                1
            );
            assert!(store.evidence_of("e").await.unwrap().is_empty());
            assert_eq!(store.evidence_seen().await.unwrap(), kept[1].recorded);

            let asked = fixture::approval("d", "bob", 5, 1);
            store.add_approval(&asked).await.unwrap();
            assert!(store.add_vote("a", &asked.votes[0]).await.unwrap());
            let again = Vote {
                by: " BOB".into(),
                ..asked.votes[0].clone()
            };
            assert!(!store.add_vote("a", &again).await.unwrap());
            assert_eq!(
                store.approvals_of("d", "production").await.unwrap(),
                std::slice::from_ref(&asked)
            );
            assert_eq!(store.approval("a").await.unwrap(), Some(asked));
            assert!(store.approvals_of("d", "staging").await.unwrap().is_empty());
            let page = store.approvals_in("production", (5, "a"), 9).await.unwrap();
            assert!(page.is_empty());
            assert_eq!(
                store
                    .approvals_in("production", (6, ""), 9)
                    .await
                    .unwrap()
                    .len(),
                1
            );

            let answers = fixture::answers("d", 5);
            for answer in &answers {
                store.add_answer(answer).await.unwrap();
            }
            assert_eq!(store.answers_of("d", "production").await.unwrap(), answers);
        })
        .await;
    }
}
