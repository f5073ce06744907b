//! Whatever runs take and give back, in any order: no limit is ever exceeded, and nothing is lost.

use super::budget::{Budget, LastReplica, Limits};
use super::fixture;
use proptest::prelude::*;
use squall_experiments::event::{Event, FaultRefused, Happening};
use squall_experiments::ids::RunId;
use squall_experiments::plan::{Plan, Stage, plan};
use squall_experiments::target::Candidate;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
enum Any {
    Take(u8, u8, Vec<Candidate>),
    Add(u8, Candidate),
    End(u8, usize),
    Release(u8),
}

fn candidate() -> impl Strategy<Value = Candidate> {
    let part = || prop::option::of(0..3_u8);
    (0..6_u8, 0..4_u8, part(), part(), part()).prop_map(|(id, node, zone, group, namespace)| {
        Candidate {
            node: format!("node {node}"),
            zone: zone.map(|zone| format!("zone {zone}")),
            group: group.map(|group| format!("group {group}")),
            namespace: namespace.map(|namespace| format!("namespace {namespace}")),
            ..fixture::candidate(&format!("target {id}"))
        }
    })
}

fn any_move() -> impl Strategy<Value = Any> {
    let run = || 0..4_u8;
    prop_oneof![
        4 => (run(), 0..2_u8, prop::collection::vec(candidate(), 1..6)).prop_map(|(r, e, c)| Any::Take(r, e, c)),
        2 => (run(), candidate()).prop_map(|(r, c)| Any::Add(r, c)),
        4 => (run(), 0..8_usize).prop_map(|(r, n)| Any::End(r, n)),
        1 => run().prop_map(Any::Release),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let limit = || prop::option::of(0..5_usize);
    (limit(), limit(), limit(), limit(), limit(), limit()).prop_map(|(a, b, c, d, e, f)| Limits {
        runs: a,
        targets: b,
        per_namespace: c,
        per_service: d,
        per_zone: e,
        per_node: f,
        per_run: None,
        last_replica: LastReplica::Hit,
    })
}

fn planned(run: &RunId, candidates: &[Candidate]) -> Plan {
    let mut experiment = fixture::experiment();
    experiment.method[0].faults = vec![experiment.method[0].faults[0].clone(); 2];
    plan(&experiment, &[candidates.to_vec()], run, 1).unwrap()
}

/// What is taken, counted from the start.
fn within(budget: &Budget, limits: &Limits) -> Result<(), TestCaseError> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut runs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut hit = BTreeSet::new();
    for (run, environment, target) in budget.taken() {
        prop_assert!(
            hit.insert(target.at()),
            "{} is hit by two runs",
            target.label
        );
        runs.entry(environment.into())
            .or_default()
            .insert(run.0.clone());
        let of = [
            Some("all".to_owned()),
            target.namespace.clone(),
            target.group.clone(),
            target.zone.clone(),
            Some(target.node.clone()),
        ];
        for part in of.into_iter().flatten() {
            *counts.entry((environment.into(), part)).or_default() += 1;
        }
    }
    for ((_, part), count) in &counts {
        let most = match part.split(' ').next() {
            Some("namespace") => limits.per_namespace,
            Some("group") => limits.per_service,
            Some("zone") => limits.per_zone,
            Some("node") => limits.per_node,
            _ => limits.targets,
        };
        prop_assert!(most.is_none_or(|most| *count <= most), "{count} of {part}");
    }
    let most = limits.runs.unwrap_or(usize::MAX);
    prop_assert!(runs.values().all(|runs| runs.len() <= most));
    Ok(())
}

