//! From an experiment to a plan, with what the agent finds. Touches nothing.

use super::gate;
use crate::fleet::{FleetError, Session};
use squall_experiments::experiment::Experiment;
use squall_experiments::fault::Fault;
use squall_experiments::ids::RunId;
use squall_experiments::plan::{self, Plan};
use squall_experiments::wire::Excluded;

/// What would be done.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Stage by stage; without stages where nothing can be done.
    pub plan: Plan,
    /// What matched a target and is left alone.
    pub excluded: Vec<Excluded>,
    /// Why a run would be refused, where it would.
    pub refused: Option<String>,
}

/// Resolves every step's target, draws, and asks the gates.
///
/// # Errors
/// The agent does not answer.
pub async fn planned(
    session: &mut Session,
    experiment: &Experiment,
    run: &RunId,
    seed: u64,
) -> Result<Planned, FleetError> {
    let mut candidates = Vec::new();
    let mut excluded = Vec::new();
    for step in &experiment.method {
        let kinds = step.faults.iter().map(Fault::kind).collect();
        let resolved = session.resolve(&step.on, kinds).await?;
        candidates.push(resolved.candidates);
        excluded.extend(resolved.excluded);
    }
    let hello = &session.hello;
    let refused = gate::pass(experiment, &hello.node, &hello.capabilities).err();
    let (plan, none) = match plan::plan(experiment, &candidates, run, seed) {
        Ok(plan) => (plan, None),
        Err(error) => {
            let stages = Vec::new();
            let mut why = error.to_string();
            for left in &excluded {
                why = format!("{why}; {} is left alone: {}", left.label, left.reason);
            }
            (Plan { seed, stages }, Some(why))
        }
    };
    Ok(Planned {
        plan,
        excluded,
        refused: refused.or(none),
    })
}
