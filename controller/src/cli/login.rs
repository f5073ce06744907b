//! `squall login`, `squall logout` and `squall whoami`: people.

use super::access::words;
use super::remote::{At, RemoteError};
use super::{BAD_INPUT, INCONCLUSIVE, agents, say};
use crate::api::Whoami;
use crate::login::Shown;
use crate::login::device::{self, LoginError};
use crate::login::kept::Kept;
use hyper::Method;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    at: At,
    /// As one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Login(#[from] LoginError),
    #[error("the login cannot be kept")]
    Keep(#[source] std::io::Error),
}

pub(super) async fn login(args: &Args) -> ExitCode {
    match through(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Remote(error)) if error.is_input() => say::failed(BAD_INPUT, &error),
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

async fn through(args: &Args) -> Result<(), Failed> {
    let shown: Shown = args.at.ask_openly(crate::api::LOGIN_PATH).await?;
    let begun = device::begin(args.at.controller(), shown).await?;
    let asked = &begun.asked;
    let whole = asked.verification_uri_complete.as_ref();
    say::err!(
        "open {} and confirm the code {}",
        whole.unwrap_or(&asked.verification_uri),
        asked.user_code
    );
    let kept = begun.finish().await?;
    kept.keep().map_err(Failed::Keep)?;
    let who: Whoami = args.at.ask(Method::GET, "/whoami", None::<&()>).await?;
    tell(args, &who);
    Ok(())
}

pub(super) async fn logout(args: &Args) -> ExitCode {
    let kept = match Kept::find(args.at.controller()) {
        Ok(Some(kept)) => kept,
        Ok(None) => {
            say::err!("nobody is logged in at {}", args.at.controller());
            return ExitCode::SUCCESS;
        }
        Err(error) => return say::failed(INCONCLUSIVE, &Failed::Keep(error)),
    };
    // First here: whatever the provider does, nobody uses it from here any more.
    if let Err(error) = kept.forget() {
        return say::failed(INCONCLUSIVE, &Failed::Keep(error));
    }
    match device::revoke(&kept).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

pub(super) async fn whoami(args: &Args) -> ExitCode {
    let who = args.at.ask(Method::GET, "/whoami", None::<&()>).await;
    agents::ended(who.map(|who| tell(args, &who)))
}

fn tell(args: &Args, who: &Whoami) {
    if args.json {
        say::json(who);
    } else {
        say::out!("{} ({}): {}", who.name, who.token, words(&who.grants.0));
    }
}
