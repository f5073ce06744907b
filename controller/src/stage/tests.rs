//! What the gates say, case by case.

use super::evidence::Samples;
use super::fixture::{
    DAY_US, FILE, NOW_US, POLICY, answers, approval, ask, experiment, facts, policy, readable, run,
};
use super::statement::{self, Signer, StatementError};
use super::{Decision, Evidence, Facts, Trigger, VoteRefused, decide, standing};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use squall_experiments::policy::{Approvals, Stage};
use squall_experiments::units::Age;
use squall_experiments::verdict::Verdict::{self, Broken, Held};
use std::io::Write as _;
use std::process::{Command, Stdio};

const STAGING: (&str, Stage) = ("staging", Stage::NonProduction);
const BY_HAND: (&str, Stage) = ("production", Stage::Limited);
const BY_ITSELF: (&str, Stage) = ("production", Stage::Automated);

fn missing(decision: &Decision) -> String {
    decision.missing.join("\n")
}

#[test]
fn everything_that_is_missing_is_said_at_once() {
    let policy = policy(POLICY);
    let text = FILE.replace(
        ", owner: team-orders, runbook: \"https://wiki.example/orders\"",
        "",
    );
    let text = text.replace("[ 10%, 50% ]", "[ 10%, all ]");
    let (experiment, digest) = experiment(&text);
    let ask = ask(&policy, "production", &experiment, &digest, Trigger::Hand);
    let facts = Facts {
        blackout: Some("Black Friday"),
        ..facts(&policy, &[])
    };
    let decision = decide(&ask, &facts);
    let said = missing(&decision);
    let each = [
        "held runs in staging: needed 2 within 10d; found 0",
        "approvals: needed 1 by others than ann, within 12h; found none",
        "observability:",
        "share: needed at most 50%",
        "blackout: needed none; found Black Friday",
        "checklist 1: ",
        "checklist 2: ",
        "checklist 3: ",
        "checklist 4: ",
        "checklist 7: ",
        "checklist 8: ",
        "checklist 9: ",
        "checklist 10: ",
        "checklist 11: ",
        "checklist 12: ",
    ];
    for one in each {
        assert!(said.contains(one), "{one}\n{said}");
    }
    assert_eq!(decision.missing.len(), each.len(), "{said}");
    assert!(!decision.allowed);
}

#[test]
fn a_file_earns_production_by_hand_and_then_by_itself() {
    let policy = policy(POLICY);
    let (experiment, digest) = experiment(FILE);
    let may = |evidence: &[Evidence], trigger| {
        let ask = ask(&policy, "production", &experiment, &digest, trigger);
        let (approvals, answers) = (
            [approval(&digest, "bob", NOW_US, 99)],
            answers(&digest, NOW_US),
        );
        let runbook = readable();
        let facts = Facts {
            approvals: &approvals,
            answers: &answers,
            runbook: Some(&runbook),
            ..facts(&policy, evidence)
        };
        let decision = decide(&ask, &facts);
        (
            decision.allowed,
            decision.standing.stage,
            missing(&decision),
        )
    };
    let held = |at, recorded| run(&digest, at, Held, NOW_US - DAY_US + recorded, recorded);
    let mut evidence = vec![held(STAGING, 1)];
    assert!(!may(&evidence, Trigger::Hand).0);
    evidence.push(held(STAGING, 2));
    assert_eq!(
        may(&evidence, Trigger::Hand),
        (true, Stage::Limited, String::new())
    );
    assert!(!may(&evidence, Trigger::Automated).0);
    evidence.extend([held(BY_HAND, 3), held(BY_HAND, 4)]);
    assert_eq!(
        may(&evidence, Trigger::Automated),
        (true, Stage::Automated, String::new())
    );
    // Broken by itself: back to stage 2. Broken by hand: back to stage 1, until staging has shown it again.
    let broken = |at, recorded| run(&digest, at, Broken, NOW_US - DAY_US + recorded, recorded);
    evidence.push(broken(BY_ITSELF, 5));
    assert_eq!(may(&evidence, Trigger::Automated).1, Stage::Limited);
    assert!(may(&evidence, Trigger::Hand).0 && !may(&evidence, Trigger::Automated).0);
    evidence.push(broken(BY_HAND, 6));
    assert_eq!(may(&evidence, Trigger::Hand).1, Stage::NonProduction);
    evidence.extend([held(STAGING, 7), held(STAGING, 8)]);
    assert_eq!(may(&evidence, Trigger::Hand).1, Stage::Limited);
    assert!(!may(&evidence, Trigger::Automated).0);
}

