//! From an experiment to a plan, with what the agents find. Touches nothing.

use super::crew::Crew;
use super::gate;
use super::machine::Input;
use crate::fleet::Present;
use squall_experiments::experiment::{Experiment, Step};
use squall_experiments::fault::Fault;
use squall_experiments::ids::RunId;
use squall_experiments::join::Labels;
use squall_experiments::nodes::zone_of;
use squall_experiments::plan::{self, Plan};
use squall_experiments::target::{Candidate, Target};
use squall_experiments::wire::{Excluded, FromAgent, FromController, Resolve, Resolved};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Looking through all processes of a large node takes under a second.
const RESOLVE_MAX: Duration = Duration::from_secs(15);

/// The label of a node, or of what is on it, that makes replicas of one group of them.
const GROUP_LABEL: &str = "group";

/// What would be done.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Stage by stage; without stages where nothing can be done.
    pub plan: Plan,
    /// What matched a target and is left alone.
    pub excluded: Vec<Excluded>,
    /// Why a run would be refused, where it would.
    pub refused: Option<String>,
    /// What else a reader should know.
    pub notes: Vec<String>,
    /// The nodes on which each step looks for its target.
    pub asked: Vec<Vec<String>>,
    /// Where nobody answered: a node of those, and what it was asked.
    pub silent: Option<(String, String)>,
}

/// How the draw is bound, beside what the file says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    /// One of each group of replicas is never hit.
    pub(super) spare_last_replica: bool,
}

/// Resolves every step's target on all nodes that it is for, draws, and asks the gates.
pub(super) async fn planned(
    crew: &mut Crew,
    experiment: &Experiment,
    run: &RunId,
    seed: u64,
    bounds: Bounds,
) -> Planned {
    let mut planning = Planning::new(crew.present(), experiment, seed);
    planning.choose_nodes();
    planning.ask(crew).await;
    let mut planned = planning.finish(run, bounds);
    if matches!(crew, Crew::Here { .. }) && planned.refused.is_none() {
        planned.refused = ends_itself(experiment);
    }
    planned
}

/// Why a run on this machine alone is none: its controller would end with the machine, and nobody would say what came of it.
fn ends_itself(experiment: &Experiment) -> Option<String> {
    let mut faults = experiment.method.iter().flat_map(|step| &step.faults);
    let fault = faults.find(|fault| fault.kind().is_for_good())?;
    Some(format!(
        "`{}` would end this very machine, and the run with it, so that nobody could judge: run it from a controller on another one \
         (`squall run FILE --controller URL`)",
        fault.kind()
    ))
}

struct Planning<'a> {
    experiment: &'a Experiment,
    present: BTreeMap<String, Present>,
    planned: Planned,
    /// For each step what was found on which node.
    found: Vec<BTreeMap<String, Resolved>>,
}

impl<'a> Planning<'a> {
    fn new(present: Vec<Present>, experiment: &'a Experiment, seed: u64) -> Self {
        let stages = Vec::new();
        let present = present.into_iter().map(|one| (one.node.clone(), one));
        Self {
            experiment,
            present: present.collect(),
            planned: Planned {
                plan: Plan { seed, stages },
                excluded: Vec::new(),
                refused: None,
                notes: Vec::new(),
                asked: Vec::new(),
                silent: None,
            },
            found: vec![BTreeMap::new(); experiment.method.len()],
        }
    }

    fn refuse(&mut self, why: String) {
        self.planned.refused.get_or_insert(why);
    }

