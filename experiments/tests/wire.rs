//! The wire, frame by frame: what this version writes is what is recorded, and what is recorded is read as it was meant. And what a newer
//! end says, of which not all is known.
//!
//! `tests/wire/v1.jsonl` has frames of version 1 of the protocol, one a line. A frame that was released is never changed: agents and
//! controllers that are there say it. What is added to a message is another line.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use squall_experiments::fault::FaultKind;
use squall_experiments::wire::skew::{Noticed, Speaks, Unread, agree, of_agent, of_controller};
use squall_experiments::wire::{FromAgent, FromController, Stop};

const RECORDED: &str = include_str!("wire/v1.jsonl");

/// The frames of one side.
fn frames(side: &str) -> Vec<Value> {
    let lines = RECORDED
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_side = lines.filter_map(|mut line| line.get_mut(side).map(Value::take));
    of_side.collect()
}

fn kind(frame: &Value) -> String {
    frame.as_object().unwrap().keys().next().unwrap().clone()
}

#[test]
fn recorded_frames_are_read_and_written_as_they_are() {
    let (agents, controllers) = (frames("agent"), frames("controller"));
    for frame in &agents {
        let read = of_agent(&frame.to_string()).unwrap_or_else(|error| panic!("{frame}: {error}"));
        assert_eq!(serde_json::to_value(read).unwrap(), *frame);
    }
    for frame in &controllers {
        let read = of_controller(&frame.to_string());
        let read = read.unwrap_or_else(|error| panic!("{frame}: {error}"));
        assert_eq!(serde_json::to_value(read).unwrap(), *frame);
    }
    assert_eq!(agents.len() + controllers.len(), RECORDED.lines().count());
    // None is missing.
    for name in [
        "hello", "resolved", "armed", "refused", "dosed", "ended", "stuck",
    ] {
        assert!(agents.iter().any(|frame| kind(frame) == name), "{name}");
    }
    for name in ["welcome", "resolve", "arm", "renew", "stop", "moved"] {
        assert!(
            controllers.iter().any(|frame| kind(frame) == name),
            "{name}"
        );
    }
    let armed = controllers
        .iter()
        .filter_map(|frame| frame.pointer("/arm/fault"));
    let armed = armed.map(kind).collect::<Vec<_>>();
    for fault in FaultKind::ALL {
        let name = serde_json::to_value(fault).unwrap();
        assert!(armed.iter().any(|one| *one == name), "{name}");
    }
}

#[test]
fn fields_of_a_newer_end_are_passed_over_but_in_an_order_to_arm() {
    for (side, is_agent) in [("agent", true), ("controller", false)] {
        for mut frame in frames(side) {
            let name = kind(&frame);
            let Some(content) = frame.get_mut(&name).and_then(Value::as_object_mut) else {
                continue;
            };
            if name == "stop" {
                continue;
            }
            content.insert("sinceNextVersion".into(), json!({ "x": 1 }));
            let text = frame.to_string();
            let read = if is_agent {
                of_agent(&text).map(drop)
            } else {
                of_controller(&text).map(drop)
            };
            assert_eq!(read.is_ok(), name != "arm", "{text}");
        }
    }
}

#[test]
fn what_is_not_known_is_told_from_what_makes_no_sense() {
    let unread = of_agent(r#"{"mood": {"good": true}}"#).unwrap_err();
    assert_eq!(unread, Unread::Kind("mood".into()));
    assert_eq!(
        of_agent(r#""mood""#).unwrap_err(),
        Unread::Kind("mood".into())
    );
    let unread = of_controller(r#"{"arm": {"id": "r/0", "fault": {"eclipse": {}}}}"#).unwrap_err();
    let Unread::Content { kind, content, .. } = unread else {
        panic!("{unread}");
    };
    assert_eq!((kind.as_str(), &content["id"]), ("arm", &json!("r/0")));
    for nonsense in [
        "",
        "7",
        "[]",
        "{}",
        r#"{"armed": {}, "ended": {}}"#,
        "{\"mood\"",
    ] {
        let unread = of_agent(nonsense).unwrap_err();
        assert!(
            matches!(unread, Unread::Nonsense(_)),
            "{nonsense}: {unread}"
        );
    }
    // A name is shown as far as it can be.
    let long = format!("{{\"\\u001b{}\": 1}}", "x".repeat(1000));
    assert_eq!(of_agent(&long).unwrap_err(), Unread::Kind("x".repeat(40)));
    let mut noticed = Noticed::default();
    assert!(noticed.is_first("mood") && !noticed.is_first("mood"));
    let more = (0..1000)
        .filter(|n| noticed.is_first(&n.to_string()))
        .count();
    assert!(more < 20, "{more}");
}

#[test]
fn what_a_newer_agent_can_do_besides_is_left_out() {
    let mut hello = frames("agent").remove(0);
    let of = |hello: &Value| match of_agent(&hello.to_string()) {
        Ok(FromAgent::Hello(hello)) => hello.capabilities,
        other => panic!("{other:?}"),
    };
    let known = of(&hello);
    let faults = hello.pointer_mut("/hello/capabilities/faults").unwrap();
    let faults = faults.as_array_mut().unwrap();
    faults.insert(0, json!({ "fault": "eclipse", "means": ["moon"] }));
    let means = faults[1]["means"].as_array_mut().unwrap();
    means.insert(0, json!("moon"));
    assert_eq!(of(&hello), known);
}

#[test]
fn ends_speak_the_newest_that_both_do_and_say_who_is_to_be_upgraded() {
    let speaks = |version: &str, least, newest| Speaks {
        version: version.into(),
        newest,
        least,
    };
    let [one, two, three] = [(1, 1), (1, 2), (2, 3)].map(|(l, n)| speaks(&format!("0.{n}"), l, n));
    assert_eq!(agree(&one, &two), Ok(1));
    assert_eq!(agree(&two, &one), Ok(1));
    assert_eq!(agree(&three, &two), Ok(2));
    let said = agree(&one, &three).unwrap_err().to_string();
    assert_eq!(
        said,
        "the agent is Squall 0.1, which speaks version 1 of the protocol, and the controller Squall 0.3, \
         which speaks versions 2 to 3 of the protocol: upgrade the agent"
    );
    let said = agree(&three, &one).unwrap_err().to_string();
    assert!(said.ends_with("upgrade the controller"), "{said}");
}

#[test]
fn a_stop_of_a_kind_that_is_not_known_is_still_known_to_be_one() {
    let unread = of_controller(r#"{"stop": {"zone": "eu-1"}}"#).unwrap_err();
    assert!(matches!(unread, Unread::Content { kind, .. } if kind == "stop"));
    let all = of_controller(r#"{"stop": "all"}"#);
    assert_eq!(all, Ok(FromController::Stop(Stop::All)));
}