#[test]
fn evidence_is_young_and_of_this_digest_and_counted_once() {
    let policy = policy(POLICY);
    let environment = policy.environment("production").unwrap();
    let count = |evidence: &[Evidence]| {
        standing(&policy, environment, "d", evidence, NOW_US)
            .limited
            .unwrap()
    };
    let at = |ended_us, recorded| run("d", STAGING, Held, ended_us, recorded);
    let good = at(NOW_US, 1);
    assert_eq!(count(&[good.clone(), good.clone()]).runs.len(), 1);
    let other = run("e", STAGING, Held, NOW_US, 2);
    assert_eq!(count(&[good.clone(), other]).runs.len(), 1);
    let counted = count(&[
        good.clone(),
        at(NOW_US - 10 * DAY_US - 1, 2),
        at(NOW_US + 1, 3),
    ]);
    assert_eq!(
        (counted.runs.len(), counted.too_old, counted.in_future),
        (1, 1, 1)
    );
    // A clock that was ahead when it held and right when it broke does not make the success the later one.
    let ahead = at(NOW_US, 1);
    let broken = run("d", STAGING, Broken, NOW_US - DAY_US, 2);
    assert_eq!(count(&[ahead, broken]).before_break, 1);
    // Nor does a statement that comes late.
    let broken = run("d", STAGING, Broken, NOW_US - DAY_US, 1);
    assert_eq!(count(&[at(NOW_US - 2 * DAY_US, 2), broken]).before_break, 1);
    let foreign = Evidence {
        signed_by: Some("k".into()),
        ..at(NOW_US, 4)
    };
    assert_eq!(count(&[foreign]).untrusted, 1);
}

#[test]
fn an_approval_is_somebody_elses_once_in_time_and_after_the_last_break() {
    let rule = Approvals {
        count: 1,
        valid_for: Age::days(1),
    };
    let agreeing = |by: &str, starter, broken, now_us| {
        let approval = approval("d", by, NOW_US, 7);
        approval.agreeing(rule, starter, broken, now_us).len()
    };
    assert_eq!(agreeing("bob", "ann", Some(7), NOW_US), 1);
    assert_eq!(agreeing("ANN ", "carl", None, NOW_US), 0);
    assert_eq!(agreeing("bob", "Bob", None, NOW_US), 0);
    assert_eq!(agreeing("bob", "ann", Some(8), NOW_US), 0);
    assert_eq!(agreeing("bob", "ann", None, NOW_US + DAY_US), 0);
    assert_eq!(agreeing("bob", "ann", None, NOW_US - 1), 0);

    let mut approval = approval("d", "bob", NOW_US, 7);
    let may = |a: &super::Approval, by, now_us| a.may_vote(by, rule, now_us);
    assert_eq!(may(&approval, " Ann", NOW_US), Err(VoteRefused::Requester));
    assert_eq!(may(&approval, "BOB", NOW_US), Err(VoteRefused::Already));
    assert_eq!(may(&approval, "eve", NOW_US), Ok(()));
    assert_eq!(
        may(&approval, "eve", NOW_US + DAY_US),
        Err(VoteRefused::Expired)
    );
    approval.votes[0].agree = false;
    assert_eq!(may(&approval, "eve", NOW_US), Err(VoteRefused::Rejected));
    assert!(approval.agreeing(rule, "ann", None, NOW_US).is_empty());
}

#[test]
fn limits_and_hours_are_kept() {
    let text = "
apiVersion: squall/v1
kind: Policy
environments:
  - name: staging
    stage: 1
    nodes: { env: staging }
    limits: { targets: 1, runs: 1, targetsTogether: 3, duration: 10s, faults: [ loss ], namespaces: [ shop ] }
    hours: { zone: Europe/Berlin, days: [ sat ], from: 09:00, to: 16:00 }
";
    let policy = policy(text);
    let (experiment, digest) = experiment(FILE);
    let labels = |env: &str| [("env".to_owned(), env.to_owned())].into();
    let mut ask = ask(&policy, "staging", &experiment, &digest, Trigger::Hand);
    ask.nodes = vec![
        ("n1".into(), labels("staging")),
        ("n2".into(), labels("production")),
    ];
    let mut facts = facts(&policy, &[]);
    facts.together.runs = 1;
    facts.together.targets = 2;
    let said = missing(&decide(&ask, &facts));
    for one in [
        "nodes: ",
        "targets: ",
        "runs at once: ",
        "targets of all runs: ",
        "duration: ",
        "faults: ",
        "namespaces: ",
        "hours: ",
    ] {
        assert!(said.contains(one), "{one}\n{said}");
    }
    assert!(
        said.contains("not so: n2") && !said.contains("n1"),
        "{said}"
    );
    // 2024-10-05 was a Saturday; 07:00 UTC is 09:00 there, before clocks went back.
    let open = |text: &str| {
        let now_us = text.parse::<jiff::Timestamp>().unwrap().as_microsecond();
        !missing(&decide(&ask, &Facts { now_us, ..facts })).contains("hours: ")
    };
    assert!(open("2024-10-05T07:00:00Z") && !open("2024-10-05T06:59:59Z"));
    assert!(open("2024-10-05T13:59:59Z") && !open("2024-10-05T14:00:00Z"));
    assert!(!open("2024-10-04T10:00:00Z"));
    // After clocks went back.
    assert!(open("2024-11-02T08:00:00Z") && !open("2024-11-02T07:59:59Z"));
}

