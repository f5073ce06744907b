//! The gates of [`stage`](crate::stage) with what they need: the policy in force, the key that signs, the store, and a
//! look at the runbook.

mod at_the_desk;
mod blackouts;
mod key;
mod runbook;

pub use blackouts::BlackoutFile;
pub use key::{KEY_FILE, KeyError, signer};

use crate::access::Pace;
use crate::git::Follower;
use crate::run::desk::ENVIRONMENT;
use crate::stage::statement::{self, Envelope, Signer, StatementError};
use crate::stage::{Ask, Decision, Evidence, Facts, Together, Trigger, decide};
use crate::store::{Store, StoreError};
use squall_experiments::event::Event;
use squall_experiments::experiment::Experiment;
use squall_experiments::ids::RunId;
use squall_experiments::join::Labels;
use squall_experiments::language::{self, Colour};
use squall_experiments::policy::{Environment, Policy};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PracticeError {
    /// The environment.
    #[error("there is no environment `{name}`; there are: {}", .known.join(", "))]
    NoEnvironment {
        /// What was said.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The policy's file.
    #[error("the policy `{}` cannot be read", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// What it says.
    #[error("the policy cannot be used:\n{0}")]
    Policy(String),
    /// What is kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A statement, or the key.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The key's file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A run that shows nothing.
    #[error("run {0} neither held nor broke here, so there is nothing to vouch for")]
    NoEvidence(RunId),
    /// A statement about an environment that this policy does not know.
    #[error(
        "the statement is signed by a key that may not speak for `{environment}` here; see `trust` in the policy"
    )]
    NotTheirs {
        /// Of which it speaks.
        environment: String,
    },
}

/// A run that somebody wants to start, or to know about.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// The checked experiment.
    pub experiment: &'a Experiment,
    /// Its digest.
    pub digest: &'a str,
    /// Where: the environment's name.
    pub environment: &'a str,
    /// How.
    pub trigger: Trigger,
    /// By whom.
    pub by: &'a str,
    /// How many targets the plan hits, where there is a plan.
    pub targets: Option<usize>,
    /// The nodes that it may touch, with their labels, where they are known.
    pub nodes: Vec<(String, Labels)>,
    /// The runs beside it.
    pub together: Together,
    /// Where the file lies, for a runbook beside it; none where only its text is known.
    pub folder: Option<&'a Path>,
}

/// The practice of one controller. Cloning it is another handle to the same.
#[derive(Debug, Clone)]
pub struct Practice {
    policy: Arc<RwLock<Arc<Policy>>>,
    signer: Arc<Signer>,
    blackouts: Arc<Vec<BlackoutFile>>,
    followed: Option<Arc<Follower>>,
    /// How often somebody may ask.
    pub pace: Pace,
}

impl Practice {
    /// With this policy, and this key for what is vouched for.
    #[must_use]
    pub fn new(policy: Policy, signer: Signer) -> Self {
        Self {
            policy: Arc::new(RwLock::new(Arc::new(policy))),
            signer: Arc::new(signer),
            blackouts: Arc::default(),
            followed: None,
            pace: Pace::default(),
        }
    }

    /// The policy of a file, or that of a controller without one, with environments of these names (`default` where there are none); the
    /// key of a directory, made where there is none.
    ///
    /// # Errors
    /// The policy or the key cannot be used.
    pub fn open(
        directory: &Path,
        policy: Option<&Path>,
        mut names: Vec<String>,
    ) -> Result<Self, PracticeError> {
        if names.is_empty() {
            names.push(ENVIRONMENT.to_owned());
        }
        let policy = match policy {
            Some(path) => read_policy(path)?,
            None => Policy::without_file(names),
        };
        Ok(Self::new(policy, signer(directory)?))
    }

    /// With calendars of when nothing runs.
    #[must_use]
    pub fn with_blackouts(mut self, files: Vec<BlackoutFile>) -> Self {
        self.blackouts = Arc::new(files);
        self
    }

    /// With the repository that is followed: a runbook may be a file of it.
    #[must_use]
    pub fn with_repository(mut self, followed: Option<Arc<Follower>>) -> Self {
        self.followed = followed;
        self
    }

