//! `squall capabilities`.

use super::{INCONCLUSIVE, say};
use crate::fleet::{Agent, Program};
use squall_experiments::capability::{Capability, Means};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) async fn capabilities(args: &Args, agent: &Program) -> ExitCode {
    let agent = match Agent::start(agent).await {
        Ok(agent) => agent,
        Err(error) => return say::failed(INCONCLUSIVE, &error),
    };
    let hello = agent.session.hello.clone();
    agent.end().await;
    if args.json {
        return say::json(&hello.capabilities);
    }
    let can = &hello.capabilities;
    say::out!(
        "{}: Linux {}, cgroup {}\n",
        hello.node,
        can.kernel,
        can.cgroup
    );
    let mut table = say::table(&["fault", "means", "notes"]);
    for Capability {
        fault,
        means,
        held,
        notes,
    } in &can.faults
    {
        let means: Vec<&str> = means.iter().map(|means| word(*means)).collect();
        let means = if means.is_empty() {
            "none".to_owned()
        } else {
            means.join(", ")
        };
        let means = if held.is_kernel() {
            means
        } else {
            format!("{means} (held: {})", held.word())
        };
        table.add_row([fault.to_string(), means, notes.join("; ")]);
    }
    say::print(&table);
    ExitCode::SUCCESS
}

pub(super) const fn word(means: Means) -> &'static str {
    match means {
        Means::Detour => "detour",
        Means::Queue => "queue",
        Means::Nftables => "nftables",
        Means::Process => "process",
        Means::Redirect => "redirect",
        Means::Journal => "journal",
    }
}
