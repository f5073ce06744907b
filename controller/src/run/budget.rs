//! How much may be hit at once by all runs together. Pure.
//!
//! A run takes what its whole plan will hit before it begins, and gives back each target when the last fault on it is gone. What joins a
//! step that follows is taken then; where it does not fit, it is not hit.

use crate::stage::Together;
use serde::{Deserialize, Serialize};
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::{FaultId, RunId};
use squall_experiments::join::Labels;
use squall_experiments::plan::{Plan, PlannedFault};
use squall_experiments::target::{Candidate, TargetAt};
use std::collections::{BTreeMap, HashMap, HashSet};

/// So many reasons are given; nobody reads more.
const REASONS_MAX: usize = 10;

/// How much may be hit at once in one environment. What is not said is not bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Runs that are under way.
    pub runs: Option<usize>,
    /// Targets in all.
    pub targets: Option<usize>,
    /// Targets of one run.
    pub per_run: Option<usize>,
    /// Targets in each namespace of Kubernetes.
    pub per_namespace: Option<usize>,
    /// Targets of each service: each group of replicas.
    pub per_service: Option<usize>,
    /// Targets in each zone.
    pub per_zone: Option<usize>,
    /// Targets on each node.
    pub per_node: Option<usize>,
    /// Whether the last replica of a group may be hit.
    pub last_replica: LastReplica,
}

/// What happens to the last replica of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LastReplica {
    /// It is left alone.
    #[default]
    Spare,
    /// It is hit like any other.
    Hit,
}

/// An environment: where it is, and how much of it may be hit at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bounded {
    /// Agents with all of these labels belong to it; every agent where nothing is said.
    pub nodes: Labels,
    /// How much may be hit at once.
    pub budget: Limits,
}

/// What one run has taken.
#[derive(Debug, Clone, Default)]
struct Taken {
    environment: String,
    /// Nobody drives it any more: its leases end what it does.
    interrupted: bool,
    targets: HashMap<TargetAt, (Candidate, HashSet<FaultId>)>,
    faults: HashMap<FaultId, TargetAt>,
}

/// Of what a target is one, and how that is called: a namespace, a service, a zone, a node, or one of all.
type Part = (&'static str, String);

/// What all runs have taken.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    runs: BTreeMap<RunId, Taken>,
    /// How many targets are taken of each part of each environment.
    parts: HashMap<(String, Part), usize>,
}

