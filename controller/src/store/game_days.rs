//! Game days, and what happens on each. An event has one place in its day: of two who write at once, one is told to look again.

use super::change::commit;
use super::schedules::NamedText;
use super::{Store, StoreError, failed};
use crate::gameday::{DayEvent, DayId, What};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row, query};

/// All files of a game day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GameDayFiles {
    /// The game day's own.
    pub game_day: NamedText,
    /// Its experiments', each once.
    pub experiments: Vec<NamedText>,
}

/// A game day, in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GameDayKept {
    /// The name it was opened under.
    pub id: DayId,
    /// The name in its file.
    pub name: String,
    /// On which day it is to be held: YYYY-MM-DD.
    pub held_on: String,
    /// Where its experiments run.
    pub environments: Vec<String>,
    /// When it was opened, microseconds since the Unix epoch.
    pub opened_us: i64,
    /// By whom.
    pub opened_by: String,
    /// When it was over; none while it is not.
    pub ended_us: Option<i64>,
}

const KEPT: &str =
    "SELECT id, name, held_on, environments, opened_us, opened_by, ended_us FROM game_days";

impl Store {
    /// Keeps a game day that is opened, with its first event.
    ///
    /// # Errors
    /// The database does not take it, or another controller leads.
    pub async fn open_game_day(
        &self,
        kept: &GameDayKept,
        files: &GameDayFiles,
        first: &DayEvent,
    ) -> Result<(), StoreError> {
        let failed = |source| failed("a game day cannot be opened", source);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        query("INSERT INTO game_days (id, name, held_on, environments, opened_us, opened_by, files) VALUES ($1, $2, $3, $4, $5, $6, $7)")
            .bind(&kept.id.0)
            .bind(&kept.name)
            .bind(&kept.held_on)
            .bind(serde_json::json!(kept.environments).to_string())
            .bind(kept.opened_us)
            .bind(&kept.opened_by)
            .bind(serde_json::json!(files).to_string())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        put(&mut transaction, &kept.id, 0, first)
            .await
            .map_err(failed)?;
        commit(transaction, self).await.map_err(failed)
    }

    /// Adds the event number `sequence` to a game day; `false` where there is one of that number already.
    ///
    /// # Errors
    /// The database does not take it, or another controller leads.
    pub async fn add_to_game_day(
        &self,
        day: &DayId,
        sequence: usize,
        event: &DayEvent,
    ) -> Result<bool, StoreError> {
        let failed = |source| failed("what happens on a game day cannot be kept", source);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let is_new = put(&mut transaction, day, sequence, event)
            .await
            .map_err(failed)?;
        if !is_new {
            return Ok(false);
        }
        if matches!(event.what, What::Over(_)) {
            query("UPDATE game_days SET ended_us = $1 WHERE id = $2")
                .bind(i64::try_from(event.at_us).unwrap_or(i64::MAX))
                .bind(&day.0)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        commit(transaction, self).await.map_err(failed)?;
        Ok(true)
    }

    /// Game days before `before` (all where it is none), the newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn game_days(
        &self,
        before: Option<&str>,
        most: i64,
    ) -> Result<Vec<GameDayKept>, StoreError> {
        let asked = format!("{KEPT} WHERE $1 = '' OR id < $1 ORDER BY id DESC LIMIT $2");
        let rows = query(sqlx::AssertSqlSafe(asked))
            .bind(before.unwrap_or_default())
            .bind(most)
            .fetch_all(&self.pool)
            .await
            .map_err(unread)?;
        rows.iter().map(kept).collect()
    }

