//! Bodies, paths, headers and words that are meant to break something.

use super::access_tests::{everywhere, send, token, told};
use super::problem::Problem;
use super::world::{World, said};
use crate::access::Role;
use crate::stage::fixture::{POLICY, policy};
use axum::http::{HeaderValue, Method, StatusCode, header};
use http_body_util::Full;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// So many different requests with a hostile body are made at least.
const AT_LEAST: usize = 200;

/// Nothing that any endpoint asks for.
fn bodies() -> Vec<Vec<u8>> {
    let values = [
        json!(null),
        json!([]),
        json!("x"),
        json!(-1),
        json!({ "file": 7 }),
        json!({ "file": "a: &a [*a]", "because": "\u{0}" }),
        json!({ "file": "a: &a [1,1]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]" }),
        json!({ "file": "x", "path": "../../etc/passwd", "environment": "no\nsuch", "because": "x" }),
        json!({ "name": "ann\r\nX: y", "grants": [{ "role": "admin" }], "days": 1 }),
        json!({ "name": "ann", "grants": [{ "role": "root" }], "days": 1 }),
        json!({ "name": "ann", "grants": [], "days": 1 }),
        json!({ "name": "ann", "grants": [{ "role": "admin" }], "days": 0 }),
        json!({ "name": "ann", "grants": [{ "role": "admin" }], "days": 1, "more": true }),
        json!({ "payloadType": "x", "payload": "\u{1F600}", "signatures": [{ "sig": "-" }] }),
        json!({ "agree": true, "because": "" }),
        json!({ "agree": "yes", "because": "'; DROP TABLE runs; --" }),
        json!({ "minutes": 1e300, "uses": -1 }),
        json!({ "schedule": { "name": "x", "text": "\u{FEFF}" }, "experiment": null }),
    ];
    let mut bodies: Vec<Vec<u8>> = values.iter().map(|v| v.to_string().into_bytes()).collect();
    let deep = |one: &str| one.repeat(20_000).into_bytes();
    bodies.extend([deep("["), deep("{\"a\":"), b"".to_vec(), b"{".to_vec()]);
    bodies.extend([
        b"\xff\xfe{}".to_vec(),
        b"{}{}".to_vec(),
        b"\x1f\x8b\x08".to_vec(),
    ]);
    bodies.push(b"{\"because\":\"x\",\"because\":\"y\"}".to_vec());
    bodies
}

#[tokio::test]
async fn hundreds_of_hostile_bodies_are_refused_and_break_nothing() {
    let world = World::new().await;
    world.practice.set_policy(policy(POLICY));
    let admin = token(&world, "root", everywhere(Role::Admin), None).await;
    let mut made = 0;
    for endpoint in told().iter().filter(|endpoint| endpoint.has_body) {
        for body in bodies() {
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            let method: Method = endpoint.method.parse().unwrap();
            let mut request = said(
                method,
                &format!("/api/v1{}", endpoint.path),
                Some(json!({})),
            );
            *request.body_mut() = Full::new(Bytes::from(body));
            let bearer = format!("Bearer {admin}").parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, bearer);
            let (status, answer) = world.ask(None, request).await.unwrap();
            let name = format!("{} {} {shown}", endpoint.method, endpoint.path);
            // What a halt is said for may be anything.
            let halted = endpoint.path == "/halt" && status == StatusCode::OK;
            assert!(status.is_client_error() || halted, "{name}: {status}");
            let problem = serde_json::from_slice::<Problem>(&answer);
            assert!(
                halted || problem.unwrap().status == status.as_u16(),
                "{name}"
            );
            made += 1;
        }
    }
    assert!(made >= AT_LEAST, "{made}");
    let verified = world.store.audit_verify(None).await.unwrap();
    assert!(verified.broken.is_none() && verified.good > 50);
}