fn parts(target: &Candidate) -> Vec<Part> {
    let named = [
        ("namespace", target.namespace.clone()),
        ("service", target.group.clone()),
        ("zone", target.zone.clone()),
        ("node", Some(target.node.clone())),
        ("all", Some(String::new())),
    ];
    let known = |(kind, name): (&'static str, Option<String>)| Some((kind, name?));
    named.into_iter().filter_map(known).collect()
}

impl Limits {
    fn of(&self, kind: &str) -> Option<usize> {
        match kind {
            "namespace" => self.per_namespace,
            "service" => self.per_service,
            "zone" => self.per_zone,
            "node" => self.per_node,
            _ => self.targets,
        }
    }
}

impl Budget {
    /// Takes all that a plan will hit, or nothing of it.
    ///
    /// # Errors
    /// Every reason why not, each in a sentence.
    pub fn take(
        &mut self,
        run: &RunId,
        environment: &str,
        limits: &Limits,
        plan: &Plan,
    ) -> Result<(), Vec<String>> {
        let mut why: Vec<String> = Vec::new();
        let others = self.names(environment);
        if let Some(most) = limits.runs.filter(|most| others.len() >= *most) {
            why.push(format!(
                "the budget of environment {environment} allows {} at once, and so many are under way: {}",
                count(most, "run"),
                others.join(", ")
            ));
        }
        let taken = Taken {
            environment: environment.to_owned(),
            ..Taken::default()
        };
        self.runs.insert(run.clone(), taken);
        for planned in plan.stages.iter().flat_map(|stage| &stage.arm) {
            let fault = std::slice::from_ref(planned);
            if let Err(reason) = self.add(run, limits, &planned.target, fault)
                && why.len() < REASONS_MAX
                && !why.contains(&reason)
            {
                why.push(reason);
            }
        }
        if why.is_empty() {
            return Ok(());
        }
        self.release(run);
        Err(why)
    }

    /// Takes what a run that nobody drives any more may still hit, after all that is known to have happened in it: whatever the limits are,
    /// it is hit. Whether that is anything.
    pub fn inherit(&mut self, run: &RunId, environment: &str, events: &[Event]) -> bool {
        // Its own, of a controller that leads again before its run of the last time is over.
        self.release(run);
        let taken = Taken {
            environment: environment.to_owned(),
            interrupted: true,
            ..Taken::default()
        };
        self.runs.insert(run.clone(), taken);
        let none = Limits::default();
        for Event { what, .. } in events {
            let (planned, joined) = match what {
                Happening::Planned(plan) => (Some(plan), None),
                Happening::TargetJoined(joined) => (None, Some(joined)),
                _ => (None, None),
            };
            let planned = planned.iter().flat_map(|plan| &plan.stages);
            let planned = planned.flat_map(|stage| &stage.arm);
            for fault in planned.chain(joined.iter().flat_map(|joined| &joined.faults)) {
                // Of two that were interrupted, the first has it: it is taken either way.
                let _taken = self.add(run, &none, &fault.target, std::slice::from_ref(fault));
            }
            self.heard(run, what);
        }
        let acts = self
            .runs
            .get(run)
            .is_some_and(|taken| !taken.targets.is_empty());
        if !acts {
            self.release(run);
        }
        acts
    }

    /// What the runs of an environment do.
    #[must_use]
    pub fn together(&self, environment: &str) -> Together {
        let here = |taken: &&Taken| taken.environment == environment;
        let all = self.runs.values().filter(here);
        all.fold(Together::default(), |sum, taken| Together {
            runs: sum.runs + 1,
            targets: sum.targets + taken.targets.len(),
        })
    }

    /// Takes one target more for a run that is under way.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn add(
        &mut self,
        run: &RunId,
        limits: &Limits,
        target: &Candidate,
        faults: &[PlannedFault],
    ) -> Result<(), String> {
        let at = target.at();
        let Some(taken) = self.runs.get(run) else {
            return Err(format!("run {run} is not under way"));
        };
        if !taken.targets.contains_key(&at) {
            let environment = taken.environment.clone();
            if let Some(most) = limits.per_run.filter(|most| taken.targets.len() >= *most) {
                return Err(format!(
                    "environment {environment} allows {} of one run, and {} on {} would be one more",
                    count(most, "target"),
                    target.label,
                    target.node
                ));
            }
            self.fits(&environment, limits, target)?;
            for part in parts(target) {
                *self.parts.entry((environment.clone(), part)).or_default() += 1;
            }
        }
        if let Some(taken) = self.runs.get_mut(run) {
            let held = taken.targets.entry(at.clone());
            let (_, held) = held.or_insert_with(|| (target.clone(), HashSet::new()));
            for planned in faults {
                held.insert(planned.id.clone());
                taken.faults.insert(planned.id.clone(), at.clone());
            }
        }
        Ok(())
    }

    fn fits(&self, environment: &str, limits: &Limits, target: &Candidate) -> Result<(), String> {
        let at = target.at();
        let mut runs = self.runs.iter();
        if let Some((other, taken)) = runs.find(|(_, taken)| taken.targets.contains_key(&at)) {
            let hit = format!("{} on {}", target.label, target.node);
            return Err(if taken.interrupted {
                format!(
                    "{hit} may still be hit by run {other}, which was interrupted: start again when its lease is over, in seconds"
                )
            } else {
                format!(
                    "{hit} is hit by run {other} already: wait for its end, or `squall stop {other}`"
                )
            });
        }
        for part in parts(target) {
            let Some(most) = limits.of(part.0) else {
                continue;
            };
            let words = match &part {
                ("all", _) => "in all".to_owned(),
                (kind, name) => format!("of {kind} {name}"),
            };
            let taken = self.parts.get(&(environment.to_owned(), part));
            if taken.copied().unwrap_or_default() >= most {
                return Err(format!(
                    "the budget of environment {environment} allows {} at once {words}, and {} on {} would be one more; under way: {}",
                    count(most, "target"),
                    target.label,
                    target.node,
                    self.names(environment).join(", ")
                ));
            }
        }
        Ok(())
    }

    fn names(&self, environment: &str) -> Vec<&str> {
        let runs = self.runs.iter();
        let there = runs.filter(|(_, taken)| taken.environment == environment);
        there.map(|(run, _)| run.0.as_str()).collect()
    }

    /// Gives back what is over.
    pub fn heard(&mut self, run: &RunId, what: &Happening) {
        let over = match what {
            Happening::Ended(ended) => &ended.id,
            Happening::Refused(refused) => &refused.id,
            _ => return,
        };
        let Some(taken) = self.runs.get_mut(run) else {
            return;
        };
        let Some(at) = taken.faults.remove(over) else {
            return;
        };
        let Some((_, faults)) = taken.targets.get_mut(&at) else {
            return;
        };
        faults.remove(over);
        if faults.is_empty()
            && let Some((target, _)) = taken.targets.remove(&at)
        {
            let environment = taken.environment.clone();
            self.give_back(&environment, &target);
        }
    }

    /// A run has ended: all of it.
    pub fn release(&mut self, run: &RunId) {
        if let Some(taken) = self.runs.remove(run) {
            for (target, _) in taken.targets.values() {
                self.give_back(&taken.environment, target);
            }
        }
    }

    fn give_back(&mut self, environment: &str, target: &Candidate) {
        for part in parts(target) {
            let key = (environment.to_owned(), part);
            if let Some(taken) = self.parts.get_mut(&key) {
                *taken -= 1;
                if *taken == 0 {
                    self.parts.remove(&key);
                }
            }
        }
    }

    /// The targets that are taken, with the environments of their runs.
    pub fn taken(&self) -> impl Iterator<Item = (&RunId, &str, &Candidate)> {
        self.runs.iter().flat_map(|(run, taken)| {
            let targets = taken.targets.values();
            targets.map(move |(target, _)| (run, taken.environment.as_str(), target))
        })
    }
}

fn count(number: usize, word: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {word}{s}")
}
