//! Policy files: what they say, and every mistake at once.

use squall_experiments::language::{self, Colour};
use squall_experiments::policy::{Needs, Stage};
use squall_experiments::units::Age;

fn known(zone: &str) -> bool {
    zone == "Europe/Berlin"
}

#[test]
fn what_is_left_out_is_cautious() {
    let text = "
apiVersion: squall/v1
kind: Policy
environments:
  - { name: staging, stage: 1 }
  - { name: production, stage: 2, from: [ staging ], nodes: { env: production } }
trust:
  - { name: other, key: \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\", environments: [ staging ] }
";
    let read = language::read_policy("p.yaml", text, &known);
    let policy = read.value.unwrap();
    let production = policy.environment("production").unwrap();
    assert_eq!(production.stage, Stage::Limited);
    assert_eq!(
        production.needs,
        Needs {
            held: 3,
            within: Age::days(14)
        }
    );
    assert_eq!(production.approvals.count, 1);
    assert!(production.automated.is_none());
    let labels = |value: &str| [("env".to_owned(), value.to_owned())].into();
    assert!(production.has(&labels("production")) && !production.has(&labels("staging")));
    assert!(policy.environment("staging").unwrap().has(&labels("x")));
}

#[test]
fn every_mistake_is_said_at_once_with_its_place_and_its_mend() {
    let text = "
apiVersion: squall/v1
kind: Policy
environments:
  - { name: staging, stage: 1, approvals: { count: 1 } }
  - name: production
    stage: 3
    needs: { held: 0, within: 14 }
    limits: { share: 20, faults: [ delays ], targets: 0 }
    hours: { zone: Europe/Berlim, days: [ monday ], from: 9, to: 08:00 }
    holiday: true
  - { name: canary, stage: 2, from: [ canary, nowhere ], automated: { held: 1, within: 1d } }
trust:
  - { name: other, key: abc, environments: [ staging ] }
";
    let read = language::read_policy("p.yaml", text, &known);
    assert!(read.value.is_none());
    let said = read.render(text, Colour::Never);
    for (line, words) in [
        (5, "`approvals` means nothing in stage 1"),
        (6, "needs `from`"),
        (6, "needs `automated`"),
        (8, "is not a number of held runs"),
        (8, "has no unit"),
        (9, "has no unit"),
        (9, "did you mean `delay`?"),
        (9, "is not a number of targets"),
        (10, "is no time zone that is known here"),
        (10, "is not a day"),
        (10, "is no time of day"),
        (11, "has no field `holiday`"),
        (12, "`automated` is stage 3"),
        (14, "is no Ed25519 public key"),
    ] {
        let here = |d: &&language::Diagnostic| d.span.line == line;
        let mut all = read.diagnostics.iter().filter(here);
        let found = all.any(|d| format!("{} {:?}", d.message, d.label).contains(words));
        assert!(found, "{line}: {words}\n{said}");
    }
    assert!(read.diagnostics.iter().all(|d| d.mend.is_some()), "{said}");
}

#[test]
fn environments_know_each_other() {
    let text = "
apiVersion: squall/v1
kind: Policy
environments:
  - { name: staging, stage: 1 }
  - { name: staging, stage: 1 }
  - { name: production, stage: 2, from: [ production, stagin ] }
";
    let read = language::read_policy("p.yaml", text, &known);
    let said = read.render(text, Colour::Never);
    for words in [
        "two environments are called `staging`",
        "which is itself",
        "not in this file",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
}
