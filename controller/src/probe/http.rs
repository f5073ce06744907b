//! One HTTP request, and its whole answer.

use super::paths::Paths;
use super::{ProbeError, Seen};
use crate::judge::Outcome;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri, Version};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use squall_experiments::probe::Request as Asked;
use std::error::Error;

/// So much of an answer is read; one that is longer counts as failed, for what it said cannot be judged.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Idle connections kept for the next requests: as many as a load in steady state uses at once.
const IDLE_MAX: usize = 1024;

/// A client that speaks TLS only where it must: a machine without root certificates can still be asked over http.
enum Speaker {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// A request, ready to be sent again and again.
pub(super) struct Asking {
    speaker: Speaker,
    request: Request<Full<Bytes>>,
    paths: Paths,
}

impl Asking {
    pub(super) fn new(probe: &str, asked: &Asked, paths: Paths) -> Result<Self, ProbeError> {
        let bad_url = |why: String| ProbeError::Url {
            probe: probe.to_owned(),
            url: asked.url.clone(),
            why,
        };
        let uri: Uri = asked
            .url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| bad_url(error.to_string()))?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_MAX);
        let speaker = match uri.scheme_str() {
            Some("http") => Speaker::Plain(builder.build(tcp)),
            Some("https") => Speaker::Tls(builder.build(tls(probe, tcp)?)),
            _ => return Err(bad_url("write http:// or https:// in front".into())),
        };
        let mut request = Request::builder()
            .method(asked.method.as_str())
            .uri(uri)
            .version(Version::HTTP_11);
        for (name, value) in &asked.headers {
            request = request.header(name, value);
        }
        let body = asked.body.clone().unwrap_or_default();
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|source| ProbeError::Request {
                probe: probe.to_owned(),
                source,
            })?;
        Ok(Self {
            speaker,
            request,
            paths,
        })
    }

    pub(super) async fn ask(&self) -> Seen {
        let request = self.request.clone();
        let answer = match &self.speaker {
            Speaker::Plain(client) => client.request(request).await,
            Speaker::Tls(client) => client.request(request).await,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Seen::only(Outcome::Unanswered(reason(&error))),
        };
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY_BYTES_MAX);
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                let reason = format!("the answer broke off: {}", reason(error.as_ref()));
                return Seen {
                    status: Some(status.as_u16()),
                    ..Seen::only(Outcome::Failed(reason))
                };
            }
        };
        let outcome = if status.as_u16() < 400 {
            Outcome::Success
        } else {
            Outcome::Failed(format!("status {}", status.as_u16()))
        };
        Seen {
            status: Some(status.as_u16()),
            bodies: self.paths.find(&body),
            ..Seen::only(outcome)
        }
    }
}

fn tls(probe: &str, tcp: HttpConnector) -> Result<HttpsConnector<HttpConnector>, ProbeError> {
    // Named, so that a second provider somewhere in the dependencies cannot make the choice ambiguous.
    let provider = rustls::crypto::ring::default_provider();
    let builder = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(provider)
        .map_err(|source| ProbeError::Roots {
            probe: probe.to_owned(),
            source,
        })?;
    Ok(builder.https_only().enable_http1().wrap_connector(tcp))
}

/// The innermost cause: `Connection refused (os error 111)` rather than `client error (Connect)`.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