    /// The repository that is followed, where one is.
    #[must_use]
    pub fn repository(&self) -> Option<&Follower> {
        self.followed.as_deref()
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&policy)
    }

    /// Another policy is in force from now on.
    pub fn set_policy(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// The public key of what this controller vouches for.
    #[must_use]
    pub fn public_key(&self) -> String {
        self.signer.public()
    }

    /// Whether a run may start, with every reason. Looks at the runbook.
    ///
    /// # Errors
    /// The environment is not known, or the store fails.
    pub async fn decide(
        &self,
        store: &Store,
        start: &Start<'_>,
    ) -> Result<Decision, PracticeError> {
        let policy = self.policy();
        let environment = environment(&policy, start.environment)?;
        let (digest, name) = (start.digest, start.environment);
        let evidence = store.evidence_of(digest).await?;
        let approvals = store.approvals_of(digest, name).await?;
        let answers = store.answers_of(digest, name).await?;
        let runbook = start.experiment.metadata.runbook.as_deref();
        let runbook = match runbook {
            Some(place) => {
                let beside = runbook::Beside {
                    folder: start.folder,
                    followed: self.followed.as_deref(),
                };
                Some(runbook::look(place, beside).await)
            }
            None => None,
        };
        let blackout = blackouts::on(&self.blackouts, name, start.experiment).await;
        let ask = Ask {
            experiment: start.experiment,
            digest,
            environment,
            trigger: start.trigger,
            starter: start.by,
            targets: start.targets,
            nodes: start.nodes.clone(),
        };
        let facts = Facts {
            now_us: jiff::Timestamp::now().as_microsecond(),
            policy: &policy,
            evidence: &evidence,
            approvals: &approvals,
            answers: &answers,
            runbook: runbook.as_ref(),
            together: start.together,
            blackout: blackout.as_deref(),
        };
        Ok(decide(&ask, &facts))
    }

    /// The same for a run that is about to start: where it may, why is kept with it.
    ///
    /// # Errors
    /// The environment is not known, or the store fails.
    pub async fn admit(
        &self,
        store: &Store,
        run: &RunId,
        start: &Start<'_>,
    ) -> Result<Decision, PracticeError> {
        let decision = self.decide(store, start).await?;
        if decision.allowed {
            store.add_preflight(run, &decision).await?;
        }
        Ok(decision)
    }

    /// Keeps what a run that ended has shown, where a gate let it in and it held or broke.
    ///
    /// # Errors
    /// The store fails.
    pub async fn record(
        &self,
        store: &Store,
        run: &RunId,
        events: &[Event],
    ) -> Result<Option<Evidence>, PracticeError> {
        let Some(decision) = store.preflight(run).await? else {
            return Ok(None);
        };
        let evidence = Evidence::of(events, &decision.environment, decision.stage);
        // What was let in must be what ran.
        let Some(evidence) = evidence.filter(|e| e.digest == decision.digest && e.run == *run)
        else {
            return Ok(None);
        };
        store.add_evidence(&evidence).await?;
        Ok(Some(evidence))
    }

    /// Vouches for a run that this controller itself saw.
    ///
    /// # Errors
    /// There is no evidence of it, or the store fails.
    pub async fn export(&self, store: &Store, run: &RunId) -> Result<Envelope, PracticeError> {
        let evidence = store.evidence_of_run(run).await?;
        let evidence = evidence.ok_or_else(|| PracticeError::NoEvidence(run.clone()))?;
        Ok(self.signer.sign(&evidence)?)
    }

    /// Reads another controller's word, where the policy trusts it. Nothing is kept yet.
    ///
    /// # Errors
    /// Nobody trusted has signed it, or not for its environment.
    pub fn believe(&self, envelope: &Envelope) -> Result<Evidence, PracticeError> {
        let policy = self.policy();
        let keys = policy.trust.iter().map(|trusted| trusted.key.as_str());
        let evidence = statement::verify(envelope, keys)?;
        if evidence.is_trusted(&policy) {
            return Ok(evidence);
        }
        let environment = evidence.environment;
        Err(PracticeError::NotTheirs { environment })
    }
}

/// The environment of that name.
///
/// # Errors
/// There is none.
pub fn environment<'p>(policy: &'p Policy, name: &str) -> Result<&'p Environment, PracticeError> {
    let known = || policy.environments.iter().map(|e| e.name.clone()).collect();
    let found = policy.environment(name);
    found.ok_or_else(|| PracticeError::NoEnvironment {
        name: name.to_owned(),
        known: known(),
    })
}

/// Reads a policy's file.
///
/// # Errors
/// It cannot be read, or used: then with every mistake in it.
pub fn read_policy(path: &Path) -> Result<Policy, PracticeError> {
    let text = std::fs::read_to_string(path).map_err(|source| PracticeError::File {
        path: path.to_owned(),
        source,
    })?;
    let read = language::read_policy(&path.display().to_string(), &text, &knows_zone);
    let said = read.render(&text, Colour::Never);
    read.value.ok_or(PracticeError::Policy(said))
}

/// Whether this machine knows a time zone of that name.
#[must_use]
pub fn knows_zone(name: &str) -> bool {
    jiff::tz::TimeZone::get(name).is_ok()
}
