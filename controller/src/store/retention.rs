//! What is older than it is kept for, and what goes: one run, one game day or some hundred times of schedules at once, each in a transaction
//! of its own, so that nobody who writes meanwhile waits for long.
//!
//! Evidence, approvals, answers, halts and the audit log are never among it: the first three decide who may do what, and a chain of hashes
//! that was cut could not be told from one that somebody cut.

use super::change::superseded;
use super::writer::leads;
use super::{Dialect, Kept, Store, StoreError, failed};
use serde::Serialize;
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Row, query};
use squall_experiments::ids::RunId;

/// Times of schedules that go in one transaction.
const STARTS_AT_ONCE: i64 = 500;

/// What was before these moments goes, microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floors {
    /// Runs that were created before, and times of schedules that were due before.
    pub runs_us: i64,
    /// Of runs that held or broke: those that ended before. Never after `runs_us`: until then their evidence counts.
    pub evidence_us: i64,
    /// Game days that were over before.
    pub game_days_us: i64,
}

/// What would go now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Old {
    /// Runs, with all that is kept of them.
    pub runs: i64,
    /// Their events.
    pub events: i64,
    /// Runs that are old enough, and stay: something needs them, or they have no end.
    pub needed: i64,
    /// Game days.
    pub game_days: i64,
    /// Times of schedules.
    pub starts: i64,
}

/// Which runs are old, after `$1` and `$2` of the floors. What keeps one: its evidence may still count, or is the last word against its digest; a
/// schedule has not noted its end; or a game day that is kept is told with it.
///
/// In PostgreSQL a column is compared in its own collation, or its index is of no use.
fn runs(dialect: Dialect) -> String {
    let (own, bytes) = match dialect {
        Dialect::Sqlite => ("", ""),
        Dialect::Postgres => ("COLLATE \"default\"", "COLLATE \"C\""),
    };
    format!(
        "r.created_us < $1 AND r.verdict IS NOT NULL \
         AND NOT EXISTS (SELECT 1 FROM evidence e WHERE e.run = r.id {own} AND (e.ended_us >= $2 OR (r.verdict = 'broken' AND NOT EXISTS \
         (SELECT 1 FROM evidence l JOIN runs b ON b.id = l.run {bytes} WHERE l.digest = e.digest AND l.environment = e.environment \
         AND l.recorded > e.recorded AND b.verdict = 'broken')))) \
         AND r.id {own} NOT IN (SELECT s.run FROM schedule_starts s JOIN schedules k ON k.name = s.schedule \
         WHERE s.run IS NOT NULL AND s.state IN ('claimed', 'started')) \
         AND NOT EXISTS (SELECT 1 FROM game_day_events g WHERE g.what LIKE '%\"' || r.id {own} || '\"%')"
    )
}

/// Which game days are old, after `$1`.
const GAME_DAYS: &str = "ended_us < $1";

/// Which times are old, after `$1`: decided, in the past of a schedule that is in force, or of one that is not any more.
const STARTS: &str = "due_us < $1 AND NOT EXISTS (SELECT 1 FROM schedules k WHERE k.name = schedule \
    AND (k.settled_us < due_us OR state IN ('claimed', 'started')))";