    /// The game day of a name and a date (YYYY-MM-DD), the newest where there are more.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn game_day_held(
        &self,
        name: &str,
        date: &str,
    ) -> Result<Option<GameDayKept>, StoreError> {
        let asked = format!("{KEPT} WHERE name = $1 AND held_on = $2 ORDER BY id DESC LIMIT 1");
        let row = query(sqlx::AssertSqlSafe(asked))
            .bind(name)
            .bind(date)
            .fetch_optional(&self.pool)
            .await
            .map_err(unread)?;
        row.as_ref().map(kept).transpose()
    }

    /// Game days that are not over.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn open_game_days(&self) -> Result<Vec<DayId>, StoreError> {
        let rows = query("SELECT id FROM game_days WHERE ended_us IS NULL ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .map_err(unread)?;
        Ok(rows.iter().map(|row| DayId(row.get(0))).collect())
    }

    /// The game day whose name is, or begins with, `name`; `last` is the newest. None where there is none, or more than one.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn find_game_day(&self, name: &str) -> Result<Option<GameDayKept>, StoreError> {
        if name == "last" {
            return Ok(self.game_days(None, 1).await?.pop());
        }
        let asked = format!("{KEPT} WHERE substr(id, 1, length($1)) = $1 ORDER BY id LIMIT 2");
        let rows = query(sqlx::AssertSqlSafe(asked))
            .bind(name)
            .fetch_all(&self.pool)
            .await
            .map_err(unread)?;
        match rows.as_slice() {
            [one] => kept(one).map(Some),
            [first, _] if first.get::<String, _>("id") == name => kept(first).map(Some),
            _ => Ok(None),
        }
    }

    /// The files of a game day.
    ///
    /// # Errors
    /// The database cannot be read, or there is no such day.
    pub async fn game_day_files(&self, day: &DayId) -> Result<GameDayFiles, StoreError> {
        let row = query("SELECT files FROM game_days WHERE id = $1")
            .bind(&day.0)
            .fetch_one(&self.pool)
            .await
            .map_err(unread)?;
        understood(day, &row.get::<String, _>(0))
    }

    /// What happened on a game day, from the event number `from` on.
    ///
    /// # Errors
    /// The database cannot be read, or an event not be understood.
    pub async fn game_day_events(
        &self,
        day: &DayId,
        from: usize,
    ) -> Result<Vec<DayEvent>, StoreError> {
        let rows = query("SELECT at_us, what FROM game_day_events WHERE game_day = $1 AND sequence >= $2 ORDER BY sequence")
            .bind(&day.0)
            .bind(i64::try_from(from).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await
            .map_err(unread)?;
        let events = rows.iter().map(|row| {
            Ok(DayEvent {
                at_us: u64::try_from(row.get::<i64, _>("at_us")).unwrap_or_default(),
                what: understood(day, &row.get::<String, _>("what"))?,
            })
        });
        events.collect()
    }
}

async fn put(
    transaction: &mut AnyConnection,
    day: &DayId,
    sequence: usize,
    event: &DayEvent,
) -> Result<bool, sqlx::Error> {
    let what = serde_json::to_string(&event.what);
    let what = what.map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let done = query("INSERT INTO game_day_events (game_day, sequence, at_us, what) VALUES ($1, $2, $3, $4) ON CONFLICT (game_day, sequence) DO NOTHING")
        .bind(&day.0)
        .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
        .bind(i64::try_from(event.at_us).unwrap_or(i64::MAX))
        .bind(what)
        .execute(transaction)
        .await?;
    Ok(done.rows_affected() == 1)
}

fn unread(source: sqlx::Error) -> StoreError {
    failed("the game days cannot be read", source)
}

fn understood<T: serde::de::DeserializeOwned>(day: &DayId, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Other {
        what: format!("the game day {day}"),
        source,
    })
}

fn kept(row: &AnyRow) -> Result<GameDayKept, StoreError> {
    let id = DayId(row.get("id"));
    Ok(GameDayKept {
        environments: understood(&id, &row.get::<String, _>("environments"))?,
        id,
        name: row.get("name"),
        held_on: row.get("held_on"),
        opened_us: row.get("opened_us"),
        opened_by: row.get("opened_by"),
        ended_us: row.get("ended_us"),
    })
}