    /// Which nodes each step is for: those that are meant, are there, and can do it.
    fn choose_nodes(&mut self) {
        for (number, step) in self.experiment.method.iter().enumerate() {
            let name = name(step, number);
            if let Some(away) = named(step).find(|node| !self.present.contains_key(*node)) {
                self.refuse(format!(
                    "step `{name}` names the node {away}, and its agent is not there: `squall agents` says who is"
                ));
            }
            let meant = |one: &&Present| {
                let nodes = step.nodes.as_ref();
                nodes.is_none_or(|nodes| nodes.take(&one.node, &one.labels))
            };
            let for_good = step
                .faults
                .iter()
                .map(Fault::kind)
                .find(|kind| kind.is_for_good());
            self.planned.notes.extend(for_good.map(|kind| {
                format!("step `{name}`: {kind} is irreversible: nothing takes it back once it is ordered")
            }));
            let mut able = Vec::new();
            let mut unable = Vec::new();
            for one in self.present.values().filter(meant) {
                match gate::pass(step, &one.node, &one.capabilities) {
                    Ok(()) => able.push(one.node.clone()),
                    Err(why) => unable.push(why),
                }
            }
            if able.is_empty() {
                able = self
                    .present
                    .values()
                    .filter(meant)
                    .map(|one| one.node.clone())
                    .collect();
                let nobody = || match &step.nodes {
                    Some(nodes) => format!("step `{name}`: no agent is there of {nodes}"),
                    None => format!("step `{name}`: {}", crate::fleet::FleetError::Nobody),
                };
                self.refuse(unable.first().cloned().unwrap_or_else(nobody));
            } else {
                let left_out = unable.iter().map(|why| format!("left out: {why}"));
                self.planned.notes.extend(left_out);
            }
            self.planned.asked.push(able);
        }
    }

    /// Asks them all at once, and waits until each has answered, or is late.
    async fn ask(&mut self, crew: &mut Crew) {
        let mut waited_for: BTreeSet<(usize, String)> = BTreeSet::new();
        for (number, step) in self.experiment.method.iter().enumerate() {
            let question = Resolve {
                request: number as u64,
                target: step.on.clone(),
                faults: step.faults.iter().map(Fault::kind).collect(),
            };
            for node in &self.planned.asked[number] {
                let question = FromController::Resolve(question.clone());
                if crew.say(node, question).is_none() {
                    waited_for.insert((number, node.clone()));
                }
            }
        }
        let answers = async {
            while !waited_for.is_empty() {
                match crew.hear().await {
                    Input::Agent(node, FromAgent::Resolved(resolved)) => {
                        let Ok(number) = usize::try_from(resolved.request) else {
                            continue;
                        };
                        if waited_for.remove(&(number, node.clone())) {
                            self.found[number].insert(node, resolved);
                        }
                    }
                    Input::AgentLost(node, _) | Input::AgentAway(node, _) => {
                        waited_for.retain(|(_, waited_for)| *waited_for != node);
                    }
                    other => tracing::debug!(?other, "heard while waiting for candidates"),
                }
            }
        };
        let _late = tokio::time::timeout(RESOLVE_MAX, answers).await;
    }

    /// Who has not answered is left out: then fewer are hit than might have been, never more. A run that names it is refused.
    fn leave_out_the_silent(&mut self, number: usize, step: &Step) {
        let found = &self.found[number];
        let is_silent = |node: &&String| !found.contains_key(*node);
        let silent: Vec<String> = self.planned.asked[number]
            .iter()
            .filter(is_silent)
            .cloned()
            .collect();
        let name = name(step, number);
        if found.is_empty() && self.planned.refused.is_none() {
            let why = format!("it did not say what is there of {}", step.on);
            self.planned.silent = silent.into_iter().next().map(|node| (node, why));
            return;
        }
        for node in &silent {
            let why = format!(
                "step `{name}`: the agent of {node} did not say what is there of {}",
                step.on
            );
            if named(step).any(|named| named == node) {
                self.refuse(why);
            } else {
                let note =
                    format!("{why}: it is left out, and shares are of what the others found");
                self.planned.notes.push(note);
            }
        }
        self.planned.asked[number].retain(|node| !silent.contains(node));
    }

