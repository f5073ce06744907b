//! A controller of another version: what it says and the agent does not know is passed over, refused in words, or, where it is a stop,
//! stops everything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
use common::{Agent, PATIENCE, Victim, gone, is_there};
use futures_util::SinkExt;
use serde_json::{Value, json};
use squall_experiments::fault::FaultKind;
use squall_experiments::wire::{FromAgent, FromController, PROTOCOL, Welcome};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

/// Longer than any of this takes.
const LEASE: Duration = Duration::from_secs(20);

async fn say(agent: &mut Agent, words: &Value) {
    let link = agent.link.as_mut().unwrap();
    link.send(Message::text(words.to_string())).await.unwrap();
}

#[tokio::test]
async fn what_a_newer_controller_says_is_passed_over_or_refused_in_words() {
    let (mut agent, victim) = (Agent::start().await, Victim::new());
    let kind = FaultKind::Pause;
    say(&mut agent, &json!({ "greet": { "warmly": true } })).await;
    say(
        &mut agent,
        &json!({ "renew": { "faults": [], "lease": "10s", "mood": 1 } }),
    )
    .await;
    let target = agent.resolve(victim.selector(), kind).await;
    let target = target.candidates[0].id.clone();

    let arm = |id: &str, fault: Value| {
        json!({ "arm": {
        "id": id, "run": "run", "fault": fault, "target": target, "lease": "20s", "seed": 7,
    } })
    };
    // A fault, a parameter and a condition that it does not know.
    let mut until = arm("c", json!({ "pause": {} }));
    until["arm"]["until"] = json!("dawn");
    for (id, words, unknown) in [
        ("a", arm("a", json!({ "eclipse": {} })), "eclipse"),
        (
            "b",
            arm("b", json!({ "pause": { "softly": true } })),
            "softly",
        ),
        ("c", until, "until"),
    ] {
        say(&mut agent, &words).await;
        let refused = agent.refused().await;
        assert_eq!((refused.id.0.as_str(), refused.denied), (id, true));
        assert!(refused.reason.contains(unknown), "{}", refused.reason);
        assert!(refused.reason.ends_with("upgrade it"), "{}", refused.reason);
    }
    let question =
        json!({ "resolve": { "request": 99, "target": { "moon": {} }, "faults": ["pause"] } });
    say(&mut agent, &question).await;
    let answer = agent.expect("an answer", |message| match message {
        FromAgent::Resolved(resolved) if resolved.request == 99 => Some(resolved.clone()),
        _ => None,
    });
    let answer = answer.await;
    assert!(answer.candidates.is_empty());
    assert!(
        answer.excluded[0].reason.contains("upgrade it"),
        "{answer:?}"
    );

    // A stop in words that it does not know.
    let armed = agent
        .arm("d", r#"{"pause": {}}"#, victim.selector(), LEASE)
        .await;
    assert!(is_there(armed.holder));
    say(&mut agent, &json!({ "stop": { "zone": "eu-1" } })).await;
    assert_eq!(agent.ended().await.id.0, "d");
    gone(armed.holder, "the holder");
}

#[tokio::test]
async fn a_controller_that_is_too_new_is_left() {
    let mut agent = Agent::start().await;
    let welcome = FromController::Welcome(Welcome {
        protocol: PROTOCOL + 1,
        protocol_least: None,
        version: "99".into(),
        spare_pids: Vec::new(),
        term: None,
    });
    agent.say(welcome).await;
    let status = async {
        loop {
            if let Some(status) = agent.child.try_wait().unwrap() {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let status = tokio::time::timeout(PATIENCE, status).await.unwrap();
    assert!(!status.success(), "{status}");
}
