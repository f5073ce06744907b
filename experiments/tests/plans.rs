//! A plan is decided by the experiment, the candidates and the seed, and by nothing else.
#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use squall_experiments::experiment::Experiment;
use squall_experiments::ids::RunId;
use squall_experiments::language::read;
use squall_experiments::plan::{Plan, PlanError, draw, plan, spare_one_of_each_group};
use squall_experiments::target::{Candidate, Share};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn experiment(ramps: &[Vec<Share>]) -> Experiment {
    let steps: Vec<String> = ramps
        .iter()
        .map(|ramp| {
            let shares: Vec<String> = ramp.iter().map(ToString::to_string).collect();
            format!(
                "  - {{ faults: [ {{ delay: 30ms }}, {{ loss: 3% }} ], on: {{ netns: shop }}, ramp: [ {} ], hold: 10s }}\n",
                shares.join(", ")
            )
        })
        .collect();
    let text = format!(
        "apiVersion: squall/v1\nkind: Experiment\nmetadata: {{ name: x }}\nhypothesis: h\n\
         steadyState: [ {{ name: a, probe: {{ tcp: \"a:1\" }}, expect: success >= 90% }} ]\nmethod:\n{}",
        steps.concat()
    );
    let reading = read("plan.yaml", &text);
    reading
        .experiment
        .unwrap_or_else(|| panic!("{:?}", reading.diagnostics))
}

fn candidates(count: usize) -> Vec<Candidate> {
    (0..count)
        .map(|n| Candidate {
            id: format!("process {n}").as_str().into(),
            node: "node".into(),
            label: format!("process {n}"),
            pid: None,
            cgroup: None,
            group: None,
            namespace: None,
            zone: None,
        })
        .collect()
}

/// A ramp that the language accepts: shares of one kind, growing.
fn ramp() -> impl Strategy<Value = Vec<Share>> {
    let percents = prop::collection::btree_set(1_u64..=1_000_000, 1..5).prop_map(|set| {
        set.into_iter()
            .map(|m| Share::Percent(squall_experiments::units::Percent::new(m).unwrap()))
            .collect()
    });
    let counts = prop::collection::btree_set(1_u32..60, 1..5)
        .prop_map(|set| set.into_iter().map(Share::Count).collect());
    prop_oneof![percents, counts, Just(vec![Share::All])]
}

fn hit_of(plan: &Plan, step: usize) -> Vec<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    plan.stages
        .iter()
        .filter(|s| s.step == step)
        .map(|stage| {
            all.extend(stage.arm.iter().map(|f| f.target.id.0.clone()));
            all.clone()
        })
        .collect()
}

proptest! {
    #[test]
    fn a_plan_can_be_repeated(
        ramps in prop::collection::vec(ramp(), 1..4),
        count in 1_usize..60,
        seed: u64,
        shuffle: u64,
    ) {
        let experiment = experiment(&ramps);
        let run = RunId("r".into());
        let found = vec![candidates(count); ramps.len()];
        let first = plan(&experiment, &found, &run, seed).unwrap();
        // Found in another order, and one of them twice.
        let mut other = found.clone();
        for list in &mut other {
            let by = usize::try_from(shuffle % count as u64).unwrap();
            list.rotate_left(by);
            list.reverse();
            let again = list[0].clone();
            list.push(again);
        }
        let second = plan(&experiment, &other, &run, seed).unwrap();
        let arms = |p: &Plan| p.stages.iter().map(|s| s.arm.clone()).collect::<Vec<_>>();
        prop_assert_eq!(arms(&first), arms(&second));
        prop_assert_eq!(plan(&experiment, &found, &run, seed).unwrap(), first);
    }

    #[test]
    fn a_ramp_only_adds(ramps in prop::collection::vec(ramp(), 1..4), count in 1_usize..60, seed: u64) {
        let experiment = experiment(&ramps);
        let found = vec![candidates(count); ramps.len()];
        let made = plan(&experiment, &found, &RunId("r".into()), seed).unwrap();
        let mut ids = BTreeSet::new();
        for stage in &made.stages {
            prop_assert!(!stage.arm.is_empty(), "a stage that adds nothing is no stage");
            prop_assert_eq!(stage.hit, stage.share.of(count));
            for fault in &stage.arm {
                prop_assert!(ids.insert(fault.id.clone()), "{} twice", fault.id);
            }
        }
        for (number, ramp) in ramps.iter().enumerate() {
            let hit = hit_of(&made, number);
            prop_assert!(hit.windows(2).all(|w| w[0].is_subset(&w[1]) && w[0].len() < w[1].len()));
            prop_assert_eq!(hit.last().unwrap().len(), ramp.last().unwrap().of(count));
            // Every target of the step gets every fault of the step, once.
            let armed = made.stages.iter().filter(|s| s.step == number).map(|s| s.arm.len()).sum::<usize>();
            prop_assert_eq!(armed, 2 * hit.last().unwrap().len());
        }
        let ends: Vec<usize> = made.stages.iter().filter(|s| s.ends_previous).map(|s| s.step).collect();
        prop_assert_eq!(ends, (1..ramps.len()).collect::<Vec<_>>());
    }

    #[test]
    fn a_share_is_some_and_not_more_than_all(millionths in 1_u64..=1_000_000, count in 0_usize..2_000) {
        let share = Share::Percent(squall_experiments::units::Percent::new(millionths).unwrap());
        let of = share.of(count);
        prop_assert!(of <= count);
        prop_assert_eq!(of == 0, count == 0);
        prop_assert!(of as u128 * 1_000_000 >= count as u128 * u128::from(millionths));
    }
}

