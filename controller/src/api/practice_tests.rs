//! A file earns production, by REST alone.

use super::access_tests::{everywhere, send, token};
use super::problem::Problem;
use super::world::World;
use super::{EvidenceKey, Page, RunSeen, RunStarted};
use crate::access::{Grant, Role};
use crate::practice::Start;
use crate::stage::fixture::{FILE, POLICY, policy};
use crate::stage::statement::Envelope;
use crate::stage::{Approval, Decision, Evidence, Together, Trigger};
use crate::store::Entry;
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::RunId;
use squall_experiments::language;
use squall_experiments::policy::{Policy, Trusted};
use squall_experiments::verdict::Verdict;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

/// A wiki with one page.
fn wiki() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _asked = stream.read(&mut [0; 4096]).unwrap();
            let status = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _gone = stream.write_all(status.as_bytes());
        }
    });
    format!("http://{address}/orders")
}

fn file() -> String {
    FILE.replace("https://wiki.example/orders", &wiki())
}

struct People {
    operator: String,
    approver: String,
    both: String,
}

async fn people(world: &World) -> People {
    let both = vec![
        Grant::everywhere(Role::Operator),
        Grant::everywhere(Role::Approver),
    ];
    People {
        operator: token(world, "ann", everywhere(Role::Operator), None).await,
        approver: token(world, "bob", everywhere(Role::Approver), None).await,
        both: token(world, "carl", both, None).await,
    }
}

