//! What a run will do, decided before it starts: which candidates are hit, in which order, for how long.
//!
//! Pure and deterministic: the same experiment, candidates and seed give the same plan, on any machine.

use crate::experiment::Experiment;
use crate::fault::Fault;
use crate::ids::{FaultId, RunId};
use crate::pulse::Pulse;
use crate::target::{Candidate, Share, TargetAt};
use crate::units::Hold;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// A run, decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What the draw was made with.
    pub seed: u64,
    /// One after another.
    pub stages: Vec<Stage>,
}

/// One share of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// Which step of the method, from 0.
    pub step: usize,
    /// The step's name.
    pub name: String,
    /// The share as the file says it.
    pub share: Share,
    /// How many candidates there are for this step.
    pub candidates: usize,
    /// How many of them are hit in this stage, those of the step's earlier stages included.
    pub hit: usize,
    /// How long it is held.
    pub hold: Hold,
    /// What is armed when the stage begins, beside what the step already armed.
    pub arm: Vec<PlannedFault>,
    /// Whether the faults of the step before end first.
    pub ends_previous: bool,
}

/// One fault on one candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedFault {
    /// Its name on the wire.
    pub id: FaultId,
    /// What is injected.
    pub fault: Fault,
    /// Into what.
    pub target: Candidate,
    /// It comes and goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulse: Option<Pulse>,
}

impl PlannedFault {
    /// What is injected, in words: `delay 300ms, 5s on and 10s off`.
    #[must_use]
    pub fn what(&self) -> String {
        match self.pulse {
            Some(pulse) => format!("{}, {pulse}", self.fault),
            None => self.fault.to_string(),
        }
    }
}

/// Why no plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing matches.
    #[error("step `{step}`: nothing matches {target}; see `squall plan` for what is there")]
    NoCandidates {
        /// The step's name.
        step: String,
        /// The target in words.
        target: String,
    },
}

/// Makes the plan. `candidates` holds what was found for each step of the method, in the method's order.
///
/// # Errors
/// A step without candidates.
pub fn plan(
    experiment: &Experiment,
    candidates: &[Vec<Candidate>],
    run: &RunId,
    seed: u64,
) -> Result<Plan, PlanError> {
    let mut stages = Vec::new();
    for (number, step) in experiment.method.iter().enumerate() {
        let name = step
            .name
            .clone()
            .unwrap_or_else(|| format!("step {}", number + 1));
        let found = candidates
            .get(number)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if found.is_empty() {
            return Err(PlanError::NoCandidates {
                step: name,
                target: step.on.to_string(),
            });
        }
        let drawn = draw(found, seed, number);
        let mut hit = 0;
        let mut first = true;
        for share in &step.ramp {
            // However many match at first, a step that follows never hits more than it says.
            let most = step.follow.and_then(|follow| follow.at_most);
            let most = most.map_or(usize::MAX, |most| most as usize);
            let count = share.of(drawn.len()).min(most);
            // Several small shares of few targets are the same targets: one stage, not a repetition.
            if count <= hit {
                continue;
            }
            let arm = drawn[hit..count]
                .iter()
                .enumerate()
                .flat_map(|(index, target)| {
                    let place = hit + index;
                    step.faults
                        .iter()
                        .enumerate()
                        .map(move |(which, fault)| PlannedFault {
                            id: FaultId(format!("{run}/{number}.{place}.{which}")),
                            fault: fault.clone(),
                            target: (*target).clone(),
                            pulse: step.pulse,
                        })
                });
            stages.push(Stage {
                step: number,
                name: name.clone(),
                share: *share,
                candidates: drawn.len(),
                hit: count,
                hold: step.hold,
                arm: arm.collect(),
                ends_previous: first && number > 0 && !step.keep_previous,
            });
            hit = count;
            first = false;
        }
    }
    Ok(Plan { seed, stages })
}

/// The order in which candidates are hit. Sorted first, so that the order in which they were found cannot matter; shuffled by
/// the seed; then spread, so that whatever share is hit, it is one replica of each group before a second of any, and among these as
/// few as possible of each zone and of each node.
#[must_use]
pub fn draw(candidates: &[Candidate], seed: u64, step: usize) -> Vec<&Candidate> {
    let key = |candidate: &&Candidate| (candidate.id.clone(), candidate.node.clone());
    let mut drawn: Vec<&Candidate> = candidates.iter().collect();
    drawn.sort_by_cached_key(key);
    drawn.dedup_by(|a, b| a.id == b.id && a.node == b.node);
    let mut rng = rand::rngs::ChaCha8Rng::seed_from_u64(seed.wrapping_add((step as u64) << 32));
    drawn.shuffle(&mut rng);
    let drawn = spread(drawn);
    let nth = numbered(&drawn, |candidate| candidate.group.as_deref());
    let mut rounds: BTreeMap<usize, Vec<&Candidate>> = BTreeMap::new();
    for (candidate, nth) in drawn.into_iter().zip(nth) {
        rounds.entry(nth).or_default().push(candidate);
    }
    rounds.into_values().flat_map(spread).collect()
}

/// One of each zone before a second of any, and of each zone one of each node before a second of any.
fn spread(candidates: Vec<&Candidate>) -> Vec<&Candidate> {
    let nodes = by_number(candidates, |candidate| Some(&candidate.node));
    by_number(nodes, |candidate| candidate.zone.as_deref())
}

fn by_number<'a>(
    candidates: Vec<&'a Candidate>,
    of: impl Fn(&'a Candidate) -> Option<&'a str>,
) -> Vec<&'a Candidate> {
    let numbers = numbered(&candidates, of);
    let mut numbered: Vec<(usize, &Candidate)> = numbers.into_iter().zip(candidates).collect();
    // Stable: what has the same number keeps its order.
    numbered.sort_by_key(|(number, _)| *number);
    numbered
        .into_iter()
        .map(|(_, candidate)| candidate)
        .collect()
}

/// For each candidate, how many of its kind stand before it; what has no kind is one of its own.
fn numbered<'a>(
    candidates: &[&'a Candidate],
    of: impl Fn(&'a Candidate) -> Option<&'a str>,
) -> Vec<usize> {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let number = |candidate: &&'a Candidate| {
        let count = seen.entry(of(candidate)?).or_default();
        *count += 1;
        Some(*count - 1)
    };
    candidates
        .iter()
        .map(number)
        .map(Option::unwrap_or_default)
        .collect()
}

/// Takes one replica of each group out, so that a group is never hit as a whole: the one that the draw hits last. What belongs to no
/// group stays. The second value is what was taken out.
#[must_use]
pub fn spare_one_of_each_group(
    candidates: Vec<Candidate>,
    seed: u64,
    step: usize,
) -> (Vec<Candidate>, Vec<Candidate>) {
    let mut spared: HashMap<String, TargetAt> = HashMap::new();
    for candidate in draw(&candidates, seed, step) {
        if let Some(group) = &candidate.group {
            spared.insert(group.clone(), candidate.at());
        }
    }
    candidates.into_iter().partition(|candidate| {
        let last = candidate.group.as_ref().and_then(|group| spared.get(group));
        last != Some(&candidate.at())
    })
}
