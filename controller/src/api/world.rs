//! A controller on a port of its own, and clients of it: real ones, over real TLS on the loopback.

use super::listen;
use super::problem::Problem;
use super::threads::Threads;
use super::{Api, JoinTokenMade, router};
use crate::access::Pace;
use crate::fleet::authority::Authority;
use crate::fleet::registry::Registry;
use crate::fleet::secret::ApiSecret;
use crate::practice::Practice;
use crate::run::StandStill;
use crate::run::desk::Desk;
use crate::store::Store;
use axum::Router;
use axum::http::{Method, Request, StatusCode, header};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use squall_experiments::capability::Capabilities;
use squall_experiments::join::{JOIN_PATH, JoinToken, Joined, LINK_PATH, Labels};
use squall_experiments::wire::{FromAgent, FromController, Hello, PROTOCOL};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tower_service::Service;

/// A controller that serves on a port of its own.
pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) practice: Practice,
    pub(super) authority: Arc<Authority>,
    pub(super) registry: Registry,
    pub(super) address: SocketAddr,
    pub(super) token: String,
    pub(super) desk: Desk,
    pub(super) threads: Threads,
    router: Router,
    serving: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A key and what was signed for it.
pub(super) struct Card {
    pub(super) key: String,
    pub(super) certificate: String,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Pace::default()).await
    }

    pub(super) async fn with(pace: Pace) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let authority = Arc::new(Authority::open(folder.path()).unwrap());
        let secret = ApiSecret::new();
        let added = store.add_api_token(&secret.id, secret.hash(), "ann", 0, None);
        added.await.unwrap();
        let tls = listen::tls(&authority, &["127.0.0.1".to_owned()]).unwrap();
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Registry::default();
        let mut practice = Practice::open(folder.path(), None, Vec::new()).unwrap();
        practice.pace = pace;
        let still = StandStill::open(store.clone(), folder.path())
            .await
            .unwrap();
        let desk = Desk::new(store.clone(), registry.clone(), Default::default(), still);
        desk.set_gate(practice.gate(&store));
        desk.set_ended(practice.ended(&store));
        let api = Api {
            logins: Default::default(),
            store: store.clone(),
            authority: authority.clone(),
            registry: registry.clone(),
            leader: crate::leader::Leadership::alone(),
            practice: practice.clone(),
            days: crate::gameday::Days::new(store.clone(), desk.clone(), Default::default()),
            desk: desk.clone(),
        };
        let threads = Threads::start().unwrap();
        let answering = threads.handle().clone();
        let router = router(api);
        let serving = tokio::spawn(listen::serve(listener, tls, router.clone(), answering));
        Self {
            folder,
            store,
            practice,
            authority,
            registry,
            address,
            token: secret.reveal(),
            desk,
            threads,
            router,
            serving,
        }
    }

    pub(super) fn tls(&self, card: Option<&Card>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match card {
            None => builder.with_no_client_auth(),
            Some(card) => {
                let chain =
                    vec![CertificateDer::from_pem_slice(card.certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(card.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }

    pub(super) async fn connect(
        &self,
        card: Option<&Card>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(self.tls(card))
            .connect(name, stream)
            .await
    }

    /// One request on a connection of its own; an error where the connection breaks.
    pub(super) async fn ask(
        &self,
        card: Option<&Card>,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), String> {
        let exchange = async {
            let stream = self.connect(card).await.map_err(|e| e.to_string())?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|e| e.to_string())?;
            tokio::spawn(connection);
            let answer = sender
                .send_request(request)
                .await
                .map_err(|e| e.to_string())?;
            let status = answer.status();
            let body = answer
                .into_body()
                .collect()
                .await
                .map_err(|e| e.to_string())?;
            Ok((status, body.to_bytes()))
        };
        tokio::time::timeout(Duration::from_secs(10), exchange)
            .await
            .map_err(|_| "no answer".to_owned())?
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Bytes) {
        self.ask(None, self.says(method, path, body)).await.unwrap()
    }

    /// What the operator asks.
    pub(super) fn says(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Request<Full<Bytes>> {
        let bearer = format!("Bearer {}", self.token);
        let mut request = said(method, path, body);
        let value = bearer.parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
        request
    }

    /// Answers it wherever it is polled, without a connection.
    pub(super) fn answer(
        &self,
        request: Request<Full<Bytes>>,
    ) -> impl Future<Output = StatusCode> + 'static {
        let answer = self.router.clone().call(request);
        async move { answer.await.unwrap().status() }
    }

    pub(super) async fn join_token(&self, uses: u32) -> JoinToken {
        let wanted = json!({ "minutes": 10, "uses": uses });
        let (status, made) = self
            .call(Method::POST, "/api/v1/join-tokens", Some(wanted))
            .await;
        assert_eq!(status, StatusCode::CREATED);
        let made: JoinTokenMade = serde_json::from_slice(&made).unwrap();
        made.token.parse().unwrap()
    }

    pub(super) async fn join(&self, token: &JoinToken, node: &str) -> Result<Card, Problem> {
        let key = KeyPair::generate().unwrap();
        let (id, secret) = token.halves();
        let join = json!({ "token": id, "secret": secret, "node": node, "request": request(&key) });
        let request = said(Method::POST, JOIN_PATH, Some(join));
        let (status, body) = self.ask(None, request).await.unwrap();
        if status != StatusCode::OK {
            return Err(serde_json::from_slice(&body).unwrap());
        }
        let joined: Joined = serde_json::from_slice(&body).unwrap();
        Ok(Card {
            key: key.serialize_pem(),
            certificate: joined.certificate,
        })
    }

    /// Opens a link and says hello under `says`.
    pub(super) async fn link(
        &self,
        card: &Card,
        says: &str,
    ) -> Result<WebSocketStream<TlsStream<TcpStream>>, String> {
        let stream = self.connect(Some(card)).await.map_err(|e| e.to_string())?;
        let url = format!("wss://127.0.0.1{LINK_PATH}");
        let opened = tokio_tungstenite::client_async(url, stream).await;
        let (mut socket, _) = opened.map_err(|e| e.to_string())?;
        let hello = FromAgent::Hello(Hello {
            protocol: PROTOCOL,
            protocol_least: None,
            version: "0".into(),
            node: says.into(),
            pid: 1,
            capabilities: Capabilities::default(),
            labels: Labels::from([("zone".into(), "eu-1".into())]),
        });
        let text = serde_json::to_string(&hello).unwrap();
        socket.send(Message::text(text)).await.unwrap();
        Ok(socket)
    }

    pub(super) async fn until(&self, what: &str, mut is: impl FnMut(&Self) -> bool) {
        for _ in 0..500 {
            if is(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never: {what}");
    }
}

pub(super) fn said(method: Method, path: &str, body: Option<Value>) -> Request<Full<Bytes>> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "controller")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body.into()))
        .unwrap()
}

pub(super) fn request(key: &KeyPair) -> String {
    let params = CertificateParams::default();
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// What the agent hears next; none once the link is closed.
pub(super) async fn hear(
    socket: &mut WebSocketStream<TlsStream<TcpStream>>,
) -> Option<FromController> {
    let next = tokio::time::timeout(Duration::from_secs(10), socket.next());
    let message = next.await.expect("neither a word nor an end")?.ok()?;
    serde_json::from_str(message.to_text().ok()?).ok()
}
