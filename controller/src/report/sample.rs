//! Runs made by hand, for tests: each like one that the engine records.

use squall_experiments::capability::Capabilities;
use squall_experiments::dose::{Dose, Evidence, NetworkDose};
use squall_experiments::event::{
    BaselineTaken, CheckPoint, Created, Event, ExpectationRef, FaultArmed, FaultDosed, FaultEnded,
    FaultRefused, Finished, Happening, StopReason, Violation, Window,
};
use squall_experiments::fault::{Delay, Distribution, Fault, Holding};
use squall_experiments::filter::{Endpoint, Filter};
use squall_experiments::ids::FaultId;
use squall_experiments::plan::{Plan, PlannedFault, Stage};
use squall_experiments::run_life::RunState;
use squall_experiments::target::{Candidate, Share};
use squall_experiments::verdict::Verdict;
use squall_experiments::wire::EndCause;

/// 2026-11-22 12:00:00 UTC.
const START_US: u64 = 1_795_348_800_000_000;
const PROBE: &str = "order success";
pub(super) const FAULT: &str = "run-1/0.0.0";

pub(super) fn event(at_ms: u64, what: Happening) -> Event {
    Event {
        at_us: START_US + at_ms * 1000,
        what,
    }
}

pub(super) fn created() -> Created {
    let expectation = |text: &str| ExpectationRef {
        probe: PROBE.into(),
        text: text.into(),
    };
    Created {
        run: "run-1".into(),
        name: "orders-survive-slow-payment".into(),
        hypothesis: "Orders keep succeeding while payment answers 300 ms late.".into(),
        file_text: "apiVersion: squall/v1\nkind: Experiment\n".into(),
        file_path: "orders.yaml".into(),
        digest: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
        seed: 42,
        node: "demo".into(),
        capabilities: Capabilities {
            kernel: "6.1.0".into(),
            cgroup: "v2".into(),
            faults: Vec::new(),
            cluster_ends: false,
        },
        version: "0.1.0".into(),
        expectations: vec![expectation("success >= 99%"), expectation("p99 <= 400ms")],
        environment: None,
        by: None,
    }
}

pub(super) fn plan() -> Plan {
    let fault = Fault::Delay(Delay {
        time: "300ms".parse().unwrap(),
        jitter: Some("30ms".parse().unwrap()),
        distribution: Distribution::Uniform,
        correlation: None,
        filter: Filter {
            to: Some(Endpoint {
                hosts: Vec::new(),
                ports: vec!["9090".parse().unwrap()],
            }),
            ..Filter::default()
        },
    });
    let target = Candidate {
        id: "netns:1".into(),
        node: "demo".into(),
        label: "netns of payment (1 process)".into(),
        pid: Some(4711),
        cgroup: None,
        group: None,
        namespace: None,
        zone: None,
    };
    Plan {
        seed: 42,
        stages: vec![Stage {
            step: 0,
            name: "slow payment".into(),
            share: Share::All,
            candidates: 1,
            hit: 1,
            hold: "30s".parse().unwrap(),
            arm: vec![PlannedFault {
                id: FaultId(FAULT.into()),
                fault,
                target,
                pulse: None,
            }],
            ends_previous: false,
        }],
    }
}

/// A second of 50 requests with this p99.
pub(super) fn window(end_ms: u64, p99_us: u32, succeeded: u32) -> Event {
    let share = f64::from(succeeded) / 50.0;
    let check = |measured: f64, bound: f64, satisfied| CheckPoint {
        measured: Some(measured),
        bound: Some(bound),
        satisfied,
        evidence: 1.0,
        stop_at: None,
    };
    event(
        end_ms,
        Happening::Observed(Window {
            probe: PROBE.into(),
            length_ms: 1000,
            attempts: 50,
            successes: succeeded.into(),
            p50_us: Some(u64::from(p99_us) / 3),
            p95_us: Some(u64::from(p99_us) * 4 / 5),
            p99_us: Some(p99_us.into()),
            p999_us: Some(p99_us.into()),
            max_us: Some(p99_us.into()),
            value: None,
            failure: None,
            checks: vec![
                check(share, 0.99, share >= 0.99),
                check(p99_us.into(), 400_000.0, p99_us <= 400_000),
            ],
        }),
    )
}

