//! The one port: TLS, with a certificate from those who have one, and HTTP/1.1 on it.
//!
//! Nobody can hold up anybody else: handshakes run beside each other, each within its time, and only so many at once;
//! a head that does not come in time ends its connection.

use crate::fleet::authority::{self, Authority, Named};
use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

/// A handshake is two messages from the peer; a slow node on a bad line takes a second.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long the head of a request may take, and how long a connection may stay idle before one.
const HEAD_MAX: Duration = Duration::from_secs(20);
/// Connections at once: 10,000 agents and their successors, and people beside them. Each is a descriptor and, once shaken hands, some 40 KiB.
const CONNECTIONS_MAX: usize = 24_000;
/// A peer that is silent for so many seconds is asked whether it is there.
const ASK_AFTER_S: u32 = 10;
/// What was sent and is not acknowledged for so long, or asked and not answered, ends a connection (RFC 5482).
const LOST_AFTER_MS: u32 = 20_000;
/// After a failure to accept (no descriptors left) it is tried again so much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Who is on the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// Who its certificate says it is, where it showed one of ours.
    pub named: Option<Named>,
}

/// Why the port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port.
    #[error("cannot listen on {address}: choose another with --listen")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// TLS.
    #[error("the controller's certificate cannot be used for TLS")]
    Tls(#[from] rustls::Error),
    /// Whom it trusts.
    #[error("the controller's authority cannot be used for TLS")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// Its own certificate.
    #[error(transparent)]
    Authority(#[from] authority::AuthorityError),
}

/// TLS as the controller speaks it: 1.2 and 1.3, a certificate of our authority from those who have one.
///
/// # Errors
/// `names` are no names, or the authority is not usable.
pub fn tls(authority: &Authority, names: &[String]) -> Result<Arc<ServerConfig>, ListenError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut ours = rustls::RootCertStore::empty();
    ours.add(authority.certificate().clone())?;
    // People come without: what needs a certificate asks for it by itself.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(ours), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let server = authority.server(names)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(server.chain, server.key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Opens the port.
///
/// # Errors
/// The kernel does not give it.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ListenError::Bind { address, source })
}

/// Serves until it is dropped: connections are accepted and watched here, and spoken on by `answering`.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    answering: Handle,
) {
    let acceptor = TlsAcceptor::from(tls);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        answering.spawn(async move {
            connection(stream, address, &acceptor, router).await;
            drop(place);
        });
    }
}

/// Messages are small and are to arrive now; and a peer that is gone is to be noticed, also when nothing is said.
fn ready(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &ASK_AFTER_S)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &(ASK_AFTER_S / 2))?;
    setsockopt(stream, sockopt::TcpUserTimeout, &LOST_AFTER_MS)?;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: &TlsAcceptor,
    router: Router,
) {
    if let Err(error) = ready(&stream) {
        return tracing::debug!(%address, %error, "a connection was gone at once");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "no TLS"),
        Err(_) => return tracing::debug!(%address, "no TLS within {HANDSHAKE_MAX:?}"),
    };
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let peer = Peer {
        address,
        named: certificate.and_then(authority::name),
    };
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%address, %error, "a connection ended badly");
    }
}
