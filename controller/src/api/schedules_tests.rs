//! Schedules by the API, as a person with a token uses it.

use super::schedules::ScheduleSeen;
use super::{Api, router};
use crate::access::{Grant, Grants, Role};
use crate::fleet::authority::Authority;
use crate::fleet::registry::Registry;
use crate::fleet::secret::ApiSecret;
use crate::practice::Practice;
use crate::run::StandStill;
use crate::run::desk::Desk;
use crate::store::{NewApiToken, Store};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use tower_service::Service;

const EXPERIMENT: &str = "apiVersion: squall/v1\nkind: Experiment\nmetadata: { name: e }\nhypothesis: h\nsteadyState:\n  - name: a\n    \
probe: { load: { url: \"http://a:1/\", rate: 50/s } }\n    expect: success >= 90%\nmethod:\n  - fault: kill\n    on: { process: { name: a } }\n    hold: 1min\n";

struct World {
    _folder: tempfile::TempDir,
    router: Router,
    store: Store,
    token: String,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let secret = ApiSecret::new();
        let added = store.add_api_token(&secret.id, secret.hash(), "ann", 0, None);
        added.await.unwrap();
        let registry = Registry::default();
        let still = StandStill::open(store.clone(), folder.path())
            .await
            .unwrap();
        let desk = Desk::new(store.clone(), registry.clone(), Default::default(), still);
        let api = Api {
            logins: Default::default(),
            days: crate::gameday::Days::new(store.clone(), desk.clone(), Default::default()),
            desk,
            practice: Practice::open(folder.path(), None, Vec::new()).unwrap(),
            authority: Arc::new(Authority::open(folder.path()).unwrap()),
            leader: crate::leader::Leadership::alone(),
            registry,
            store,
        };
        let text = "apiVersion: squall/v1\nkind: Policy\nenvironments: [ { name: staging, stage: 1 }, { name: default, stage: 1 } ]\n";
        api.practice.set_policy(crate::stage::fixture::policy(text));
        Self {
            store: api.store.clone(),
            router: router(api),
            token: secret.reveal(),
            _folder: folder,
        }
    }

    /// From now on it is somebody else who asks.
    async fn be(&mut self, name: &str, roles: &[(Role, &str)]) {
        let secret = ApiSecret::new();
        let grants = roles.iter().map(|(role, environment)| Grant {
            role: *role,
            environments: Some(vec![(*environment).to_owned()]),
            namespaces: None,
        });
        let grants = Grants(grants.collect());
        let token = NewApiToken {
            id: &secret.id,
            secret: secret.hash(),
            name,
            grants: &grants,
            now_us: 0,
            expires_us: None,
        };
        self.store.add_token(&token).await.unwrap();
        self.token = secret.reveal();
    }

    async fn ask(&mut self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()));
        let answer = self.router.call(request.unwrap()).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

pub(super) fn files(cron: &str, calendars: &str) -> Value {
    let text = format!(
        "apiVersion: squall/v1\nkind: Schedule\nmetadata: {{ name: nightly }}\nexperiment: e.yaml\ncron: {cron}\ntimeZone: Europe/Berlin\n{calendars}"
    );
    json!({ "schedule": { "name": "s.yaml", "text": text }, "experiment": { "name": "e.yaml", "text": EXPERIMENT } })
}

