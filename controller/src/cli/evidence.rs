//! `squall evidence`: what a run has shown, signed, for another controller.

use super::remote::{At, RemoteError};
use super::{BAD_INPUT, INCONCLUSIVE, agents, say};
use crate::api::{EvidenceKey, Page};
use crate::stage::Evidence;
use crate::stage::statement::{self, Envelope};
use clap::Subcommand;
use hyper::Method;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct EvidenceArgs {
    #[command(flatten)]
    at: At,
    /// As one JSON document
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: EvidenceVerb,
}

#[derive(Debug, Subcommand)]
enum EvidenceVerb {
    /// Lists the runs that held or broke in an environment
    List {
        /// Where
        #[arg(long, value_name = "NAME")]
        environment: String,
    },
    /// Prints a run's signed statement, to be kept next to its file in Git
    Export {
        /// The run
        run: String,
        /// Where it ran
        #[arg(long, value_name = "NAME")]
        environment: String,
        /// Write it here
        #[arg(long, value_name = "FILE.json")]
        out: Option<PathBuf>,
    },
    /// Hands another controller's statement in; it counts where the policy trusts its key
    Import {
        /// The statement
        file: PathBuf,
    },
    /// Reads a statement, and whether this key has signed it; asks no controller
    Verify {
        /// The statement
        file: PathBuf,
        /// The public key, as `squall evidence key` prints it
        #[arg(long)]
        key: String,
    },
    /// Prints the public key under which this controller vouches, for others' policies
    Key,
}

/// A statement that is not there, or none.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("the statement `{}` cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{}` is no signed statement", path.display())]
    Form {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the statement cannot be written to `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

fn read(path: &Path) -> Result<Envelope, FileError> {
    let path = path.to_owned();
    match std::fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| FileError::Form { path, source })
        }
        Err(source) => Err(FileError::Read { path, source }),
    }
}

pub(super) async fn evidence(args: &EvidenceArgs) -> ExitCode {
    match &args.what {
        EvidenceVerb::List { environment } => agents::ended(list(args, environment).await),
        EvidenceVerb::Export {
            run,
            environment,
            out,
        } => {
            let (run, environment) = (agents::part(run), agents::part(environment));
            let path = format!("/environments/{environment}/evidence/{run}/statement");
            match args.at.ask(Method::GET, &path, None::<&()>).await {
                Ok(envelope) => write(&envelope, out.as_deref()),
                Err(error) => agents::ended(Err(error)),
            }
        }
        EvidenceVerb::Import { file } => match read(file) {
            Ok(envelope) => agents::ended(import(args, &envelope).await),
            Err(error) => say::failed(BAD_INPUT, &error),
        },
        EvidenceVerb::Verify { file, key } => match read(file) {
            Ok(envelope) => match statement::verify(&envelope, [key.as_str()]) {
                Ok(evidence) => tell(args, &evidence),
                Err(error) => say::failed(1, &error),
            },
            Err(error) => say::failed(BAD_INPUT, &error),
        },
        EvidenceVerb::Key => agents::ended(key(args).await),
    }
}

fn write(envelope: &Envelope, out: Option<&Path>) -> ExitCode {
    let Some(path) = out else {
        return say::json(envelope);
    };
    let text = serde_json::to_string_pretty(envelope).unwrap_or_default();
    match std::fs::write(path, format!("{text}\n")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(source) => {
            let path = path.to_owned();
            say::failed(INCONCLUSIVE, &FileError::Write { path, source })
        }
    }
}

fn tell(args: &EvidenceArgs, evidence: &Evidence) -> ExitCode {
    if args.json {
        return say::json(evidence);
    }
    let (run, verdict, environment) = (&evidence.run, evidence.verdict, &evidence.environment);
    say::out!(
        "{}: {verdict} in `{environment}` (run {run}, ended {}), digest {}",
        evidence.experiment,
        agents::when(Some(evidence.ended_us)),
        evidence.digest
    );
    ExitCode::SUCCESS
}

async fn list(args: &EvidenceArgs, environment: &str) -> Result<(), RemoteError> {
    let path = format!("/environments/{}/evidence", agents::part(environment));
    let all: Vec<Evidence> = args.at.list(&path).await?;
    if args.json {
        say::json(&Page {
            items: all,
            next: None,
        });
        return Ok(());
    }
    let mut table = say::table(&[
        "run",
        "experiment",
        "verdict",
        "ended",
        "stage",
        "digest",
        "vouched for by",
    ]);
    for one in all {
        table.add_row([
            one.run.0,
            one.experiment,
            one.verdict.to_string(),
            agents::when(Some(one.ended_us)),
            one.stage.to_string(),
            one.digest.chars().take(12).collect(),
            one.signed_by.unwrap_or_else(|| "this controller".into()),
        ]);
    }
    say::print(&table);
    Ok(())
}

async fn import(args: &EvidenceArgs, envelope: &Envelope) -> Result<(), RemoteError> {
    let evidence: Evidence = args
        .at
        .ask(Method::POST, "/evidence", Some(envelope))
        .await?;
    tell(args, &evidence);
    Ok(())
}

async fn key(args: &EvidenceArgs) -> Result<(), RemoteError> {
    let key: EvidenceKey = args
        .at
        .ask(Method::GET, "/evidence/key", None::<&()>)
        .await?;
    if args.json {
        say::json(&key);
    } else {
        say::out!("{}", key.key);
    }
    Ok(())
}
