//! `squall gameday`.

use super::agents::{part, when};
use super::kept::Form;
use super::remote::{At, RemoteError};
use super::{BAD_INPUT, files, fleet, game_day_watch, say};
use crate::api::{
    ActionWanted, GameDayOpened, GameDaySeen, GoWanted, HandOverWanted, NoGoWanted, NoteWanted,
    Page, Remark, RunStarted,
};
use crate::gameday::Phase;
use crate::gameday::report::DayReport;
use crate::store::{GameDayFiles, GameDayKept, NamedText};
use hyper::Method;
use jiff::civil::Date;
use serde::Serialize;
use squall_experiments::language::{self, FILE_BYTES_MAX};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// So many are listed.
const LISTED: u32 = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// Which game day, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// The game day's name, the beginning of it, or `last`
    pub(super) day: String,
    #[command(flatten)]
    pub(super) at: At,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
struct Decision {
    #[command(flatten)]
    which: Which,
    /// Of which step; the one that waits where nothing is said
    #[arg(long, value_name = "N")]
    step: Option<u32>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    because: String,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Opens a game day, with the experiments beside its file; prints its name
    Open {
        /// The game day's file
        file: PathBuf,
        #[command(flatten)]
        at: At,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Lists the game days, the newest first
    List {
        #[command(flatten)]
        at: At,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Shows where a game day is
    Show(Which),
    /// Shows a game day as it happens, up to its end
    ///
    /// Exit codes: 0 nothing broke, 1 something did, 3 something could not be shown, 5 something was stopped. Ctrl-C only ends the view.
    Watch(Which),
    /// Says go: starts the step's experiment
    ///
    /// Exit codes: 0 it is under way, 2 bad input, 4 it may not begin.
    Go {
        #[command(flatten)]
        which: Which,
        /// Which step; the one that waits where nothing is said
        #[arg(long, value_name = "N")]
        step: Option<u32>,
        /// What there is to say to it
        #[arg(long, value_name = "TEXT", default_value = "")]
        because: String,
    },
    /// Says no-go: the step waits on
    NoGo(Decision),
    /// Leaves a step out
    Skip(Decision),
    /// Writes something down
    Note {
        #[command(flatten)]
        which: Which,
        /// What
        text: String,
    },
    /// Writes down what is to be done afterwards
    Action {
        #[command(flatten)]
        which: Which,
        /// What
        text: String,
        /// Who does it
        #[arg(long, value_name = "NAME")]
        owner: String,
        /// Until when: 2026-12-31
        #[arg(long, value_name = "DATE")]
        due: Option<Date>,
    },
    /// Gives the lead to somebody else, or takes it
    HandOver {
        #[command(flatten)]
        which: Which,
        /// Who is to have it; you, where nothing is said
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
    /// Stops the experiment that is under way, at once
    Stop {
        #[command(flatten)]
        which: Which,
        /// Why
        #[arg(long, value_name = "TEXT", default_value = "")]
        because: String,
    },
    /// Ends the game day
    End {
        #[command(flatten)]
        which: Which,
        /// What there is to say at its end
        #[arg(long, value_name = "TEXT", default_value = "")]
        because: String,
    },
    /// Tells the whole day: as Markdown where nothing is said
    Report {
        /// The game day's name, the beginning of it, or `last`
        day: String,
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        at: At,
    },
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("`{}` cannot be read", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{}` is no game day that can be opened:\n{said}", path.display())]
    File { path: PathBuf, said: String },
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

pub(super) async fn game_day(args: &Args) -> ExitCode {
    let done = match &args.verb {
        Verb::Watch(which) => return game_day_watch::watch(which).await,
        verb => through(verb).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Remote(error)) => fleet::refused(&error),
        Err(error) => say::failed(BAD_INPUT, &error),
    }
}

async fn through(verb: &Verb) -> Result<(), Failed> {
    match verb {
        Verb::Open { file, at, json } => open(file, at, *json).await?,
        Verb::List { at, json } => list(at, *json).await?,
        Verb::Show(which) => show(which).await?,
        Verb::Watch(_) => {}
        Verb::Go {
            which,
            step,
            because,
        } => go(which, *step, because).await?,
        Verb::NoGo(decision) => decide(decision, "no-go").await?,
        Verb::Skip(decision) => decide(decision, "skip").await?,
        Verb::Note { which, text } => {
            let text = text.clone();
            which.tell("notes", &NoteWanted { text }).await?;
        }
        Verb::Action {
            which,
            text,
            owner,
            due,
        } => {
            let wanted = ActionWanted {
                text: text.clone(),
                owner: owner.clone(),
                due: *due,
            };
            which.tell("actions", &wanted).await?;
        }
        Verb::HandOver { which, to, because } => {
            let wanted = HandOverWanted {
                to: to.clone(),
                because: because.clone(),
            };
            which.tell("lead", &wanted).await?;
        }
        Verb::Stop { which, because } => {
            let path = format!("stop?because={}", part(because));
            which.tell(&path, &serde_json::json!({})).await?;
        }
        Verb::End { which, because } => {
            let because = because.clone();
            which.tell("end", &Remark { because }).await?;
            say::err!("`squall gameday report {}` tells the whole day", which.day);
        }
        Verb::Report { day, form, at } => report(day, form, at).await?,
    }
    Ok(())
}

impl Which {
    pub(super) fn path(&self, rest: &str) -> String {
        format!("/gamedays/{}{rest}", part(&self.day))
    }

    async fn seen(&self) -> Result<GameDaySeen, RemoteError> {
        let path = self.path("");
        self.at.ask(Method::GET, &path, None::<&()>).await
    }

    /// Says something on the day, and shows where it is then.
    async fn tell(&self, what: &str, body: &impl Serialize) -> Result<(), RemoteError> {
        let path = self.path(&format!("/{what}"));
        let seen: GameDaySeen = self.at.ask(Method::POST, &path, Some(body)).await?;
        if self.json {
            say::json(&seen);
        } else {
            say::err!("{}", stands(&seen));
        }
        Ok(())
    }

    /// The step that is meant: the one that waits, or whatever the day is at, for the controller to say why not.
    async fn step(&self, said: Option<u32>) -> Result<u32, RemoteError> {
        if let Some(step) = said {
            return Ok(step);
        }
        Ok(match self.seen().await?.phase {
            Phase::Waiting { step }
            | Phase::Starting { step, .. }
            | Phase::Running { step, .. } => step,
            Phase::Through | Phase::Over => 1,
        })
    }
}

/// Where a day is, in a line.
fn stands(seen: &GameDaySeen) -> String {
    let step = |step: u32| {
        let index = usize::try_from(step).unwrap_or_default().wrapping_sub(1);
        let name = seen.experiments.get(index).map(|e| e.name.as_str());
        format!("step {step}, {}", name.unwrap_or_default())
    };
    let stands = match &seen.phase {
        Phase::Waiting { step: waiting } => format!("{}, waits for go", step(*waiting)),
        Phase::Starting { step: own, run, .. } => format!("{}, begins as run {run}", step(*own)),
        Phase::Running {
            step: own,
            run,
            stopped: false,
        } => format!("{}, is under way as run {run}", step(*own)),
        Phase::Running { step: own, run, .. } => {
            format!("{}, is being stopped (run {run})", step(*own))
        }
        Phase::Through => "no step is left".to_owned(),
        Phase::Over => "it is over".to_owned(),
    };
    format!("{}: {stands}; {} has the lead", seen.name, seen.lead)
}

async fn open(file: &Path, at: &At, json: bool) -> Result<(), Failed> {
    let files = read(file)?;
    let opened: GameDayOpened = at.ask(Method::POST, "/gamedays", Some(&files)).await?;
    if json {
        say::json(&opened);
    } else {
        say::out!("{}", opened.id);
        say::err!(
            "`squall gameday watch {}` shows it as it happens",
            opened.id
        );
    }
    Ok(())
}

/// A game day's file, and the experiments beside it, each once.
fn read(file: &Path) -> Result<GameDayFiles, Failed> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let own = file.file_name().unwrap_or_default().to_string_lossy();
    let game_day = named(folder, &own)?;
    let reading = language::read_game_day(&file.display().to_string(), &game_day.text);
    let said = || reading.render(&game_day.text, files::colour_of_stderr());
    let value = reading.value.as_ref().ok_or_else(|| Failed::File {
        path: file.to_owned(),
        said: said(),
    })?;
    let mut names: Vec<&str> = value.experiments.iter().map(|e| e.file.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let experiments = names.into_iter().map(|name| named(folder, name));
    Ok(GameDayFiles {
        experiments: experiments.collect::<Result<_, _>>()?,
        game_day,
    })
}

fn named(folder: &Path, name: &str) -> Result<NamedText, Failed> {
    let path = folder.join(name);
    let unreadable = |source| Failed::Read {
        path: path.clone(),
        source,
    };
    let mut text = String::new();
    let opened = std::fs::File::open(&path).map_err(unreadable)?;
    // One byte more than the most: the reader then says that it is too much.
    let most = FILE_BYTES_MAX as u64 + 1;
    opened
        .take(most)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(NamedText {
        name: name.to_owned(),
        text,
    })
}

async fn list(at: &At, json: bool) -> Result<(), RemoteError> {
    let path = format!("/gamedays?limit={LISTED}");
    let page: Page<GameDayKept> = at.ask(Method::GET, &path, None::<&()>).await?;
    if json {
        say::json(&page.items);
        return Ok(());
    }
    let mut table = say::table(&["game day", "name", "date", "opened", "by", "over"]);
    for day in page.items {
        table.add_row([
            day.id.0,
            day.name,
            day.held_on,
            when(Some(day.opened_us)),
            day.opened_by,
            when(day.ended_us),
        ]);
    }
    say::print(&table);
    Ok(())
}

async fn show(which: &Which) -> Result<(), RemoteError> {
    let seen = which.seen().await?;
    if which.json {
        say::json(&seen);
        return Ok(());
    }
    let report: DayReport = which
        .at
        .ask(Method::GET, &which.path("/report"), None::<&()>)
        .await?;
    say::out!("{}", stands(&seen));
    let mut table = say::table(&[
        "step",
        "experiment",
        "environment",
        "went",
        "run",
        "make sure of",
    ]);
    for step in &report.steps {
        let run = step.runs.last().map(|run| run.run.clone());
        table.add_row([
            step.step.to_string(),
            step.name.clone(),
            step.environment.clone(),
            step.outcome().words(),
            run.unwrap_or_default(),
            step.before.join("; "),
        ]);
    }
    say::print(&table);
    Ok(())
}

async fn go(which: &Which, step: Option<u32>, because: &str) -> Result<(), RemoteError> {
    let step = which.step(step).await?;
    let wanted = GoWanted {
        step,
        because: because.to_owned(),
    };
    let path = which.path("/go");
    let started: RunStarted = which.at.ask(Method::POST, &path, Some(&wanted)).await?;
    if which.json {
        say::json(&started);
    } else {
        say::out!("{}", started.run);
        say::err!("step {step} is under way; `squall gameday stop` stops it");
    }
    Ok(())
}

async fn decide(decision: &Decision, what: &str) -> Result<(), RemoteError> {
    let which = &decision.which;
    let wanted = NoGoWanted {
        step: which.step(decision.step).await?,
        because: decision.because.clone(),
    };
    which.tell(what, &wanted).await
}

async fn report(day: &str, form: &Form, at: &At) -> Result<(), RemoteError> {
    let kind = form.media_type();
    let path = format!("/gamedays/{}/report", part(day));
    let text = at.text(&path, kind).await?;
    say::out!("{}", text.trim_end());
    Ok(())
}
