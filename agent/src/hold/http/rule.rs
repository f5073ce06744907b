//! Which requests are hit, and by what: pure but for the draw.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Uri};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use squall_experiments::dose::HttpDose;
use squall_experiments::fault::{Http, HttpEffect, Requests};

use crate::hold::held::HoldError;

/// The rule, with its count; shared by all connections.
pub(super) struct Rule {
    requests: Requests,
    share: f64,
    /// What happens to a request that is hit.
    pub(super) effect: HttpEffect,
    /// Headers to set on the way there.
    pub(super) on_request: Vec<(HeaderName, HeaderValue)>,
    /// Headers to set on the way back.
    pub(super) on_response: Vec<(HeaderName, HeaderValue)>,
    chance: Mutex<StdRng>,
    /// What was done.
    pub(super) tally: Tally,
}

/// What was done, counted where it is done.
#[derive(Debug, Default)]
pub(super) struct Tally {
    requests: AtomicU64,
    matched: AtomicU64,
    pub(super) aborted: AtomicU64,
    pub(super) delayed: AtomicU64,
    pub(super) truncated: AtomicU64,
    pub(super) reset: AtomicU64,
    pub(super) replaced: AtomicU64,
    pub(super) tls_passed: AtomicU64,
    pub(super) other_passed: AtomicU64,
}

/// One more.
pub(super) fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Rule {
    /// # Errors
    /// A header that no message can have.
    pub(super) fn new(fault: &Http, seed: u64) -> Result<Self, HoldError> {
        let (on_request, on_response) = match &fault.effect {
            HttpEffect::Replace(replace) => (
                headers(replace.request.iter())?,
                headers(replace.response.iter())?,
            ),
            _ => (Vec::new(), Vec::new()),
        };
        Ok(Self {
            requests: (*fault.requests).clone(),
            share: fault.share.fraction(),
            effect: fault.effect.clone(),
            on_request,
            on_response,
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            tally: Tally::default(),
        })
    }

    /// Whether this request is hit, counted.
    pub(super) fn hits(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
        add(&self.tally.requests);
        let hit = self.means(method, uri, headers) && self.drawn();
        if hit {
            add(&self.tally.matched);
        }
        hit
    }

    fn means(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
        let Requests {
            methods,
            paths,
            hosts,
            headers: wanted,
        } = &self.requests;
        let any = |nothing_said: bool, found: bool| nothing_said || found;
        any(
            methods.is_empty(),
            methods.iter().any(|m| m == method.as_str()),
        ) && any(
            paths.is_empty(),
            paths.iter().any(|p| p.matches(uri.path())),
        ) && any(
            hosts.is_empty(),
            host(uri, headers).is_some_and(|h| hosts.iter().any(|p| p.matches_name(h))),
        ) && wanted.iter().all(|(name, pattern)| {
            let values = headers.get_all(name.as_str());
            values
                .iter()
                .any(|v| v.to_str().is_ok_and(|v| pattern.matches(v)))
        })
    }

    fn drawn(&self) -> bool {
        self.share >= 1.0
            || self
                .chance
                .lock()
                .is_ok_and(|mut chance| chance.random::<f64>() < self.share)
    }

    /// What was done so far, on so many connections.
    pub(super) fn dose(&self, connections: u64) -> HttpDose {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tally = &self.tally;
        HttpDose {
            connections,
            requests: read(&tally.requests),
            matched: read(&tally.matched),
            aborted: read(&tally.aborted),
            delayed: read(&tally.delayed),
            truncated: read(&tally.truncated),
            reset: read(&tally.reset),
            replaced: read(&tally.replaced),
            tls_passed: read(&tally.tls_passed),
            other_passed: read(&tally.other_passed),
        }
    }
}

/// The host that a request names, without its port: in the URI (HTTP/2, proxies) or in its header.
fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    if let Some(host) = uri.host() {
        return Some(host);
    }
    let text = headers.get(HOST)?.to_str().ok()?;
    match text.rsplit_once(':') {
        // The last colon of `[fd00::2]` is not a port's.
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => Some(host),
        _ => Some(text),
    }
}

fn headers<'r>(
    said: impl Iterator<Item = (&'r String, &'r String)>,
) -> Result<Vec<(HeaderName, HeaderValue)>, HoldError> {
    said.map(|(name, value)| {
        let parsed = name.parse().ok().zip(value.parse().ok());
        parsed.ok_or_else(|| {
            HoldError::Unable(format!(
                "`{name}: {value}` is no header: a name has letters, digits and hyphens, a value is one line"
            ))
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(requests: &str, method: &str, uri: &str, headers: &[(&str, &str)]) -> bool {
        let fault = format!(r#"{{"effect": "reset", "requests": {requests}}}"#);
        let rule = Rule::new(&serde_json::from_str(&fault).unwrap(), 7).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        rule.hits(&method.parse().unwrap(), &uri.parse().unwrap(), &map)
    }

    #[test]
    fn everything_that_is_said_must_be_so_and_of_each_list_anything() {
        let requests = r#"{"methods": ["GET", "PUT"], "paths": ["/orders/*"], "hosts": ["*.shop"], "headers": {"x-tenant": "test-*"}}"#;
        let tenant = ("x-tenant", "test-1");
        let host = ("host", "orders.SHOP:8080");
        for (method, uri, headers, expected) in [
            ("GET", "/orders/1?n=2", &[host, tenant][..], true),
            ("PUT", "http://a.shop:1/orders/1", &[tenant], true),
            ("POST", "/orders/1", &[host, tenant], false),
            ("GET", "/carts/1", &[host, tenant], false),
            ("GET", "/orders/1", &[("host", "orders"), tenant], false),
            ("GET", "/orders/1", &[host], false),
            ("GET", "/orders/1", &[host, ("x-tenant", "a"), tenant], true),
        ] {
            assert_eq!(
                hits(requests, method, uri, headers),
                expected,
                "{method} {uri} {headers:?}"
            );
        }
        assert!(hits("{}", "OPTIONS", "*", &[]));
        assert!(hits(
            r#"{"hosts": ["[fd00::2]"]}"#,
            "GET",
            "/",
            &[("host", "[fd00::2]:80")]
        ));
    }
}
