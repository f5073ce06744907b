//! Game days by the API: who may say what, when, and what a page and a stream of one hold.

use super::access_tests::{everywhere, send, token};
use super::problem::Problem;
use super::world::World;
use crate::access::{Grant, Role};
use crate::gameday::fixture::files;
use axum::http::StatusCode;
use hyper::body::Bytes;
use serde_json::{Value, json};

fn read(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_default()
}

struct Day {
    world: World,
    ann: String,
    id: String,
}

impl Day {
    async fn open() -> Self {
        let world = World::new().await;
        let ann = token(&world, "ann", everywhere(Role::Operator), None).await;
        let body = json!(files());
        let (status, body) = send(&world, Some(&ann), "POST", "/gamedays", Some(body), &[]).await;
        assert_eq!(status, StatusCode::CREATED, "{body:?}");
        let id = read(&body)["id"].as_str().unwrap().to_owned();
        Self { world, ann, id }
    }

    async fn person(&self, name: &str, role: Role) -> String {
        token(&self.world, name, everywhere(role), None).await
    }

    async fn says(&self, token: &str, what: &str, body: Value) -> (StatusCode, Value) {
        let path = format!("/gamedays/{}/{what}", self.id);
        let (status, body) = send(&self.world, Some(token), "POST", &path, Some(body), &[]).await;
        (status, read(&body))
    }

