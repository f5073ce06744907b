//! The practice where runs are started: the desk asks it before each run, and tells it of each run that ended.

use super::{Practice, Start};
use crate::run::budget::{Bounded, Limits};
use crate::run::desk::{Asking, Ended, Gate};
use crate::store::Store;
use squall_experiments::event::Event;
use squall_experiments::ids::RunId;
use squall_experiments::policy::Environment;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Practice {
    /// What the desk asks before a run.
    #[must_use]
    pub fn gate(&self, store: &Store) -> Gate {
        let (practice, store) = (self.clone(), store.clone());
        Arc::new(move |asking| {
            let (practice, store) = (practice.clone(), store.clone());
            Box::pin(async move { practice.asked(&store, asking).await })
        })
    }

    async fn asked(&self, store: &Store, asking: Asking) -> Result<(), Vec<String>> {
        let nodes = asking.present.into_iter().map(|one| (one.node, one.labels));
        let start = Start {
            experiment: &asking.experiment,
            digest: &asking.digest,
            environment: &asking.environment,
            trigger: asking.trigger,
            by: &asking.by,
            targets: None,
            nodes: nodes.collect(),
            together: asking.together,
            folder: None,
        };
        let decision = self.admit(store, &asking.run, &start).await;
        // Without an answer there is no yes.
        let decision = decision.map_err(|error| vec![crate::words::chain(&error)])?;
        match decision.allowed {
            true => Ok(()),
            false => Err(decision.missing),
        }
    }

    /// What the desk tells of a run that ended.
    #[must_use]
    pub fn ended(&self, store: &Store) -> Ended {
        let (practice, store) = (self.clone(), store.clone());
        Arc::new(move |run, events| {
            let (practice, store) = (practice.clone(), store.clone());
            Box::pin(async move { practice.heard(&store, &run, &events).await })
        })
    }

    async fn heard(&self, store: &Store, run: &RunId, events: &[Event]) {
        match self.record(store, run, events).await {
            Ok(Some(evidence)) => {
                let (verdict, environment) = (evidence.verdict, evidence.environment);
                tracing::info!(%run, %verdict, environment, "a run became evidence");
            }
            Ok(None) => {}
            Err(error) => {
                let error = crate::words::chain(&error);
                tracing::error!(%run, error, "what a run has shown cannot be kept");
            }
        }
    }

    /// The environments as the desk has them: where each is and how much of it may be hit at once, by the policy and what is
    /// `said` beside it. Where both bound something, the smaller bound counts.
    #[must_use]
    pub fn bounded(&self, said: &BTreeMap<String, Bounded>) -> BTreeMap<String, Bounded> {
        let policy = self.policy();
        let all = policy.environments.iter().map(|environment| {
            let said = said.get(&environment.name).cloned();
            (
                environment.name.clone(),
                bounded(environment, said.unwrap_or_default()),
            )
        });
        all.collect()
    }
}

fn bounded(environment: &Environment, said: Bounded) -> Bounded {
    let limits = &environment.limits;
    let least = |one: Option<usize>, other: Option<u32>| {
        let other = other.map(|most| most as usize);
        one.into_iter().chain(other).min()
    };
    let mut nodes = said.nodes;
    nodes.extend(environment.nodes.clone());
    Bounded {
        nodes,
        budget: Limits {
            runs: least(said.budget.runs, limits.runs),
            targets: least(said.budget.targets, limits.targets_together),
            per_run: least(said.budget.per_run, limits.targets),
            ..said.budget
        },
    }
}
