//! `squall check` and `squall schema`.

use super::{BAD_INPUT, files, say};
use serde::Serialize;
use squall_experiments::language::{self, Diagnostic, Reading};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Experiment files, schedules and game days; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// As one JSON document: every file with its diagnostics
    #[arg(long)]
    json: bool,
}

/// What `--json` says of one file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    path: String,
    good: bool,
    digest: Option<String>,
    diagnostics: Vec<Diagnostic>,
    /// Why it could not be read at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

pub(super) fn check(args: &Args) -> ExitCode {
    let mut all = Vec::new();
    for path in &args.files {
        all.push(one(path, args.json));
    }
    let bad = all.iter().filter(|checked| !checked.good).count();
    if args.json {
        say::json(&all);
    } else {
        for good in all.iter().filter(|checked| checked.good) {
            say::out!("{}: good", good.path);
        }
        if bad > 0 {
            say::err!(
                "{} of {} cannot be used",
                bad,
                say::count(all.len(), "file")
            );
        }
    }
    ExitCode::from(if bad == 0 { 0 } else { BAD_INPUT })
}

fn one(path: &std::path::Path, json: bool) -> Checked {
    let read = match files::read(path) {
        Ok(read) => read,
        Err(error) => {
            if !json {
                say::failed(BAD_INPUT, &error);
            }
            return Checked {
                path: path.display().to_string(),
                good: false,
                digest: None,
                diagnostics: Vec::new(),
                unreadable: Some(say::chain(&error)),
            };
        }
    };
    let reading = of_kind(read.reading, &read.path, &read.text);
    if !json && !reading.said.is_empty() {
        say::err!("{}\n", reading.said);
    }
    Checked {
        path: read.path,
        good: reading.is_good,
        digest: reading.digest,
        diagnostics: reading.diagnostics,
        unreadable: None,
    }
}

/// What is said of a file of any kind.
struct Said {
    is_good: bool,
    digest: Option<String>,
    diagnostics: Vec<Diagnostic>,
    said: String,
}

/// Reads a file as the kind that it says it is; an experiment where it says none.
fn of_kind(experiment: Reading, path: &str, text: &str) -> Said {
    let colour = files::colour_of_stderr();
    let other = |is_good, diagnostics, said| Said {
        is_good,
        digest: None,
        diagnostics,
        said,
    };
    match language::kind(text).as_deref() {
        Some("Schedule") => {
            let read = language::read_schedule(path, text);
            let said = read.render(text, colour);
            other(read.value.is_some(), read.diagnostics, said)
        }
        Some("GameDay") => {
            let read = language::read_game_day(path, text);
            let said = read.render(text, colour);
            other(read.value.is_some(), read.diagnostics, said)
        }
        _ => Said {
            said: experiment.render(text, colour),
            is_good: !experiment.is_bad(),
            digest: experiment.digest,
            diagnostics: experiment.diagnostics,
        },
    }
}

/// A document that has a schema.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(super) enum Document {
    /// Experiment files
    #[default]
    Experiment,
    /// Schedules
    Schedule,
    /// Game days
    GameDay,
    /// What `squall run --json` and `squall report --json` print
    Report,
    /// The API of a controller: OpenAPI 3.1
    Openapi,
}

pub(super) fn schema(of: Document) -> ExitCode {
    match of {
        // Of the file as people write it, short forms and all; what it is read into has a form of its own.
        Document::Experiment => say::json(&squall_experiments::schema::experiment()),
        Document::Schedule => say::json(&squall_experiments::schema::schedule()),
        Document::GameDay => say::json(&squall_experiments::schema::game_day()),
        Document::Report => say::json(&crate::report::schema()),
        Document::Openapi => say::json(&crate::api::document()),
    }
}
