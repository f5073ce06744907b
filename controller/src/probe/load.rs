//! One request of a load: its body filled in, from the user whose turn it is.

use super::client::{Client, Http};
use super::cookies::Jar;
use super::filling::Body;
use super::paths::Paths;
use super::{ProbeError, Seen, http};
use hyper::Method;
use hyper::header::COOKIE;
use squall_experiments::probe::Load as Asked;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests, ready to be sent.
pub(super) struct Loading {
    client: Client,
    method: Method,
    body: Body,
    paths: Paths,
    /// How many were begun.
    begun: AtomicU64,
    /// The users, who take turns; none where nobody needs cookies.
    users: Vec<Mutex<Jar>>,
}

impl Loading {
    pub(super) fn new(probe: &str, asked: &Asked, paths: Paths) -> Result<Self, ProbeError> {
        let version = if asked.http2 { Http::Two } else { Http::One };
        let body = asked.request.body.as_deref().unwrap_or_default();
        let users = 0..asked.users().unwrap_or(0);
        Ok(Self {
            client: Client::new(probe, &asked.request.source, version)?,
            method: http::method(probe, &asked.request.method)?,
            body: Body::new(probe, body, asked.csv.as_deref())?,
            paths,
            begun: AtomicU64::new(0),
            users: users.map(|_| Mutex::default()).collect(),
        })
    }

    pub(super) async fn ask(&self) -> Seen {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let uri = self.client.uri();
        let body = self.body.fill(number);
        let mut request = self.client.request(self.method.clone(), uri.clone(), body);
        if let Some(cookies) = self.jar(number).and_then(|jar| jar.header()) {
            request.headers_mut().insert(COOKIE, cookies);
        }
        match self.client.send(request).await {
            Ok(answer) => {
                if let Some(mut jar) = self.jar(number) {
                    jar.take(&answer.headers, uri);
                }
                http::seen(&answer, &self.paths)
            }
            Err(none) => none.seen(),
        }
    }

    /// The cookies of the user whose turn this request is.
    fn jar(&self, number: u64) -> Option<MutexGuard<'_, Jar>> {
        let turn = number % (self.users.len() as u64).max(1);
        let user = self.users.get(usize::try_from(turn).ok()?)?;
        // A jar is whole after every step: what a panic left is as good.
        Some(user.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
