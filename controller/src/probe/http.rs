//! One HTTP request, and its whole answer.

use super::client::{Answer, Client, Http};
use super::paths::Paths;
use super::{ProbeError, Seen};
use crate::judge::Outcome;
use hyper::Method;
use hyper::body::Bytes;
use squall_experiments::probe::Request as Asked;

/// A request, ready to be sent again and again.
pub(super) struct Asking {
    client: Client,
    method: Method,
    body: Bytes,
    paths: Paths,
}

impl Asking {
    pub(super) fn new(probe: &str, asked: &Asked, paths: Paths) -> Result<Self, ProbeError> {
        Ok(Self {
            client: Client::new(probe, &asked.source, Http::One)?,
            method: method(probe, &asked.method)?,
            body: Bytes::from(asked.body.clone().unwrap_or_default()),
            paths,
        })
    }

    pub(super) async fn ask(&self) -> Seen {
        let (method, body) = (self.method.clone(), self.body.clone());
        let request = self.client.request(method, self.client.uri().clone(), body);
        match self.client.send(request).await {
            Ok(answer) => seen(&answer, &self.paths),
            Err(none) => none.seen(),
        }
    }
}

/// The method as the file says it.
pub(super) fn method(probe: &str, said: &str) -> Result<Method, ProbeError> {
    said.parse().map_err(|_| ProbeError::Method {
        probe: probe.to_owned(),
        method: said.to_owned(),
    })
}

/// What an answer says to a probe for which a status below 400 is a success.
pub(super) fn seen(answer: &Answer, paths: &Paths) -> Seen {
    let status = answer.status.as_u16();
    let outcome = if status < 400 {
        Outcome::Success
    } else {
        Outcome::Failed(format!("status {status}"))
    };
    Seen {
        status: Some(status),
        bodies: paths.find(&answer.body),
        ..Seen::only(outcome)
    }
}
