//! `squall git`.

use super::remote::{At, RemoteError};
use super::{BAD_INPUT, INCONCLUSIVE, say};
use crate::git::{Change, GitError, Plan, Repository, Source, plan};
use crate::store::ScheduleKept;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Fetches a branch and shows what its schedules would change on a controller, and what is broken; changes nothing
    ///
    /// Exit codes: 0 everything is good, 2 a file cannot be used, 3 the repository or the controller cannot be reached.
    Plan {
        /// The repository: https://…, ssh://… or file:///…
        url: String,
        /// Which branch
        #[arg(long, default_value = "main")]
        branch: String,
        /// Which folder of it
        #[arg(long, default_value = "")]
        path: String,
        /// Whose signatures the commit must have, as ssh-keygen(1) reads it (ALLOWED SIGNERS)
        #[arg(long, value_name = "FILE")]
        allowed_signers: Option<PathBuf>,
        #[command(flatten)]
        at: At,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("there is no folder to fetch into")]
    Folder(#[source] std::io::Error),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

pub(super) async fn git(args: &Args) -> ExitCode {
    let Verb::Plan {
        url,
        branch,
        path,
        allowed_signers,
        at,
        json,
    } = &args.verb;
    let source = Source {
        url: url.clone(),
        branch: branch.clone(),
        path: path.clone(),
        allowed_signers: allowed_signers.clone(),
    };
    match planned(source, at).await {
        Ok(plan) => show(&plan, *json),
        Err(Failed::Git(error @ (GitError::Source { .. } | GitError::Unsigned { .. }))) => {
            say::failed(BAD_INPUT, &error)
        }
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

async fn planned(source: Source, at: &At) -> Result<Plan, Failed> {
    let folder = tempfile::tempdir().map_err(Failed::Folder)?;
    let repository = Repository::open(source, folder.path()).await?;
    let commit = repository.fetch().await?;
    repository.verify(&commit).await?;
    let tree = repository.tree(&commit).await?;
    let in_force: Vec<ScheduleKept> = at.list("/schedule-files").await?;
    Ok(plan(&tree, &in_force))
}

fn show(plan: &Plan, json: bool) -> ExitCode {
    if json {
        say::json(plan);
    } else {
        say::err!(
            "commit {}: {} can be used",
            plan.commit,
            say::count(plan.good, "file")
        );
        let mut table = say::table(&["schedule", "what would happen"]);
        for put in &plan.put {
            let what = match put.change {
                Change::New => "comes into force",
                Change::Changed => "is changed",
                Change::Same => "stays as it is",
            };
            table.add_row([put.name.as_str(), what]);
        }
        for name in &plan.remove {
            table.add_row([name.as_str(), "is removed"]);
        }
        say::print(&table);
        for broken in &plan.broken {
            say::err!(
                "\n{} cannot be used; what it was before stays in force:\n{}",
                broken.path,
                broken.said
            );
        }
    }
    ExitCode::from(if plan.broken.is_empty() { 0 } else { BAD_INPUT })
}
