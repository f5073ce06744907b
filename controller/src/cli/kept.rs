//! `squall runs` and `squall report`.

use super::remote::MaybeAt;
use super::{BAD_INPUT, INCONCLUSIVE, fleet, say};
use crate::report::{self, Summary};
use crate::store::{self, Kept, Store, StoreError};
use std::process::ExitCode;

/// So many runs are listed where nothing is said.
const LISTED: u32 = 50;

#[derive(Debug, clap::Args)]
pub(super) struct RunsArgs {
    /// As one JSON document
    #[arg(long)]
    json: bool,
    /// At most so many, the newest first
    #[arg(long, value_name = "N", default_value_t = LISTED)]
    most: u32,
    #[command(flatten)]
    at: MaybeAt,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// The run's name, the beginning of it, or `last`
    run: String,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    at: MaybeAt,
}

/// How it is told; as Markdown where nothing is said.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct Form {
    /// As one HTML file
    #[arg(long)]
    html: bool,
    /// As Markdown, fit for a pull request
    #[arg(long)]
    md: bool,
    /// As one JSON document
    #[arg(long)]
    json: bool,
}

impl Form {
    /// As HTTP names it.
    pub(super) const fn media_type(&self) -> &'static str {
        if self.json {
            "application/json"
        } else if self.html {
            "text/html"
        } else {
            "text/markdown"
        }
    }
}

pub(super) async fn runs(args: &RunsArgs) -> ExitCode {
    if let Some(at) = args.at.at() {
        let listed = fleet::list(&at, args.most, args.json).await;
        return listed.map_or_else(|error| fleet::failed(&error), |()| ExitCode::SUCCESS);
    }
    let kept = match list(args.most).await {
        Ok(kept) => kept,
        Err(error) => return say::failed(INCONCLUSIVE, &error),
    };
    if args.json {
        return say::json(&kept);
    }
    if kept.is_empty() {
        say::err!("no runs are kept in {}", store::place().display());
        return ExitCode::SUCCESS;
    }
    let mut table = say::table(&["run", "experiment", "when", "verdict", "because"]);
    for run in kept {
        let when = jiff::Timestamp::from_microsecond(run.created_us).unwrap_or_default();
        let verdict = run
            .verdict
            .map_or("interrupted, or under way".into(), |v| v.to_string());
        let because = run.because.unwrap_or_default();
        let when = when.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        table.add_row([run.run.0, run.name, when, verdict, because]);
    }
    say::print(&table);
    ExitCode::SUCCESS
}

async fn list(most: u32) -> Result<Vec<Kept>, StoreError> {
    Store::open(&store::place()).await?.runs(most).await
}

pub(super) async fn report(args: &ReportArgs) -> ExitCode {
    if let Some(at) = args.at.at() {
        return match fleet::summary(&at, &args.run).await {
            Ok(summary) => print(&args.form, &summary),
            Err(error) => fleet::failed(&error),
        };
    }
    let summary = match tell(&args.run).await {
        Ok(summary) => summary,
        Err(error @ (StoreError::NoRun(_) | StoreError::Ambiguous(_))) => {
            return say::failed(BAD_INPUT, &error);
        }
        Err(error) => return say::failed(INCONCLUSIVE, &error),
    };
    print(&args.form, &summary)
}

fn print(form: &Form, summary: &Summary) -> ExitCode {
    if form.json {
        return say::json(summary);
    }
    if form.html {
        return match report::html(summary) {
            Ok(html) => {
                say::out!("{html}");
                ExitCode::SUCCESS
            }
            Err(error) => say::failed(INCONCLUSIVE, &error),
        };
    }
    say::out!("{}", report::markdown(summary));
    ExitCode::SUCCESS
}

async fn tell(run: &str) -> Result<Summary, StoreError> {
    let store = Store::open(&store::place()).await?;
    let run = store.find(run).await?;
    Ok(Summary::of(&store.events(&run).await?))
}
