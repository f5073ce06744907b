//! Unary gRPC calls over a unix socket: as much of the protocol as CRI needs, on the HTTP/2 client that the http fault has
//! anyway (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use super::{ANSWER_BYTES_MAX, ANSWER_LIMIT, OPEN_LIMIT};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Buf, Bytes};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HeaderMap, TE};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::path::Path;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A frame's head: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// An open connection; it closes when this is dropped, whether or not the server hears of it.
pub(super) struct Channel {
    sender: SendRequest<Full<Bytes>>,
    _connection: JoinSet<()>,
}

impl Channel {
    /// Connects to the server at this socket.
    ///
    /// # Errors
    /// A sentence: nobody listens, or what listens does not speak HTTP/2 in time.
    pub(super) async fn open(socket: &Path) -> Result<Self, String> {
        let opened = timeout(OPEN_LIMIT, async {
            let stream = UnixStream::connect(socket)
                .await
                .map_err(|error| format!("cannot connect: {error}"))?;
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(|error| format!("it does not speak HTTP/2: {error}"))?;
            let mut driven = JoinSet::new();
            // Its errors are those of the calls that were waiting for it.
            driven.spawn(async { drop(connection.await) });
            Ok(Self {
                sender,
                _connection: driven,
            })
        });
        opened
            .await
            .unwrap_or_else(|_| Err(format!("it did not let us in within {OPEN_LIMIT:?}")))
    }

    /// Asks one question: `method` as in `/runtime.v1.RuntimeService/Version`.
    ///
    /// # Errors
    /// A sentence: no answer in time, an error of the server's own, or an answer that cannot be read.
    pub(super) async fn call<A: Message + Default>(
        &self,
        method: &str,
        question: &impl Message,
    ) -> Result<A, String> {
        let name = method.rsplit('/').next().unwrap_or(method);
        let answered = timeout(ANSWER_LIMIT, self.ask(method, question));
        match answered.await {
            Ok(Ok(answer)) => {
                A::decode(answer).map_err(|error| format!("its answer to {name} is none: {error}"))
            }
            Ok(Err(error)) => Err(format!("{name} failed: {error}")),
            Err(_) => Err(format!("it did not answer {name} within {ANSWER_LIMIT:?}")),
        }
    }

    async fn ask(&self, method: &str, question: &impl Message) -> Result<Bytes, String> {
        let request = hyper::Request::post(format!("http://localhost{method}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .body(Full::new(frame(question)))
            .map_err(|error| error.to_string())?;
        let mut sender = self.sender.clone();
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        // An error without an answer comes in the headers alone.
        status(answer.headers())?;
        if !answer.status().is_success() {
            return Err(format!("HTTP {}: it does not speak gRPC", answer.status()));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|error| error.to_string())?;
        if let Some(trailers) = body.trailers() {
            status(trailers)?;
        }
        unframe(body.to_bytes())
    }
}

fn frame(message: &impl Message) -> Bytes {
    let mut framed = vec![0; HEAD_BYTES];
    framed.extend(message.encode_to_vec());
    let length = u32::try_from(framed.len() - HEAD_BYTES).unwrap_or(u32::MAX);
    framed[1..HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    framed.into()
}

/// The one message of an answer.
fn unframe(mut body: Bytes) -> Result<Bytes, String> {
    if body.len() < HEAD_BYTES {
        return Err("it has no message in it".to_owned());
    }
    if body.get_u8() != 0 {
        return Err("it is compressed, which was not asked for".to_owned());
    }
    let length = body.get_u32() as usize;
    if body.len() < length {
        return Err(format!("it ends after {} of {length} bytes", body.len()));
    }
    Ok(body.split_to(length))
}

/// `grpc-status` is 0 where all is well; its message has escapes where it is not ASCII, which are left as they are.
fn status(headers: &HeaderMap) -> Result<(), String> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(code) => Err(format!(
            "{} (gRPC status {code})",
            text("grpc-message").unwrap_or("no reason given")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_are_none_are_told() {
        assert_eq!(unframe(frame(&"x".to_owned())).unwrap(), "\x0a\x01x");
        let broken: [&'static [u8]; 4] = [b"", b"\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x05ab"];
        for bytes in broken {
            assert!(unframe(Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }
}
