//! `squall plan`.

use super::enough::{self, Enough};
use super::remote::{At, MaybeAt, RemoteError};
use super::{BAD_INPUT, FileArg, INCONCLUSIVE, agents, files, fleet, say};
use crate::api::{PlanSeen, PlanWanted};
use crate::fleet::Program;
use crate::run::desk::ENVIRONMENT;
use crate::run::plan_here;
use hyper::Method;
use serde::Serialize;
use squall_experiments::capability::Capabilities;
use squall_experiments::experiment::Experiment;
use squall_experiments::plan::{Plan, Stage};
use squall_experiments::verdict::Verdict;
use squall_experiments::wire::Excluded;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: FileArg,
    /// As one JSON document
    #[arg(long)]
    json: bool,
    /// What the draw is made with; give the same to `squall run`
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    at: MaybeAt,
    /// The controller's environment whose nodes are meant
    #[arg(long, value_name = "NAME", default_value = ENVIRONMENT, requires = "controller")]
    environment: String,
}

/// What `--json` says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    name: &'a str,
    digest: &'a str,
    node: &'a str,
    plan: &'a Plan,
    baseline: String,
    recovery: String,
    /// The steady states whose probes are asked of a control as well.
    controls: Vec<&'a str>,
    /// All phases at their longest, in seconds.
    seconds_max: f64,
    /// How sure a run must be before it is called held, and what that takes of each share.
    confidence: String,
    enough: Vec<Enough>,
    excluded: &'a [Excluded],
    refused: Option<&'a str>,
    warnings: Vec<String>,
}

pub(super) async fn plan(args: &Args, agent: &Program) -> ExitCode {
    let Some(good) = files::good(&args.file.file) else {
        return ExitCode::from(BAD_INPUT);
    };
    if let Err(error) = crate::probe::check(&good.experiment.steady_state) {
        return say::failed(BAD_INPUT, &error);
    }
    let seed = args.seed.unwrap_or_else(crate::run::drawn_seed);
    if let Some(at) = args.at.at() {
        return match plan_there(&at, &args.environment, &good, args.seed).await {
            Ok(seen) => show(
                args,
                &good,
                &there(&args.environment, &seen),
                &Capabilities::default(),
            ),
            Err(error) => fleet::refused(&error),
        };
    }
    let (planned, node, can) = match plan_here(agent, &good.experiment, seed).await {
        Ok(answer) => answer,
        Err(error) => return say::failed(INCONCLUSIVE, &error),
    };
    let found = Found {
        node: &node,
        plan: &planned.plan,
        excluded: &planned.excluded,
        refused: planned.refused.as_deref(),
        notes: warnings(&planned.plan, &can),
    };
    show(args, &good, &found, &can)
}

/// What was found out, here or there.
struct Found<'a> {
    node: &'a str,
    plan: &'a Plan,
    excluded: &'a [Excluded],
    refused: Option<&'a str>,
    notes: Vec<String>,
}

fn there<'a>(environment: &'a str, seen: &'a PlanSeen) -> Found<'a> {
    Found {
        node: environment,
        plan: &seen.plan,
        excluded: &seen.excluded,
        refused: seen.refused.as_deref(),
        notes: seen.notes.clone(),
    }
}

async fn plan_there(
    at: &At,
    environment: &str,
    good: &files::Good,
    seed: Option<u64>,
) -> Result<PlanSeen, RemoteError> {
    let wanted = PlanWanted {
        file: good.text.clone(),
        path: good.path.clone(),
        seed,
    };
    let path = format!("/environments/{}/plans", agents::part(environment));
    at.ask(Method::POST, &path, Some(&wanted)).await
}

fn show(args: &Args, good: &files::Good, found: &Found<'_>, can: &Capabilities) -> ExitCode {
    let experiment = &good.experiment;
    let enough = enough::enough(experiment);
    let mut warnings = found.notes.clone();
    warnings.extend(enough::warnings(&enough));
    let controls = experiment.steady_state.iter();
    let controls = controls.filter(|steady| steady.compare.is_some());
    let shown = Shown {
        name: &experiment.metadata.name,
        digest: &good.digest,
        node: found.node,
        plan: found.plan,
        baseline: experiment.baseline.to_string(),
        recovery: experiment.recovery.to_string(),
        controls: controls.map(|steady| steady.name.as_str()).collect(),
        seconds_max: longest(experiment, found.plan).as_secs_f64(),
        confidence: experiment.confidence.to_string(),
        enough,
        excluded: found.excluded,
        refused: found.refused,
        warnings,
    };
    if args.json {
        say::json(&shown);
    } else {
        print(&shown, can);
    }
    match found.refused {
        Some(_) => ExitCode::from(Verdict::Refused.exit_code()),
        None => ExitCode::SUCCESS,
    }
}

fn longest(experiment: &Experiment, plan: &Plan) -> Duration {
    let held: Duration = plan.stages.iter().map(|stage| stage.hold.duration()).sum();
    experiment.baseline.duration() + held + experiment.recovery.duration()
}

fn warnings(plan: &Plan, can: &Capabilities) -> Vec<String> {
    let mut warnings: Vec<String> = plan
        .stages
        .iter()
        .flat_map(|stage| &stage.arm)
        .filter_map(|planned| can.of(planned.fault.kind()))
        .flat_map(|capability| {
            let notes = capability.notes.iter();
            notes.map(|note| format!("{}: {note}", capability.fault))
        })
        .collect();
    warnings.sort();
    warnings.dedup();
    warnings
}

fn print(shown: &Shown, can: &Capabilities) {
    say::out!("{} on {}, seed {}", shown.name, shown.node, shown.plan.seed);
    say::out!("baseline {}, nothing injected", shown.baseline);
    for control in &shown.controls {
        say::out!("{control} is asked of its control as well, as often and at the same moments");
    }
    say::out!("");
    for (number, stage) in shown.plan.stages.iter().enumerate() {
        print_stage(number, stage, can);
    }
    enough::print(&shown.enough, &shown.confidence);
    say::out!(
        "recovery within {}; at most {:.0}s in all",
        shown.recovery,
        shown.seconds_max
    );
    for left in shown.excluded {
        say::out!("left alone: {}: {}", left.label, left.reason);
    }
    for warning in &shown.warnings {
        say::out!("note: {warning}");
    }
    match shown.refused {
        Some(why) => say::out!("\na run would be refused: {why}"),
        None => say::out!("\nnothing was touched"),
    }
}

fn print_stage(number: usize, stage: &Stage, can: &Capabilities) {
    let ends = if stage.ends_previous {
        "; the faults before end first"
    } else {
        ""
    };
    say::out!(
        "stage {} ({}): {} = {} of {}, held {}{ends}",
        number + 1,
        stage.name,
        stage.share,
        stage.hit,
        say::count(stage.candidates, "target"),
        stage.hold
    );
    let mut table = say::table(&["", "fault", "target", "means"]);
    for planned in &stage.arm {
        let capability = can.of(planned.fault.kind());
        // A controller does not say by which means its nodes would.
        let means = capability.map_or("", |capability| {
            let first = capability.means.first();
            first.map_or("none", |means| super::node::word(*means))
        });
        let (fault, target) = (planned.what(), planned.target.label.clone());
        table.add_row([String::new(), fault, target, means.to_owned()]);
    }
    say::print(&table);
    say::out!("");
}