    fn finish(mut self, run: &RunId, bounds: Bounds) -> Planned {
        let mut candidates = Vec::new();
        for (number, step) in self.experiment.method.iter().enumerate() {
            self.leave_out_the_silent(number, step);
            let mut found = Vec::new();
            for (node, resolved) in std::mem::take(&mut self.found[number]) {
                found.extend(self.placed(step, &node, resolved.candidates));
                self.exclude(&node, resolved.excluded);
            }
            if bounds.spare_last_replica {
                found = self.spare(found, number);
            }
            candidates.push(found);
        }
        let seed = self.planned.plan.seed;
        match plan::plan(self.experiment, &candidates, run, seed) {
            Ok(plan) => self.planned.plan = plan,
            Err(error) => {
                let mut why = error.to_string();
                for left in &self.planned.excluded {
                    why = format!("{why}; {} is left alone: {}", left.label, left.reason);
                }
                self.refuse(why);
            }
        }
        self.planned
    }

    /// What a node found, with where that is; nobody speaks for another's.
    fn placed(&self, step: &Step, node: &str, found: Vec<Candidate>) -> Vec<Candidate> {
        let labels = self.present.get(node).map(|one| &one.labels);
        let own = |candidate: &Candidate| candidate.node == node;
        let place = |candidate: Candidate| place(&step.on, labels, candidate);
        found.into_iter().filter(own).map(place).collect()
    }

    fn exclude(&mut self, node: &str, excluded: Vec<Excluded>) {
        let many = self.present.len() > 1;
        let named = excluded.into_iter().map(|mut left| {
            if many {
                left.label = format!("{} on {node}", left.label);
            }
            left
        });
        self.planned.excluded.extend(named);
    }

    fn spare(&mut self, found: Vec<Candidate>, number: usize) -> Vec<Candidate> {
        let seed = self.planned.plan.seed;
        let (found, spared) = plan::spare_one_of_each_group(found, seed, number);
        self.planned.excluded.extend(spared.into_iter().map(|one| Excluded {
            reason: format!(
                "it is the last of {} that would be left; `lastReplica: hit` in the environment's budget allows it",
                one.group.as_deref().unwrap_or_default()
            ),
            label: format!("{} on {}", one.label, one.node),
        }));
        found
    }
}

/// Adds the zone, and the group where the target or the node's labels name one.
pub(super) fn place(
    target: &Target,
    labels: Option<&Labels>,
    mut candidate: Candidate,
) -> Candidate {
    if let Target::Pod(pods) = target {
        candidate
            .namespace
            .get_or_insert_with(|| pods.namespace.clone());
    }
    candidate.zone = labels.and_then(zone_of).map(str::to_owned);
    let of_target = match target {
        Target::Unit(unit) => Some(format!("unit {unit}")),
        // Those that one set of labels selects stand in for one another.
        Target::Pod(pods) if !pods.labels.is_empty() => Some(pods.to_string()),
        _ => None,
    };
    let of_node = || labels.and_then(|labels| labels.get(GROUP_LABEL)).cloned();
    candidate.group = candidate.group.or(of_target).or_else(of_node);
    candidate
}

fn name(step: &Step, number: usize) -> String {
    let numbered = || format!("step {}", number + 1);
    step.name.clone().unwrap_or_else(numbered)
}

/// The nodes that a step names.
fn named(step: &Step) -> impl Iterator<Item = &String> {
    step.nodes.iter().flat_map(|nodes| &nodes.names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::fixture;

    #[test]
    fn a_run_that_would_end_the_machine_it_runs_on_is_refused() {
        let mut experiment = fixture::experiment();
        assert_eq!(ends_itself(&experiment), None);
        let reboot = serde_json::json!({ "reboot": { "irreversible": true } });
        experiment.method[0].faults = vec![serde_json::from_value(reboot).unwrap()];
        assert!(ends_itself(&experiment).unwrap().contains("`reboot`"));
    }
}
