//! Reaching the controller: joining it once, and opening the link again and again.

use super::identity::{Candidate, Identity, IdentityError};
use super::{Link, LinkError, pinned, shake_hands};
use crate::kernel::channel;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use squall_experiments::join::{
    BadName, JOIN_PATH, Join, JoinToken, Joined, LINK_PATH, RENEW_PATH, Renewal, check_node,
};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The port where none is said.
const PORT: u16 = 7410;
/// A name, a connection, a handshake and an answer: on a bad line that takes seconds.
const DIAL_MAX: Duration = Duration::from_secs(15);
/// An answer holds two certificates.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// As long as a new certificate lives; see the controller's `AGENT_DAYS`.
const LIFE_S: i64 = 30 * 24 * 3600;

/// Where the controller is, and how this agent is known there.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    /// `https://HOST[:PORT]`.
    pub(crate) controller: Uri,
    /// Other controllers of the same authority, of which one leads: each has its turn when the one before is no help.
    pub(crate) others: VecDeque<Uri>,
    /// Where the identity is kept.
    pub(crate) state: PathBuf,
    /// What lets the agent join, while it has not.
    pub(crate) token_file: Option<PathBuf>,
    /// What the node is called.
    pub(crate) node: String,
}

/// Why the controller is not reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The address.
    #[error("`{0}` is no controller's address: write https://HOST or https://HOST:PORT")]
    Address(Uri),
    /// The node's name.
    #[error("the node's name cannot be used; give another with --node")]
    Node(#[from] BadName),
    /// Not joined, and nothing to join with.
    #[error(
        "this agent has not joined a controller: give it a token of `squall token create` with --join-token-file"
    )]
    NoToken,
    /// The token.
    #[error("the join token in `{path}` cannot be used: {why}")]
    Token {
        /// Its file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The file of its identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The network.
    #[error("the controller {controller} is not reached")]
    Reach {
        /// Which.
        controller: Uri,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("the controller {0} did not answer within {DIAL_MAX:?}")]
    Slow(Uri),
    /// HTTP.
    #[error("the controller {controller} did not answer in HTTP")]
    Http {
        /// Which.
        controller: Uri,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It said no.
    #[error("the controller {controller} refused: {status}: {said}")]
    Refused {
        /// Which.
        controller: Uri,
        /// Its status.
        status: StatusCode,
        /// In its words.
        said: String,
    },
    /// TLS.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The link.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl DialError {
    /// Whether trying again later may help, without anybody's help.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Reach { .. } | Self::Slow(_) | Self::Http { .. } => true,
            Self::Link(error) => !error.is_no(),
            Self::Refused { status, .. } => status.is_server_error(),
            _ => false,
        }
    }
}

