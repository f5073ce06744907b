//! One health check over gRPC (grpc.health.v1), over a connection of its own: calls that share one would all hang with it.

mod message;

use super::client::{WANTS_CERTIFICATE, headers, reason};
use super::dial::Dialing;
use super::secret::Secrets;
use super::{ProbeError, Seen};
use crate::judge::Outcome;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use message::Health;
use squall_experiments::probe::Grpc;
use std::error::Error;
use std::pin::pin;

/// What both sides agree on in TLS.
const HTTP2: &[u8] = b"h2";

/// A status is a few bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// So much of a server's own words is passed on.
const WORDS_CHARS_MAX: usize = 200;

/// A call, ready to be made again and again.
pub(super) struct Checking {
    dialing: Dialing,
    uri: Uri,
    message: Bytes,
    service: String,
    metadata: HeaderMap,
    secrets: Secrets,
}

impl Checking {
    pub(super) fn new(probe: &str, grpc: &Grpc) -> Result<Self, ProbeError> {
        let tls = grpc.tls.as_ref();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/grpc.health.v1.Health/Check", grpc.address);
        let uri = url.parse().map_err(|error| ProbeError::Url {
            probe: probe.to_owned(),
            url,
            why: hyper::http::uri::InvalidUri::to_string(&error),
        })?;
        let mut secrets = Secrets::default();
        let metadata = headers(probe, &grpc.headers, grpc.auth.as_ref(), &mut secrets)?;
        Ok(Self {
            metadata,
            secrets,
            dialing: Dialing::new(probe, &grpc.address, tls, Some(HTTP2))?,
            uri,
            message: message::request(&grpc.service).into(),
            service: grpc.service.clone(),
        })
    }

    pub(super) async fn check(&self) -> Seen {
        Seen::only(match self.call().await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Unanswered(self.words(reason(error.as_ref()))),
        })
    }

    /// What the library itself finds wrong with the other side's bytes, it calls detected; what the other side found, received.
    fn words(&self, reason: String) -> String {
        if reason.starts_with("connection error detected") {
            format!("the answer is not HTTP/2: {reason}")
        } else if reason.starts_with("connection closed") && self.dialing.is_tls() {
            format!("{reason}, {WANTS_CERTIFICATE}")
        } else {
            reason
        }
    }

    async fn call(&self) -> Result<Outcome, Box<dyn Error + Send + Sync>> {
        let stream = TokioIo::new(self.dialing.connect().await?);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        let mut connection = pin!(connection);
        let exchange = async {
            let (head, body) = sender.send_request(self.request()).await?.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
            Ok::<_, hyper::Error>((head, body))
        };
        let whole = tokio::select! {
            biased;
            whole = exchange => whole,
            ended = &mut connection => {
                ended?;
                return Err("the server closed the connection".into());
            }
        };
        let (head, body) = match whole {
            Ok(whole) => whole,
            Err(error) => {
                drop(sender);
                // The connection knows better why it broke; where it did not, it ends with its only call.
                return Err(connection.await.err().unwrap_or(error).into());
            }
        };
        let failed = |reason: String| Ok(Outcome::Failed(reason));
        if head.status != StatusCode::OK {
            return failed(format!(
                "HTTP status {}, where gRPC has 200",
                head.status.as_u16()
            ));
        }
        let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
            return failed("the answer is not gRPC's".into());
        }
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                return failed(format!("the answer broke off: {}", reason(error.as_ref())));
            }
        };
        // A server that has nothing else to say puts the status in front.
        let trailers = body.trailers().cloned().unwrap_or(head.headers);
        Ok(self.outcome(&trailers, &body.to_bytes()))
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::post(self.uri.clone()).body(Full::new(self.message.clone()));
        if let Ok(request) = &mut request {
            let headers = request.headers_mut();
            headers.clone_from(&self.metadata);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        request.unwrap_or_default()
    }

    /// What gRPC's own status says, and where it is OK, what the message says.
    fn outcome(&self, trailers: &HeaderMap, body: &[u8]) -> Outcome {
        let status = trailers.get("grpc-status").map(HeaderValue::as_bytes);
        let status = status.and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        let Some(status) = status else {
            return Outcome::Failed("the answer ended without a gRPC status".into());
        };
        let whose = match self.service.as_str() {
            "" => "the server".to_owned(),
            service => format!("`{service}`"),
        };
        Outcome::Failed(match status {
            0 => match message::response(body) {
                Ok(Health::Serving) => return Outcome::Success,
                Ok(Health::NotServing) => format!("{whose} is NOT_SERVING"),
                Ok(Health::Unknown) => format!("the health of {whose} is UNKNOWN"),
                Ok(Health::ServiceUnknown) => format!("{whose} is SERVICE_UNKNOWN"),
                Ok(Health::Other(number)) => format!("{whose} has health {number}, which is none"),
                Err(garbage) => garbage.to_owned(),
            },
            5 => format!("NOT_FOUND: the health service does not know {whose}"),
            12 => "UNIMPLEMENTED: the server has no health service".to_owned(),
            status => {
                let words = trailers.get("grpc-message").map(HeaderValue::as_bytes);
                match self
                    .secrets
                    .hide(words.map(decoded).unwrap_or_default())
                    .as_str()
                {
                    "" => name(status),
                    words => format!("{}: {words}", name(status)),
                }
            }
        })
    }
}

/// The statuses of gRPC, by number.
const STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn name(status: u32) -> String {
    let known = usize::try_from(status).ok().and_then(|at| STATUSES.get(at));
    known.map_or_else(|| format!("gRPC status {status}"), ToString::to_string)
}

/// `grpc-message` is percent-encoded UTF-8.
fn decoded(words: &[u8]) -> String {
    let hex = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut bytes = Vec::new();
    let mut at = 0;
    while let Some(byte) = words.get(at) {
        let pair = (hex(words.get(at + 1)), hex(words.get(at + 2)));
        match (byte, pair) {
            (b'%', (Some(high), Some(low))) => {
                bytes.extend(u8::try_from(high << 4 | low));
                at += 3;
            }
            _ => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    text.chars().take(WORDS_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_are_decoded_and_bounded() {
        assert_eq!(decoded(b"a%20b%C3%A9%"), "a bé%");
        assert_eq!(decoded("x".repeat(999).as_bytes()).len(), WORDS_CHARS_MAX);
        assert_eq!(name(16), "UNAUTHENTICATED");
        assert_eq!(name(99), "gRPC status 99");
    }
}
