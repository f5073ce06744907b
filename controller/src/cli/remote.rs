//! Speaking to a controller that serves.

use super::agents::part;
use super::serve::ADMIN_TOKEN_FILE;
use crate::api::Page;
use crate::api::problem::Problem;
use crate::fleet::authority::CERTIFICATE_FILE;
use crate::login::device::{self, LoginError};
use crate::login::kept::Kept;
use crate::store;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// An answer is a list of at most so much.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Items asked for at once; the most that a controller gives.
const PAGE_ITEMS: usize = 1000;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Which controller, and who asks. On the controller's own machine nothing needs to be said.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct At {
    /// The controller
    #[arg(
        long,
        value_name = "URL",
        env = "SQUALL_CONTROLLER",
        default_value = "https://127.0.0.1:7410"
    )]
    controller: String,
    /// The file with the API token; where nothing is said the login there (`squall login`), else the controller's first token
    #[arg(long, value_name = "FILE", env = "SQUALL_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The file with the controller's authority (PEM); the one on this machine where nothing is said
    #[arg(long, value_name = "FILE", env = "SQUALL_AUTHORITY")]
    authority: Option<PathBuf>,
}

/// A controller that is asked only where it is named.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct MaybeAt {
    /// The controller whose nodes and runs are meant; this node's where nothing is said
    #[arg(long, value_name = "URL")]
    controller: Option<String>,
    /// The file with the API token; the controller's first where nothing is said
    #[arg(long, value_name = "FILE", env = "SQUALL_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The file with the controller's authority (PEM); the one on this machine where nothing is said
    #[arg(long, value_name = "FILE", env = "SQUALL_AUTHORITY")]
    authority: Option<PathBuf>,
}

