//! `squall schedule`.

use super::agents::part;
use super::remote::{At, RemoteError};
use super::{BAD_INPUT, INCONCLUSIVE, say};
use crate::api::{Because, ScheduleSeen};
use crate::calendar::{CALENDAR_BYTES_MAX, PrepareError, Prepared, Upcoming, upcoming};
use crate::store::{NamedText, ScheduleFiles, StartKept, StartState};
use hyper::Method;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use squall_experiments::language::{self, FILE_BYTES_MAX};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Shows when a schedule's file would start runs, and what would keep one from starting; asks no controller
    Next {
        /// The schedule's file; its experiment and calendars are beside it
        file: PathBuf,
        /// So many times
        #[arg(short = 'n', long = "number", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=10_000))]
        number: u16,
        /// From this instant on (RFC 3339); now where nothing is said
        #[arg(long, value_name = "TIME")]
        from: Option<Timestamp>,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Lists the schedules in force
    List {
        #[command(flatten)]
        at: At,
        /// As one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Puts a schedule into force, with the experiment and the calendars beside its file
    Add {
        /// The schedule's file
        file: PathBuf,
        #[command(flatten)]
        at: At,
    },
    /// Starts nothing more until it is resumed; what runs is not stopped
    Suspend {
        /// The schedule
        name: String,
        /// Why
        #[arg(long)]
        because: String,
        #[command(flatten)]
        at: At,
    },
    /// Starts runs again, from the next time on
    Resume {
        /// The schedule
        name: String,
        #[command(flatten)]
        at: At,
    },
    /// Takes a schedule out of force
    Remove {
        /// The schedule
        name: String,
        #[command(flatten)]
        at: At,
    },
    /// Tells what became of a schedule's times, the newest first
    Starts {
        /// The schedule
        name: String,
        #[command(flatten)]
        at: At,
        /// As one JSON document
        #[arg(long)]
        json: bool,
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
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

pub(super) async fn schedule(args: &Args) -> ExitCode {
    match through(&args.verb).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Remote(error)) if !error.is_input() => say::failed(INCONCLUSIVE, &error),
        Err(error) => say::failed(BAD_INPUT, &error),
    }
}

async fn through(verb: &Verb) -> Result<(), Failed> {
    match verb {
        Verb::Next {
            file,
            number,
            from,
            json,
        } => next(file, *number, *from, *json)?,
        Verb::List { at, json } => list(at, *json).await?,
        Verb::Add { file, at } => {
            let files = read(file)?;
            let name = Prepared::new(&files)?.schedule.metadata.name;
            let path = format!("/schedules/{}", part(&name));
            let seen: ScheduleSeen = at.ask(Method::PUT, &path, Some(&files)).await?;
            in_force(&seen);
        }
        Verb::Suspend { name, because, at } => {
            let why = Because {
                because: because.clone(),
            };
            let path = format!("/schedules/{}/suspend", part(name));
            let _seen: ScheduleSeen = at.ask(Method::POST, &path, Some(&why)).await?;
            say::err!("`{name}` starts nothing more; `squall schedule resume {name}` goes on");
        }
        Verb::Resume { name, at } => {
            let path = format!("/schedules/{}/resume", part(name));
            let seen: ScheduleSeen = at.ask(Method::POST, &path, None::<&()>).await?;
            in_force(&seen);
        }
        Verb::Remove { name, at } => {
            at.tell(Method::DELETE, &format!("/schedules/{}", part(name)))
                .await?
        }
        Verb::Starts { name, at, json } => starts(at, name, *json).await?,
    }
    Ok(())
}

fn in_force(seen: &ScheduleSeen) {
    match seen.next.iter().find(|next| next.blocked.is_none()) {
        Some(next) => say::err!(
            "`{}` is in force; it starts next at {}",
            seen.name,
            next.local
        ),
        None => say::err!(
            "`{}` is in force; none of its next times can start a run: see `squall schedule next`",
            seen.name
        ),
    }
}

/// A schedule's file, and all that it names, beside it.
fn read(file: &Path) -> Result<ScheduleFiles, Failed> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let named = |name: &str, most: usize| {
        let path = folder.join(name);
        let unreadable = |source| Failed::Read {
            path: path.clone(),
            source,
        };
        let mut text = String::new();
        let opened = std::fs::File::open(&path).map_err(unreadable)?;
        // One byte more than the most: the reader then says that it is too much.
        opened
            .take(most as u64 + 1)
            .read_to_string(&mut text)
            .map_err(unreadable)?;
        Ok::<NamedText, Failed>(NamedText {
            name: name.to_owned(),
            text,
        })
    };
    let own = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let schedule = named(&own, FILE_BYTES_MAX)?;
    let reading = language::read_schedule(&file.display().to_string(), &schedule.text);
    let Some(value) = reading.value.as_ref() else {
        let said = reading.render(&schedule.text, super::files::colour_of_stderr());
        return Err(PrepareError::File {
            path: file.display().to_string(),
            said,
        }
        .into());
    };
    let blackouts: Result<Vec<NamedText>, Failed> = value
        .blackouts
        .iter()
        .map(|name| named(name, CALENDAR_BYTES_MAX))
        .collect();
    Ok(ScheduleFiles {
        experiment: named(&value.experiment, FILE_BYTES_MAX)?,
        schedule,
        blackouts: blackouts?,
    })
}

