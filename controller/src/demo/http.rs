//! The little HTTP client that the order service calls payment with, and the demo asks for numbers.

use super::DemoError;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client as Legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// No answer within the demo is longer than a few numbers.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// A question of the demo itself, when no fault is in force.
const ANSWER_MS_MAX: u64 = 5_000;

/// Keeps connections open between requests.
#[derive(Clone)]
pub(super) struct Client(Legacy<HttpConnector, Full<Bytes>>);

impl Client {
    /// A client that keeps up to `connections` idle.
    pub(super) fn new(connections: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = Legacy::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(connections);
        Self(builder.build(connector))
    }

    /// An empty POST with one header; the answer's body is read, so that the connection can be used again.
    pub(super) async fn post(
        &self,
        url: &str,
        header: (&str, &str),
    ) -> Result<StatusCode, DemoError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(header.0, header.1)
            .body(Full::default());
        Ok(self.ask(url, request).await?.0)
    }

    /// The body of a GET.
    pub(super) async fn get(&self, url: &str) -> Result<Bytes, DemoError> {
        let request = Request::builder().uri(url).body(Full::default());
        let limit = Duration::from_millis(ANSWER_MS_MAX);
        let answered = tokio::time::timeout(limit, self.ask(url, request)).await;
        let (status, body) = answered.map_err(|_| problem(url, "no answer in time"))??;
        if status.is_success() {
            Ok(body)
        } else {
            Err(problem(url, &status.to_string()))
        }
    }

    async fn ask(
        &self,
        url: &str,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
    ) -> Result<(StatusCode, Bytes), DemoError> {
        let request = request.map_err(|e| problem(url, &e.to_string()))?;
        let answer = self.0.request(request).await;
        let (head, body) = answer
            .map_err(|e| problem(url, &e.to_string()))?
            .into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|e| problem(url, &e.to_string()))?.to_bytes();
        Ok((head.status, body))
    }
}

fn problem(url: &str, problem: &str) -> DemoError {
    DemoError::Http {
        url: url.to_owned(),
        problem: problem.to_owned(),
    }
}
