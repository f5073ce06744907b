//! An experiment for tests: one load probe, one delay, 1 s of everything.

use squall_experiments::expectation::{Bound, Check, Comparison, Expectation, Measure, Scalar};
use squall_experiments::experiment::{Experiment, Metadata, SteadyState, Step};
use squall_experiments::fault::{Delay, Distribution, Fault};
use squall_experiments::filter::Filter;
use squall_experiments::ids::{RunId, TargetId};
use squall_experiments::plan::{Plan, plan};
use squall_experiments::probe::{Load, Probe, Request};
use squall_experiments::target::{Candidate, HostTarget, Share, Target};
use squall_experiments::units::Hold;
use std::time::Duration;

pub(crate) const SECOND_US: u64 = 1_000_000;

pub(crate) fn success() -> Expectation {
    let bound = Scalar::Percent("99%".parse().unwrap());
    Expectation {
        measure: Measure::Success,
        check: Check::Compare(Comparison::AtLeast, Bound::Absolute(bound)),
    }
}

pub(crate) fn p99() -> Expectation {
    let bound = Scalar::Latency("400ms".parse().unwrap());
    Expectation {
        measure: Measure::Quantile(990_000),
        check: Check::Compare(Comparison::AtMost, Bound::Absolute(bound)),
    }
}

pub(crate) fn load(url: &str, rate: &str, expect: Vec<Expectation>) -> SteadyState {
    SteadyState {
        name: "orders".into(),
        probe: Probe::Load(Load::bare(Request::bare(url.into()), rate.parse().unwrap())),
        compare: None,
        expect,
        confirm: 3,
        block: None,
        clear: 1,
    }
}

pub(crate) fn experiment() -> Experiment {
    let seconds = |s| Hold::clamped(Duration::from_secs(s));
    Experiment {
        metadata: Metadata {
            name: "orders".into(),
            owner: None,
            runbook: None,
            labels: Default::default(),
        },
        hypothesis: "Orders keep succeeding.".into(),
        steady_state: vec![load("http://127.0.0.1:1/", "50/s", vec![success(), p99()])],
        method: vec![Step {
            name: None,
            faults: vec![Fault::Delay(Delay {
                time: "300ms".parse().unwrap(),
                jitter: None,
                distribution: Distribution::Uniform,
                correlation: None,
                filter: Filter::default(),
            })],
            on: Target::Host(HostTarget {}),
            nodes: None,
            ramp: vec![Share::Percent("50%".parse().unwrap()), Share::All],
            hold: seconds(10),
            pulse: None,
            follow: None,
            keep_previous: false,
        }],
        baseline: seconds(5),
        recovery: seconds(10),
        false_stop: Experiment::false_stop_default(),
        confidence: Experiment::confidence_default(),
        lease: Experiment::lease_default(),
        cluster: None,
    }
}

pub(crate) fn run() -> RunId {
    RunId::from("20260101-000000-abcde")
}

pub(crate) fn candidate(id: &str) -> Candidate {
    Candidate {
        id: TargetId::from(id),
        node: "node".into(),
        label: format!("netns {id}"),
        pid: Some(1),
        cgroup: None,
        group: None,
        namespace: None,
        zone: None,
    }
}

/// Two candidates: two stages of one fault each.
pub(crate) fn planned(experiment: &Experiment) -> Plan {
    let candidates = vec![vec![candidate("a"), candidate("b")]; experiment.method.len()];
    plan(experiment, &candidates, &run(), 7).unwrap()
}
