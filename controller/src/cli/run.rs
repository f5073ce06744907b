//! `squall run`.

use super::remote::MaybeAt;
use super::{BAD_INPUT, FileArg, INCONCLUSIVE, files, fleet, say};
use crate::api::RunWanted;
use crate::fleet::Program;
use crate::live::{self, Lengths, Output};
use crate::report::{self, Summary};
use crate::run::desk::ENVIRONMENT;
use crate::run::{self, FEED_EVENTS_MAX, Halt, Order, Outcome, RunError};
use crate::store::{self, Store};
use crate::trace::{Counts, TraceArgs};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;

/// So long a run's trace may take to be sent, once its report is written.
const SENT_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: FileArg,
    /// The report as one JSON document on standard output
    #[arg(long)]
    json: bool,
    /// Write the report as one HTML file
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write a summary fit for a pull request
    #[arg(long, value_name = "FILE.md")]
    markdown: Option<PathBuf>,
    /// What random decisions start from; drawn, and said, where nothing is given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    at: MaybeAt,
    /// The controller's environment in which it runs
    #[arg(long, value_name = "NAME", default_value = ENVIRONMENT, requires = "controller")]
    environment: String,
    #[command(flatten)]
    traces: TraceArgs,
}

/// Why a report was not written.
#[derive(Debug, thiserror::Error)]
#[error("the report `{}` cannot be written", path.display())]
struct Unwritten {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

/// Files that were made before the run, so that a name that cannot be written is known before anything is injected.
struct Paper {
    html: Option<(PathBuf, File)>,
    markdown: Option<(PathBuf, File)>,
}

pub(super) async fn run(args: &Args, agent: &Program) -> ExitCode {
    let Some(good) = files::good(&args.file.file) else {
        return ExitCode::from(BAD_INPUT);
    };
    let paper = Paper::lay_out(args);
    let mut paper = match paper {
        Ok(paper) => paper,
        Err(error) => return say::failed(BAD_INPUT, &error),
    };
    if let Some(at) = args.at.at() {
        let wanted = RunWanted {
            file: good.text,
            path: good.path,
            environment: args.environment.clone(),
            seed: args.seed,
        };
        return match fleet::run(&at, &wanted, args.json).await {
            Ok((code, summary)) => {
                paper.fill(&summary);
                code
            }
            Err(error) => fleet::refused(&error),
        };
    }
    let traces = match args.traces.start(Counts::default()) {
        Ok(traces) => traces,
        Err(error) => return say::failed(BAD_INPUT, &error),
    };
    let order = Order {
        run: run::new_id(),
        experiment: good.experiment,
        file_text: good.text,
        file_path: good.path,
        digest: good.digest,
        seed: args.seed.unwrap_or_else(run::drawn_seed),
        environment: None,
        by: None,
    };
    let store = keep().await;
    match watched(order, agent, store.as_ref(), args.json).await {
        Ok(outcome) => {
            let summary = Summary::of(&outcome.events);
            paper.fill(&summary);
            if args.json {
                say::json(&summary);
            }
            if let Some(traces) = traces {
                traces.tell(&outcome.events);
                traces.flush(SENT_MAX).await;
            }
            ExitCode::from(outcome.finished.verdict.exit_code())
        }
        Err(error @ RunError::Probe(_)) => say::failed(BAD_INPUT, &error),
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

/// Runs it, with a person's Ctrl-C heard and what happens shown.
async fn watched(
    order: Order,
    agent: &Program,
    store: Option<&Store>,
    json: bool,
) -> Result<Outcome, RunError> {
    let (halt, halting) = Halt::new();
    let signals = tokio::spawn(hear_signals(halt));
    let (feed, watching) = broadcast::channel(FEED_EVENTS_MAX);
    let lengths = Lengths::of(&order.experiment);
    let output = if json { Output::Stderr } else { Output::Stdout };
    let view = tokio::spawn(live::watch(watching, lengths, output));
    let outcome = run::here(order, agent, store, feed, halting).await;
    signals.abort();
    // Without a run the feed is closed, and the view ends as it does after the verdict.
    if let Err(error) = view.await {
        tracing::warn!(%error, "the live view failed");
    }
    outcome
}

/// Ctrl-C, a terminal that hangs up and a service manager's word all mean the same. Each counts: the second kills.
async fn hear_signals(halt: Halt) {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let [interrupt, terminate, hangup] = kinds.map(signal);
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (interrupt, terminate, hangup)
    else {
        tracing::error!(
            "signals cannot be heard: Ctrl-C ends this process, and the faults with their lease"
        );
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        let _or_it_is_over = halt.say();
    }
}

/// The store, or a word on why the run will not be kept: that is no reason not to run.
async fn keep() -> Option<Store> {
    match Store::open(&store::place()).await {
        Ok(store) => Some(store),
        Err(error) => {
            say::err!("squall: this run will not be kept: {}", say::chain(&error));
            None
        }
    }
}

impl Paper {
    fn lay_out(args: &Args) -> Result<Self, Unwritten> {
        let open = |path: &Option<PathBuf>| {
            let Some(path) = path else {
                return Ok(None);
            };
            match File::create(path) {
                Ok(file) => Ok(Some((path.clone(), file))),
                Err(source) => Err(Unwritten {
                    path: path.clone(),
                    source,
                }),
            }
        };
        Ok(Self {
            html: open(&args.report)?,
            markdown: open(&args.markdown)?,
        })
    }

    fn fill(&mut self, summary: &Summary) {
        if let Some((path, file)) = &mut self.html {
            match report::html(summary) {
                Ok(html) => write(path, file, &html),
                Err(error) => {
                    say::failed(0, &error);
                }
            }
        }
        if let Some((path, file)) = &mut self.markdown {
            write(path, file, &report::markdown(summary));
        }
    }
}

fn write(path: &Path, file: &mut File, text: &str) {
    match file.write_all(text.as_bytes()) {
        Ok(()) => say::err!("report: {}", path.display()),
        Err(source) => {
            let path = path.to_owned();
            say::failed(0, &Unwritten { path, source });
        }
    }
}
