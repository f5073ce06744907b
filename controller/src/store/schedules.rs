//! Schedules, and what became of each of their times.
//!
//! ```text
//!   (no row) ─▶ claimed ─▶ started ─▶ ended
//!      │           ├─────▶ refused
//!      │           └─────▶ passed over      its controller died, and now it is too late
//!      └─────────────────▶ passed over
//! ```
//!
//! The row is the claim: one key for each time, so that of all controllers one starts it.

use super::change::Change;
use super::{Store, StoreError, failed};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::{Row, query};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;

/// A file, as it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamedText {
    /// Its name, beside the schedule's file.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// All files of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleFiles {
    /// The schedule's own.
    pub schedule: NamedText,
    /// The experiment's.
    pub experiment: NamedText,
    /// The blackout calendars.
    #[serde(default)]
    pub blackouts: Vec<NamedText>,
}

/// A schedule that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleKept {
    /// Its name.
    pub name: String,
    /// Its files.
    pub files: ScheduleFiles,
    /// The commit they come from; none where a person gave them.
    pub source: Option<String>,
    /// Who put it into force; none where Git did, and of one from before that was kept.
    pub owner: Option<String>,
    /// Everything that was due up to then is decided, microseconds since the Unix epoch.
    pub settled_us: i64,
    /// Since when it starts nothing, if so.
    pub suspended_us: Option<i64>,
    /// Why.
    pub suspended_because: Option<String>,
}

/// Where a schedule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'f> {
    /// A commit of the repository that is followed.
    Commit(&'f str),
    /// Somebody, by name.
    Person(&'f str),
}

/// What became of one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartKept {
    /// Of which schedule.
    pub schedule: String,
    /// The instant that its cron expression names, microseconds since the Unix epoch.
    pub due_us: i64,
    /// Where it is in its life.
    pub state: StartState,
    /// The run.
    pub run: Option<RunId>,
    /// Which controller claimed it.
    pub holder: String,
    /// When.
    pub claimed_us: i64,
    /// Why it was not started, or how the run ended.
    pub because: Option<String>,
}

/// Where a start is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StartState {
    /// A controller is about to start it.
    Claimed,
    /// The run is there.
    Started,
    /// The run has ended.
    Ended,
    /// Nothing was started.
    PassedOver,
    /// It was to be started, and was not let.
    Refused,
}

impl StartState {
    const ALL: [Self; 5] = [
        Self::Claimed,
        Self::Started,
        Self::Ended,
        Self::PassedOver,
        Self::Refused,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Started => "started",
            Self::Ended => "ended",
            Self::PassedOver => "passed over",
            Self::Refused => "refused",
        }
    }
}

/// A claim on one time.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// Of which schedule.
    pub schedule: &'a str,
    /// Which time, microseconds since the Unix epoch.
    pub due_us: i64,
    /// The run that is to be; none for a time that is passed over.
    pub run: Option<&'a RunId>,
    /// Who claims it.
    pub holder: &'a str,
    /// Now.
    pub now_us: i64,
    /// Why it is passed over.
    pub because: Option<&'a str>,
}

/// A row of either database.
macro_rules! start {
    ($row:expr) => {{
        let state: String = $row.get("state");
        StartKept {
            schedule: $row.get("schedule"),
            due_us: $row.get("due_us"),
            state: StartState::ALL
                .into_iter()
                .find(|known| known.word() == state)
                .unwrap_or(StartState::Ended),
            run: $row.get::<Option<String>, _>("run").map(RunId),
            holder: $row.get("holder"),
            claimed_us: $row.get("claimed_us"),
            because: $row.get("because"),
        }
    }};
}

const STARTS: &str =
    "SELECT schedule, due_us, state, run, holder, claimed_us, because FROM schedule_starts";

