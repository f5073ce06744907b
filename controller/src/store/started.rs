//! Runs that were started on a controller, and the halt of all of them.

use super::{Store, StoreError, failed};
use crate::run::Halted;
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

impl Store {
    /// Keeps that a run starts; `false` where its name was used before.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn start_run(&self, started: &Started) -> Result<bool, StoreError> {
        let done = query("INSERT INTO started_runs (run, environment, started_by, at_us) VALUES ($1, $2, $3, $4) ON CONFLICT (run) DO NOTHING")
            .bind(&started.run.0)
            .bind(&started.environment)
            .bind(&started.by)
            .bind(started.at_us)
            .execute(&self.pool)
            .await
            .map_err(|source| failed("that a run starts cannot be kept", source))?;
        Ok(done.rows_affected() == 1)
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

    /// The latest runs that controllers started.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn started_runs(&self, most: u32) -> Result<Vec<Started>, StoreError> {
        let rows = query("SELECT run, environment, started_by, at_us FROM started_runs ORDER BY at_us DESC, run DESC LIMIT $1")
            .bind(i64::from(most))
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("the list of runs cannot be read", source))?;
        let started = rows.iter().map(|row| Started {
            run: RunId(row.get("run")),
            environment: row.get("environment"),
            by: row.get("started_by"),
            at_us: row.get("at_us"),
        });
        Ok(started.collect())
    }

    /// Ends every run of a controller that has no end in the store: nobody drives it any more. Which they were.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn interrupt_runs(&self, now_us: i64) -> Result<Vec<RunId>, StoreError> {
        let failed = |source| failed("runs that were interrupted cannot be ended", source);
        let rows = query("SELECT r.id AS id FROM runs r JOIN started_runs s ON s.run = r.id WHERE r.verdict IS NULL ORDER BY r.created_us")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        let runs: Vec<RunId> = rows.iter().map(|row| RunId(row.get("id"))).collect();
        for run in &runs {
            self.end_run(run, now_us, interrupted()).await?;
        }
        Ok(runs)
    }

    async fn end_run(
        &self,
        run: &RunId,
        now_us: i64,
        finished: Finished,
    ) -> Result<(), StoreError> {
        let failed = |source| failed("the end of a run cannot be kept", source);
        let verdict = finished.verdict.to_string();
        let because = finished.because.clone();
        let event = Event {
            at_us: u64::try_from(now_us).unwrap_or_default(),
            what: Happening::Finished(finished),
        };
        let what = serde_json::to_string(&event.what)
            .map_err(|error| failed(sqlx::Error::Encode(Box::new(error))))?;
        let mut all = self.pool.begin().await.map_err(failed)?;
        query("INSERT INTO events (run, sequence, at_us, what) SELECT $1, COALESCE(MAX(sequence), -1) + 1, $2, $3 FROM events WHERE run = $1")
            .bind(&run.0)
            .bind(now_us)
            .bind(what)
            .execute(&mut *all)
            .await
            .map_err(failed)?;
        query("UPDATE runs SET verdict = $1, because = $2 WHERE id = $3")
            .bind(verdict)
            .bind(because)
            .bind(&run.0)
            .execute(&mut *all)
            .await
            .map_err(failed)?;
        all.commit().await.map_err(failed)
    }

    /// Halts everything; a halt that is in force already stays as it was said.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn halt(&self, halted: &Halted) -> Result<(), StoreError> {
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
        query("UPDATE halts SET lifted_by = $1, lifted_us = $2 WHERE lifted_us IS NULL")
            .bind(by)
            .bind(now_us)
            .execute(&self.pool)
            .await
            .map_err(|source| failed("the halt cannot be lifted", source))?;
        Ok(())
    }

    /// The first halt that was not lifted.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn halted(&self) -> Result<Option<Halted>, StoreError> {
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

fn interrupted() -> Finished {
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