impl MaybeAt {
    /// The controller, where one is named.
    pub(super) fn at(&self) -> Option<At> {
        let controller = self.controller.clone()?;
        Some(At {
            controller,
            token_file: self.token_file.clone(),
            authority: self.authority.clone(),
        })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemoteError {
    #[error("{what} `{}` cannot be read", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("`{0}` is no controller's address: write https://HOST:PORT")]
    Address(String),
    #[error("the controller {controller} is not reached; is `squall serve` running there?")]
    Reach {
        controller: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the login at this controller is over: `squall login` begins another")]
    Login(#[source] LoginError),
    #[error("the controller did not answer within {ANSWER_MAX:?}")]
    Slow,
    #[error("the controller says {status}: {said}")]
    Refused { status: StatusCode, said: String },
    #[error("the controller's answer is not understood; is it the same version of Squall?")]
    Answer(#[source] serde_json::Error),
}

impl RemoteError {
    /// Whether the controller understood, and said no.
    pub(super) fn is_no(&self) -> bool {
        let no = [StatusCode::FORBIDDEN, StatusCode::CONFLICT];
        matches!(self, Self::Refused { status, .. } if no.contains(status))
    }

    /// Whether the caller said something wrong.
    pub(super) fn is_input(&self) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Refused { status, .. } => status.is_client_error(),
            _ => false,
        }
    }
}

impl At {
    /// Asks and reads the answer.
    pub(super) async fn ask<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<A, RemoteError> {
        let answer = self.send(method, path, body).await?;
        serde_json::from_slice(&answer).map_err(RemoteError::Answer)
    }

    /// A whole list, page by page.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Vec<T>, RemoteError> {
        self.list_up_to(path, usize::MAX).await
    }

    /// The first so many of a list.
    pub(super) async fn list_up_to<T: DeserializeOwned>(
        &self,
        path: &str,
        most: usize,
    ) -> Result<Vec<T>, RemoteError> {
        let limit = most.clamp(1, PAGE_ITEMS);
        let (mut items, mut after) = (Vec::new(), String::new());
        while items.len() < most {
            let asked = format!("{path}?limit={limit}{after}");
            let page: Page<T> = self.ask(Method::GET, &asked, None::<&()>).await?;
            items.extend(page.items);
            let Some(next) = page.next else { break };
            after = format!("&after={}", part(&next));
        }
        items.truncate(most);
        Ok(items)
    }

    /// Says, and reads that it was taken.
    pub(super) async fn tell(&self, method: Method, path: &str) -> Result<(), RemoteError> {
        self.send(method, path, None::<&()>).await.map(drop)
    }

    /// Reads a text of this media type.
    pub(super) async fn text(&self, path: &str, kind: &str) -> Result<String, RemoteError> {
        let request = self.request(Method::GET, path).await?.header(ACCEPT, kind);
        let request = request.body(Full::new(Bytes::new()));
        let request = request.map_err(|_| RemoteError::Address(self.controller.clone()))?;
        let answer = self.answered(request).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Bytes, RemoteError> {
        let body = body.map(serde_json::to_vec).transpose();
        let body = body.map_err(RemoteError::Answer)?.unwrap_or_default();
        let request = self.request(method, path).await?;
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| RemoteError::Address(self.controller.clone()))?;
        self.answered(request).await
    }

    /// Asks what anybody may know, without a token; the path is a whole one.
    pub(super) async fn ask_openly<A: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<A, RemoteError> {
        let request = Request::get(self.whole_path(path)).body(Full::new(Bytes::new()));
        let request = request.map_err(|_| RemoteError::Address(self.controller.clone()))?;
        let answer = self.answered(request).await?;
        serde_json::from_slice(&answer).map_err(RemoteError::Answer)
    }

    async fn answered(&self, request: Request<Full<Bytes>>) -> Result<Bytes, RemoteError> {
        let exchange = async {
            let answer = self.exchange(request).await?;
            self.whole(answer).await
        };
        let (status, body) = tokio::time::timeout(ANSWER_MAX, exchange)
            .await
            .map_err(|_| RemoteError::Slow)??;
        if status.is_success() {
            return Ok(body);
        }
        Err(refused(status, &body))
    }

    /// The controller's address, as it was said.
    pub(super) fn controller(&self) -> &str {
        &self.controller
    }

    fn whole_path(&self, path: &str) -> String {
        format!("{}{path}", self.controller.trim_end_matches('/'))
    }

    /// Hears server-sent events until the controller has no more to say, from the one after `seen` on.
    pub(super) async fn events<E: DeserializeOwned>(
        &self,
        path: &str,
        seen: Option<usize>,
        mut hear: impl FnMut(E),
    ) -> Result<(), RemoteError> {
        let mut request = self.request(Method::GET, path).await?;
        request = request.header(ACCEPT, "text/event-stream");
        if let Some(seen) = seen {
            request = request.header("last-event-id", seen);
        }
        let request = request
            .body(Full::new(Bytes::new()))
            .map_err(|_| RemoteError::Address(self.controller.clone()))?;
        let answer = tokio::time::timeout(ANSWER_MAX, self.exchange(request));
        let answer = answer.await.map_err(|_| RemoteError::Slow)??;
        if !answer.status().is_success() {
            let (status, body) = self.whole(answer).await?;
            return Err(refused(status, &body));
        }
        let mut body = answer.into_body();
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.reach(error.into()))?;
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data: ") {
                    hear(serde_json::from_slice(data).map_err(RemoteError::Answer)?);
                }
            }
        }
        Ok(())
    }

    /// One answer. A controller that stands by says where the leader is, which is asked then: it has a certificate of the same authority.
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, RemoteError> {
        let client = self.client()?;
        let mut again = request.clone();
        let answer = client.request(request).await;
        let answer = answer.map_err(|error| self.reach(error.into()))?;
        let leader = answer
            .headers()
            .get(LOCATION)
            .and_then(|to| to.to_str().ok());
        let leader = leader.and_then(|to| to.parse().ok());
        match leader {
            Some(leader) if answer.status() == StatusCode::TEMPORARY_REDIRECT => {
                *again.uri_mut() = leader;
                let answer = client.request(again).await;
                answer.map_err(|error| self.reach(error.into()))
            }
            _ => Ok(answer),
        }
    }

    fn reach(&self, source: Box<dyn std::error::Error + Send + Sync>) -> RemoteError {
        RemoteError::Reach {
            controller: self.controller.clone(),
            source,
        }
    }

    fn client(&self) -> Result<Client<Connector, Full<Bytes>>, RemoteError> {
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls()?)
            .https_only()
            .enable_http1()
            .build();
        Ok(Client::builder(TokioExecutor::new()).build(tls))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
    ) -> Result<hyper::http::request::Builder, RemoteError> {
        let token = self.token().await?;
        Ok(Request::builder()
            .method(method)
            .uri(self.whole_path(&format!("/api/v1{path}")))
            .header(AUTHORIZATION, format!("Bearer {token}")))
    }

    async fn whole(&self, answer: Response<Incoming>) -> Result<(StatusCode, Bytes), RemoteError> {
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.reach(error))?;
        Ok((head.status, body.to_bytes()))
    }

    async fn token(&self) -> Result<String, RemoteError> {
        if self.token_file.is_none()
            && let Some(login) = self.login().await?
        {
            return Ok(login.reveal().to_owned());
        }
        let own = || store::place().join(ADMIN_TOKEN_FILE);
        let path = self.token_file.clone().unwrap_or_else(own);
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| unread("the API token", &path, error.into()))?;
        Ok(text.trim().to_owned())
    }

    /// The login here, with a token that is good for a while yet.
    async fn login(&self) -> Result<Option<Kept>, RemoteError> {
        let bad = |error: std::io::Error| {
            unread("the login", &store::place().join("logins"), error.into())
        };
        match Kept::find(&self.controller).map_err(bad)? {
            Some(kept) if !kept.is_fresh() => {
                let fresh = device::refresh(kept).await.map_err(RemoteError::Login)?;
                fresh.keep().map_err(bad)?;
                Ok(Some(fresh))
            }
            kept => Ok(kept),
        }
    }

    fn tls(&self) -> Result<ClientConfig, RemoteError> {
        let own = || store::place().join(CERTIFICATE_FILE);
        let path = self.authority.clone().unwrap_or_else(own);
        let bad = |source| unread("the controller's authority", &path, source);
        let pem = std::fs::read(&path).map_err(|error| bad(error.into()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| bad(error.into()))?;
            roots.add(certificate).map_err(|error| bad(error.into()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(error.into()))?;
        Ok(versions.with_root_certificates(roots).with_no_client_auth())
    }
}

type Connector = hyper_rustls::HttpsConnector<HttpConnector>;

fn refused(status: StatusCode, body: &[u8]) -> RemoteError {
    let said = match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.detail,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    RemoteError::Refused { status, said }
}

fn unread(
    what: &'static str,
    path: &Path,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> RemoteError {
    RemoteError::File {
        what,
        path: path.to_owned(),
        source,
    }
}
