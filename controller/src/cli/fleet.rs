//! Runs on a controller: `squall run --controller`, `squall watch`, `squall stop`, `squall halt`.

use super::remote::{At, RemoteError};
use super::{BAD_INPUT, INCONCLUSIVE, agents, say};
use crate::api::{HaltSeen, HaltWanted, RunSeen, RunStarted, RunWanted};
use crate::live::{self, Lengths, Output};
use crate::report::Summary;
use crate::run::FEED_EVENTS_MAX;
use hyper::Method;
use squall_experiments::event::{Event, Happening};
use squall_experiments::verdict::Verdict;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;

/// A controller that is away is asked again after this.
pub(super) const AGAIN: Duration = Duration::from_millis(500);
/// So often in a row, before its absence is the result: half a minute.
pub(super) const AGAIN_MAX: u32 = 60;

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The run's name, the beginning of it, or `last`
    run: String,
    #[command(flatten)]
    at: At,
    /// The report as one JSON document on standard output, when the run has ended
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct HaltArgs {
    #[command(flatten)]
    at: At,
    /// Why, for everybody who asks
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["lift", "show"])]
    because: Option<String>,
    /// Lift it: runs may start again
    #[arg(long, conflicts_with = "because")]
    lift: bool,
    /// Say whether everything is halted, and do nothing
    #[arg(long, conflicts_with_all = ["because", "lift"])]
    show: bool,
}

pub(super) fn failed(error: &RemoteError) -> ExitCode {
    let code = if error.is_input() {
        BAD_INPUT
    } else {
        INCONCLUSIVE
    };
    say::failed(code, error)
}

/// A run that was not started: a closed gate and a halt are verdicts.
pub(super) fn refused(error: &RemoteError) -> ExitCode {
    if error.is_no() {
        return say::failed(Verdict::Refused.exit_code(), error);
    }
    failed(error)
}

pub(super) async fn halt(args: &HaltArgs) -> ExitCode {
    let done = if args.lift {
        args.at.tell(Method::DELETE, "/halt").await
    } else if args.show {
        Ok(())
    } else {
        let because = args.because.clone().unwrap_or_default();
        let wanted = HaltWanted { because };
        let seen = args
            .at
            .ask::<HaltSeen>(Method::POST, "/halt", Some(&wanted));
        seen.await.map(drop)
    };
    if let Err(error) = done {
        return failed(&error);
    }
    match args
        .at
        .ask::<HaltSeen>(Method::GET, "/halt", None::<&()>)
        .await
    {
        Ok(seen) => {
            match seen.halted {
                Some(halted) => say::out!("{halted}; nothing starts until `squall halt --lift`"),
                None => say::out!("nothing is halted"),
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

pub(super) async fn stop(args: &RunArgs) -> ExitCode {
    match tell_stop(&args.at, &args.run).await {
        Ok(()) => watch(args).await,
        Err(error) => failed(&error),
    }
}

async fn tell_stop(at: &At, run: &str) -> Result<(), RemoteError> {
    let path = format!("/runs/{}/stop", agents::part(run));
    at.tell(Method::POST, &path).await
}

pub(super) async fn watch(args: &RunArgs) -> ExitCode {
    match seen_through(&args.at, &args.run, args.json, false).await {
        Ok((code, _)) => code,
        Err(error) => failed(&error),
    }
}

/// Starts a run, shows it, and stops it when a person says so.
pub(super) async fn run(
    at: &At,
    wanted: &RunWanted,
    json: bool,
) -> Result<(ExitCode, Summary), RemoteError> {
    let started: RunStarted = at.ask(Method::POST, "/runs", Some(wanted)).await?;
    say::err!("run {}", started.run);
    seen_through(at, &started.run.0, json, true).await
}

/// Shows a run up to its verdict. Where it is `ours`, a person's Ctrl-C stops it; else it only ends the view.
async fn seen_through(
    at: &At,
    run: &str,
    json: bool,
    ours: bool,
) -> Result<(ExitCode, Summary), RemoteError> {
    let (feed, watching) = broadcast::channel(FEED_EVENTS_MAX);
    let output = if json { Output::Stderr } else { Output::Stdout };
    let mut events = Vec::new();
    let view = tokio::spawn(live::watch(watching, Lengths::default(), output));
    let stopping = ours.then(|| tokio::spawn(stop_on_signal(at.clone(), run.to_owned())));
    let heard = hear(at, run, &mut events, &feed).await;
    if let Some(stopping) = stopping {
        stopping.abort();
    }
    drop(feed);
    let _shown = view.await;
    heard?;
    let summary = Summary::of(&events);
    if json {
        say::json(&summary);
    }
    let code = summary.verdict.map_or(INCONCLUSIVE, |v| v.exit_code());
    Ok((ExitCode::from(code), summary))
}

/// Hears a run's events up to its verdict, again from where it was when the link breaks.
async fn hear(
    at: &At,
    run: &str,
    events: &mut Vec<Event>,
    feed: &broadcast::Sender<Event>,
) -> Result<(), RemoteError> {
    let path = format!("/runs/{}/events", agents::part(run));
    let mut failures = 0;
    loop {
        let before = events.len();
        let heard = at
            .events(&path, before.checked_sub(1), |event: Event| {
                let _nobody_watches = feed.send(event.clone());
                events.push(event);
            })
            .await;
        let last = events.last().map(|event| &event.what);
        if matches!(last, Some(Happening::Finished(_))) {
            return Ok(());
        }
        failures = if events.len() > before {
            0
        } else {
            failures + 1
        };
        match heard {
            Err(error) if error.is_input() || failures >= AGAIN_MAX => return Err(error),
            _ if failures >= AGAIN_MAX => return Err(RemoteError::Slow),
            _ => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Each word stops the run, on the controller; the view goes on to the verdict.
async fn stop_on_signal(at: At, run: String) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
    let [Ok(mut interrupt), Ok(mut terminate)] = kinds.map(signal) else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if let Err(error) = tell_stop(&at, &run).await {
            say::failed(0, &error);
        }
    }
}

/// `squall runs --controller`.
pub(super) async fn list(at: &At, most: u32, json: bool) -> Result<(), RemoteError> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let runs: Vec<RunSeen> = at.list_up_to("/runs", most).await?;
    if json {
        say::json(&runs);
        return Ok(());
    }
    let head = [
        "run",
        "experiment",
        "environment",
        "by",
        "when",
        "verdict",
        "because",
    ];
    let mut table = say::table(&head);
    for run in runs {
        let when = jiff::Timestamp::from_microsecond(run.created_us).unwrap_or_default();
        let verdict = match (run.under_way, run.verdict) {
            (_, Some(verdict)) => verdict.to_string(),
            (true, None) => "under way".into(),
            (false, None) => "interrupted".into(),
        };
        table.add_row([
            run.run.0,
            run.name,
            run.environment.unwrap_or_default(),
            run.by.unwrap_or_default(),
            when.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            verdict,
            run.because.unwrap_or_default(),
        ]);
    }
    say::print(&table);
    Ok(())
}

/// The report of a run that a controller keeps.
pub(super) async fn summary(at: &At, run: &str) -> Result<Summary, RemoteError> {
    let path = format!("/runs/{}/events", agents::part(run));
    let mut events = Vec::new();
    at.events(&path, None, |event| events.push(event)).await?;
    Ok(Summary::of(&events))
}