fn faults_of(plan: &Plan) -> Vec<squall_experiments::plan::PlannedFault> {
    let stages = plan.stages.iter();
    stages.flat_map(|stage: &Stage| stage.arm.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_budget_is_never_exceeded(limits in limits(), moves in prop::collection::vec(any_move(), 0..40)) {
        let mut budget = Budget::default();
        let mut plans: BTreeMap<u8, Plan> = BTreeMap::new();
        let name = |run: u8| RunId(format!("run-{run}"));
        for one in moves {
            match one {
                Any::Take(run, environment, candidates) if !plans.contains_key(&run) => {
                    let plan = planned(&name(run), &candidates);
                    let environment = format!("environment-{environment}");
                    let before = budget.taken().count();
                    match budget.take(&name(run), &environment, &limits, &plan) {
                        Ok(()) => { plans.insert(run, plan); }
                        Err(why) => {
                            prop_assert!(!why.is_empty());
                            prop_assert_eq!(budget.taken().count(), before, "all of it or nothing");
                        }
                    }
                }
                Any::Add(run, target) if plans.contains_key(&run) => {
                    let faults = faults_of(&planned(&name(run), std::slice::from_ref(&target)));
                    let _may_not_fit = budget.add(&name(run), &limits, &target, &faults);
                }
                Any::End(run, n) => {
                    let faults = plans.get(&run).map(faults_of).unwrap_or_default();
                    if let Some(fault) = faults.get(n) {
                        let ended = FaultRefused { id: fault.id.clone(), reason: String::new() };
                        budget.heard(&name(run), &Happening::Refused(ended));
                    }
                }
                Any::Release(run) => {
                    plans.remove(&run);
                    budget.release(&name(run));
                }
                _ => {}
            }
            within(&budget, &limits)?;
        }
        for run in 0..4 {
            budget.release(&name(run));
        }
        prop_assert_eq!(budget.taken().count(), 0);
        // Nothing is left over: as much fits as into a new one.
        let all = Limits { targets: Some(2), ..Limits::default() };
        let two = [fixture::candidate("x"), fixture::candidate("y")];
        prop_assert!(budget.take(&name(9), "environment-0", &all, &planned(&name(9), &two)).is_ok());
    }
}

#[test]
fn a_target_is_for_one_run_and_the_other_is_named() {
    let mut budget = Budget::default();
    let (first, second) = (RunId::from("first"), RunId::from("second"));
    let target = [fixture::candidate("x")];
    let plan = |run| planned(run, &target);
    let limits = Limits::default();
    budget.take(&first, "prod", &limits, &plan(&first)).unwrap();
    let why = budget
        .take(&second, "test", &limits, &plan(&second))
        .unwrap_err();
    assert_eq!(
        why,
        ["netns x on node is hit by run first already: wait for its end, or `squall stop first`"]
    );
    // Given back with the last fault on it, not with the first.
    for (n, fault) in faults_of(&plan(&first)).into_iter().enumerate() {
        assert_eq!(budget.taken().count(), 1, "after {n}");
        let ended = FaultRefused {
            id: fault.id,
            reason: String::new(),
        };
        budget.heard(&first, &Happening::Refused(ended));
    }
    budget
        .take(&second, "test", &limits, &plan(&second))
        .unwrap();
}

#[test]
fn what_an_interrupted_run_may_still_hit_is_taken_whatever_the_limits_are() {
    let mut budget = Budget::default();
    let (old, next) = (RunId::from("old"), RunId::from("next"));
    let [x, y] = ["x", "y"].map(fixture::candidate);
    let plan = planned(&old, &[x.clone(), y.clone()]);
    let on_x = faults_of(&plan).into_iter().filter(|f| f.target == x);
    let gone = on_x.map(|fault| {
        Happening::Refused(FaultRefused {
            id: fault.id,
            reason: String::new(),
        })
    });
    let mut events: Vec<Event> = std::iter::once(Happening::Planned(plan.clone()))
        .chain(gone)
        .map(|what| Event { at_us: 1, what })
        .collect();
    // Twice, as by a controller that leads again before its own run is over.
    assert!(budget.inherit(&old, "prod", &events));
    assert!(budget.inherit(&old, "prod", &events));
    let limits = Limits {
        targets: Some(1),
        ..Limits::default()
    };
    let mut take = |target: &Candidate| {
        let plan = planned(&next, std::slice::from_ref(target));
        let taken = budget.take(&next, "prod", &limits, &plan);
        budget.release(&next);
        taken
    };
    let why = take(&y).unwrap_err();
    assert!(
        why[0].contains("may still be hit by run old, which was interrupted"),
        "{why:?}"
    );
    let why = take(&x).unwrap_err();
    assert!(why[0].contains("under way: next, old"), "{why:?}");
    budget.release(&old);
    assert_eq!(budget.taken().count(), 0);
    let all = budget.take(&next, "prod", &limits, &planned(&next, &[y]));
    assert!(all.is_ok(), "{all:?}");
    budget.release(&next);
    // Nothing of it acts: it holds up nobody.
    events.extend(faults_of(&plan).into_iter().map(|fault| Event {
        at_us: 2,
        what: Happening::Refused(FaultRefused {
            id: fault.id,
            reason: String::new(),
        }),
    }));
    assert!(!budget.inherit(&old, "prod", &events));
    assert_eq!(budget.together("prod").runs, 0);
}
