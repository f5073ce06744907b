//! The cookies of one virtual user (RFC 6265, as far as one URL needs it).

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderValue, SET_COOKIE};
use std::collections::BTreeMap;

/// More cookies of one service than this are a mistake of the service.
const COOKIES_MAX: usize = 50;

/// What the service wants to be told again.
#[derive(Debug, Default)]
pub(super) struct Jar(BTreeMap<String, String>);

impl Jar {
    /// Takes what an answer sets, as far as it is for `uri`. When a cookie will expire is not looked at, as a run is short; one that is
    /// over already is removed, which is how services log out.
    pub(super) fn take(&mut self, headers: &HeaderMap, uri: &Uri) {
        for set in headers.get_all(SET_COOKIE) {
            let Some((name, value, rest)) = set.to_str().ok().and_then(parts) else {
                continue;
            };
            let attributes = Attributes::of(rest);
            if !attributes.is_for(uri) {
                continue;
            }
            if attributes.is_over {
                self.0.remove(name);
            } else if self.0.len() < COOKIES_MAX || self.0.contains_key(name) {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// What is to be sent, if anything.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        if self.0.is_empty() {
            return None;
        }
        let pairs: Vec<String> = self.0.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let mut value = HeaderValue::from_str(&pairs.join("; ")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

fn parts(set: &str) -> Option<(&str, &str, &str)> {
    let (pair, rest) = set.split_once(';').unwrap_or((set, ""));
    let (name, value) = pair.split_once('=')?;
    let name = name.trim();
    (!name.is_empty()).then_some((name, value.trim(), rest))
}

#[derive(Debug, Default)]
struct Attributes<'a> {
    domain: Option<&'a str>,
    path: Option<&'a str>,
    secure: bool,
    is_over: bool,
}

impl<'a> Attributes<'a> {
    fn of(rest: &'a str) -> Self {
        let mut attributes = Self::default();
        let mut lasts = None;
        for attribute in rest.split(';') {
            let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "domain" => attributes.domain = Some(value.trim_start_matches('.')),
                "path" if value.starts_with('/') => attributes.path = Some(value),
                "secure" => attributes.secure = true,
                "max-age" => lasts = value.parse::<i64>().ok(),
                "expires" => {
                    let then = jiff::fmt::rfc2822::parse(value).map(|date| date.timestamp());
                    attributes.is_over = then.is_ok_and(|then| then <= jiff::Timestamp::now());
                }
                _ => {}
            }
        }
        // Max-Age goes before Expires (section 5.3).
        if let Some(lasts) = lasts {
            attributes.is_over = lasts <= 0;
        }
        attributes
    }

    fn is_for(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default();
        let domain = self.domain.is_none_or(|domain| {
            let before = host.strip_suffix(domain);
            before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
        });
        let path = self.path.is_none_or(|path| {
            let behind = uri.path().strip_prefix(path);
            behind
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || path.ends_with('/'))
        });
        domain && path && (!self.secure || uri.scheme_str() == Some("https"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(sets: &[&str]) -> Option<String> {
        let uri: Uri = "http://orders.shop:8080/orders/new".parse().unwrap();
        let mut jar = Jar::default();
        for set in sets {
            let mut headers = HeaderMap::new();
            headers.append(SET_COOKIE, set.parse().unwrap());
            jar.take(&headers, &uri);
        }
        Some(jar.header()?.to_str().unwrap().to_owned())
    }

    #[test]
    fn cookies_come_back_until_they_are_over() {
        assert_eq!(jar(&["a=1", "b=2; Path=/; HttpOnly"]).unwrap(), "a=1; b=2");
        assert_eq!(jar(&["a=1", "a=2"]).unwrap(), "a=2");
        assert_eq!(jar(&["a=1", "a=; Max-Age=0"]), None);
        let past = "a=; Expires=Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(jar(&["a=1", past]), None);
        assert_eq!(
            jar(&["a=1; Max-Age=60; Expires=Wed, 21 Oct 2015 07:28:00 GMT"]).unwrap(),
            "a=1"
        );
        assert_eq!(jar(&["nonsense", "=x"]), None);
    }

    #[test]
    fn cookies_for_others_are_not_taken() {
        assert_eq!(jar(&["a=1; Domain=bank.example"]), None);
        assert_eq!(jar(&["a=1; Domain=.shop"]).unwrap(), "a=1");
        assert_eq!(jar(&["a=1; Domain=ders.shop"]), None);
        assert_eq!(jar(&["a=1; Path=/admin"]), None);
        assert_eq!(jar(&["a=1; Path=/ord"]), None);
        assert_eq!(jar(&["a=1; Path=/orders"]).unwrap(), "a=1");
        assert_eq!(jar(&["a=1; Secure"]), None);
    }
}