impl Store {
    /// Puts a schedule into force, or another version of one. It begins with what is due from now on; one that is suspended stays so.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn put_schedule(
        &self,
        name: &str,
        files: &ScheduleFiles,
        from: Origin<'_>,
        now_us: i64,
    ) -> Result<(), StoreError> {
        let (source, owner) = match from {
            Origin::Commit(commit) => (Some(commit), None),
            Origin::Person(name) => (None, Some(name)),
        };
        let files = serde_json::to_string(files).unwrap_or_default();
        query(
            "INSERT INTO schedules (name, files, source, added_us, settled_us, owner) VALUES ($1, $2, $3, $4, $4, $5) \
             ON CONFLICT (name) DO UPDATE SET files = $2, source = $3, owner = $5, \
             settled_us = CASE WHEN schedules.files = $2 THEN schedules.settled_us ELSE $4 END",
        )
        .bind(name)
        .bind(files)
        .bind(source)
        .bind(now_us)
        .bind(owner)
        .change(self)
        .await
        .map_err(|source| failed("a schedule cannot be kept", source))?;
        Ok(())
    }

    /// All schedules, by name.
    ///
    /// # Errors
    /// The database cannot be read, or a schedule was kept by another version of Squall.
    pub async fn schedules(&self) -> Result<Vec<ScheduleKept>, StoreError> {
        let rows = query("SELECT name, files, source, owner, settled_us, suspended_us, suspended_because FROM schedules ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(|source| failed("the schedules cannot be read", source))?;
        let kept = rows.iter().map(|row| {
            let (name, files): (String, String) = (row.get("name"), row.get("files"));
            let files = serde_json::from_str(&files).map_err(|source| StoreError::Other {
                what: format!("the schedule `{name}`"),
                source,
            })?;
            Ok(ScheduleKept {
                name,
                files,
                source: row.get("source"),
                owner: row.get("owner"),
                settled_us: row.get("settled_us"),
                suspended_us: row.get("suspended_us"),
                suspended_because: row.get("suspended_because"),
            })
        });
        kept.collect()
    }

    /// Takes a schedule out of force. What became of its times stays. `false` where there is none of that name.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn remove_schedule(&self, name: &str) -> Result<bool, StoreError> {
        let done = query("DELETE FROM schedules WHERE name = $1")
            .bind(name)
            .change(self)
            .await
            .map_err(|source| failed("a schedule cannot be removed", source))?;
        Ok(done.rows_affected() == 1)
    }

    /// Nothing is started any more until it is resumed. Who suspends one that is suspended already changes nothing. `false` where there
    /// is none of that name.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn suspend_schedule(
        &self,
        name: &str,
        because: &str,
        now_us: i64,
    ) -> Result<bool, StoreError> {
        let done = query(
            "UPDATE schedules SET suspended_because = CASE WHEN suspended_us IS NULL THEN $1 ELSE suspended_because END, \
             suspended_us = coalesce(suspended_us, $2) WHERE name = $3",
        )
        .bind(because)
        .bind(now_us)
        .bind(name)
        .change(self)
        .await
        .map_err(|source| failed("a schedule cannot be suspended", source))?;
        Ok(done.rows_affected() == 1)
    }

    /// Runs are started again, from what is due from now on. `false` where there is none of that name.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn resume_schedule(&self, name: &str, now_us: i64) -> Result<bool, StoreError> {
        let done = query(
            "UPDATE schedules SET settled_us = CASE WHEN suspended_us IS NULL THEN settled_us ELSE $1 END, \
             suspended_us = NULL, suspended_because = NULL WHERE name = $2",
        )
        .bind(now_us)
        .bind(name)
        .change(self)
        .await
        .map_err(|source| failed("a schedule cannot be resumed", source))?;
        Ok(done.rows_affected() == 1)
    }

    /// Everything up to a time is decided; it never goes back.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn settle(&self, schedule: &str, due_us: i64) -> Result<(), StoreError> {
        query("UPDATE schedules SET settled_us = $1 WHERE name = $2 AND settled_us < $1")
            .bind(due_us)
            .bind(schedule)
            .change(self)
            .await
            .map_err(|source| failed("a schedule's times cannot be settled", source))?;
        Ok(())
    }

    /// Claims a time: `true` for one caller alone, ever, whatever controllers there are.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn claim(&self, claim: &Claim<'_>) -> Result<bool, StoreError> {
        let state = if claim.run.is_some() {
            StartState::Claimed
        } else {
            StartState::PassedOver
        };
        let done = query(
            "INSERT INTO schedule_starts (schedule, due_us, state, run, holder, claimed_us, because) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (schedule, due_us) DO NOTHING",
        )
        .bind(claim.schedule)
        .bind(claim.due_us)
        .bind(state.word())
        .bind(claim.run.map(|run| run.0.as_str()))
        .bind(claim.holder)
        .bind(claim.now_us)
        .bind(claim.because)
        .change(self)
        .await
        .map_err(|source| failed("a start cannot be claimed", source))?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes over a claim whose controller is gone, as it was read: `true` for one caller alone.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn take_over(
        &self,
        start: &StartKept,
        holder: &str,
        now_us: i64,
    ) -> Result<bool, StoreError> {
        let done = query(
            "UPDATE schedule_starts SET holder = $1, claimed_us = $2 \
             WHERE schedule = $3 AND due_us = $4 AND state = 'claimed' AND holder = $5 AND claimed_us = $6",
        )
        .bind(holder)
        .bind(now_us)
        .bind(&start.schedule)
        .bind(start.due_us)
        .bind(&start.holder)
        .bind(start.claimed_us)
        .change(self)
        .await
        .map_err(|source| failed("a start cannot be taken over", source))?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes where a start is in its life.
    ///
    /// # Errors
    /// The database does not take it.
    pub async fn note_start(
        &self,
        schedule: &str,
        due_us: i64,
        state: StartState,
        because: Option<&str>,
    ) -> Result<(), StoreError> {
        query("UPDATE schedule_starts SET state = $1, because = $2 WHERE schedule = $3 AND due_us = $4")
            .bind(state.word())
            .bind(because)
            .bind(schedule)
            .bind(due_us)
            .change(self)
            .await
            .map_err(|source| failed("a start cannot be noted", source))?;
        Ok(())
    }

    /// The starts of a schedule that were claimed or started, and have not ended.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn open_starts(&self, schedule: &str) -> Result<Vec<StartKept>, StoreError> {
        let asked = format!(
            "{STARTS} WHERE schedule = $1 AND (state = 'claimed' OR state = 'started') ORDER BY due_us"
        );
        let rows = query(sqlx::AssertSqlSafe(asked))
            .bind(schedule)
            .fetch_all(&self.pool)
            .await;
        let rows = rows.map_err(|source| failed("the starts cannot be read", source))?;
        Ok(rows.iter().map(|row| start!(row)).collect())
    }

    /// The latest times of a schedule that something became of, the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn starts(&self, schedule: &str, most: i64) -> Result<Vec<StartKept>, StoreError> {
        self.starts_before(schedule, i64::MAX, most).await
    }

    /// Those of them that were due before a moment.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn starts_before(
        &self,
        schedule: &str,
        before_us: i64,
        most: i64,
    ) -> Result<Vec<StartKept>, StoreError> {
        let asked =
            format!("{STARTS} WHERE schedule = $1 AND due_us < $2 ORDER BY due_us DESC LIMIT $3");
        let rows = query(sqlx::AssertSqlSafe(asked))
            .bind(schedule)
            .bind(before_us)
            .bind(most)
            .fetch_all(&self.pool)
            .await;
        let rows = rows.map_err(|source| failed("the starts cannot be read", source))?;
        Ok(rows.iter().map(|row| start!(row)).collect())
    }

    /// How a run ended: `None` where there is no such run, `Some(None)` where it has not ended.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn end_of(&self, run: &RunId) -> Result<Option<Option<Verdict>>, StoreError> {
        let row = query("SELECT verdict FROM runs WHERE id = $1")
            .bind(&run.0)
            .fetch_optional(&self.pool)
            .await;
        let row = row.map_err(|source| failed("a run cannot be read", source))?;
        Ok(row.map(|row| {
            let verdict: Option<String> = row.get("verdict");
            verdict
                .and_then(|verdict| serde_json::from_value(serde_json::Value::String(verdict)).ok())
        }))
    }
}
