//! What the probe itself said of attempts that failed.

use super::trial::{Outcome, Trial};
use std::collections::BTreeMap;

/// The most reasons that are told apart in one phase.
const REASONS_MAX: usize = 64;

/// Reasons, and how often each was given.
#[derive(Debug, Clone, Default)]
pub(super) struct Reasons(BTreeMap<String, u64>);

impl Reasons {
    pub(super) fn take(&mut self, trial: &Trial) {
        let (Outcome::Failed(reason) | Outcome::Unanswered(reason)) = &trial.outcome else {
            return;
        };
        if let Some(seen) = self.0.get_mut(reason) {
            *seen += 1;
        } else if self.0.len() < REASONS_MAX {
            self.0.insert(reason.clone(), 1);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The `latest`, or the one given most often, to be added to a sentence; nothing where no reason was given.
    pub(super) fn words(&self, latest: Option<&str>) -> String {
        let most = self.0.iter().max_by_key(|(_, seen)| **seen);
        let most = most.map(|(reason, _)| reason.as_str());
        latest
            .or(most)
            .map_or_else(String::new, |why| format!(": {why}"))
    }
}