impl Store {
    /// What would go.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn old(&self, floors: &Floors) -> Result<Old, StoreError> {
        let runs = runs(self.dialect);
        let events =
            format!("SELECT count(*) FROM events e JOIN runs r ON r.id = e.run WHERE {runs}");
        let runs = format!("SELECT count(*) FROM runs r WHERE {runs}");
        let days = format!("SELECT count(*) FROM game_days WHERE {GAME_DAYS}");
        let starts = format!("SELECT count(*) FROM schedule_starts WHERE {STARTS}");
        let aged = "SELECT count(*) FROM runs WHERE created_us < $1";
        let of_runs = |asked: &str| {
            let asked = query(AssertSqlSafe(asked.to_owned())).bind(floors.runs_us);
            asked.bind(floors.evidence_us)
        };
        let old = self.count(of_runs(&runs)).await?;
        let aged = self.count(query(aged).bind(floors.runs_us)).await?;
        let days = query(AssertSqlSafe(days)).bind(floors.game_days_us);
        let starts = query(AssertSqlSafe(starts)).bind(floors.runs_us);
        Ok(Old {
            runs: old,
            events: self.count(of_runs(&events)).await?,
            needed: aged - old,
            game_days: self.count(days).await?,
            starts: self.count(starts).await?,
        })
    }

    async fn count(&self, asked: Query<'_, Any, AnyArguments>) -> Result<i64, StoreError> {
        let row = asked.fetch_one(&self.pool).await.map_err(unread)?;
        Ok(row.get(0))
    }

    /// Runs that would go, the oldest first, behind one that was created at `after.0` and is called `after.1`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn old_runs(
        &self,
        floors: &Floors,
        after: (i64, &str),
        most: i64,
    ) -> Result<Vec<Kept>, StoreError> {
        let runs = runs(self.dialect);
        let asked = format!(
            "SELECT r.id, r.name, r.created_us, r.verdict, r.because FROM runs r WHERE {runs} \
             AND (r.created_us > $3 OR (r.created_us = $3 AND r.id > $4)) ORDER BY r.created_us, r.id LIMIT $5"
        );
        let rows = query(AssertSqlSafe(asked))
            .bind(floors.runs_us)
            .bind(floors.evidence_us)
            .bind(after.0)
            .bind(after.1)
            .bind(most)
            .fetch_all(&self.pool)
            .await
            .map_err(unread)?;
        Ok(rows.iter().map(super::kept).collect())
    }

    /// Removes a run, its events and what is kept of its start, if it is still old and nothing needs it by now; whether it did.
    ///
    /// # Errors
    /// The database does not take it, or another controller leads by now.
    pub async fn remove_old_run(&self, floors: &Floors, run: &RunId) -> Result<bool, StoreError> {
        let runs = runs(self.dialect);
        let asked = format!(
            "DELETE FROM runs WHERE id IN (SELECT r.id FROM runs r WHERE r.id = $3 AND {runs})"
        );
        let first = query(AssertSqlSafe(asked))
            .bind(floors.runs_us)
            .bind(floors.evidence_us)
            .bind(&run.0);
        // Its events go with it: they refer to it.
        let then = [
            "DELETE FROM started_runs WHERE run = $1",
            "DELETE FROM preflights WHERE run = $1",
        ];
        let then = then.map(|asked| query(asked).bind(&run.0));
        Ok(self.remove(first, then).await? > 0)
    }

    /// Removes the game day that has been over for the longest time, if it is old; whether it did.
    ///
    /// # Errors
    /// As [`remove_old_run`](Self::remove_old_run).
    pub async fn remove_old_game_day(&self, floors: &Floors) -> Result<bool, StoreError> {
        let asked = format!(
            "DELETE FROM game_days WHERE id IN (SELECT id FROM game_days WHERE {GAME_DAYS} ORDER BY ended_us LIMIT 1)"
        );
        let first = query(AssertSqlSafe(asked)).bind(floors.game_days_us);
        Ok(self.remove(first, []).await? > 0)
    }

    /// Removes some of the old times of schedules; how many.
    ///
    /// # Errors
    /// As [`remove_old_run`](Self::remove_old_run).
    pub async fn remove_old_starts(&self, floors: &Floors) -> Result<u64, StoreError> {
        let asked = format!(
            "DELETE FROM schedule_starts WHERE (schedule, due_us) IN \
             (SELECT schedule, due_us FROM schedule_starts WHERE {STARTS} LIMIT $2)"
        );
        let first = query(AssertSqlSafe(asked))
            .bind(floors.runs_us)
            .bind(STARTS_AT_ONCE);
        self.remove(first, []).await
    }

    /// Removes what the first statement says, and where that is anything, what the others do: all of it, or nothing where another
    /// controller leads by now. How many rows the first removed.
    async fn remove<const N: usize>(
        &self,
        first: Query<'_, Any, AnyArguments>,
        then: [Query<'_, Any, AnyArguments>; N],
    ) -> Result<u64, StoreError> {
        let failed = |source| failed("what is old cannot be removed", source);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let done = first.execute(&mut *transaction).await.map_err(failed)?;
        if done.rows_affected() == 0 {
            return Ok(0);
        }
        for one in then {
            one.execute(&mut *transaction).await.map_err(failed)?;
        }
        if let Some(term) = self.term()
            && !leads(&mut transaction, self.dialect, term)
                .await
                .map_err(failed)?
        {
            return Err(failed(superseded()));
        }
        transaction.commit().await.map_err(failed)?;
        Ok(done.rows_affected())
    }
}

fn unread(source: sqlx::Error) -> StoreError {
    failed("what is old cannot be read", source)
}
