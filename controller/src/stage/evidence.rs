//! What a run that ended says for, or against, the experiment's digest in its environment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::RunId;
use squall_experiments::join::Fingerprint;
use squall_experiments::policy::{Policy, Stage};
use squall_experiments::verdict::Verdict;

/// One run that held or broke.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "RunEvidence")]
pub struct Evidence {
    /// The run.
    pub run: RunId,
    /// What the experiment did: [`Experiment::digest`](squall_experiments::experiment::Experiment::digest).
    pub digest: String,
    /// SHA-256 over the file's bytes, in hexadecimal: which text it was.
    pub file: String,
    /// The experiment's name.
    pub experiment: String,
    /// Where it ran.
    pub environment: String,
    /// In which stage it ran there.
    pub stage: Stage,
    /// `held` or `broken`.
    pub verdict: Verdict,
    /// When it ended, microseconds since the Unix epoch.
    pub ended_us: i64,
    /// Milliseconds from the last fault gone to the steady state proven back.
    pub recover_ms: Option<f64>,
    /// What each probe saw.
    pub probes: Vec<Samples>,
    /// The public key (base64) under which another controller vouched for it; none where this one saw it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// In which order it was kept here, which no clock can change; 0 until it is.
    #[serde(default)]
    pub recorded: i64,
}

/// What one probe saw in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Samples {
    /// The probe's name.
    pub probe: String,
    /// Attempts before anything was injected.
    pub baseline: u64,
    /// Attempts in the whole run.
    pub attempts: u64,
    /// Windows of a second in which nothing was measured for one of its expectations.
    pub silent: u64,
    /// Windows in all.
    pub windows: u64,
}

impl Samples {
    /// The probe answered before anything was injected, and in most seconds after it.
    #[must_use]
    pub const fn is_enough(&self) -> bool {
        self.baseline > 0 && self.attempts > self.baseline && self.silent * 2 < self.windows
    }
}

impl Evidence {
    /// From a run's events; none for a run that neither held nor broke: it shows nothing.
    #[must_use]
    pub fn of(events: &[Event], environment: &str, stage: Stage) -> Option<Self> {
        let created = events.iter().find_map(|event| match &event.what {
            Happening::Created(created) => Some(created),
            _ => None,
        })?;
        let (ended_us, finished) = events.iter().rev().find_map(|event| match &event.what {
            Happening::Finished(finished) => Some((event.at_us, finished)),
            _ => None,
        })?;
        if !matches!(finished.verdict, Verdict::Held | Verdict::Broken) {
            return None;
        }
        let file: [u8; 32] = Sha256::digest(created.file_text.as_bytes()).into();
        Some(Self {
            run: created.run.clone(),
            digest: created.digest.clone(),
            file: Fingerprint(file).to_string(),
            experiment: created.name.clone(),
            environment: environment.to_owned(),
            stage,
            verdict: finished.verdict,
            ended_us: i64::try_from(ended_us).unwrap_or(i64::MAX),
            recover_ms: finished.recover_ms,
            probes: samples(events),
            signed_by: None,
            recorded: 0,
        })
    }

    /// Whether it counts under this policy: seen here, or vouched for by whoever may speak for its environment.
    #[must_use]
    pub fn is_trusted(&self, policy: &Policy) -> bool {
        let Some(key) = &self.signed_by else {
            return true;
        };
        let vouches = |environments: &[String]| environments.contains(&self.environment);
        let mut trust = policy.trust.iter();
        trust.any(|by| by.key == *key && vouches(&by.environments))
    }

    /// Whether every probe saw enough.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        !self.probes.is_empty() && self.probes.iter().all(Samples::is_enough)
    }
}

fn samples(events: &[Event]) -> Vec<Samples> {
    let mut all: Vec<Samples> = Vec::new();
    let mut place = |probe: &str| match all.iter().position(|samples| samples.probe == probe) {
        Some(place) => place,
        None => {
            all.push(Samples {
                probe: probe.to_owned(),
                baseline: 0,
                attempts: 0,
                silent: 0,
                windows: 0,
            });
            all.len() - 1
        }
    };
    let mut seen = Vec::new();
    for event in events {
        match &event.what {
            Happening::Created(created) => {
                for expectation in &created.expectations {
                    place(&expectation.probe);
                }
            }
            Happening::BaselineTaken(taken) => {
                seen.push((place(&taken.probe), None, taken.attempts))
            }
            Happening::Observed(window) => {
                let silent = window.checks.iter().any(|check| check.measured.is_none());
                seen.push((place(&window.probe), Some(silent), window.attempts));
            }
            _ => {}
        }
    }
    for (at, window, attempts) in seen {
        let Some(samples) = all.get_mut(at) else {
            continue;
        };
        match window {
            None => samples.baseline = attempts,
            Some(silent) => {
                samples.windows += 1;
                samples.silent += u64::from(silent);
                samples.attempts = samples.attempts.saturating_add(attempts);
            }
        }
    }
    all
}
