//! `squall promote`, `squall approve` and `squall checklist`: how a file earns its stage.

use super::remote::{At, RemoteError};
use super::{BAD_INPUT, FileArg, REFUSED, agents, files, say};
use crate::api::{AnswersWanted, ApprovalWanted, Page, PromotionWanted, VoteWanted};
use crate::stage::checklist::By;
use crate::stage::{Approval, Decision, Trigger};
use clap::Subcommand;
use hyper::Method;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    file: FileArg,
    /// Where it is to run
    #[arg(long, value_name = "NAME", default_value = "production")]
    environment: String,
    /// Only say what is there and what is missing; ask nobody
    #[arg(long)]
    why: bool,
    /// As a schedule or a program would start it, not a person
    #[arg(long)]
    automated: bool,
    /// Why now: for whoever is to approve
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["why", "automated"])]
    because: Option<String>,
    /// As one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ApproveArgs {
    #[command(flatten)]
    at: At,
    /// Where
    #[arg(long, value_name = "NAME", default_value = "production", global = true)]
    environment: String,
    /// As one JSON document
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: ApproveVerb,
}

#[derive(Debug, Subcommand)]
enum ApproveVerb {
    /// Lists what was asked for, the newest first
    List,
    /// Agrees to what somebody else asked for
    Yes {
        /// The request's name
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
    /// Does not agree
    No {
        /// The request's name
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        because: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ChecklistArgs {
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    file: FileArg,
    /// Where it is to run
    #[arg(long, value_name = "NAME", default_value = "production")]
    environment: String,
    /// An answer to a question: `7=yes`; as often as wanted
    #[arg(long = "answer", value_name = "N=yes|no", value_parser = answer, requires = "because")]
    answers: Vec<(u8, bool)>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    because: Option<String>,
    /// As one JSON document
    #[arg(long)]
    json: bool,
}

fn answer(text: &str) -> Result<(u8, bool), String> {
    let bad = || "write a question's number and yes or no: 7=yes".to_owned();
    let (item, word) = text.split_once('=').ok_or_else(bad)?;
    let yes = match word {
        "yes" => true,
        "no" => false,
        _ => return Err(bad()),
    };
    Ok((item.parse().map_err(|_| bad())?, yes))
}

pub(super) async fn promote(args: &PromoteArgs) -> ExitCode {
    let Some(good) = files::good(&args.file.file) else {
        return ExitCode::from(BAD_INPUT);
    };
    let trigger = if args.automated {
        Trigger::Automated
    } else {
        Trigger::Hand
    };
    let wanted = PromotionWanted {
        file: good.text.clone(),
        path: good.path.clone(),
        trigger,
    };
    let path = format!(
        "/environments/{}/promotions",
        agents::part(&args.environment)
    );
    let decision: Decision = match args.at.ask(Method::POST, &path, Some(&wanted)).await {
        Ok(decision) => decision,
        Err(error) => return agents::ended(Err(error)),
    };
    let asked = match &args.because {
        Some(because) if !args.why => {
            let wanted = ApprovalWanted {
                file: good.text,
                path: good.path,
                because: because.clone(),
            };
            match ask(args, &wanted).await {
                Ok(approval) => Some(approval),
                Err(error) => return agents::ended(Err(error)),
            }
        }
        _ => None,
    };
    if args.json {
        say::json(&serde_json::json!({ "decision": decision, "approval": asked }));
    } else {
        show(&decision);
        if let Some(approval) = &asked {
            say::err!(
                "asked for approval: another person says `squall approve --environment {} yes {} --because …`",
                approval.environment,
                approval.id
            );
        }
    }
    ExitCode::from(if decision.allowed { 0 } else { REFUSED })
}

async fn ask(args: &PromoteArgs, wanted: &ApprovalWanted) -> Result<Approval, RemoteError> {
    let path = format!(
        "/environments/{}/approvals",
        agents::part(&args.environment)
    );
    args.at.ask(Method::POST, &path, Some(wanted)).await
}

/// All that is asked for, met or not; then what is missing, with what to do.
fn show(decision: &Decision) {
    let word = |met: bool| if met { "yes" } else { "NO" }.to_owned();
    let mut table = say::table(&["", "what", "needed", "found"]);
    for one in &decision.requirements {
        let cells = [
            word(one.met),
            one.what.clone(),
            one.needed.clone(),
            one.found.clone(),
        ];
        table.add_row(cells);
    }
    for one in decision.checklist.iter().filter(|one| one.needed) {
        let what = format!("checklist {}", one.item);
        table.add_row([
            word(one.yes),
            what,
            one.question.clone(),
            one.evidence.clone(),
        ]);
    }
    say::print(&table);
    let (environment, digest) = (&decision.environment, &decision.digest);
    say::err!(
        "digest {digest}, in `{environment}`: stage {} by its evidence",
        decision.standing.stage
    );
    for reason in &decision.missing {
        say::err!("missing: {reason}");
    }
    if decision.allowed {
        say::err!("nothing is missing: it may run in stage {}", decision.stage);
    }
}

pub(super) async fn approve(args: &ApproveArgs) -> ExitCode {
    let path = format!(
        "/environments/{}/approvals",
        agents::part(&args.environment)
    );
    agents::ended(match &args.what {
        ApproveVerb::List => list(args, &path).await,
        ApproveVerb::Yes { id, because } => vote(args, &path, id, true, because).await,
        ApproveVerb::No { id, because } => vote(args, &path, id, false, because).await,
    })
}

async fn list(args: &ApproveArgs, path: &str) -> Result<(), RemoteError> {
    let all: Vec<Approval> = args.at.list(path).await?;
    if args.json {
        say::json(&Page {
            items: all,
            next: None,
        });
        return Ok(());
    }
    let mut table = say::table(&[
        "approval",
        "experiment",
        "asked by",
        "when",
        "because",
        "said",
    ]);
    for one in all {
        let said = one.votes.iter().map(|vote| {
            let word = if vote.agree { "yes" } else { "no" };
            format!("{word}, {}: {}", vote.by, vote.because)
        });
        let said: Vec<String> = said.collect();
        table.add_row([
            one.id,
            one.experiment,
            one.requested_by,
            agents::when(Some(one.requested_us)),
            one.because,
            said.join("; "),
        ]);
    }
    say::print(&table);
    Ok(())
}

async fn vote(
    args: &ApproveArgs,
    path: &str,
    id: &str,
    agree: bool,
    because: &str,
) -> Result<(), RemoteError> {
    let path = format!("{path}/{}/votes", agents::part(id));
    let wanted = VoteWanted {
        agree,
        because: because.to_owned(),
    };
    let approval: Approval = args.at.ask(Method::POST, &path, Some(&wanted)).await?;
    if args.json {
        say::json(&approval);
    } else {
        let word = if agree { "agreed to" } else { "refused" };
        say::err!(
            "{word} {} (digest {})",
            approval.experiment,
            approval.digest
        );
    }
    Ok(())
}

pub(super) async fn checklist(args: &ChecklistArgs) -> ExitCode {
    let Some(good) = files::good(&args.file.file) else {
        return ExitCode::from(BAD_INPUT);
    };
    let base = format!("/environments/{}", agents::part(&args.environment));
    let done: Result<Decision, RemoteError> = if args.answers.is_empty() {
        let wanted = PromotionWanted {
            file: good.text,
            path: good.path,
            trigger: Trigger::Hand,
        };
        let path = format!("{base}/promotions");
        args.at.ask(Method::POST, &path, Some(&wanted)).await
    } else {
        let of = |yes: bool| args.answers.iter().filter(move |a| a.1 == yes).map(|a| a.0);
        let wanted = AnswersWanted {
            file: good.text,
            path: good.path,
            yes: of(true).collect(),
            no: of(false).collect(),
            because: args.because.clone().unwrap_or_default(),
        };
        args.at
            .ask(Method::POST, &format!("{base}/answers"), Some(&wanted))
            .await
    };
    let checklist = match done {
        Ok(decision) => decision.checklist,
        Err(error) => return agents::ended(Err(error)),
    };
    if args.json {
        return say::json(&checklist);
    }
    let mut table = say::table(&["", "", "question", "by", "evidence"]);
    for one in checklist {
        let word = if one.yes { "yes" } else { "NO" };
        let by = match one.answered_by {
            By::Machine => "Squall",
            By::Person => "a person",
        };
        table.add_row([
            one.item.to_string(),
            word.into(),
            one.question,
            by.into(),
            one.evidence,
        ]);
    }
    say::print(&table);
    ExitCode::SUCCESS
}