#[test]
fn a_runs_events_become_evidence_if_it_held_or_broke() {
    let events = crate::report::sample::held();
    let evidence = Evidence::of(&events, "staging", Stage::NonProduction).unwrap();
    assert!(matches!(evidence.verdict, Verdict::Held | Verdict::Broken));
    assert!(evidence.is_observed(), "{evidence:?}");
    assert!(
        evidence
            .probes
            .iter()
            .all(|s| s.attempts > s.baseline && s.windows > 0)
    );
    let cut = &events[..events.len() - 1];
    assert!(Evidence::of(cut, "staging", Stage::NonProduction).is_none());
    let mut silent = evidence;
    silent.probes.push(Samples {
        baseline: 0,
        ..silent.probes[0].clone()
    });
    assert!(!silent.is_observed());
}

#[test]
fn a_statement_is_believed_from_those_who_are_trusted_and_as_it_was_signed() {
    let signer = Signer::read(&Signer::generate().unwrap()).unwrap();
    let other = Signer::read(&Signer::generate().unwrap()).unwrap().public();
    let public = signer.public();
    let mut evidence = run("d", STAGING, Held, NOW_US, 3);
    let envelope = signer.sign(&evidence).unwrap();
    evidence.recorded = 0;
    evidence.signed_by = Some(public.clone());
    let keys = [other.as_str(), public.as_str()];
    assert_eq!(statement::verify(&envelope, keys), Ok(evidence));
    assert_eq!(
        statement::verify(&envelope, [other.as_str()]),
        Err(StatementError::Untrusted)
    );
    // Every byte of what is signed is signed.
    let payload = STANDARD.decode(&envelope.payload).unwrap();
    for at in 0..payload.len() {
        let mut changed = payload.clone();
        changed[at] ^= 1;
        let mut envelope = envelope.clone();
        envelope.payload = STANDARD.encode(changed);
        assert_eq!(
            statement::verify(&envelope, keys),
            Err(StatementError::Untrusted)
        );
    }
    let mut envelope = envelope;
    envelope.payload_type.push('x');
    assert_eq!(
        statement::verify(&envelope, keys),
        Err(StatementError::Untrusted)
    );
}

/// Another's implementation of Ed25519 and of base64, and DSSE's rules written down once more.
const VERIFY: &str = "
import base64, json, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
said = json.load(sys.stdin)
e, key = said['envelope'], Ed25519PublicKey.from_public_bytes(base64.b64decode(said['key']))
body, kind = base64.b64decode(e['payload']), e['payloadType'].encode()
key.verify(base64.b64decode(e['signatures'][0]['sig']), b'DSSEv1 %d %b %d %b' % (len(kind), kind, len(body), body))
s = json.loads(body)
assert s['_type'] == 'https://in-toto.io/Statement/v1', s
print(s['subject'][0]['name'], s['predicate']['verdict'])
";

#[test]
fn another_implementation_believes_it_too() {
    let signer = Signer::read(&Signer::generate().unwrap()).unwrap();
    let envelope = signer.sign(&run("d", STAGING, Held, NOW_US, 3)).unwrap();
    let said = serde_json::json!({ "envelope": envelope, "key": signer.public() });
    let started = Command::new("python3")
        .args(["-c", VERIFY])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut python = started.unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(said.to_string().as_bytes())
        .unwrap();
    let done = python.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&done.stderr);
    if error.contains("No module named 'cryptography'") {
        // Known-answer instead: RFC 8032, section 7.1, test 2.
        return known_answer();
    }
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "orders held\n",
        "{error}"
    );
}

fn known_answer() {
    let unhex = |text: &str| -> Vec<u8> {
        let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(pair).collect()
    };
    let seed = unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    let public = unhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    let signature = unhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
    let pair = ring::signature::Ed25519KeyPair::from_seed_and_public_key(&seed, &public).unwrap();
    assert_eq!(pair.sign(&[0x72]).as_ref(), signature);
}
