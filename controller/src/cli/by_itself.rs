//! What a controller that serves does by itself: keeps schedules and game days, follows Git, tells others, removes what is old.

use crate::api::git_hook;
use crate::calendar::{GitRights, Keeper, NotStarted, Order, Starter};
use crate::gameday::Days;
use crate::git::{Follower, GameDays, GitError, Hook, Repository, Source, at_commit};
use crate::leader::Leadership;
use crate::notify::{BadReceiver, Notices, Receiver, Senders};
use crate::practice::Practice;
use crate::probe::ProbeError;
use crate::retention::{Remover, Retention};
use crate::run::desk::{Desk, ENVIRONMENT, Refused, Trigger, Wanted};
use crate::store::Store;
use axum::Router;
use serde::Deserialize;
use squall_experiments::secret::SecretRef;
use squall_experiments::units::Interval;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A repository is looked at so often where nothing is said.
const EVERY: Duration = Duration::from_secs(60);

/// What `--config` says of Git.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GitWanted {
    /// What is followed.
    repository: Source,
    /// How often it is looked at.
    every: Option<Interval>,
    /// The secret of who tells of a push, at `/hooks/git`.
    hook: Option<SecretRef>,
    /// Where its schedules and game days may start runs; everywhere where nothing is said.
    #[serde(default)]
    rights: GitRights,
}

/// Why it does not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum CannotStart {
    #[error("a receiver of notices cannot be used: see `notify` in the configuration")]
    Notify(#[from] BadReceiver),
    #[error("the Git repository cannot be followed: see `git` in the configuration")]
    Git(#[from] GitError),
    #[error("the secret of the Git hook cannot be read: see `git` in the configuration")]
    Hook(#[from] ProbeError),
}

/// All of it, ready.
pub(super) struct Itself {
    keeper: Keeper<Desk>,
    days: Days,
    remover: Remover,
    follower: Option<(Arc<Follower>, Duration)>,
    hook: Option<Hook>,
    _senders: Senders,
}

pub(super) async fn start(
    receivers: &[Receiver],
    git: Option<GitWanted>,
    store: &Store,
    desk: &Desk,
    practice: &Practice,
    (retention, directory): (Retention, &Path),
) -> Result<Itself, CannotStart> {
    let (notices, senders) = Notices::start(receivers)?;
    let days = Days::new(store.clone(), desk.clone(), notices.clone());
    let mut follower = None;
    let mut hook = None;
    let mut rights = GitRights::default();
    if let Some(wanted) = git {
        let every = wanted.every.map_or(EVERY, |every| every.duration());
        let repository = Repository::open(wanted.repository, directory).await?;
        rights = wanted.rights;
        let game_days = GameDays::new(days.clone(), practice.clone(), rights.clone());
        let follows = Follower::new(repository, store.clone(), notices.clone());
        follower = Some((Arc::new(follows.with_game_days(game_days)), every));
        hook = wanted.hook.as_ref().map(Hook::new).transpose()?;
    }
    Ok(Itself {
        days,
        keeper: Keeper::new(store.clone(), desk.clone(), notices, rights),
        remover: Remover::new(store.clone(), practice.clone(), retention),
        follower,
        hook,
        _senders: senders,
    })
}

impl Itself {
    /// The game days, which it tells others of.
    pub(super) fn days(&self) -> Days {
        self.days.clone()
    }

    /// The repository that is followed.
    pub(super) fn follower(&self) -> Option<Arc<Follower>> {
        self.follower
            .as_ref()
            .map(|(follower, _)| Arc::clone(follower))
    }

    /// Where others knock.
    pub(super) fn router(&self) -> Router {
        match (&self.follower, &self.hook) {
            (Some((follower, _)), Some(hook)) => {
                git_hook::router(Arc::clone(follower), hook.clone())
            }
            _ => Router::new(),
        }
    }

    /// Does it whenever this controller leads, until it is dropped.
    pub(super) async fn keep(&self, leader: Leadership) {
        loop {
            leader.until(true).await;
            tokio::select! {
                () = self.keep_now() => {}
                () = leader.until(false) => {}
            }
        }
    }

    async fn keep_now(&self) {
        let follow = async {
            if let Some((follower, every)) = &self.follower {
                follower.keep(*every).await;
            }
        };
        tokio::join!(
            self.keeper.keep(),
            self.days.keep(),
            self.remover.keep(),
            follow
        );
    }
}

/// Schedules start runs where everybody does: at the desk, past its gate and within its budget.
impl Starter for Desk {
    async fn start(&self, order: Order) -> Result<(), NotStarted> {
        let file_path = match &order.commit {
            Some(commit) => at_commit(&order.path, commit),
            None => order.path,
        };
        let wanted = Wanted {
            run: Some(order.run),
            file_text: order.text,
            file_path,
            environment: order.environment.unwrap_or_else(|| ENVIRONMENT.to_owned()),
            by: format!("schedule {}", order.schedule),
            trigger: Trigger::Automated,
            seed: None,
        };
        match Self::start(self, wanted).await {
            Ok(_) | Err(Refused::Taken(_)) => Ok(()),
            Err(error @ (Refused::Store(_) | Refused::Probe(_))) => {
                Err(NotStarted::Unavailable(crate::words::chain(&error)))
            }
            Err(error) => Err(NotStarted::Refused(error.to_string())),
        }
    }
}
