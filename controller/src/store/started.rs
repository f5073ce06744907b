//! Runs that were started on a controller, and the halt of all of them.

use super::change::Change;
use super::{Kept, Store, StoreError, Trouble, failed};
use crate::run::Halted;
use sqlx::any::AnyRow;
use sqlx::{Row, query};
use squall_experiments::event::{Event, Finished, Happening};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;

/// A run that was started on a controller.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// Its name.
    pub run: RunId,
    /// Where it runs.
    pub environment: String,
    /// By whom.
    pub by: String,
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
}

/// A run, and what is kept of its start.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The run.
    pub kept: Kept,
    /// Where a controller ran it, if one did.
    pub environment: Option<String>,
    /// Who started it there.
    pub by: Option<String>,
}

fn listed(row: &AnyRow) -> Listed {
    Listed {
        kept: super::kept(row),
        environment: row.get("environment"),
        by: row.get("started_by"),
    }
}

impl Store {
    /// Keeps that a run starts, with its first event: a run that is known has begun, and one that has begun is known. `false` where its
    /// name was used before. Saying it again, for want of an answer, changes nothing.
    ///
    /// # Errors
    /// The database does not take it, or another controller leads by now.
    pub async fn start_run(&self, started: &Started, created: &Event) -> Result<bool, StoreError> {
        match self.begin(started, created).await {
            Ok(()) => Ok(true),
            Err(StoreError::Append {
                source: Trouble::Taken,
                ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends a run that nobody drives, if it is there and has no end.
    ///
    /// # Errors
    /// The database does not take it, or another controller leads by now.
    pub async fn interrupt_run(&self, run: &RunId, now_us: i64) -> Result<(), StoreError> {
        let all = self.without_an_end(i64::MAX).await?;
        for (one, last) in all.iter().filter(|(one, _)| one == run) {
            self.append(one, last + 1, &interruption(now_us)).await?;
        }
        Ok(())
    }

    /// Who started a run, and where, if a controller did.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn started(&self, run: &RunId) -> Result<Option<Started>, StoreError> {
        let row =
            query("SELECT run, environment, started_by, at_us FROM started_runs WHERE run = $1")
                .bind(&run.0)
                .fetch_optional(&self.pool)
                .await
                .map_err(|source| failed("a run cannot be read", source))?;
        Ok(row.map(|row| Started {
            run: RunId(row.get("run")),
            environment: row.get("environment"),
            by: row.get("started_by"),
            at_us: row.get("at_us"),
        }))
    }

    /// Runs created before a moment (of that moment, those with an earlier name), the newest first, at most so many; with what is kept of
    /// their start where a controller started them.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn runs_before(
        &self,
        (before_us, name): (i64, &str),
        most: i64,
    ) -> Result<Vec<Listed>, StoreError> {
        let rows = query(
            "SELECT r.id AS id, r.name AS name, r.created_us AS created_us, r.verdict AS verdict, r.because AS because, \
             s.environment AS environment, s.started_by AS started_by \
             FROM runs r LEFT JOIN started_runs s ON s.run = r.id \
             WHERE r.created_us <= $1 AND (r.created_us < $1 OR r.id < $2) \
             ORDER BY r.created_us DESC, r.id DESC LIMIT $3",
        )
        .bind(before_us)
        .bind(name)
        .bind(most)
        .fetch_all(&self.pool)
        .await
        .map_err(|source| failed("the list of runs cannot be read", source))?;
        Ok(rows.iter().map(listed).collect())
    }

    /// The same of one run, where its beginning is kept already.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn listed(&self, run: &RunId) -> Result<Option<Listed>, StoreError> {
        let row = query(
            "SELECT r.id AS id, r.name AS name, r.created_us AS created_us, r.verdict AS verdict, r.because AS because, \
             s.environment AS environment, s.started_by AS started_by \
             FROM runs r LEFT JOIN started_runs s ON s.run = r.id WHERE r.id = $1",
        )
        .bind(&run.0)
        .fetch_optional(&self.pool)
        .await
        .map_err(|source| failed("a run cannot be read", source))?;
        Ok(row.as_ref().map(listed))
    }

    /// Ends every run of an earlier leader that has no end in the store: nobody drives it any more. Which they were. Runs of
    /// `squall run` are left alone: they may be under way.
    ///
    /// # Errors
    /// The database does not take it, or another controller leads by now.
    pub async fn interrupt_runs(&self, now_us: i64) -> Result<Vec<RunId>, StoreError> {
        let term = self.term().unwrap_or(i64::MAX);
        let mut runs = Vec::new();
        for (run, last) in self.without_an_end(term).await? {
            self.append(&run, last + 1, &interruption(now_us)).await?;
            runs.push(run);
        }
        Ok(runs)
    }

    /// Runs of earlier leaders than that of `term` that have no end, and the number of the last event of each.
    async fn without_an_end(&self, term: i64) -> Result<Vec<(RunId, i64)>, StoreError> {
        let failed = |source| failed("runs that were interrupted cannot be read", source);
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated.interrupted(term).await.map_err(failed);
        }
        let rows = query(
            "SELECT r.id AS id, (SELECT COALESCE(MAX(e.sequence), -1) FROM events e WHERE e.run = r.id) AS last \
             FROM runs r JOIN started_runs s ON s.run = r.id \
             WHERE r.verdict IS NULL AND (r.term IS NULL OR r.term < $1) ORDER BY r.created_us",
        )
        .bind(term)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        let run = |row: &AnyRow| (RunId(row.get("id")), row.get("last"));
        Ok(rows.iter().map(run).collect())
    }

