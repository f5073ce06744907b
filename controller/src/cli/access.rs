//! `squall access` and `squall audit`: who may what, and who did what.

use super::remote::{At, RemoteError};
use super::{agents, say};
use crate::access::{Grant, Role};
use crate::api::{AccessMade, AccessWanted, Page};
use crate::store::{ApiTokenKept, Entry, Verified};
use clap::Subcommand;
use hyper::Method;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct AccessArgs {
    #[command(flatten)]
    at: At,
    /// As one JSON document
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: AccessVerb,
}

#[derive(Debug, Subcommand)]
enum AccessVerb {
    /// Makes a token for a person or program, and shows it this once
    Create {
        /// Whose it is: one name for one person
        name: String,
        /// What they may
        #[arg(long)]
        role: Role,
        /// Only here; as often as wanted, everywhere where nothing is said
        #[arg(long = "environment", value_name = "NAME")]
        environments: Vec<String>,
        /// Only for targets in this namespace of Kubernetes; as often as wanted
        #[arg(long = "namespace", value_name = "NAME")]
        namespaces: Vec<String>,
        /// For how many days it is good
        #[arg(long, value_name = "N", default_value_t = 90)]
        days: u32,
    },
    /// Lists all tokens
    List,
    /// Takes a token back, at once
    Revoke {
        /// Its name: the second word of it
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    at: At,
    /// As one JSON document
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: AuditVerb,
}

#[derive(Debug, Subcommand)]
enum AuditVerb {
    /// Lists who did what, in order
    List {
        /// Only what is behind this entry
        #[arg(long, value_name = "N", default_value_t = 0)]
        after: u64,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Follows the chain of hashes from its beginning; exit code 1 where an entry is not as it was written
    Verify {
        /// An entry that was noted at an earlier time and must still be there
        #[arg(long, value_name = "N:HASH")]
        noted: Option<String>,
    },
}

pub(super) async fn access(args: &AccessArgs) -> ExitCode {
    agents::ended(match &args.what {
        AccessVerb::Create {
            name,
            role,
            environments,
            namespaces,
            days,
        } => {
            let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
            let wanted = AccessWanted {
                name: name.clone(),
                grants: vec![Grant {
                    role: *role,
                    environments: some(environments),
                    namespaces: some(namespaces),
                }],
                days: *days,
            };
            create(args, &wanted).await
        }
        AccessVerb::List => list(args).await,
        AccessVerb::Revoke { id } => {
            let path = format!("/tokens/{}", agents::part(id));
            args.at.tell(Method::DELETE, &path).await
        }
    })
}

async fn create(args: &AccessArgs, wanted: &AccessWanted) -> Result<(), RemoteError> {
    let made: AccessMade = args.at.ask(Method::POST, "/tokens", Some(wanted)).await?;
    if args.json {
        say::json(&made);
    } else {
        say::out!("{}", made.token);
        say::err!(
            "good until {}, shown this once",
            agents::when(Some(made.expires_us))
        );
    }
    Ok(())
}

pub(super) fn words(grants: &[Grant]) -> String {
    let one = |grant: &Grant| {
        let list = |what: &str, names: &Option<Vec<String>>| match names {
            None => String::new(),
            Some(names) => format!(" {what} {}", names.join(", ")),
        };
        let places = list("in", &grant.environments);
        format!(
            "{}{places}{}",
            grant.role,
            list("for namespace", &grant.namespaces)
        )
    };
    grants.iter().map(one).collect::<Vec<_>>().join("; ")
}

async fn list(args: &AccessArgs) -> Result<(), RemoteError> {
    let tokens: Vec<ApiTokenKept> = args.at.list("/tokens").await?;
    if args.json {
        say::json(&tokens);
        return Ok(());
    }
    let now_us = jiff::Timestamp::now().as_microsecond();
    let mut table = say::table(&["token", "name", "state", "until", "may"]);
    for token in tokens {
        let is_over = token.expires_us.is_some_and(|at_us| at_us <= now_us);
        let state = match (token.revoked_us, is_over) {
            (Some(_), _) => "revoked",
            (None, true) => "expired",
            (None, false) => "good",
        };
        let until = agents::when(token.expires_us);
        table.add_row([
            token.id,
            token.name,
            state.into(),
            until,
            words(&token.grants.0),
        ]);
    }
    say::print(&table);
    Ok(())
}

pub(super) async fn audit(args: &AuditArgs) -> ExitCode {
    match &args.what {
        AuditVerb::List { after, limit } => {
            let path = format!("/audit?after={after}&limit={limit}");
            agents::ended(entries(args, &path).await)
        }
        AuditVerb::Verify { noted } => {
            let path = match noted {
                Some(noted) => format!("/audit/verification?noted={}", agents::part(noted)),
                None => "/audit/verification".to_owned(),
            };
            match args.at.ask(Method::GET, &path, None::<&()>).await {
                Ok(verified) => verify(args, &verified),
                Err(error) => agents::ended(Err(error)),
            }
        }
    }
}

async fn entries(args: &AuditArgs, path: &str) -> Result<(), RemoteError> {
    let page: Page<Entry> = args.at.ask(Method::GET, path, None::<&()>).await?;
    if args.json {
        say::json(&page);
        return Ok(());
    }
    let mut table = say::table(&["entry", "when", "who", "what", "status", "detail"]);
    for entry in page.items {
        table.add_row([
            entry.sequence.to_string(),
            agents::when(Some(entry.at_us)),
            entry.who,
            entry.action,
            entry.status.to_string(),
            entry.detail,
        ]);
    }
    say::print(&table);
    Ok(())
}

fn verify(args: &AuditArgs, verified: &Verified) -> ExitCode {
    if args.json {
        say::json(verified);
    }
    match &verified.broken {
        None => {
            if !args.json {
                say::out!("{}:{}", verified.good, verified.head);
                say::err!(
                    "{} entries, each as it was written; note the line above elsewhere",
                    verified.good
                );
            }
            ExitCode::SUCCESS
        }
        Some(broken) => {
            say::err!(
                "entry {}: {}; the {} before it are as they were written",
                broken.sequence,
                broken.why,
                verified.good
            );
            ExitCode::FAILURE
        }
    }
}