pub(super) fn armed(at_ms: u64, id: &str) -> Event {
    event(
        at_ms,
        Happening::Armed(FaultArmed {
            id: id.into(),
            evidence: Evidence {
                means: "user-space queue".into(),
                read_back: vec!["table inet sq-1 owner, 1 rule to queue 7".into()],
                warnings: Vec::new(),
            },
            held: Holding::Kernel,
            took_us: 8_300,
        }),
    )
}

pub(super) fn ended(at_ms: u64, id: &str) -> Event {
    event(
        at_ms,
        Happening::Ended(FaultEnded {
            id: id.into(),
            cause: EndCause::Stopped,
            dose: Some(dose(412)),
            took_us: Some(2_100),
        }),
    )
}

fn dose(matched: u64) -> Dose {
    Dose::Network(NetworkDose {
        matched,
        delayed: matched,
        delay_mean_us: Some(300_412.0),
        bytes: matched * 120,
        ..NetworkDose::default()
    })
}

fn beginning() -> Vec<Event> {
    let mut events = vec![
        event(0, Happening::Created(Box::new(created()))),
        event(20, Happening::Planned(plan())),
        event(21, Happening::Entered(RunState::Planned)),
        event(22, Happening::Entered(RunState::Gated)),
        event(50, Happening::Entered(RunState::Baseline)),
    ];
    for second in 1..=10u64 {
        let wobble = u32::try_from(second * 7919 % 13).unwrap() * 400;
        events.push(window(50 + second * 1000, 17_000 + wobble, 50));
    }
    events.push(event(
        10_051,
        Happening::BaselineTaken(BaselineTaken {
            probe: PROBE.into(),
            attempts: 500,
            measured: vec![Some(1.0), Some(20_400.0)],
        }),
    ));
    events.push(event(10_060, Happening::Entered(RunState::Injecting(0))));
    events.push(armed(10_090, FAULT));
    events
}

/// Order waits for payment: the p99 breaks within three seconds and Squall stops.
pub(crate) fn broken() -> Vec<Event> {
    let mut events = beginning();
    for (second, p99, ok) in [(11, 352_000, 50), (12, 610_000, 50), (13, 1_012_000, 43)] {
        events.push(window(50 + second * 1000, p99, ok));
        events.push(event(
            60 + second * 1000,
            Happening::Dosed(FaultDosed {
                id: FAULT.into(),
                dose: dose((second - 10) * 120),
            }),
        ));
    }
    events.push(event(
        13_070,
        Happening::Violated(Violation {
            expectation: ExpectationRef {
                probe: PROBE.into(),
                text: "p99 <= 400ms".into(),
            },
            during: RunState::Injecting(0),
            measured: "31% of 148 requests were slower than 400 ms, 1% expected".into(),
            samples: 148,
            no_data: false,
        }),
    ));
    events.push(event(13_071, Happening::StopDecided(StopReason::Violated)));
    events.push(event(13_072, Happening::Entered(RunState::Recovering)));
    events.push(ended(13_075, FAULT));
    for (second, p99, ok) in [
        (14, 900_000, 46),
        (15, 120_000, 50),
        (16, 19_000, 50),
        (17, 18_000, 50),
    ] {
        events.push(window(50 + second * 1000, p99, ok));
    }
    events.push(event(17_060, Happening::Recovered));
    events.push(event(17_061, Happening::Entered(RunState::Finished)));
    events.push(event(
        17_062,
        Happening::Finished(Finished {
            verdict: Verdict::Broken,
            because: "Orders got slow: 31% of 148 requests were slower than 400 ms while payment answered 300 ms late.".into(),
            detect_ms: Some(2_980.0),
            revert_ms: Some(4.0),
            recover_ms: Some(3_985.0),
        }),
    ));
    events
}

/// Order has a deadline for payment: it is slower, and holds.
pub(crate) fn held() -> Vec<Event> {
    let mut events = beginning();
    for second in 11..=40u64 {
        let wobble = u32::try_from(second * 7919 % 11).unwrap() * 900;
        events.push(window(50 + second * 1000, 118_000 + wobble, 50));
    }
    events.push(event(40_100, Happening::StopDecided(StopReason::Done)));
    events.push(event(40_101, Happening::Entered(RunState::Recovering)));
    events.push(ended(40_106, FAULT));
    for second in 41..=45u64 {
        events.push(window(50 + second * 1000, 18_000, 50));
    }
    events.push(event(45_060, Happening::Recovered));
    events.push(event(45_061, Happening::Entered(RunState::Finished)));
    events.push(event(
        45_062,
        Happening::Finished(Finished {
            verdict: Verdict::Held,
            because: "Every expectation stood while the faults were in force.".into(),
            detect_ms: None,
            revert_ms: Some(6.0),
            recover_ms: Some(4_950.0),
        }),
    ));
    events
}

