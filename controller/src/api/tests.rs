//! The one port, attacked: every caller and agent here is a real client over real TLS on the loopback.

use super::problem::Problem;
use super::world::{Card, World, hear, request, said};
use super::{AgentSeen, Page};
use crate::fleet::secret::ApiSecret;
use axum::http::{Method, StatusCode, header};
use futures_util::SinkExt;
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use serde_json::json;
use squall_experiments::join::{JoinToken, Joined, LINK_PATH, RENEW_PATH};
use squall_experiments::wire::{FromController, Renew, Stop};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn the_api_is_for_those_with_a_good_token() {
    let world = World::new().await;
    for path in ["/healthz", "/readyz"] {
        let (status, _) = world
            .ask(None, said(Method::GET, path, None))
            .await
            .unwrap();
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    let (status, _) = world.call(Method::GET, "/api/v1/agents", None).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = world.call(Method::GET, "/api/v1/nothing", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let expired = ApiSecret::new();
    let added = world
        .store
        .add_api_token(&expired.id, expired.hash(), "old", 0, Some(1));
    added.await.unwrap();
    let half = world.token.rsplit_once('.').unwrap().0.to_owned();
    let bad = [
        None,
        Some("Basic YW5uOmFubg==".to_owned()),
        Some(format!("Bearer {}", ApiSecret::new().reveal())),
        Some(format!("Bearer {}", expired.reveal())),
        Some(format!("Bearer {half}.{}", "0".repeat(64))),
        Some(format!("bearer{}", world.token)),
    ];
    let paths = [
        (Method::GET, "/api/v1/agents"),
        (Method::DELETE, "/api/v1/agents/n"),
        (Method::POST, "/api/v1/agents/n/revoke"),
        (Method::GET, "/api/v1/join-tokens"),
        (Method::POST, "/api/v1/join-tokens"),
        (Method::DELETE, "/api/v1/join-tokens/t"),
    ];
    for value in bad {
        for (method, path) in paths.clone() {
            let mut request = said(method, path, None);
            if let Some(value) = &value {
                let value = value.parse().unwrap();
                request.headers_mut().insert(header::AUTHORIZATION, value);
            }
            let (status, body) = world.ask(None, request).await.unwrap();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {value:?}");
            let problem: Problem = serde_json::from_slice(&body).unwrap();
            assert!(!problem.detail.contains("squallapi1."));
        }
    }
}

#[tokio::test]
async fn a_token_makes_an_agent_and_its_certificate_opens_the_link() {
    let world = World::new().await;
    let token = world.join_token(1).await;
    assert_eq!(token.authority, world.authority.fingerprint());
    let card = world.join(&token, "node-7").await.unwrap();
    let mut link = world.link(&card, "node-7").await.unwrap();
    assert!(matches!(
        hear(&mut link).await,
        Some(FromController::Welcome(_))
    ));
    world
        .until("connected", |w| w.registry.is_connected("node-7"))
        .await;
    let (_, body) = world.call(Method::GET, "/api/v1/agents", None).await;
    let seen: Page<AgentSeen> = serde_json::from_slice(&body).unwrap();
    let connected = seen.items[0].connected.clone().unwrap();
    assert_eq!(connected.labels["zone"], "eu-1");
    drop(link);
    world
        .until("away", |w| !w.registry.is_connected("node-7"))
        .await;
    // Used up.
    let refused = world.join(&token, "node-8").await.err().unwrap();
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn who_should_not_join_does_not() {
    let world = World::new().await;
    let token = world.join_token(10).await;
    world.join(&token, "taken").await.unwrap();
    let status = |refused: Result<Card, Problem>| refused.err().unwrap().status;
    assert_eq!(status(world.join(&token, "taken").await), 409);
    for name in ["", "a/b", "a\nb", &"n".repeat(300)] {
        assert_eq!(status(world.join(&token, name).await), 422, "{name:?}");
    }
    let guessed = JoinToken {
        secret: [0; 32],
        ..token.clone()
    };
    assert_eq!(status(world.join(&guessed, "n").await), 403);
    let path = format!("/api/v1/join-tokens/{}", token.id);
    let (revoked, _) = world.call(Method::DELETE, &path, None).await;
    assert_eq!(revoked, StatusCode::NO_CONTENT);
    assert_eq!(status(world.join(&token, "n").await), 403);
    assert_eq!(world.store.members().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_link_needs_a_certificate_of_this_authority_that_is_good_now() {
    let world = World::new().await;
    let ask = said(Method::GET, LINK_PATH, None);
    let (status, _) = world.ask(None, ask.clone()).await.unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let (status, _) = world
        .ask(
            None,
            said(Method::POST, RENEW_PATH, Some(json!({ "request": "" }))),
        )
        .await
        .unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED);

    // Of another authority of the same name.
    let other = World::new().await;
    let token = other.join_token(1).await;
    let foreign = other.join(&token, "node").await.unwrap();
    assert!(world.ask(Some(&foreign), ask.clone()).await.is_err());

    // Of this one, and over.
    let key = KeyPair::from_pem(&file(&world, "authority.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&file(&world, "authority.pem"), key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "node");
    params.not_after = time::OffsetDateTime::now_utc() - time::Duration::minutes(1);
    let mine = KeyPair::generate().unwrap();
    let expired = Card {
        certificate: params.signed_by(&mine, &issuer).unwrap().pem(),
        key: mine.serialize_pem(),
    };
    assert!(world.ask(Some(&expired), ask.clone()).await.is_err());

    // Of this one, and good, but of nobody who joined.
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::minutes(1);
    let stranger = Card {
        certificate: params.signed_by(&mine, &issuer).unwrap().pem(),
        ..expired
    };
    let (status, _) = world.ask(Some(&stranger), ask).await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
}

fn file(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.folder.path().join(name)).unwrap()
}

#[tokio::test]
async fn an_agent_speaks_for_itself_alone_once_and_until_it_is_shut_out() {
    let world = World::new().await;
    let token = world.join_token(2).await;
    let card = world.join(&token, "a").await.unwrap();
    world.join(&token, "b").await.unwrap();
    let mut forged = world.link(&card, "b").await.unwrap();
    while hear(&mut forged).await.is_some() {}
    assert!(world.registry.present().is_empty());

    // The newest link counts: an agent may be back before its loss was noticed.
    let mut first = world.link(&card, "a").await.unwrap();
    assert!(hear(&mut first).await.is_some());
    let mut second = world.link(&card, "a").await.unwrap();
    assert!(hear(&mut second).await.is_some());
    while hear(&mut first).await.is_some() {}
    assert_eq!(world.registry.present().len(), 1);

    let (status, _) = world
        .call(Method::POST, "/api/v1/agents/a/revoke", None)
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    while hear(&mut second).await.is_some() {}
    assert!(world.link(&card, "a").await.is_err());
    let (status, _) = world
        .call(Method::POST, "/api/v1/agents/c/revoke", None)
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_certificate_is_renewed_with_a_new_key_and_the_old_one_ends_when_that_is_used() {
    let world = World::new().await;
    let token = world.join_token(1).await;
    let old = world.join(&token, "a").await.unwrap();
    let key = KeyPair::generate().unwrap();
    let renewal = said(
        Method::POST,
        RENEW_PATH,
        Some(json!({ "request": request(&key) })),
    );
    let (status, body) = world.ask(Some(&old), renewal).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    let joined: Joined = serde_json::from_slice(&body).unwrap();
    let new = Card {
        certificate: joined.certificate,
        key: key.serialize_pem(),
    };
    // The answer may have been lost: until the new one is used, the old one is good.
    assert!(world.link(&old, "a").await.is_ok());
    assert!(world.link(&new, "a").await.is_ok());
    assert!(world.link(&old, "a").await.is_err());
}

#[tokio::test]
async fn what_is_too_much_or_nonsense_ends_its_own_connection_and_no_other() {
    let world = World::new().await;
    let huge = json!({ "minutes": 1, "uses": 1, "note": "x".repeat(100_000) });
    let (status, _) = world
        .call(Method::POST, "/api/v1/join-tokens", Some(huge))
        .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    for body in [
        json!([]),
        json!({ "minutes": -1, "uses": 1 }),
        json!({ "minutes": 1, "uses": 0 }),
    ] {
        let (status, _) = world
            .call(Method::POST, "/api/v1/join-tokens", Some(body))
            .await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    let token = world.join_token(2).await;
    let (a, b) = (
        world.join(&token, "a").await.unwrap(),
        world.join(&token, "b").await.unwrap(),
    );
    let mut good = world.link(&a, "a").await.unwrap();
    assert!(hear(&mut good).await.is_some());
    let mut bad = world.link(&b, "b").await.unwrap();
    assert!(hear(&mut bad).await.is_some());
    bad.send(Message::text("{}")).await.unwrap();
    while hear(&mut bad).await.is_some() {}
    let mut bad = world.link(&b, "b").await.unwrap();
    assert!(hear(&mut bad).await.is_some());
    let _broken = bad.send(Message::text("x".repeat(5 << 20))).await;
    while hear(&mut bad).await.is_some() {}
    assert!(world.registry.is_connected("a"));
}

#[tokio::test]
async fn an_agent_that_never_reads_is_let_go_and_holds_up_nobody() {
    let world = World::new().await;
    let token = world.join_token(2).await;
    let (a, b) = (
        world.join(&token, "a").await.unwrap(),
        world.join(&token, "b").await.unwrap(),
    );
    let mut good = world.link(&a, "a").await.unwrap();
    let mut deaf = world.link(&b, "b").await.unwrap();
    for socket in [&mut good, &mut deaf] {
        assert!(matches!(
            hear(socket).await,
            Some(FromController::Welcome(_))
        ));
    }
    let renew = FromController::Renew(Renew {
        faults: vec!["x".repeat(1000).as_str().into()],
        lease: squall_experiments::experiment::Experiment::lease_default(),
    });
    // What the socket takes, what may wait, and then no more.
    let mut said = 0;
    while world.registry.say("b", renew.clone()) {
        said += 1;
        assert!(said < 100_000, "there is no bound");
        if said % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(!world.registry.is_connected("b"));
    assert!(world.registry.say("a", FromController::Stop(Stop::All)));
    let mut heard = hear(&mut good).await.expect("its link is open");
    while !matches!(heard, FromController::Stop(Stop::All)) {
        heard = hear(&mut good).await.expect("its link is open");
    }
    assert!(world.registry.is_connected("a"));
}

#[tokio::test]
async fn half_open_connections_hold_up_nobody() {
    let world = World::new().await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    let asked = std::time::Instant::now();
    let (status, _) = world
        .ask(None, said(Method::GET, "/healthz", None))
        .await
        .unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn an_experiment_of_others_uses_nothing_of_the_controllers_machine() {
    let world = World::new().await;
    let key = world.folder.path().join("authority.key");
    let file = json!({
        "apiVersion": "squall/v1",
        "kind": "Experiment",
        "metadata": { "name": "curious", "owner": "mallory" },
        "hypothesis": "The controller sends me its key.",
        "steadyState": [{
            "name": "send",
            "probe": { "http": {
                "url": "http://127.0.0.1:9/",
                "headers": { "X-Key": { "file": key } },
            } },
            "expect": ["success >= 99%"],
        }],
        "method": [{ "fault": { "cpu": { "load": "10%" } }, "on": { "process": { "name": "x" } }, "hold": "5s" }],
        "baseline": "5s",
        "recovery": "5s",
    });
    let wanted = json!({ "file": file.to_string() });
    let (status, said) = world.call(Method::POST, "/api/v1/runs", Some(wanted)).await;
    let problem: Problem = serde_json::from_slice(&said).unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem:?}");
    assert_eq!(problem.reasons.len(), 1, "{problem:?}");
    assert!(
        problem.reasons[0].contains("`reach: folders`"),
        "{problem:?}"
    );
}
