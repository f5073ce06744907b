//! How long things are kept, and what removes those that are older: on the leader alone, little by little.

use crate::clock;
use crate::practice::Practice;
use crate::store::{Deed, Floors, Store, StoreError};
use crate::words::chain;
use serde::Deserialize;
use squall_experiments::policy::Policy;
use squall_experiments::units::Age;
use std::time::Duration;

/// What becomes old within a day may stay an hour longer.
const EVERY: Duration = Duration::from_secs(3600);

/// Between two removals others write: a run's events must be kept within two seconds, and one removal takes far less.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs looked up at once.
const PAGE: i64 = 100;

/// Nothing goes sooner, whatever is configured: a run is longer than its report is looked at on the day itself.
const LEAST: Age = match Age::new(86_400) {
    Some(day) => day,
    None => panic!("a day is an age"),
};

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Keep {
    /// So long.
    For(Age),
    /// It is never removed.
    Forever,
}

/// Not a time, or too short a one.
#[derive(Debug, thiserror::Error)]
pub enum BadKeep {
    /// Not a time.
    #[error("`{0}` is no time for which something is kept: write days, as in `400d`, or `forever`")]
    Form(String),
    /// Too short.
    #[error("`{0}` is too short: things are kept for at least a day (`1d`)")]
    Short(Age),
}

impl TryFrom<String> for Keep {
    type Error = BadKeep;
    fn try_from(text: String) -> Result<Self, BadKeep> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let age: Age = text.parse().map_err(|_| BadKeep::Form(text))?;
        if age < LEAST {
            return Err(BadKeep::Short(age));
        }
        Ok(Self::For(age))
    }
}

impl Keep {
    /// What was before this moment is old.
    fn floor_us(self, now_us: i64) -> i64 {
        match self {
            Self::For(age) => now_us.saturating_sub(us(age)),
            Self::Forever => i64::MIN,
        }
    }
}

/// How long each kind is kept: `retention` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retention {
    /// Runs that have ended, with their events; and what became of a schedule's times.
    pub runs: Keep,
    /// Game days that are over. The runs of one stay as long as it does.
    pub game_days: Keep,
}

impl Default for Retention {
    /// Thirteen months and three years: what was found a year ago can be held against what is found today, and a game day's action
    /// items against those of the last ones.
    fn default() -> Self {
        Self {
            runs: Keep::For(Age::days(400)),
            game_days: Keep::For(Age::days(1100)),
        }
    }
}

impl Retention {
    /// What is old now. A run that held or broke is kept for at least as long as its evidence may count anywhere under the policy.
    #[must_use]
    pub fn floors(&self, policy: &Policy, now_us: i64) -> Floors {
        let needs = policy.environments.iter();
        let needs = needs.flat_map(|one| [Some(one.needs), one.automated]);
        let counts = needs.flatten().map(|needs| us(needs.within)).max();
        let runs_us = self.runs.floor_us(now_us);
        Floors {
            runs_us,
            evidence_us: runs_us.min(now_us.saturating_sub(counts.unwrap_or(0))),
            game_days_us: self.game_days.floor_us(now_us),
        }
    }
}

fn us(age: Age) -> i64 {
    i64::try_from(age.duration().as_micros()).unwrap_or(i64::MAX)
}

/// What has been removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// Runs.
    pub runs: u64,
    /// Game days.
    pub game_days: u64,
    /// Times of schedules.
    pub starts: u64,
}

/// Removes what is old while this controller leads.
#[derive(Debug, Clone)]
pub struct Remover {
    store: Store,
    practice: Practice,
    retention: Retention,
}

impl Remover {
    /// One that keeps things for as long as is said.
    #[must_use]
    pub const fn new(store: Store, practice: Practice, retention: Retention) -> Self {
        Self {
            store,
            practice,
            retention,
        }
    }

    /// Removes what is old, and again each hour, until it is dropped.
    pub async fn keep(&self) {
        loop {
            let floors = (self.retention).floors(&self.practice.policy(), clock::kept_us());
            match remove(&self.store, &floors).await {
                Ok(removed) if removed == Removed::default() => {}
                Ok(removed) => tracing::info!(?removed, "what was kept for long enough is gone"),
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(error, "not all that is old was removed; again in an hour");
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// Removes all that is old now, piece by piece, and notes it in the audit log.
///
/// # Errors
/// The database does not take it, or another controller leads by now; what was removed until then is gone, and noted where that can be.
pub async fn remove(store: &Store, floors: &Floors) -> Result<Removed, StoreError> {
    let mut removed = Removed::default();
    let done = remove_all(store, floors, &mut removed).await;
    if removed != Removed::default() {
        let detail = serde_json::json!({ "removed": removed }).to_string();
        let deed = Deed {
            at_us: clock::kept_us(),
            who: "squall",
            token: "",
            action: "retention",
            status: 200,
            detail: &detail,
        };
        store.audit(&deed).await?;
    }
    done.map(|()| removed)
}

async fn remove_all(
    store: &Store,
    floors: &Floors,
    removed: &mut Removed,
) -> Result<(), StoreError> {
    // Game days first: their runs stay as long as they do.
    while store.remove_old_game_day(floors).await? {
        removed.game_days += 1;
        tokio::time::sleep(PAUSE).await;
    }
    loop {
        let starts = store.remove_old_starts(floors).await?;
        if starts == 0 {
            break;
        }
        removed.starts += starts;
        tokio::time::sleep(PAUSE).await;
    }
    let mut after = (i64::MIN, String::new());
    loop {
        let old = store.old_runs(floors, (after.0, &after.1), PAGE).await?;
        let Some(last) = old.last() else {
            return Ok(());
        };
        after = (last.created_us, last.run.0.clone());
        for one in &old {
            if store.remove_old_run(floors, &one.run).await? {
                removed.runs += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_meant() {
        let read =
            |text: &str| serde_saphyr::from_str::<Retention>(text).map_err(|e| e.to_string());
        let both = read("{ runs: 30d, gameDays: forever }").unwrap();
        assert_eq!(both.runs, Keep::For(Age::days(30)));
        assert_eq!(both.game_days, Keep::Forever);
        assert_eq!(read("{}").unwrap(), Retention::default());
        for (bad, why) in [
            ("{ runs: 30 }", "write days"),
            ("{ runs: never }", "write days"),
            ("{ runs: 23h }", "at least a day"),
            ("{ audit: 30d }", "audit"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_run_stays_for_as_long_as_its_evidence_may_count() {
        const DAY_US: i64 = 86_400_000_000;
        let policy = crate::stage::fixture::policy(crate::stage::fixture::POLICY);
        let now_us = 1000 * DAY_US;
        let short = Retention {
            runs: Keep::For(Age::days(2)),
            game_days: Keep::Forever,
        };
        let floors = short.floors(&policy, now_us);
        assert_eq!(floors.runs_us, 998 * DAY_US);
        // Of all that the policy asks for, 20 days are the longest.
        assert_eq!(floors.evidence_us, 980 * DAY_US);
        assert_eq!(floors.game_days_us, i64::MIN);
        let long = Retention::default().floors(&policy, now_us);
        assert_eq!(long.evidence_us, 600 * DAY_US);
    }
}