/// Two probes, a ramp of two stages with three faults, one of them refused; seconds without data, a latency far past
/// its bound, a gauge against its baseline; stopped by a person.
#[expect(
    clippy::too_many_lines,
    reason = "a script, told from its first second to its last"
)]
pub(super) fn ramp() -> Vec<Event> {
    const GAUGE: &str = "paid total";
    let mut created = created();
    let expectation = ExpectationRef {
        probe: GAUGE.into(),
        text: "value within 10% of baseline".into(),
    };
    created.expectations.push(expectation);
    let mut plan = plan();
    let third = |id: &str, label: &str| {
        let mut planned = plan.stages[0].arm[0].clone();
        planned.id = id.into();
        planned.target.label = label.into();
        planned
    };
    let mut first = plan.stages[0].clone();
    first.share = "25%".parse().unwrap();
    first.candidates = 4;
    let mut second = first.clone();
    second.share = Share::All;
    second.hit = 4;
    second.arm = vec![
        third("run-1/0.1.0", "netns of payment 2"),
        third("run-1/0.2.0", "netns of payment 3"),
    ];
    plan.stages = vec![first, second];
    let mut events = vec![
        event(0, Happening::Created(Box::new(created))),
        event(20, Happening::Planned(plan)),
        event(50, Happening::Entered(RunState::Baseline)),
    ];
    for second in 1..=60u64 {
        let at = 50 + second * 1000;
        match second {
            11 => {
                events.push(event(at - 900, Happening::Entered(RunState::Injecting(0))));
                events.push(armed(at - 890, FAULT));
            }
            31 => {
                events.push(event(at - 900, Happening::Entered(RunState::Injecting(1))));
                events.push(armed(at - 880, "run-1/0.1.0"));
                let refused = FaultRefused {
                    id: "run-1/0.2.0".into(),
                    reason: "the node's policy protects this namespace".into(),
                };
                events.push(event(at - 870, Happening::Refused(refused)));
            }
            51 => {
                events.push(event(at - 900, Happening::StopDecided(StopReason::Person)));
                events.push(event(at - 899, Happening::Entered(RunState::Recovering)));
                events.push(ended(at - 895, FAULT));
                events.push(ended(at - 890, "run-1/0.1.0"));
            }
            _ => {}
        }
        let mut seen = window(
            at,
            if second > 30 && second <= 50 {
                15_000_000
            } else {
                20_000
            },
            50,
        );
        if let Happening::Observed(window) = &mut seen.what
            && (36..=39).contains(&second)
        {
            window
                .checks
                .iter_mut()
                .for_each(|check| check.measured = None);
        }
        events.push(seen);
        let value = 1000.0 + f64::from(u32::try_from(second * 7919 % 97).unwrap());
        let check = CheckPoint {
            measured: Some(value),
            bound: (second > 10).then_some(1040.0),
            satisfied: true,
            evidence: 0.0,
            stop_at: None,
        };
        let gauge = Window {
            probe: GAUGE.into(),
            length_ms: 1000,
            value: Some(value),
            checks: vec![check],
            ..Window::default()
        };
        events.push(event(at, Happening::Observed(gauge)));
    }
    let finished = Finished {
        verdict: Verdict::Halted,
        because: "a person stopped the run".into(),
        detect_ms: None,
        revert_ms: Some(10.0),
        recover_ms: None,
    };
    events.push(event(61_000, Happening::Finished(finished)));
    events
}

/// The same run, had its latency been held against a control that allowed 400 ms all along.
pub(crate) fn hold_against_control(events: &mut [Event]) {
    let text = "p99 <= 1.2x control";
    for event in events {
        match &mut event.what {
            Happening::Created(created) => created.expectations[1].text = text.into(),
            Happening::Violated(violation) if violation.expectation.text.starts_with("p99") => {
                violation.expectation.text = text.into();
            }
            _ => {}
        }
    }
}
