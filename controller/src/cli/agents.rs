//! `squall agents` and `squall token`.

use super::remote::{At, RemoteError};
use super::{BAD_INPUT, INCONCLUSIVE, say};
use crate::api::{AgentSeen, JoinTokenMade, JoinTokenWanted};
use crate::store::JoinTokenKept;
use clap::Subcommand;
use hyper::Method;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct AgentsArgs {
    #[command(flatten)]
    at: At,
    /// As one JSON document
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    what: Option<AgentsVerb>,
}

#[derive(Debug, Subcommand)]
enum AgentsVerb {
    /// Shuts an agent out: its certificate is worth nothing from now on
    Revoke {
        /// The node's name
        node: String,
    },
    /// Frees an agent's name, so that a node may join under it
    Forget {
        /// The node's name
        node: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct TokenArgs {
    #[command(flatten)]
    at: At,
    /// As one JSON document
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: TokenVerb,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Makes a token by which agents join, and shows it this once
    Create {
        /// How long it is good, in minutes
        #[arg(long, value_name = "N", default_value_t = 60)]
        minutes: u32,
        /// How many agents may join by it
        #[arg(long, value_name = "N", default_value_t = 1)]
        uses: u32,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Lists the tokens by which agents join
    List,
    /// Takes a token back
    Revoke {
        /// Its name: the second word of it
        id: String,
    },
}

pub(super) async fn agents(args: &AgentsArgs) -> ExitCode {
    let done = match &args.what {
        None => list(args).await,
        Some(AgentsVerb::Revoke { node }) => {
            let path = format!("/agents/{}/revoke", part(node));
            args.at.tell(Method::POST, &path).await
        }
        Some(AgentsVerb::Forget { node }) => {
            let path = format!("/agents/{}", part(node));
            args.at.tell(Method::DELETE, &path).await
        }
    };
    ended(done)
}

pub(super) async fn token(args: &TokenArgs) -> ExitCode {
    let done = match &args.what {
        TokenVerb::Create {
            minutes,
            uses,
            note,
        } => create(args, *minutes, *uses, note).await,
        TokenVerb::List => list_tokens(args).await,
        TokenVerb::Revoke { id } => {
            let path = format!("/join-tokens/{}", part(id));
            args.at.tell(Method::DELETE, &path).await
        }
    };
    ended(done)
}

pub(super) fn ended(done: Result<(), RemoteError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_input() => say::failed(BAD_INPUT, &error),
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

/// One part of a path: whatever is not a name's letter is written as RFC 3986 (section 2.1) says.
pub(super) fn part(name: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    name.bytes().map(letter).collect()
}

async fn list(args: &AgentsArgs) -> Result<(), RemoteError> {
    let agents: Vec<AgentSeen> = args.at.list("/agents").await?;
    if args.json {
        say::json(&agents);
        return Ok(());
    }
    if agents.is_empty() {
        say::err!("no agent has joined; `squall token create` makes what lets one join");
        return Ok(());
    }
    let mut table = say::table(&[
        "node",
        "state",
        "version",
        "kernel",
        "from",
        "last seen",
        "labels",
    ]);
    for agent in agents {
        let state = match (&agent.connected, agent.revoked_us) {
            (_, Some(_)) => "revoked",
            (Some(_), None) => "connected",
            (None, None) => "away",
        };
        let there = agent.connected.as_ref();
        let labels = there.map(|c| c.labels.iter().map(|(k, v)| format!("{k}={v}")));
        table.add_row([
            agent.node.clone(),
            state.to_owned(),
            there.map(|c| c.version.clone()).unwrap_or_default(),
            there.map(|c| c.kernel.clone()).unwrap_or_default(),
            there
                .map(|c| c.address.ip().to_string())
                .unwrap_or_default(),
            when(agent.seen_us),
            labels
                .map(|l| l.collect::<Vec<_>>().join(","))
                .unwrap_or_default(),
        ]);
    }
    say::print(&table);
    Ok(())
}

async fn create(args: &TokenArgs, minutes: u32, uses: u32, note: &str) -> Result<(), RemoteError> {
    let wanted = JoinTokenWanted {
        minutes,
        uses,
        note: note.to_owned(),
    };
    let made: JoinTokenMade = args
        .at
        .ask(Method::POST, "/join-tokens", Some(&wanted))
        .await?;
    if args.json {
        say::json(&made);
    } else {
        say::out!("{}", made.token);
        say::err!(
            "good until {}, shown this once",
            when(Some(made.expires_us))
        );
    }
    Ok(())
}

async fn list_tokens(args: &TokenArgs) -> Result<(), RemoteError> {
    let tokens: Vec<JoinTokenKept> = args.at.list("/join-tokens").await?;
    if args.json {
        say::json(&tokens);
        return Ok(());
    }
    let now_us = jiff::Timestamp::now().as_microsecond();
    let mut table = say::table(&["token", "state", "uses left", "until", "note"]);
    for token in tokens {
        let state = if token.revoked_us.is_some() {
            "revoked"
        } else if token.expires_us <= now_us {
            "expired"
        } else if token.uses_left == 0 {
            "used up"
        } else {
            "good"
        };
        let uses = token.uses_left.to_string();
        let until = when(Some(token.expires_us));
        table.add_row([token.id, state.to_owned(), uses, until, token.note]);
    }
    say::print(&table);
    Ok(())
}

pub(super) fn when(us: Option<i64>) -> String {
    let at = us.and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    at.map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn a_name_stays_one_part_of_a_path() {
        assert_eq!(part("node-7.eu_west~"), "node-7.eu_west~");
        assert_eq!(part("../a b?ä"), "..%2Fa%20b%3F%C3%A4");
    }
}
