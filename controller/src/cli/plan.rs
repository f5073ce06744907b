//! `squall plan`.

use super::enough::{self, Enough};
use super::{BAD_INPUT, FileArg, INCONCLUSIVE, files, say};
use crate::fleet::Program;
use crate::run::plan_here;
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
    let (planned, node, can) = match plan_here(agent, &good.experiment, seed).await {
        Ok(answer) => answer,
        Err(error) => return say::failed(INCONCLUSIVE, &error),
    };
    let enough = enough::enough(&good.experiment);
    let mut all_warnings = warnings(&planned.plan, &can);
    all_warnings.extend(enough::warnings(&enough));
    let shown = Shown {
        name: &good.experiment.metadata.name,
        digest: &good.digest,
        node: &node,
        plan: &planned.plan,
        baseline: good.experiment.baseline.to_string(),
        recovery: good.experiment.recovery.to_string(),
        controls: good
            .experiment
            .steady_state
            .iter()
            .filter(|steady| steady.compare.is_some())
            .map(|steady| steady.name.as_str())
            .collect(),
        seconds_max: longest(&good.experiment, &planned.plan).as_secs_f64(),
        confidence: good.experiment.confidence.to_string(),
        enough,
        excluded: &planned.excluded,
        refused: planned.refused.as_deref(),
        warnings: all_warnings,
    };
    if args.json {
        say::json(&shown);
    } else {
        print(&shown, &can);
    }
    if planned.refused.is_some() {
        ExitCode::from(Verdict::Refused.exit_code())
    } else {
        ExitCode::SUCCESS
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
        let means = capability.and_then(|capability| capability.means.first());
        let means = means.map_or("none", |means| super::node::word(*means));
        let (fault, target) = (planned.what(), planned.target.label.clone());
        table.add_row([String::new(), fault, target, means.to_owned()]);
    }
    say::print(&table);
    say::out!("");
}