    /// Halts everything; a halt that is in force already stays as it was said.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn halt(&self, halted: &Halted) -> Result<(), StoreError> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated
                .halt(halted)
                .await
                .map_err(|source| failed("the halt cannot be kept", source));
        }
        query("INSERT INTO halts (id, said_by, because, at_us) VALUES ($1, $2, $3, $4)")
            .bind(crate::run::new_id().0)
            .bind(&halted.by)
            .bind(&halted.because)
            .bind(halted.at_us)
            .execute(&self.pool)
            .await
            .map_err(|source| failed("the halt cannot be kept", source))?;
        Ok(())
    }

    /// Lifts whatever halt is in force.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn lift_halt(&self, by: &str, now_us: i64) -> Result<(), StoreError> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated
                .lift_halt()
                .await
                .map_err(|source| failed("the halt cannot be lifted", source));
        }
        query("UPDATE halts SET lifted_by = $1, lifted_us = $2 WHERE lifted_us IS NULL")
            .bind(by)
            .bind(now_us)
            .change(self)
            .await
            .map_err(|source| failed("the halt cannot be lifted", source))?;
        Ok(())
    }

    /// The first halt that was not lifted.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn halted(&self) -> Result<Option<Halted>, StoreError> {
        #[cfg(test)]
        if let Some(simulated) = &self.simulated {
            return simulated
                .halted()
                .await
                .map_err(|source| failed("whether everything is halted cannot be read", source));
        }
        let row = query("SELECT said_by, because, at_us FROM halts WHERE lifted_us IS NULL ORDER BY at_us LIMIT 1")
            .fetch_optional(&self.pool)
            .await
            .map_err(|source| failed("whether everything is halted cannot be read", source))?;
        Ok(row.map(|row| Halted {
            by: row.get("said_by"),
            because: row.get("because"),
            at_us: row.get("at_us"),
        }))
    }
}

fn interruption(now_us: i64) -> Event {
    Event {
        at_us: u64::try_from(now_us).unwrap_or_default(),
        what: Happening::Finished(interrupted()),
    }
}

/// How a run ends whose controller did before it.
pub(crate) fn interrupted() -> Finished {
    Finished {
        verdict: Verdict::Inconclusive,
        because: "interrupted: the controller ended while the run was under way; whatever was in force ended with its lease, \
                  or when the agents were told by the controller that came back"
            .into(),
        detect_ms: None,
        revert_ms: None,
        recover_ms: None,
    }
}