    async fn reads(
        &self,
        token: &str,
        what: &str,
        heads: &[(&'static str, &str)],
    ) -> (StatusCode, Bytes) {
        let path = format!("/gamedays/{}{what}", self.id);
        send(&self.world, Some(token), "GET", &path, None, heads).await
    }
}

#[tokio::test]
async fn who_may_say_what_is_the_days_own_to_know() {
    let day = Day::open().await;
    let tom = day.person("tom", Role::Operator).await;
    let sue = day.person("sue", Role::Viewer).await;
    let mallory = day.person("mallory", Role::Operator).await;
    let go = |step: u32| json!({ "step": step });
    let why = json!({ "step": 1, "because": "no" });
    for (token, what, body, status) in [
        (&tom, "go", go(1), 403),
        (&mallory, "go", go(1), 403),
        (&sue, "go", go(1), 403),
        (&day.ann, "go", go(2), 409),
        (&day.ann, "go", go(0), 409),
        (&day.ann, "go", go(9), 409),
        (&tom, "no-go", why.clone(), 403),
        (&mallory, "notes", json!({ "text": "x" }), 403),
        (&mallory, "lead", json!({ "because": "x" }), 403),
        (&tom, "lead", json!({ "because": "x" }), 409),
        (
            &day.ann,
            "lead",
            json!({ "to": "tom", "because": "x" }),
            409,
        ),
        (&day.ann, "notes", json!({ "text": " " }), 422),
        (&day.ann, "notes", json!({ "text": "\u{1b}[2J" }), 422),
        (&day.ann, "notes", json!({ "text": "x".repeat(4_001) }), 422),
        (
            &day.ann,
            "actions",
            json!({ "text": "x", "owner": "y", "due": "soon" }),
            422,
        ),
        (&day.ann, "no-go", json!({ "step": 1, "because": "" }), 422),
        (&tom, "end", json!({}), 403),
        (&sue, "stop", json!({}), 409),
        (&sue, "notes", json!({ "text": "x" }), 200),
        (&tom, "actions", json!({ "text": "x", "owner": "y" }), 200),
        (&day.ann, "no-go", why, 200),
    ] {
        let (got, said) = day.says(token, what, body.clone()).await;
        assert_eq!(got.as_u16(), status, "{what} {body}: {said}");
    }
    // Somebody who takes no part, and may start nothing, stops nothing.
    let stranger = day.person("carl", Role::Viewer).await;
    assert_eq!(
        day.says(&stranger, "stop", json!({})).await.0,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn after_its_end_a_day_takes_notes_and_action_items_alone() {
    let day = Day::open().await;
    let sue = day.person("sue", Role::Viewer).await;
    for step in 1..4 {
        let left = day
            .says(&day.ann, "skip", json!({ "step": step, "because": "x" }))
            .await;
        assert_eq!(left.0, StatusCode::OK, "{left:?}");
    }
    let (status, over) = day
        .says(&day.ann, "end", json!({ "because": "done" }))
        .await;
    assert_eq!(
        (status, &over["phase"]["is"]),
        (StatusCode::OK, &json!("over")),
        "{over}"
    );
    assert!(over["endedUs"].is_number());
    for what in ["go", "no-go", "skip"] {
        let (status, said) = day
            .says(&day.ann, what, json!({ "step": 3, "because": "x" }))
            .await;
        assert_eq!(status, StatusCode::CONFLICT, "{what}");
        assert_eq!(said["detail"], "the game day is over", "{what}");
    }
    let late = day
        .says(&sue, "actions", json!({ "text": "x", "owner": "y" }))
        .await;
    assert_eq!(late.0, StatusCode::OK, "what is thought of later");
}

#[tokio::test]
async fn a_day_is_opened_by_who_may_start_all_of_it_and_seen_by_who_may_see_it() {
    let day = Day::open().await;
    let foreign = vec![Grant {
        environments: Some(vec!["staging".into()]),
        ..Grant::everywhere(Role::Operator)
    }];
    let foreign = token(&day.world, "ann", foreign, None).await;
    let open = async |token: &str, body: Value| {
        let (status, body) = send(
            &day.world,
            Some(token),
            "POST",
            "/gamedays",
            Some(body),
            &[],
        )
        .await;
        (status, serde_json::from_slice::<Problem>(&body).ok())
    };
    assert_eq!(
        open(&foreign, json!(files())).await.0,
        StatusCode::FORBIDDEN
    );
    assert_eq!(day.reads(&foreign, "", &[]).await.0, StatusCode::NOT_FOUND);
    let (_, listed) = send(&day.world, Some(&foreign), "GET", "/gamedays", None, &[]).await;
    assert_eq!(read(&listed)["items"], json!([]));
    let (_, listed) = send(
        &day.world,
        Some(&day.ann),
        "GET",
        "/gamedays?limit=1",
        None,
        &[],
    )
    .await;
    assert_eq!(read(&listed)["items"][0]["id"], day.id.as_str());
    let mut wrong = files();
    wrong.experiments.pop();
    wrong.experiments.remove(0);
    let (status, problem) = open(&day.ann, json!(wrong)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(problem.unwrap().detail.contains("`one.yaml`"));
    let mut wrong = files();
    wrong.game_day.text = wrong.game_day.text.replace("role: leader", "role: king");
    let (status, problem) = open(&day.ann, json!(wrong)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!problem.unwrap().diagnostics.is_empty());
    for (from, to) in [
        ("timeZone: Europe/Berlin", "timeZone: Europe/Nowhere"),
        ("- one.yaml", "- { file: one.yaml, environment: moon }"),
    ] {
        let mut wrong = files();
        wrong.game_day.text = wrong.game_day.text.replace(from, to);
        assert_eq!(
            open(&day.ann, json!(wrong)).await.0,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{to}"
        );
    }
}

#[tokio::test]
async fn who_comes_back_to_the_events_misses_nothing() {
    let day = Day::open().await;
    day.says(&day.ann, "notes", json!({ "text": "first" }))
        .await;
    for step in 1..4 {
        day.says(&day.ann, "skip", json!({ "step": step, "because": "x" }))
            .await;
    }
    day.says(&day.ann, "end", json!({})).await;
    let (status, all) = day.reads(&day.ann, "/events", &[]).await;
    assert_eq!(status, StatusCode::OK);
    let all = String::from_utf8(all.to_vec()).unwrap();
    assert_eq!(all.matches("data: ").count(), 6, "{all}");
    let (_, rest) = day
        .reads(&day.ann, "/events", &[("last-event-id", "3")])
        .await;
    let rest = String::from_utf8(rest.to_vec()).unwrap();
    assert!(
        all.ends_with(&rest) && rest.starts_with("id: 4") || rest.contains("id: 4\n"),
        "{rest}"
    );
    assert_eq!(rest.matches("data: ").count(), 2, "{rest}");
    for (accept, kind, begins) in [
        ("text/html", "text/html", "<!doctype html>"),
        ("text/markdown", "text/markdown", "# Game day payment-day"),
        ("*/*", "application/json", "{"),
    ] {
        let (status, body) = day.reads(&day.ann, "/report", &[("accept", accept)]).await;
        assert_eq!(status, StatusCode::OK, "{kind}");
        assert!(body.starts_with(begins.as_bytes()), "{kind}");
    }
}
