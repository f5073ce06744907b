//! `squall retention`.

use super::database::{DatabaseError, StoreArgs};
use super::serve::{self, ServeError};
use super::{BAD_INPUT, INCONCLUSIVE, say};
use crate::clock;
use crate::practice::{self, PracticeError};
use crate::retention::{self, Removed};
use crate::store::{self, Dialect, Floors, Kept, Old, Store, StoreError};
use serde::Serialize;
use squall_experiments::policy::Policy;
use std::path::PathBuf;
use std::process::ExitCode;

/// So many runs are named where nothing is said.
const NAMED: u32 = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The controller's configuration (`squall serve --config`): how long things are kept
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The controller's policy (`squall serve --policy`): how long evidence counts
    #[arg(long, value_name = "FILE.yaml")]
    policy: Option<PathBuf>,
    /// Name at most so many runs, the oldest first
    #[arg(long, value_name = "N", default_value_t = NAMED)]
    most: u32,
    /// Remove it now: for a data directory that no controller serves from. A controller that serves does so by itself, each hour
    #[arg(long)]
    remove: bool,
    /// As one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    database: StoreArgs,
}

#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Practice(#[from] PracticeError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "nothing is removed by hand from a database that controllers share: the one that leads does so, each hour, as its configuration says"
    )]
    Shared,
}

/// What would go, or went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(flatten)]
    old: Old,
    /// The oldest of the runs.
    oldest: Vec<Kept>,
    /// What was removed; none where that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<Removed>,
}

/// Says what is old; touches nothing unless that is asked for.
pub(super) async fn retention(args: &Args) -> ExitCode {
    let told = match tell(args).await {
        Ok(told) => told,
        Err(
            error @ (RetentionError::Serve(_)
            | RetentionError::Practice(_)
            | RetentionError::Shared
            | RetentionError::Database(DatabaseError::Server(_))),
        ) => return say::failed(BAD_INPUT, &error),
        Err(error) => return say::failed(INCONCLUSIVE, &error),
    };
    if args.json {
        return say::json(&told);
    }
    let mut table = say::table(&["run", "experiment", "when", "verdict"]);
    for run in &told.oldest {
        let when = jiff::Timestamp::from_microsecond(run.created_us).unwrap_or_default();
        let verdict = run.verdict.map(|verdict| verdict.to_string());
        table.add_row([
            run.run.0.clone(),
            run.name.clone(),
            when.strftime("%Y-%m-%d %H:%M").to_string(),
            verdict.unwrap_or_default(),
        ]);
    }
    if !told.oldest.is_empty() {
        say::print(&table);
    }
    say::out!("{}", sentence(&told));
    ExitCode::SUCCESS
}

fn sentence(told: &Told) -> String {
    let Old {
        runs,
        events,
        needed,
        game_days,
        starts,
    } = told.old;
    let what = format!(
        "{runs} runs with {events} events, {game_days} game days and {starts} times of schedules"
    );
    let did = match &told.removed {
        None => format!("{what} have been kept for long enough"),
        Some(removed) => format!(
            "removed: {} runs, {} game days and {} times of schedules",
            removed.runs, removed.game_days, removed.starts
        ),
    };
    format!("{did}; {needed} older runs stay, as something needs them or they have no end")
}

async fn tell(args: &Args) -> Result<Told, RetentionError> {
    let retention = serve::retention(args.config.as_deref())?;
    let policy = match &args.policy {
        Some(path) => practice::read_policy(path)?,
        None => Policy::default(),
    };
    let directory = store::place();
    let store = args.database.open(&directory).await?;
    let floors = retention.floors(&policy, clock::kept_us());
    let old = store.old(&floors).await?;
    let most = i64::from(args.most);
    let oldest = store.old_runs(&floors, (i64::MIN, ""), most).await?;
    let removed = match args.remove {
        true => Some(remove(&store, &floors).await?),
        false => None,
    };
    Ok(Told {
        old,
        oldest,
        removed,
    })
}

async fn remove(store: &Store, floors: &Floors) -> Result<Removed, RetentionError> {
    if store.dialect() == Dialect::Postgres {
        return Err(RetentionError::Shared);
    }
    let _hold = store::hold(&store::place())?;
    Ok(retention::remove(store, floors).await?)
}