#[tokio::test]
async fn hostile_paths_and_headers_are_refused_and_break_nothing() {
    let world = World::new().await;
    world.practice.set_policy(policy(POLICY));
    let admin = token(&world, "root", everywhere(Role::Admin), None).await;
    let long = format!("/runs/{}", "%E2%82%AC".repeat(2_000));
    for path in [
        "/environments/%2e%2e/approvals/x",
        "/environments/production/approvals/'%20OR%201=1--",
        "/environments/production/approvals?after=1",
        "/environments/production/approvals?limit=0",
        "/audit?after=x",
        "/audit?limit=1&limit=2",
        "/audit/verification?noted=x",
        "/audit/verification?noted=x:y",
        "/runs/..%2f..%2fetc%2fpasswd",
        "/runs/%00",
        "/runs/%ff",
        "/runs/%25",
        "/runs/x%0d%0aX-Forged:%20y/events",
        "/../../healthz",
        "//runs",
        &long,
    ] {
        let (status, body) = send(&world, Some(&admin), "GET", path, None, &[]).await;
        assert!(status.is_client_error(), "{path}: {status} {body:?}");
        let problem = serde_json::from_slice::<Problem>(&body);
        assert_eq!(problem.unwrap().status, status.as_u16(), "{path}");
    }
    for key in ["", &"k".repeat(201)] {
        let heads = [("idempotency-key", key)];
        let body = Some(json!({}));
        let (status, _) = send(&world, Some(&admin), "POST", "/evidence", body, &heads).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    }
    let nonsense = b"Bearer \xff\xfe".as_slice();
    for value in [
        b"".as_slice(),
        b"Bearer",
        b"Basic YTpi",
        b"Bearer squallapi1..",
        nonsense,
    ] {
        let mut request = said(Method::GET, "/api/v1/runs", None);
        let value = HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
        let (status, _) = world.ask(None, request).await.unwrap();
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_word_forges_a_line_of_a_log() {
    let log = Log::default();
    let to = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || to.clone())
        .finish();
    // Of all tests here: with one of this thread alone, whether a line is wanted is remembered from others.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let world = World::new().await;
    world.practice.set_policy(policy(POLICY));
    let admin = token(&world, "root", everywhere(Role::Admin), None).await;
    let forged = "x\r\n2026-01-01T00:00:00Z  INFO squall: FORGED\u{1b}[31m\u{9b}31m";
    let in_path = "x%0d%0aFORGED%1b%5b31m%c2%9b31m";
    // A path may be of raw letters too, and be cut in the middle of one.
    let raw = format!("/schedules/{}\u{9b}FORGED", "a".repeat(488));
    let join = json!({ "token": forged, "secret": forged, "node": forged, "request": forged });
    let because = json!({ "because": forged });
    let asked = [
        ("POST", "/halt".to_owned(), Some(because.clone())),
        ("DELETE", format!("/agents/{in_path}"), None),
        ("DELETE", format!("/schedules/{in_path}"), None),
        ("DELETE", raw, None),
        (
            "POST",
            format!("/schedules/{in_path}/suspend"),
            Some(because),
        ),
        ("POST", format!("/runs/{in_path}/stop"), None),
        ("DELETE", format!("/tokens/{in_path}"), None),
    ];
    for (method, path, body) in asked {
        let (status, _) = send(&world, Some(&admin), method, &path, body, &[]).await;
        assert!(!status.is_server_error(), "{method} {path}: {status}");
    }
    let request = said(
        Method::POST,
        squall_experiments::join::JOIN_PATH,
        Some(join),
    );
    let (status, _) = world.ask(None, request).await.unwrap();
    assert!(status.is_client_error(), "{status}");
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("halt"), "{logged}");
    let ours: Vec<&str> = logged.lines().filter(|l| l.contains("FORGED")).collect();
    assert!(!ours.is_empty());
    for line in ours {
        assert!(
            line.starts_with("20") && !line.starts_with("2026-01-01T"),
            "{line:?}"
        );
        assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
    }
    for entry in world.store.audit_entries(0, 100).await.unwrap() {
        let whole = format!("{}{}{}", entry.who, entry.action, entry.detail);
        assert!(whole.chars().all(|c| !c.is_control()), "{whole:?}");
    }
}

#[tokio::test]
async fn why_everything_stands_still_writes_nothing_else_on_a_terminal() {
    let world = World::new().await;
    let admin = token(&world, "root", everywhere(Role::Admin), None).await;
    let because = json!({ "because": "x\r\nFORGED\u{1b}[31m\u{9b}31m" });
    let (status, _) = send(&world, Some(&admin), "POST", "/halt", Some(because), &[]).await;
    assert!(status.is_success(), "{status}");
    let (_, body) = send(&world, Some(&admin), "GET", "/halt", None, &[]).await;
    let halt: Value = serde_json::from_slice(&body).unwrap();
    let because = halt["halted"]["because"].as_str().unwrap();
    assert!(because.contains("FORGED"), "{because:?}");
    assert!(!because.chars().any(char::is_control), "{because:?}");
}
