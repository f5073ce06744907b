//! A policy, a file and its evidence for tests.

use super::evidence::{Evidence, Samples};
use super::gate::{Ask, Facts, Together, Trigger};
use super::{Answer, Approval, Vote, checklist};
use squall_experiments::experiment::Experiment;
use squall_experiments::ids::RunId;
use squall_experiments::language;
use squall_experiments::policy::{Policy, Stage};
use squall_experiments::verdict::Verdict;

pub(crate) const POLICY: &str = "
apiVersion: squall/v1
kind: Policy
environments:
  - { name: staging, stage: 1 }
  - name: production
    stage: 3
    from: [ staging ]
    needs: { held: 2, within: 10d }
    automated: { held: 2, within: 20d }
    approvals: { count: 1, validFor: 12h }
    checklist: 30d
    limits: { share: 50%, targets: 4 }
";

pub(crate) const DAY_US: i64 = 86_400_000_000;
/// Some day.
pub(crate) const NOW_US: i64 = 20_000 * DAY_US;

pub(crate) fn policy(text: &str) -> Policy {
    let known = |zone: &str| jiff::tz::TimeZone::get(zone).is_ok();
    let read = language::read_policy("policy.yaml", text, &known);
    let said = read.render(text, language::Colour::Never);
    read.value.unwrap_or_else(|| panic!("{said}"))
}

pub(crate) const FILE: &str = "
apiVersion: squall/v1
kind: Experiment
metadata: { name: orders, owner: team-orders, runbook: \"https://wiki.example/orders\" }
hypothesis: Orders succeed.
steadyState:
  - name: success
    probe: { load: { url: \"http://127.0.0.1:8080/\", rate: 50/s } }
    expect: [ success >= 90% ]
method:
  - fault: { delay: { time: 300ms } }
    on: { netns: { process: { name: payment } } }
    ramp: [ 10%, 50% ]
    hold: 30s
";

pub(crate) fn experiment(text: &str) -> (Experiment, String) {
    let read = language::read("orders.yaml", text);
    let said = read.render(text, language::Colour::Never);
    let experiment = read.experiment.unwrap_or_else(|| panic!("{said}"));
    let digest = experiment.digest();
    (experiment, digest)
}

/// A run that ended; `recorded` also names it.
pub(crate) fn run(
    digest: &str,
    at: (&str, Stage),
    verdict: Verdict,
    ended_us: i64,
    recorded: i64,
) -> Evidence {
    Evidence {
        run: RunId(format!("run-{recorded}")),
        digest: digest.to_owned(),
        file: "f".repeat(64),
        experiment: "orders".into(),
        environment: at.0.to_owned(),
        stage: at.1,
        verdict,
        ended_us,
        recover_ms: (verdict == Verdict::Held).then_some(1500.0),
        probes: vec![Samples {
            probe: "success".into(),
            baseline: 1000,
            attempts: 5000,
            silent: 0,
            windows: 90,
        }],
        signed_by: None,
        recorded,
    }
}

pub(crate) fn approval(digest: &str, by: &str, at_us: i64, seen: i64) -> Approval {
    Approval {
        id: "a".into(),
        digest: digest.to_owned(),
        experiment: "orders".into(),
        environment: "production".into(),
        requested_by: "ann".into(),
        because: "release 7".into(),
        requested_us: at_us,
        votes: vec![Vote {
            by: by.to_owned(),
            agree: true,
            because: "looks right".into(),
            at_us,
            seen,
        }],
    }
}

/// Yes to all that is asked of people.
pub(crate) fn answers(digest: &str, at_us: i64) -> Vec<Answer> {
    let all = (1..=checklist::ITEMS).map(|item| Answer {
        digest: digest.to_owned(),
        environment: "production".into(),
        item,
        yes: true,
        because: "seen".into(),
        by: "ann".into(),
        at_us,
    });
    all.collect()
}

pub(crate) fn readable() -> checklist::RunbookSeen {
    checklist::RunbookSeen {
        readable: true,
        evidence: "200".into(),
    }
}

pub(crate) fn ask<'a>(
    policy: &'a Policy,
    environment: &str,
    experiment: &'a Experiment,
    digest: &'a str,
    trigger: Trigger,
) -> Ask<'a> {
    Ask {
        experiment,
        digest,
        environment: policy.environment(environment).unwrap(),
        trigger,
        starter: "ann",
        targets: Some(2),
        nodes: Vec::new(),
    }
}

pub(crate) fn facts<'a>(policy: &'a Policy, evidence: &'a [Evidence]) -> Facts<'a> {
    Facts {
        now_us: NOW_US,
        policy,
        evidence,
        approvals: &[],
        answers: &[],
        runbook: None,
        together: Together::default(),
        blackout: None,
    }
}
