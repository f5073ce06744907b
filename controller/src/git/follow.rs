//! Follows a branch, and puts what is good into force.

use super::days::GameDays;
use super::plan::{Broken, Plan, plan};
use super::repository::{GitError, Repository, Tree};
use crate::gameday::DaysError;
use crate::notify::{Event, Notice, Notices};
use crate::probe::secret::Secret;
use crate::store::{Origin, Store, StoreError};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Why a commit is not in force.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The repository.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A game day.
    #[error("a game day of the commit cannot be opened")]
    Days(#[from] DaysError),
}

/// What became of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The branch is where it was.
    Nothing,
    /// What was good is in force.
    Applied(Box<Plan>),
}

/// Follows a branch.
#[derive(Debug)]
pub struct Follower {
    repository: Repository,
    store: Store,
    notices: Notices,
    game_days: Option<GameDays>,
    /// The commit that was dealt with last, and what was said of it.
    last: tokio::sync::Mutex<Option<String>>,
    /// The commit that is in force.
    taken: std::sync::Mutex<Option<Arc<Tree>>>,
    knock: Notify,
}

impl Follower {
    /// Makes ready; looks at nothing.
    #[must_use]
    pub fn new(repository: Repository, store: Store, notices: Notices) -> Self {
        Self {
            repository,
            store,
            notices,
            game_days: None,
            last: tokio::sync::Mutex::default(),
            taken: std::sync::Mutex::default(),
            knock: Notify::new(),
        }
    }

    /// With what opens game days; without, those of a commit are only checked.
    #[must_use]
    pub fn with_game_days(mut self, game_days: GameDays) -> Self {
        self.game_days = Some(game_days);
        self
    }

    /// Follows until it is dropped: every so often, and whenever somebody knocks.
    pub async fn keep(&self, every: Duration) {
        let mut said = String::new();
        loop {
            match self.look().await {
                Ok(_) => said.clear(),
                Err(error) => {
                    let why = crate::words::chain(&error);
                    tracing::error!(why, "the repository cannot be followed now");
                    // Once, and again when it is for another reason.
                    if why != said {
                        self.notices.say(Notice::new(
                            Event::GitRefused,
                            format!("Nothing was taken from Git: {why}"),
                        ));
                        said = why;
                    }
                }
            }
            let _either = tokio::time::timeout(every, self.knock.notified()).await;
        }
    }

    /// Looks soon.
    pub fn knock(&self) {
        self.knock.notify_one();
    }

    /// Looks where the branch is, and puts what is good there into force.
    ///
    /// # Errors
    /// Nothing could be taken from it; what is in force stays.
    pub async fn look(&self) -> Result<Followed, FollowError> {
        let mut last = self.last.lock().await;
        let commit = self.repository.fetch().await?;
        if last.as_ref() == Some(&commit) {
            return Ok(Followed::Nothing);
        }
        self.repository.verify(&commit).await?;
        let tree = self.repository.tree(&commit).await?;
        let plan = self.plan(&tree).await?;
        let now_us = Timestamp::now().as_microsecond();
        for put in &plan.put {
            self.store
                .put_schedule(&put.name, &put.files, Origin::Commit(&commit), now_us)
                .await?;
        }
        for name in &plan.remove {
            self.store.remove_schedule(name).await?;
        }
        if let Some(game_days) = &self.game_days {
            for day in plan.opens() {
                game_days.open(day, &commit).await?;
            }
        }
        self.tell(&plan);
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(tree));
        *last = Some(commit);
        Ok(Followed::Applied(Box::new(plan)))
    }

    async fn plan(&self, tree: &Tree) -> Result<Plan, StoreError> {
        let in_force = self.store.schedules().await?;
        let mut plan = plan(tree, &in_force, Some(&self.taken().unwrap_or_default()));
        let Some(game_days) = &self.game_days else {
            return Ok(plan);
        };
        for mut day in std::mem::take(&mut plan.game_days) {
            match game_days.stand(&self.store, &mut day).await? {
                None => plan.game_days.push(day),
                Some(said) => {
                    plan.good -= 1;
                    let path = day.path;
                    plan.broken.push(Broken { path, said });
                }
            }
        }
        Ok(plan)
    }

    /// What a branch would change if it were followed from now on: the one that is, or another of the same repository. Changes nothing.
    ///
    /// # Errors
    /// Nothing could be taken from it.
    pub async fn would(&self, branch: Option<&str>) -> Result<Plan, FollowError> {
        // One call of git at a time.
        let _followed = self.last.lock().await;
        let commit = match branch {
            Some(other) => self.repository.fetch_other(other).await?,
            None => self.repository.fetch().await?,
        };
        self.repository.verify(&commit).await?;
        let tree = self.repository.tree(&commit).await?;
        Ok(self.plan(&tree).await?)
    }

    fn taken(&self) -> Option<Arc<Tree>> {
        let taken = self.taken.lock();
        taken.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The commit that is in force, where it has this very text at a path below the folder that is followed.
    #[must_use]
    pub fn commit_of(&self, path: &str, text: &str) -> Option<String> {
        let taken = self.taken()?;
        let found = taken.files.get(&self.repository.whole_path(path));
        found
            .filter(|found| *found == text)
            .map(|_| taken.commit.clone())
    }

    /// A file of the commit that is in force, by its path below the folder that is followed: that commit, and how many bytes it has. None
    /// where it is not there, and as long as no commit was taken.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub async fn file(&self, path: &str) -> Result<Option<(String, u64)>, GitError> {
        let Some(taken) = self.taken() else {
            return Ok(None);
        };
        let bytes = self.repository.file(&taken.commit, path).await?;
        Ok(bytes.map(|bytes| (taken.commit.clone(), bytes)))
    }

    fn tell(&self, plan: &Plan) {
        let commit = &plan.commit;
        tracing::info!(
            commit,
            put = plan.put.len(),
            removed = plan.remove.len(),
            broken = plan.broken.len(),
            "took a commit"
        );
        if plan.changes() {
            let text = format!(
                "Commit {commit} is in force: {} schedules, {} removed.",
                plan.put.len(),
                plan.remove.len()
            );
            self.notices.say(Notice::new(Event::GitApplied, text));
        }
        for broken in &plan.broken {
            let text = format!(
                "`{}` of commit {commit} cannot be used; what it was before stays in force.\n{}",
                broken.path, broken.said
            );
            self.notices
                .say(Notice::new(Event::GitRefused, text).about(&broken.path, None));
        }
    }
}

/// Checks that a push was told by whoever has the secret: `X-Hub-Signature-256` of GitHub, Gitea and Forgejo.
#[derive(Debug, Clone)]
pub struct Hook(Secret);

impl Hook {
    /// Reads the secret.
    ///
    /// # Errors
    /// It is not where it is said to be.
    pub fn new(
        place: &squall_experiments::secret::SecretRef,
    ) -> Result<Self, crate::probe::ProbeError> {
        Secret::read("git", place).map(Self)
    }

    /// Whether the signature is of this body: `sha256=` and HMAC-SHA256 in hexadecimal. How long it takes tells nothing of it.
    #[must_use]
    pub fn is_from_who_may(&self, signature: &str, body: &[u8]) -> bool {
        let Some(hex) = signature
            .strip_prefix("sha256=")
            .filter(|hex| hex.is_ascii())
        else {
            return false;
        };
        let bytes = hex
            .as_bytes()
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        let Some(bytes) = bytes.collect::<Option<Vec<u8>>>() else {
            return false;
        };
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.reveal().as_bytes()) else {
            return false;
        };
        mac.update(body);
        mac.verify_slice(&bytes).is_ok()
    }
}