#[tokio::test]
async fn a_schedule_is_put_shown_suspended_resumed_and_removed() {
    let mut world = World::new().await;
    let path = "/schedules/nightly";
    let (status, seen) = world.ask(Method::PUT, path, files("30 2 * * *", "")).await;
    assert_eq!(status, StatusCode::OK, "{seen}");
    let seen: ScheduleSeen = serde_json::from_value(seen).unwrap();
    assert_eq!(seen.next.len(), 3);
    assert!(
        seen.next
            .iter()
            .all(|next| next.blocked.is_none() && next.local.contains("02:30"))
    );
    let because = json!({ "because": "a freeze" });
    let (status, seen) = world
        .ask(Method::POST, "/schedules/nightly/suspend", because.clone())
        .await;
    assert_eq!(
        (status, &seen["suspendedBecause"]),
        (StatusCode::OK, &json!("ann: a freeze"))
    );
    let (_, list) = world.ask(Method::GET, "/schedules", Value::Null).await;
    assert_eq!(list["items"][0]["suspendedBecause"], "ann: a freeze");
    let (status, seen) = world
        .ask(Method::POST, "/schedules/nightly/resume", Value::Null)
        .await;
    assert_eq!(
        (status, &seen["suspendedUs"]),
        (StatusCode::OK, &Value::Null)
    );
    assert_eq!(
        world
            .ask(Method::GET, "/schedules/nightly/starts", Value::Null)
            .await,
        (StatusCode::OK, json!({ "items": [] }))
    );
    assert_eq!(
        world.ask(Method::DELETE, path, Value::Null).await.0,
        StatusCode::NO_CONTENT
    );
    for (method, path) in [
        (Method::DELETE, path),
        (Method::POST, "/schedules/nightly/resume"),
        (Method::POST, "/schedules/nightly/suspend"),
    ] {
        assert_eq!(
            world.ask(method, path, because.clone()).await.0,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_said_and_nothing_comes_into_force() {
    let mut world = World::new().await;
    for (path, files, why) in [
        (
            "/schedules/nightly",
            files("30 26 * * *", ""),
            "s.yaml:5:10",
        ),
        (
            "/schedules/nightly",
            files("30 2 * * *", "blackouts: [ freeze.ics ]\n"),
            "`freeze.ics`",
        ),
        ("/schedules/other", files("30 2 * * *", ""), "`nightly`"),
    ] {
        let (status, said) = world.ask(Method::PUT, path, files).await;
        let said = said["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(said.contains(why), "{said}");
    }
    world
        .ask(Method::PUT, "/schedules/nightly", files("30 2 * * *", ""))
        .await;
    let blank = json!({ "because": " \n" });
    assert_eq!(
        world
            .ask(Method::POST, "/schedules/nightly/suspend", blank)
            .await
            .0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    world.token.push('x');
    assert_eq!(
        world.ask(Method::GET, "/schedules", Value::Null).await.0,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn whoever_is_an_operator_there_decides_on_a_schedule_and_nobody_else() {
    let mut world = World::new().await;
    let (path, suspend) = ("/schedules/nightly", "/schedules/nightly/suspend");
    let in_staging = || files("30 2 * * *", "environment: staging\n");
    let because = || json!({ "because": "a freeze" });
    world.be("ann", &[(Role::Operator, "staging")]).await;
    let elsewhere = world.ask(Method::PUT, path, files("30 2 * * *", "")).await;
    assert_eq!(elsewhere.0, StatusCode::FORBIDDEN);
    let (status, seen) = world.ask(Method::PUT, path, in_staging()).await;
    assert_eq!(status, StatusCode::OK, "{seen}");
    assert_eq!(
        (&seen["owner"], &seen["environment"]),
        (&json!("ann"), &json!("staging"))
    );

    world.be("bob", &[(Role::Operator, "default")]).await;
    assert_eq!(
        world.ask(Method::GET, "/schedules", Value::Null).await.1,
        json!({ "items": [] })
    );
    for (method, path, body) in [
        (Method::DELETE, path, Value::Null),
        (Method::POST, "/schedules/nightly/resume", Value::Null),
        (Method::GET, "/schedules/nightly/starts", Value::Null),
        // In his own environment, and under the name of another's.
        (Method::PUT, path, files("30 2 * * *", "")),
    ] {
        let (status, said) = world.ask(method.clone(), path, body).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}: {said}");
    }
    // To stop is never refused.
    assert_eq!(
        world.ask(Method::POST, suspend, because()).await.0,
        StatusCode::OK
    );

    world
        .be(
            "eve",
            &[(Role::Viewer, "staging"), (Role::Operator, "default")],
        )
        .await;
    let (_, list) = world.ask(Method::GET, "/schedules", Value::Null).await;
    assert_eq!(list["items"][0]["suspendedBecause"], "bob: a freeze");
    for (method, path) in [
        (Method::DELETE, path),
        (Method::POST, "/schedules/nightly/resume"),
    ] {
        let (status, said) = world.ask(method.clone(), path, because()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {said}");
    }
    world.be("dan", &[(Role::Operator, "staging")]).await;
    let (_, seen) = world.ask(Method::PUT, path, in_staging()).await;
    assert_eq!(seen["owner"], "dan");
}
