//! `squall git`.

use super::agents::part;
use super::remote::{At, RemoteError};
use super::{BAD_INPUT, INCONCLUSIVE, say};
use crate::git::{Change, GitError, Plan, Repository, Source, plan};
use crate::store::ScheduleKept;
use hyper::Method;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Shows what a branch would change on a controller, and what is broken; changes nothing
    ///
    /// Exit codes: 0 everything is good, 2 a file cannot be used, 3 the repository or the controller cannot be reached.
    Plan {
        /// Any repository, fetched to here: https://…, ssh://… or file:///…; the one that the controller follows where nothing is said
        url: Option<String>,
        /// Which branch; where nothing is said the one that is followed, and `main` of a URL
        #[arg(long)]
        branch: Option<String>,
        /// Which folder of the URL's repository
        #[arg(long, default_value = "", requires = "url")]
        path: String,
        /// Whose signatures the commit must have, as ssh-keygen(1) reads it (ALLOWED SIGNERS)
        #[arg(long, value_name = "FILE", requires = "url")]
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
    let planned = match url {
        Some(url) => {
            let source = Source {
                url: url.clone(),
                branch: branch.clone().unwrap_or_else(Source::branch_default),
                path: path.clone(),
                allowed_signers: allowed_signers.clone(),
            };
            planned(source, at).await
        }
        None => asked(branch.as_deref(), at).await,
    };
    match planned {
        Ok(plan) => show(&plan, *json),
        Err(Failed::Git(error @ (GitError::Source { .. } | GitError::Unsigned { .. }))) => {
            say::failed(BAD_INPUT, &error)
        }
        Err(Failed::Remote(error)) if error.is_input() => say::failed(BAD_INPUT, &error),
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

/// What the controller says of the repository that it follows.
async fn asked(branch: Option<&str>, at: &At) -> Result<Plan, Failed> {
    let branch = branch.map_or_else(String::new, |branch| format!("?branch={}", part(branch)));
    let path = format!("/git/plan{branch}");
    Ok(at.ask(Method::GET, &path, None::<&()>).await?)
}

async fn planned(source: Source, at: &At) -> Result<Plan, Failed> {
    let folder = tempfile::tempdir().map_err(Failed::Folder)?;
    let repository = Repository::open(source, folder.path()).await?;
    let commit = repository.fetch().await?;
    repository.verify(&commit).await?;
    let tree = repository.tree(&commit).await?;
    let in_force: Vec<ScheduleKept> = at.list("/schedule-files").await?;
    Ok(plan(&tree, &in_force, None))
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
        let mut table = say::table(&["what", "name", "what would happen"]);
        let happens = |change| match change {
            Change::New => "comes into force",
            Change::Changed => "is changed",
            Change::Same => "stays as it is",
        };
        for put in &plan.put {
            table.add_row(["schedule", put.name.as_str(), happens(put.change)]);
        }
        for name in &plan.remove {
            table.add_row(["schedule", name.as_str(), "is removed"]);
        }
        for day in &plan.game_days {
            let what = day.change.map_or("", |change| match change {
                Change::New => "is opened",
                Change::Changed | Change::Same => "was opened already",
            });
            table.add_row(["game day", day.name.as_str(), what]);
        }
        for one in &plan.experiments {
            let what = one.change.map_or("", |change| match change {
                Change::New => "is new",
                Change::Changed => "is changed: begins at stage 1",
                Change::Same => "does the same",
            });
            table.add_row(["experiment", one.name.as_str(), what]);
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