/// Every candidate must be first about as often as any other: 2,000 draws of 1 in 10 put each within five
/// standard deviations (200 ± 67).
#[test]
fn the_draw_is_fair() {
    let experiment = experiment(&[vec![Share::Count(1)]]);
    let found = vec![candidates(10)];
    let mut first = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..2_000 {
        let made = plan(&experiment, &found, &RunId("r".into()), seed).unwrap();
        *first
            .entry(made.stages[0].arm[0].target.id.0.clone())
            .or_default() += 1;
    }
    assert!(
        first.len() == 10 && first.values().all(|n| (133..=267).contains(n)),
        "{first:?}"
    );
}

#[test]
fn nothing_to_hit_is_no_plan() {
    let experiment = experiment(&[vec![Share::All]]);
    let error = plan(&experiment, &[Vec::new()], &RunId("r".into()), 1).unwrap_err();
    assert!(
        matches!(&error, PlanError::NoCandidates { step, .. } if step == "step 1"),
        "{error}"
    );
    assert!(plan(&experiment, &[], &RunId("r".into()), 1).is_err());
}

#[test]
fn an_experiment_knows_how_long_it_takes() {
    let experiment = experiment(&[vec![Share::Count(1), Share::Count(2)], vec![Share::All]]);
    assert_eq!(experiment.duration(), Duration::from_secs(20 + 3 * 10));
}

/// Candidates on nodes in zones, of groups.
fn scattered() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0_u8..4, 0_u8..9, prop::option::of(0_u8..5), 0_u16..400);
    prop::collection::vec(one, 0..120).prop_map(|all| {
        let candidate = |(zone, node, group, id): (u8, u8, Option<u8>, u16)| Candidate {
            node: format!("node-{zone}-{node}"),
            zone: Some(format!("zone {zone}")),
            group: group.map(|group| format!("group {group}")),
            ..candidates(usize::from(id) + 1).remove(id.into())
        };
        all.into_iter().map(candidate).collect()
    })
}

fn counts<'a>(of: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    of.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

proptest! {
    /// Whatever share is hit: no group has a second hit while another, that still could, has none; and each candidate is hit once.
    #[test]
    fn a_share_is_spread_over_groups(found in scattered(), seed: u64) {
        let drawn = draw(&found, seed, 0);
        let all: BTreeSet<_> = found.iter().map(Candidate::at).collect();
        prop_assert_eq!(drawn.iter().map(|c| c.at()).collect::<BTreeSet<_>>(), all.clone());
        prop_assert_eq!(drawn.len(), all.len());
        let whole = counts(drawn.iter().filter_map(|c| c.group.as_deref()));
        for share in 0..=drawn.len() {
            let hit = counts(drawn[..share].iter().filter_map(|c| c.group.as_deref()));
            let most = hit.values().copied().max().unwrap_or_default();
            for (group, size) in &whole {
                let so_many = hit.get(group).copied().unwrap_or_default();
                prop_assert!(so_many == *size || so_many + 1 >= most, "{group}: {so_many} of {size}, another has {most}");
            }
        }
    }

    /// Of one group, or of none, a share is spread over zones, and in each zone over nodes.
    #[test]
    fn a_share_is_spread_over_zones_and_nodes(mut found in scattered(), seed: u64) {
        found.iter_mut().for_each(|candidate| candidate.group = None);
        let drawn = draw(&found, seed, 0);
        let whole = counts(drawn.iter().filter_map(|c| c.zone.as_deref()));
        let nodes = counts(drawn.iter().map(|c| c.node.as_str()));
        for share in 0..=drawn.len() {
            let hit = counts(drawn[..share].iter().filter_map(|c| c.zone.as_deref()));
            let most = hit.values().copied().max().unwrap_or_default();
            for (zone, size) in &whole {
                let so_many = hit.get(zone).copied().unwrap_or_default();
                prop_assert!(so_many == *size || so_many + 1 >= most);
                let there = |c: &&&Candidate| c.zone.as_deref() == Some(*zone);
                let hit = counts(drawn[..share].iter().filter(there).map(|c| c.node.as_str()));
                let most = hit.values().copied().max().unwrap_or_default();
                for (node, size) in nodes.iter().filter(|(node, _)| node.contains(&zone.replace("zone ", "node-"))) {
                    let so_many = hit.get(node).copied().unwrap_or_default();
                    prop_assert!(so_many == *size || so_many + 1 >= most);
                }
            }
        }
    }

    /// One of each group is left alone, and nothing else.
    #[test]
    fn the_last_of_a_group_is_spared(found in scattered(), seed: u64) {
        let mut found: Vec<Candidate> = found;
        found.sort_by_key(Candidate::at);
        found.dedup_by_key(|candidate| candidate.at());
        let groups = counts(found.iter().filter_map(|c| c.group.as_deref())).len();
        let all = found.len();
        let (left, spared) = spare_one_of_each_group(found.clone(), seed, 0);
        prop_assert_eq!((left.len(), spared.len()), (all - groups, groups));
        prop_assert_eq!(counts(spared.iter().filter_map(|c| c.group.as_deref())).len(), groups);
    }
}
