//! Every endpoint, as the OpenAPI document tells of it, and everybody who may not use it.

use super::access::AccessWanted;
use super::document;
use super::problem::Problem;
use super::world::{World, said};
use crate::access::endpoints::{ENDPOINTS, Scope};
use crate::access::{Grant, Grants, Pace, Role};
use crate::fleet::secret::ApiSecret;
use crate::stage::fixture::{POLICY, policy};
use crate::store::NewApiToken;
use axum::http::{Method, StatusCode, header};
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::num::NonZeroU32;

/// A token for somebody who may only this.
pub(super) async fn token(
    world: &World,
    name: &str,
    grants: Vec<Grant>,
    expires_us: Option<i64>,
) -> String {
    let secret = ApiSecret::new();
    let token = NewApiToken {
        id: &secret.id,
        secret: secret.hash(),
        name,
        grants: &Grants(grants),
        now_us: 0,
        expires_us,
    };
    world.store.add_token(&token).await.unwrap();
    secret.reveal()
}

pub(super) fn everywhere(role: Role) -> Vec<Grant> {
    vec![Grant::everywhere(role)]
}

fn only_in(role: Role, environment: &str) -> Vec<Grant> {
    vec![Grant {
        environments: Some(vec![environment.to_owned()]),
        ..Grant::everywhere(role)
    }]
}