async fn ask<A: DeserializeOwned>(
    world: &World,
    token: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Result<A, Problem> {
    let (status, answer) = send(world, Some(token), method, path, body, &[]).await;
    match status.is_success() {
        true => Ok(serde_json::from_slice(&answer).unwrap()),
        false => Err(serde_json::from_slice(&answer).unwrap()),
    }
}

/// What a run of this text would have left, had it ended so.
fn ended(run: &RunId, text: &str, verdict: Verdict) -> Vec<Event> {
    let mut events = crate::report::sample::held();
    let digest = language::read("orders.yaml", text).digest.unwrap();
    let now_us = u64::try_from(super::now_us()).unwrap();
    for event in &mut events {
        event.at_us = now_us;
        match &mut event.what {
            Happening::Created(created) => {
                created.run = run.clone();
                created.digest.clone_from(&digest);
            }
            Happening::Finished(finished) => finished.verdict = verdict,
            _ => {}
        }
    }
    events
}

/// The gate, and if it lets the run in, the run's end: what the engine does.
async fn run(
    world: &World,
    name: &str,
    text: &str,
    at: (&str, Trigger),
    verdict: Verdict,
) -> Decision {
    let run = RunId::from(name);
    let read = language::read("orders.yaml", text);
    let (experiment, digest) = (read.experiment.unwrap(), read.digest.unwrap());
    let start = Start {
        experiment: &experiment,
        digest: &digest,
        environment: at.0,
        trigger: at.1,
        by: "ann",
        targets: None,
        nodes: Vec::new(),
        together: Together::default(),
        folder: None,
    };
    let decision = world
        .practice
        .admit(&world.store, &run, &start)
        .await
        .unwrap();
    let events = ended(&run, text, verdict);
    let kept = world
        .practice
        .record(&world.store, &run, &events)
        .await
        .unwrap();
    assert_eq!(kept.is_some(), decision.allowed);
    decision
}

const HAND: Trigger = Trigger::Hand;
const ITSELF: Trigger = Trigger::Automated;
const APPROVALS: &str = "/environments/production/approvals";
const ANSWERS: &str = "/environments/production/answers";

async fn why(world: &World, people: &People, text: &str) -> Decision {
    let wanted = Some(json!({ "file": text, "path": "orders.yaml" }));
    let path = "/environments/production/promotions";
    ask(world, &people.operator, "POST", path, wanted)
        .await
        .unwrap()
}

async fn yes(world: &World, token: &str, approval: &str) -> Result<Approval, Problem> {
    let path = format!("{APPROVALS}/{approval}/votes");
    let vote = Some(json!({ "agree": true, "because": "looked at it" }));
    ask(world, token, "POST", &path, vote).await
}

/// All that is needed for production, but for the approval, which is asked for by Carl.
async fn all_but_approved(world: &World, people: &People, text: &str) -> Approval {
    for name in ["s1", "s2"] {
        let decision = run(world, name, text, ("staging", HAND), Verdict::Held).await;
        assert!(decision.allowed, "{:?}", decision.missing);
    }
    let items = [1, 2, 3, 7, 10, 11, 12];
    let answers = json!({ "file": text, "yes": items, "because": "went through it" });
    let answered = ask(world, &people.operator, "POST", ANSWERS, Some(answers)).await;
    let answered: Decision = answered.unwrap();
    assert!(
        answered.checklist.iter().all(|item| item.yes),
        "{:?}",
        answered.missing
    );
    let request = json!({ "file": text, "because": "release 7" });
    ask(world, &people.both, "POST", APPROVALS, Some(request))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_file_earns_production_with_somebody_elses_approval() {
    let world = World::new().await;
    world.practice.set_policy(policy(POLICY));
    let people = people(&world).await;
    let text = file();
    let refused = why(&world, &people, &text).await;
    assert!(
        !refused.allowed && refused.missing.len() > 9,
        "{:?}",
        refused.missing
    );
    let asked = all_but_approved(&world, &people, &text).await;
    let machine = json!({ "file": text, "yes": [9], "because": "I say so" });
    let refused = ask::<Decision>(&world, &people.operator, "POST", ANSWERS, Some(machine)).await;
    assert_eq!(refused.unwrap_err().status, 422);

    // Carl may approve, and not what Carl asked for.
    assert_eq!(
        yes(&world, &people.both, &asked.id)
            .await
            .unwrap_err()
            .status,
        403
    );
    let left = why(&world, &people, &text).await.missing;
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with("approvals: "), "{left:?}");
    assert_eq!(
        yes(&world, &people.approver, &asked.id)
            .await
            .unwrap()
            .votes
            .len(),
        1
    );
    assert_eq!(
        yes(&world, &people.approver, &asked.id)
            .await
            .unwrap_err()
            .status,
        409
    );
    assert!(why(&world, &people, &text).await.allowed);

    // Another file, however alike, starts again.
    let other = text.replace("300ms", "301ms");
    assert_eq!(
        why(&world, &people, &other).await.standing.stage.number(),
        1
    );
    let log = world.store.audit_entries(0, 100).await.unwrap();
    let did = |entry: &&Entry| {
        entry.who == "bob" && entry.status == 201 && entry.detail.contains(&asked.digest)
    };
    assert_eq!(log.iter().filter(did).count(), 1);
}

#[tokio::test]
async fn a_file_runs_by_itself_until_it_breaks_and_why_is_kept_with_each_run() {
    let world = World::new().await;
    world.practice.set_policy(policy(POLICY));
    let people = people(&world).await;
    let text = file();
    let asked = all_but_approved(&world, &people, &text).await;
    yes(&world, &people.approver, &asked.id).await.unwrap();
    for (name, trigger, verdict, allowed) in [
        ("p1", HAND, Verdict::Held, true),
        ("p2", ITSELF, Verdict::Held, false),
        ("p3", HAND, Verdict::Held, true),
        ("p4", ITSELF, Verdict::Broken, true),
        ("p5", ITSELF, Verdict::Held, false),
    ] {
        let decision = run(&world, name, &text, ("production", trigger), verdict).await;
        assert_eq!(decision.allowed, allowed, "{name} {:?}", decision.missing);
    }
    let preflight = async |name: &str| {
        let path = format!("/runs/{name}/preflight");
        ask::<Decision>(&world, &people.operator, "GET", &path, None).await
    };
    let kept = preflight("p1").await.unwrap();
    assert!(kept.allowed && kept.checklist.len() == 12);
    assert!(preflight("p2").await.is_err());
    let page = async |query: &str| {
        let path = format!("/environments/production/evidence?{query}");
        ask::<Page<Evidence>>(&world, &people.operator, "GET", &path, None)
            .await
            .unwrap()
    };
    let first = page("limit=2").await;
    let rest = page(&format!("after={}", first.next.unwrap())).await;
    assert_eq!(
        (first.items.len(), rest.items.len(), rest.next),
        (2, 1, None)
    );
}

#[tokio::test]
async fn a_request_is_done_once() {
    let world = World::new().await;
    world.practice.set_policy(policy(POLICY));
    let people = people(&world).await;
    let heads = [("idempotency-key", "4711")];
    let body = |because: &str| Some(json!({ "file": FILE, "because": because }));
    let make = |because| {
        send(
            &world,
            Some(&people.operator),
            "POST",
            APPROVALS,
            body(because),
            &heads,
        )
    };
    let (status, first) = make("release 7").await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(make("release 7").await, (status, first));
    assert_eq!(make("release 8").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let page: Page<Approval> = ask(&world, &people.operator, "GET", APPROVALS, None)
        .await
        .unwrap();
    assert_eq!(page.items.len(), 1);
}

#[tokio::test]
async fn another_controllers_word_counts_where_it_is_trusted() {
    let (here, there) = (World::new().await, World::new().await);
    there.practice.set_policy(policy(POLICY));
    let text = file();
    for name in ["s1", "s2"] {
        run(&there, name, &text, ("staging", HAND), Verdict::Held).await;
    }
    let them = people(&there).await;
    let key: EvidenceKey = ask(&there, &them.operator, "GET", "/evidence/key", None)
        .await
        .unwrap();
    let trusting = |environment: &str| Policy {
        trust: vec![Trusted {
            name: "staging-controller".into(),
            key: key.key.clone(),
            environments: vec![environment.into()],
        }],
        ..policy(POLICY)
    };
    let us = people(&here).await;
    let statement = async |name: &str| {
        let path = format!("/environments/staging/evidence/{name}/statement");
        let envelope: Envelope = ask(&there, &them.operator, "GET", &path, None)
            .await
            .unwrap();
        json!(envelope)
    };
    let import = async |said: Value| {
        ask::<Evidence>(&here, &us.operator, "POST", "/evidence", Some(said)).await
    };
    let said = [statement("s1").await, statement("s2").await];
    here.practice.set_policy(policy(POLICY));
    assert_eq!(import(said[0].clone()).await.unwrap_err().status, 422);
    here.practice.set_policy(trusting("production"));
    assert_eq!(import(said[0].clone()).await.unwrap_err().status, 403);
    here.practice.set_policy(trusting("staging"));
    for said in said {
        import(said.clone()).await.unwrap();
        import(said).await.unwrap();
    }
    let wanted = json!({ "file": text });
    let why = async || {
        let path = "/environments/production/promotions";
        let decision: Decision = ask(&here, &us.operator, "POST", path, Some(wanted.clone()))
            .await
            .unwrap();
        decision.standing.stage.number()
    };
    assert_eq!(why().await, 2);
    // Who is not trusted any more has shown nothing.
    here.practice.set_policy(policy(POLICY));
    assert_eq!(why().await, 1);
}

#[tokio::test]
async fn who_is_bound_to_a_namespace_has_to_do_with_nothing_else() {
    let world = World::new().await;
    world.practice.set_policy(policy(POLICY));
    let grant = Grant {
        namespaces: Some(vec!["shop".into()]),
        ..Grant::everywhere(Role::Operator)
    };
    let bound = token(&world, "dora", vec![grant], None).await;
    let in_namespace = |name: &str| {
        let pod = format!("on: {{ pod: {{ namespace: {name}, labels: {{ app: payment }} }} }}");
        FILE.replace("on: { netns: { process: { name: payment } } }", &pod)
    };
    let status = async |text: String| {
        let path = "/environments/staging/promotions";
        let (status, answer) = send(
            &world,
            Some(&bound),
            "POST",
            path,
            Some(json!({ "file": text })),
            &[],
        )
        .await;
        assert_ne!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
        status
    };
    assert_eq!(status(in_namespace("shop")).await, StatusCode::OK);
    assert_eq!(status(in_namespace("bank")).await, StatusCode::FORBIDDEN);
    assert_eq!(status(FILE.to_owned()).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn runs_pass_the_gate_and_are_seen_where_they_ran() {
    let world = World::new().await;
    world.practice.set_policy(policy(POLICY));
    let people = people(&world).await;
    let only = async |role, environment: &str| {
        let grant = Grant {
            environments: Some(vec![environment.into()]),
            ..Grant::everywhere(role)
        };
        token(&world, "eve", vec![grant], None).await
    };
    let start = async |token: &str, environment: &str| {
        let wanted = json!({ "file": FILE, "environment": environment });
        ask::<RunStarted>(&world, token, "POST", "/runs", Some(wanted)).await
    };
    let refused = start(&people.operator, "production").await.unwrap_err();
    assert!(
        refused.status == 403 && refused.reasons.len() > 9,
        "{refused:?}"
    );
    let staging = only(Role::Operator, "staging").await;
    assert!(
        start(&staging, "production")
            .await
            .unwrap_err()
            .reasons
            .is_empty()
    );
    let run = start(&staging, "staging").await.unwrap().run;
    let preflight: Decision = ask(
        &world,
        &staging,
        "GET",
        &format!("/runs/{run}/preflight"),
        None,
    )
    .await
    .unwrap();
    assert!(preflight.allowed && preflight.environment == "staging");
    let production = only(Role::Viewer, "production").await;
    for path in ["", "/report", "/events", "/preflight"] {
        let path = format!("/runs/{run}{path}");
        let (seen, _) = send(&world, Some(&staging), "GET", &path, None, &[]).await;
        let (hidden, _) = send(&world, Some(&production), "GET", &path, None, &[]).await;
        assert_eq!(
            (seen, hidden),
            (StatusCode::OK, StatusCode::NOT_FOUND),
            "{path}"
        );
    }
    let list: Page<RunSeen> = ask(&world, &production, "GET", "/runs", None)
        .await
        .unwrap();
    assert!(list.items.is_empty());
}
