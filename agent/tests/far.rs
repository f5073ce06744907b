//! A controller on another machine: its link may be lost and come back, over real TLS.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
use common::{Agent, PATIENCE, Victim, gone, is_there};
use futures_util::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::ids::FaultId;
use squall_experiments::units::Lease;
use squall_experiments::wire::EndCause;
use squall_experiments::wire::{FromController, Renew};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Longer than it takes to dial again.
const LEASE: Duration = Duration::from_secs(4);
/// How much later than its lease a fault may end, on a machine that also compiles.
const LATE: Duration = Duration::from_millis(300);

/// A controller's port, and an agent that has joined it.
struct Far {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    state: tempfile::TempDir,
}

impl Far {
    async fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let server = KeyPair::generate().unwrap();
        let named = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let shown = named.signed_by(&server, &issuer).unwrap();
        let own = KeyPair::generate().unwrap();
        let mut named = CertificateParams::default();
        named.distinguished_name.push(DnType::CommonName, "node-7");
        let signed = named.signed_by(&own, &issuer).unwrap();
        let state = tempfile::tempdir().unwrap();
        let identity = json!({
            "node": "node-7",
            "key": own.serialize_pem(),
            "joined": { "certificate": signed.pem(), "authority": authority.pem(), "untilS": i64::MAX },
        });
        std::fs::write(state.path().join("identity.json"), identity.to_string()).unwrap();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: acceptor(authority.der(), shown.der(), &server),
            state,
        }
    }

    fn start(&self) -> Child {
        let port = self.listener.local_addr().unwrap().port();
        Command::new(env!("CARGO_BIN_EXE_squall-agent"))
            .args(["run", "--node", "node-7", "--state"])
            .arg(self.state.path())
            .args(["--controller", &format!("https://127.0.0.1:{port}")])
            .spawn()
            .unwrap()
    }

    /// Takes the next link of `child`.
    async fn accept(&self, child: Child) -> Agent {
        self.accept_in(child, None).await
    }

    /// The same as a controller that leads in this term.
    async fn accept_in(&self, child: Child, term: Option<u64>) -> Agent {
        let accepted = async {
            let (stream, _) = self.listener.accept().await.unwrap();
            self.acceptor.accept(stream).await.unwrap()
        };
        let stream = tokio::time::timeout(PATIENCE, accepted).await.unwrap();
        Agent::greet_in(child, Box::new(stream), term).await
    }
}

fn acceptor(
    authority: &CertificateDer<'static>,
    shown: &CertificateDer<'static>,
    key: &KeyPair,
) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    // An agent that does not say who it is gets no link here.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![shown.clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_lost_far_link_ends_faults_with_their_lease_and_not_before() {
    let (far, victim) = (Far::new().await, Victim::new());
    let mut agent = far.accept(far.start()).await;
    assert_eq!(agent.hello.node, "node-7");
    let begun = Instant::now();
    let armed = agent
        .arm("f", r#"{"pause": {}}"#, victim.selector(), LEASE)
        .await;
    drop(agent.link.take());
    std::thread::sleep((LEASE - begun.elapsed()) / 2);
    assert!(is_there(armed.holder), "it ended with the link");
    gone(armed.holder, "the holder");
    let took = begun.elapsed();
    assert!(took > LEASE - LATE && took < LEASE + LATE, "{took:?}");
}

#[tokio::test]
async fn a_far_link_that_is_back_in_time_keeps_its_faults() {
    let (far, victim) = (Far::new().await, Victim::new());
    let mut agent = far.accept(far.start()).await;
    let armed = agent
        .arm("f", r#"{"pause": {}}"#, victim.selector(), LEASE)
        .await;
    let armed_at = Instant::now();
    let mut agent = far.accept(agent.hang_up()).await;
    let faults = vec![FaultId::from("f")];
    let lease = Lease::clamped(LEASE);
    agent
        .say(FromController::Renew(Renew { faults, lease }))
        .await;
    assert!(armed_at.elapsed() < LEASE, "the link was not back in time");
    // Past the first lease, within the second.
    std::thread::sleep(LEASE.saturating_sub(armed_at.elapsed()) + LATE);
    assert!(is_there(armed.holder), "the renewal did not reach it");
    agent.stop("f").await;
    agent.ended().await;
    gone(armed.holder, "the holder");
}

/// Its word to arm was on the way when another took the lead.
#[tokio::test]
async fn a_controller_that_leads_no_more_is_not_heeded_and_left() {
    let (far, victim, other) = (Far::new().await, Victim::new(), Victim::new());
    let mut agent = far.accept_in(far.start(), Some(7)).await;
    let long = Duration::from_secs(60);
    let armed = agent
        .arm("f", r#"{"pause": {}}"#, victim.selector(), long)
        .await;
    let found = agent.resolve(other.selector(), FaultKind::Pause).await;
    let target = found.candidates[0].id.clone();
    let pause: Fault = serde_json::from_str(r#"{"pause": {}}"#).unwrap();

    let mut stale = far.accept_in(agent.hang_up(), Some(6)).await;
    stale.send_arm("g", pause, target, long).await;
    let link = stale.link.as_mut().unwrap();
    let closed = async {
        while let Some(Ok(frame)) = link.next().await {
            assert!(!frame.is_text(), "an earlier leader is answered: {frame}");
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    let mut agent = far.accept_in(stale.hang_up(), Some(7)).await;
    assert!(is_there(armed.holder), "what the later one holds is gone");
    agent.stop("g").await;
    let never = agent.ended().await;
    assert_eq!((never.id.0.as_str(), never.took_us), ("g", Some(0)));
    // Nothing is claimed of what it never had.
    let is_unknown = matches!(never.cause, EndCause::HolderKilled(_));
    assert!(is_unknown && never.lasted_us.is_none(), "{never:?}");
    agent.stop("f").await;
    assert_eq!(agent.ended().await.id.0, "f");
}
