//! `squall backup` and `squall restore`.

use super::database::{DatabaseError, StoreArgs};
use super::{BAD_INPUT, INCONCLUSIVE, say};
use crate::fleet::authority::{Authority, AuthorityError};
use crate::store::{self, Dialect, StoreError};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup: one file, an SQLite database, whichever database it is of. It holds secrets
    file: PathBuf,
    #[command(flatten)]
    database: StoreArgs,
}

#[derive(Debug, thiserror::Error)]
enum BackupError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// Writes everything that is kept into a file; a controller may be serving meanwhile.
pub(super) async fn backup(args: &Args) -> ExitCode {
    ended(args, back_up(args).await, "kept in")
}

/// Takes everything from a file into an empty database; no controller may be serving.
pub(super) async fn restore(args: &Args) -> ExitCode {
    ended(args, bring_back(args).await, "restored from")
}

fn ended(args: &Args, result: Result<u64, BackupError>, what: &str) -> ExitCode {
    match result {
        Ok(rows) => {
            say::err!("squall: {rows} rows {what} {}", args.file.display());
            ExitCode::SUCCESS
        }
        Err(error @ BackupError::Database(DatabaseError::Server(_))) => {
            say::failed(BAD_INPUT, &error)
        }
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

async fn back_up(args: &Args) -> Result<u64, BackupError> {
    let directory = store::place();
    let store = args.database.open(&directory).await?;
    // With SQLite the authority is in files beside it.
    let authority = match store.dialect() {
        Dialect::Sqlite => Authority::read(&directory)?,
        Dialect::Postgres => None,
    };
    Ok(store.back_up(&args.file, authority).await?)
}

async fn bring_back(args: &Args) -> Result<u64, BackupError> {
    let directory = store::place();
    let store = args.database.open(&directory).await?;
    let _hold = store::hold(&directory)?;
    let rows = store.restore(&args.file).await?;
    if store.dialect() == Dialect::Sqlite
        && let Some((certificate, key)) = store.authority().await?
    {
        Authority::place(&directory, &certificate, &key)?;
    }
    Ok(rows)
}
