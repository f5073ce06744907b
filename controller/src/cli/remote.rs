//! Speaking to a controller that serves.

use super::serve::ADMIN_TOKEN_FILE;
use crate::api::problem::Problem;
use crate::fleet::authority::CERTIFICATE_FILE;
use crate::store;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
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
    /// The file with the API token; the controller's first where nothing is said
    #[arg(long, value_name = "FILE", env = "SQUALL_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The file with the controller's authority (PEM); the one on this machine where nothing is said
    #[arg(long, value_name = "FILE", env = "SQUALL_AUTHORITY")]
    authority: Option<PathBuf>,
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
    #[error("the controller did not answer within {ANSWER_MAX:?}")]
    Slow,
    #[error("the controller says {status}: {said}")]
    Refused { status: StatusCode, said: String },
    #[error("the controller's answer is not understood; is it the same version of Squall?")]
    Answer(#[source] serde_json::Error),
}

impl RemoteError {
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

    /// Says, and reads that it was taken.
    pub(super) async fn tell(&self, method: Method, path: &str) -> Result<(), RemoteError> {
        self.send(method, path, None::<&()>).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Bytes, RemoteError> {
        let body = body.map(serde_json::to_vec).transpose();
        let body = Bytes::from(body.map_err(RemoteError::Answer)?.unwrap_or_default());
        let base = self.controller.trim_end_matches('/');
        let url = format!("{base}/api/v1{path}");
        let mut answer = self.exchange(&method, &url, body.clone()).await?;
        // One that stands by says where the leader is; that has a certificate of the same authority.
        if let Some(leader) = answer.elsewhere() {
            answer = self.exchange(&method, &leader, body).await?;
        }
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let said = match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) => problem.detail,
            Err(_) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
        };
        let status = answer.status;
        Err(RemoteError::Refused { status, said })
    }

    async fn exchange(
        &self,
        method: &Method,
        url: &str,
        body: Bytes,
    ) -> Result<Heard, RemoteError> {
        let reach = |source: Box<dyn std::error::Error + Send + Sync>| RemoteError::Reach {
            controller: url.to_owned(),
            source,
        };
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls()?)
            .https_only()
            .enable_http1()
            .build();
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(tls);
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header(AUTHORIZATION, format!("Bearer {}", self.token()?))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|_| RemoteError::Address(self.controller.clone()))?;
        let exchange = async {
            let answer = client.request(request).await;
            let (head, body) = answer.map_err(|error| reach(error.into()))?.into_parts();
            let location = head.headers.get(LOCATION);
            let location = location.and_then(|to| to.to_str().ok()).map(str::to_owned);
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            Ok(Heard {
                status: head.status,
                location,
                body: body.map_err(reach)?.to_bytes(),
            })
        };
        let heard = tokio::time::timeout(ANSWER_MAX, exchange).await;
        heard.map_err(|_| RemoteError::Slow)?
    }

    fn token(&self) -> Result<String, RemoteError> {
        let own = || store::place().join(ADMIN_TOKEN_FILE);
        let path = self.token_file.clone().unwrap_or_else(own);
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| unread("the API token", &path, error.into()))?;
        Ok(text.trim().to_owned())
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

/// An answer.
struct Heard {
    status: StatusCode,
    location: Option<String>,
    body: Bytes,
}

impl Heard {
    fn elsewhere(&self) -> Option<String> {
        let sent_on = self.status == StatusCode::TEMPORARY_REDIRECT;
        self.location.clone().filter(|_| sent_on)
    }
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