fn next(file: &Path, number: u16, from: Option<Timestamp>, json: bool) -> Result<(), Failed> {
    let prepared = Prepared::new(&read(file)?)?;
    let times = upcoming(
        &prepared.timetable,
        from.unwrap_or_else(Timestamp::now),
        usize::from(number),
    );
    if json {
        say::json(&times);
        return Ok(());
    }
    let mut table = say::table(&["due", "UTC", "starts", "kept from it by"]);
    for Upcoming {
        due,
        local,
        start,
        blocked,
    } in times
    {
        let utc = due.strftime("%Y-%m-%d %H:%MZ").to_string();
        let starts = start
            .to_zoned(prepared.timetable.zone().clone())
            .strftime("%H:%M:%S")
            .to_string();
        table.add_row([local, utc, starts, blocked.unwrap_or_default()]);
    }
    say::print(&table);
    Ok(())
}

async fn list(at: &At, json: bool) -> Result<(), RemoteError> {
    let all: Vec<ScheduleSeen> = at.list("/schedules").await?;
    if json {
        say::json(&all);
        return Ok(());
    }
    let mut table = say::table(&[
        "schedule",
        "experiment",
        "cron",
        "time zone",
        "next",
        "commit",
        "suspended",
    ]);
    for one in all {
        let next = one.next.into_iter().find(|next| next.blocked.is_none());
        let next = next
            .filter(|_| one.suspended_us.is_none())
            .map_or_else(|| "-".into(), |next| next.local);
        let commit: String = one.source.unwrap_or_default().chars().take(12).collect();
        table.add_row([
            one.name,
            one.experiment,
            one.cron,
            one.time_zone,
            next,
            commit,
            one.suspended_because.unwrap_or_default(),
        ]);
    }
    say::print(&table);
    Ok(())
}

async fn starts(at: &At, name: &str, json: bool) -> Result<(), RemoteError> {
    let path = format!("/schedules/{}/starts", part(name));
    let all: Vec<StartKept> = at.list(&path).await?;
    if json {
        say::json(&all);
        return Ok(());
    }
    let mut table = say::table(&["due", "what", "run", "because"]);
    for one in all {
        let due = Timestamp::from_microsecond(one.due_us)
            .unwrap_or_default()
            .to_zoned(TimeZone::UTC);
        let what = match one.state {
            StartState::Claimed => "is being started",
            StartState::Started => "runs",
            StartState::Ended => "ended",
            StartState::PassedOver => "passed over",
            StartState::Refused => "refused",
        };
        let run = one.run.map(|run| run.0).unwrap_or_default();
        table.add_row([
            due.strftime("%Y-%m-%d %H:%MZ").to_string(),
            what.to_owned(),
            run,
            one.because.unwrap_or_default(),
        ]);
    }
    say::print(&table);
    Ok(())
}