impl Address {
    /// How many controllers there are to try.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.others.len()).map_or(u32::MAX, |others| others.saturating_add(1))
    }

    /// The next controller's turn; the present one's comes again after all others'.
    pub(crate) fn turn(&mut self) {
        if let Some(next) = self.others.pop_front() {
            let last = std::mem::replace(&mut self.controller, next);
            self.others.push_back(last);
        }
    }

    /// Joins where that is to be done, renews where that is due, and opens the link.
    pub(crate) async fn dial(&self) -> Result<Link, DialError> {
        match tokio::time::timeout(DIAL_MAX, self.dial_slowly()).await {
            Ok(dialled) => dialled,
            Err(_) => Err(DialError::Slow(self.controller.clone())),
        }
    }

    async fn dial_slowly(&self) -> Result<Link, DialError> {
        let identity = match Identity::load(&self.state)? {
            Some(identity) => identity,
            None => self.join().await?,
        };
        let identity = self.renewed(identity).await;
        let stream = self.connect(identity.tls()?).await?;
        let peer = stream.get_ref().0.peer_addr().ok();
        let link = shake_hands(&format!("wss://{}{LINK_PATH}", self.host()?), stream, true).await?;
        Ok(Link { peer, ..link })
    }

    async fn join(&self) -> Result<Identity, DialError> {
        check_node(&self.node)?;
        let path = self.token_file.as_deref().ok_or(DialError::NoToken)?;
        let token = read_token(path)?;
        let candidate = Candidate::new()?;
        let (id, secret) = token.halves();
        let join = Join {
            token: id,
            secret,
            node: self.node.clone(),
            request: candidate.request.clone(),
        };
        let tls = pinned::tls(token.authority)?;
        let joined: Joined = self.ask(tls, JOIN_PATH, &join).await?;
        let identity = candidate.signed(&self.node, joined);
        identity.save(&self.state)?;
        tracing::info!(node = self.node, controller = %self.controller, "joined");
        Ok(identity)
    }

    /// Best effort: the certificate at hand is good for weeks.
    async fn renewed(&self, identity: Identity) -> Identity {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_s = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        if !identity.is_due(now_s, LIFE_S) {
            return identity;
        }
        match self.renew(&identity).await {
            Ok(renewed) => renewed,
            Err(error) => {
                let error = crate::hold::held::chain(&error);
                tracing::warn!(
                    error,
                    "the agent's certificate was not renewed; it is tried again"
                );
                identity
            }
        }
    }

    async fn renew(&self, identity: &Identity) -> Result<Identity, DialError> {
        let candidate = Candidate::new()?;
        let renewal = Renewal {
            request: candidate.request.clone(),
        };
        let joined = self.ask(identity.tls()?, RENEW_PATH, &renewal).await?;
        let renewed = candidate.signed(&identity.node, joined);
        renewed.save(&self.state)?;
        Ok(renewed)
    }

    fn host(&self) -> Result<String, DialError> {
        let wrong = || DialError::Address(self.controller.clone());
        let authority = self.controller.authority().ok_or_else(wrong)?;
        let https = self.controller.scheme_str() == Some("https");
        let bare = matches!(self.controller.path(), "" | "/") && self.controller.query().is_none();
        let nobody = !authority.as_str().contains('@');
        if !(https && bare && nobody) {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(PORT);
        Ok(format!("{}:{port}", authority.host()))
    }

    async fn connect(&self, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
        let reach = |source| DialError::Reach {
            controller: self.controller.clone(),
            source,
        };
        let host = self.controller.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| DialError::Address(self.controller.clone()))?;
        let stream = TcpStream::connect(self.host()?).await.map_err(reach)?;
        stream.set_nodelay(true).map_err(reach)?;
        channel::notice_loss(&stream).map_err(reach)?;
        TlsConnector::from(tls)
            .connect(name, stream)
            .await
            .map_err(reach)
    }

    /// One question, on a connection of its own.
    async fn ask(
        &self,
        tls: Arc<ClientConfig>,
        path: &str,
        question: &impl Serialize,
    ) -> Result<Joined, DialError> {
        let broken = |source: Box<dyn std::error::Error + Send + Sync>| DialError::Http {
            controller: self.controller.clone(),
            source,
        };
        let stream = TokioIo::new(self.connect(tls).await?);
        let (mut sender, connection) = http1::handshake(stream)
            .await
            .map_err(|error| broken(error.into()))?;
        tokio::spawn(connection);
        let body = serde_json::to_vec(question).map_err(|error| broken(error.into()))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, self.host()?)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(error.into()))?;
        let answer = sender.send_request(request).await;
        let (head, body) = answer.map_err(|error| broken(error.into()))?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(broken)?.to_bytes();
        if head.status != StatusCode::OK {
            return Err(DialError::Refused {
                controller: self.controller.clone(),
                status: head.status,
                said: said(&body),
            });
        }
        serde_json::from_slice(&body).map_err(|error| broken(error.into()))
    }
}

/// A problem's `detail` (RFC 9457), or the beginning of whatever it is.
fn said(body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let detail = problem.as_ref().and_then(|p| p.get("detail")?.as_str());
    let text = detail.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.chars().filter(|c| !c.is_control()).take(400).collect()
}

fn read_token(path: &Path) -> Result<JoinToken, DialError> {
    let bad = |why: String| DialError::Token {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    text.parse()
        .map_err(|error: squall_experiments::join::NotAToken| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(controller: &'static str) -> Address {
        Address {
            controller: Uri::from_static(controller),
            others: VecDeque::new(),
            state: PathBuf::new(),
            token_file: None,
            node: "node".into(),
        }
    }

    #[test]
    fn an_address_is_https_and_nothing_but_a_host_and_a_port() {
        let host = |controller| address(controller).host();
        assert_eq!(host("https://c.example").unwrap(), "c.example:7410");
        assert_eq!(host("https://[::1]:8443/").unwrap(), "[::1]:8443");
        for bad in [
            "http://c",
            "https://c/path",
            "https://c/?q",
            "https://u@c",
            "c:7410",
            "/",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_controller_has_its_turn() {
        let mut address = address("https://a");
        address.turn();
        assert_eq!(address.host().unwrap(), "a:7410");
        address.others = ["https://b", "https://c"].map(Uri::from_static).into();
        let mut turns = Vec::new();
        for _ in 0..4 {
            turns.push(address.host().unwrap());
            address.turn();
        }
        assert_eq!(turns, ["a:7410", "b:7410", "c:7410", "a:7410"]);
        assert_eq!(address.count(), 3);
    }

    #[test]
    fn what_a_controller_says_is_shown_without_what_would_move_the_cursor() {
        assert_eq!(said(br#"{"detail":"no\u001b[31m"}"#), "no[31m");
        assert_eq!(said(b"<html>\x07"), "<html>");
    }
}