/// One request with this token and these headers.
pub(super) async fn send(
    world: &World,
    token: Option<&str>,
    method: &str,
    path: &str,
    body: Option<Value>,
    heads: &[(&'static str, &str)],
) -> (StatusCode, Bytes) {
    let method: Method = method.parse().unwrap();
    let mut request = said(method, &format!("/api/v1{path}"), body);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    for (name, value) in heads {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    world.ask(None, request).await.unwrap()
}

/// An endpoint as the OpenAPI document tells of it.
pub(super) struct Told {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) role: Role,
    pub(super) scope: String,
    pub(super) has_body: bool,
}

/// All of them, with something in the place of each parameter.
pub(super) fn told() -> Vec<Told> {
    let document = document();
    let mut told = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let parts = path.split('/').map(|part| match part {
            "{environment}" => "production",
            part if part.starts_with('{') => "x",
            part => part,
        });
        let path = parts.collect::<Vec<_>>().join("/");
        for (method, said) in methods.as_object().unwrap() {
            told.push(Told {
                method: method.to_uppercase(),
                path: path.clone(),
                role: serde_json::from_value(said["x-squall-role"].clone()).unwrap(),
                scope: said["x-squall-scope"].as_str().unwrap().to_owned(),
                has_body: said.get("requestBody").is_some(),
            });
        }
    }
    told
}

/// All that is less than a role, together.
fn less_than(role: Role) -> Vec<Grant> {
    let less = Role::ALL.into_iter().filter(|other| !other.includes(role));
    less.map(Grant::everywhere).collect()
}

#[tokio::test]
async fn every_endpoint_is_for_those_whose_role_it_is_and_no_others() {
    let world = World::new().await;
    world.practice.set_policy(policy(POLICY));
    let expired = token(&world, "old", everywhere(Role::Admin), Some(1)).await;
    let revoked = token(&world, "gone", everywhere(Role::Admin), None).await;
    let id = revoked.split('.').nth(1).unwrap();
    assert!(world.store.revoke_api_token(id, 5).await.unwrap());
    let admin = token(&world, "root", everywhere(Role::Admin), None).await;
    let told = told();
    assert_eq!(told.len(), ENDPOINTS.len());
    for endpoint in &told {
        let name = format!("{} {}", endpoint.method, endpoint.path);
        let status = async |token: Option<&str>| {
            let body = endpoint.has_body.then(|| json!({}));
            let (method, path) = (&endpoint.method, &endpoint.path);
            let (status, body) = send(&world, token, method, path, body, &[]).await;
            assert!(!status.is_server_error(), "{name}: {status}");
            if status.is_client_error() {
                let problem = serde_json::from_slice::<Problem>(&body);
                assert_eq!(problem.unwrap().status, status.as_u16(), "{name}");
            }
            status
        };
        for bad in [
            None,
            Some("x"),
            Some(expired.as_str()),
            Some(revoked.as_str()),
        ] {
            assert_eq!(status(bad).await, StatusCode::UNAUTHORIZED, "{name}");
        }
        let small = token(&world, "small", less_than(endpoint.role), None).await;
        assert_eq!(status(Some(&small)).await, StatusCode::FORBIDDEN, "{name}");
        let foreign = token(&world, "foreign", only_in(endpoint.role, "staging"), None).await;
        if endpoint.scope != "anywhere" {
            let foreign = status(Some(&foreign)).await;
            assert_eq!(foreign, StatusCode::FORBIDDEN, "{name}");
        }
        let right = match endpoint.scope.as_str() {
            "environment" => only_in(endpoint.role, "production"),
            _ => everywhere(endpoint.role),
        };
        let right = token(&world, "right", right, None).await;
        let let_in = [status(Some(&right)).await, status(Some(&admin)).await];
        let shut_out = [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED];
        assert!(
            let_in.iter().all(|s| !shut_out.contains(s)),
            "{name}: {let_in:?}"
        );
    }
}

/// The table says who may, and everything else is held against it: so it is held against this.
#[test]
fn nobody_changes_anything_as_a_viewer_and_who_may_what_is_for_admins() {
    for one in ENDPOINTS {
        let name = format!("{} {}", one.method, one.path);
        // The day's own people; its handlers ask.
        let is_said_on_a_day = one.path.starts_with("/gamedays/{day}/");
        if one.method != "GET" && !is_said_on_a_day {
            assert_ne!(one.role, Role::Viewer, "{name}");
        }
        let is_about_who_may = ["/tokens", "/join-tokens", "/audit"]
            .iter()
            .any(|path| one.path.starts_with(path));
        let shuts_out = one.path.starts_with("/agents/");
        assert_eq!(
            one.role == Role::Admin,
            is_about_who_may || shuts_out,
            "{name}"
        );
        assert_eq!(
            one.role == Role::Approver,
            one.path.ends_with("/votes"),
            "{name}"
        );
        let is_in_one = one.path.starts_with("/environments/{environment}/");
        assert_eq!(one.scope == Scope::Environment, is_in_one, "{name}");
        if one.role == Role::Admin || name == "DELETE /halt" {
            assert_eq!(one.scope, Scope::Everywhere, "{name}");
        }
        let stops = ["/stop", "/suspend"]
            .iter()
            .any(|end| one.path.ends_with(end));
        assert_eq!(one.is_stop, stops || name == "POST /halt", "{name}");
    }
}

#[test]
fn an_endpoint_that_is_in_no_table_is_for_those_who_may_everything() {
    let unknown = crate::access::endpoints::find("POST", "/new-thing");
    for role in [Role::Viewer, Role::Operator, Role::Approver] {
        assert!(!unknown.lets(&Grants(everywhere(role)), None));
    }
    assert!(!unknown.lets(&Grants(only_in(Role::Admin, "staging")), Some("staging")));
    assert!(unknown.lets(&Grants(everywhere(Role::Admin)), None));
}

#[tokio::test]
async fn a_token_is_made_with_what_it_may_and_shown_once() {
    let world = World::new().await;
    world.practice.set_policy(policy(POLICY));
    let wanted = AccessWanted {
        name: "ann".into(),
        grants: only_in(Role::Operator, "staging"),
        days: 7,
    };
    let body = json!(wanted);
    let heads = [("idempotency-key", "once")];
    let admin = token(&world, "root", everywhere(Role::Admin), None).await;
    let make = || {
        send(
            &world,
            Some(&admin),
            "POST",
            "/tokens",
            Some(body.clone()),
            &heads,
        )
    };
    let (status, made) = make().await;
    assert_eq!(status, StatusCode::CREATED);
    let made: super::AccessMade = serde_json::from_slice(&made).unwrap();
    // Its secret is kept nowhere, not even for who asks again.
    let (status, again) = make().await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(!String::from_utf8_lossy(&again).contains(&made.token));
    let (_, who) = send(&world, Some(&made.token), "GET", "/whoami", None, &[]).await;
    let who: super::Whoami = serde_json::from_slice(&who).unwrap();
    assert_eq!(
        (who.name.as_str(), who.grants.0),
        ("ann", wanted.grants.clone())
    );
    let unknown = AccessWanted {
        grants: only_in(Role::Viewer, "nowhere"),
        ..wanted
    };
    let (status, _) = send(
        &world,
        Some(&admin),
        "POST",
        "/tokens",
        Some(json!(unknown)),
        &[],
    )
    .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let path = format!("/tokens/{}", made.id);
    let (status, _) = send(&world, Some(&admin), "DELETE", &path, None, &[]).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = send(&world, Some(&made.token), "GET", "/whoami", None, &[]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_asks_too_often_is_told_so_and_no_other() {
    let two = NonZeroU32::new(2).unwrap();
    let many = NonZeroU32::new(1000).unwrap();
    let world = World::with(Pace::of(two, many)).await;
    let [ann, bob] = ["ann", "bob"].map(|name| token(&world, name, everywhere(Role::Viewer), None));
    let (ann, bob) = (ann.await, bob.await);
    let mut told = 0;
    for _ in 0..20 {
        let (status, _) = send(&world, Some(&ann), "GET", "/whoami", None, &[]).await;
        told += u32::from(status == StatusCode::TOO_MANY_REQUESTS);
    }
    // Two at once and two a second, on whatever machine.
    assert!(told > 0);
    let (status, _) = send(&world, Some(&bob), "GET", "/whoami", None, &[]).await;
    assert_eq!(status, StatusCode::OK);
}
