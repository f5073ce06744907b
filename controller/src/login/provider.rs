//! What is said of a provider, and what it says of itself (OpenID Connect Discovery 1.0).

use super::roles::Rule;
use crate::probe::Source;
use crate::probe::client::{Answer, Client, Http};
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squall_experiments::probe::Tls;
use squall_experiments::units::Interval;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How long an answer of the provider may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Keys are good for so long where nothing is said: a provider that takes one out does so at once, and publishes new ones a day ahead.
const KEYS_FOR: Duration = Duration::from_secs(3600);
/// Less would ask the provider more than it helps.
pub(super) const KEYS_FOR_MIN: Duration = Duration::from_secs(10);

/// Which token of the provider is shown to the controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The ID token, whose audience is the client: what every provider has.
    #[default]
    IdToken,
    /// The access token, where it is a JWT for an audience of the controller's own (RFC 9068).
    AccessToken,
}

/// A provider of logins: `login` in the file of `--config`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Login {
    /// Its address, letter by letter as its tokens say it.
    pub issuer: String,
    /// The public client with which `squall login` asks.
    pub client: String,
    /// Whom a token must be for, at least one of these; the client where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// What `squall login` asks for; `openid` and `offline_access` where nothing is said.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// Which token `squall login` shows.
    #[serde(default)]
    pub token: Kind,
    /// Whom to trust over TLS; the system's authorities where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How long its keys are good without having been fetched again; at least 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_for: Option<Interval>,
    /// What people may, by what the provider says of them.
    pub roles: Vec<Rule>,
    /// Those who also have API tokens: their name there, and their subjects here. One person has one name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub people: BTreeMap<String, Vec<String>>,
}

fn scopes() -> Vec<String> {
    ["openid", "offline_access"].map(str::to_owned).into()
}

/// What anybody may know of the logins that a controller takes (RFC 9728, with two members of its own).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Whose tokens: one.
    pub authorization_servers: Vec<String>,
    /// What to ask for.
    pub scopes_supported: Vec<String>,
    /// How tokens are shown.
    pub bearer_methods_supported: Vec<String>,
    /// The client with which `squall login` asks.
    pub squall_client: String,
    /// Which token it shows.
    pub squall_token: Kind,
}

impl Login {
    /// Whether it can be used at all.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        is_safe(&self.issuer).map_err(|why| format!("`login.issuer` {why}"))?;
        if self.roles.is_empty() {
            return Err("`login.roles` names nobody who may do anything".into());
        }
        if self.keys_for() < KEYS_FOR_MIN {
            return Err(format!("`login.keysFor` is at least {KEYS_FOR_MIN:?}"));
        }
        let mut seen = BTreeMap::new();
        for (name, subjects) in &self.people {
            for subject in subjects {
                if let Some(other) = seen.insert(subject, name) {
                    return Err(format!(
                        "`login.people` has the subject `{subject}` for {other} and for {name}: one person has one name"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Environments that its rules name.
    pub fn environments(&self) -> impl Iterator<Item = &str> {
        let rules = self.roles.iter();
        rules.flat_map(|rule| rule.environments.iter().flatten().map(String::as_str))
    }

    pub(super) fn keys_for(&self) -> Duration {
        self.keys_for.map_or(KEYS_FOR, |said| said.duration())
    }

    pub(super) fn audiences(&self) -> Vec<String> {
        match self.audiences.is_empty() {
            true => vec![self.client.clone()],
            false => self.audiences.clone(),
        }
    }

    pub(super) fn shown(&self) -> Shown {
        Shown {
            authorization_servers: vec![self.issuer.clone()],
            scopes_supported: self.scopes.clone(),
            bearer_methods_supported: vec!["header".into()],
            squall_client: self.client.clone(),
            squall_token: self.token,
        }
    }
}

/// Tokens and keys are spoken of over TLS, or on this very machine.
pub(super) fn is_safe(url: &str) -> Result<(), String> {
    let uri: hyper::Uri = url.parse().map_err(|_| format!("`{url}` is no address"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_here => Ok(()),
        _ => Err(format!(
            "`{url}` begins with https://, or is on this machine"
        )),
    }
}

/// Why the provider did not answer as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It is not reached, or what it says is not understood.
    #[error("{url}: {why}")]
    Answer {
        /// What was asked.
        url: String,
        /// What came.
        why: String,
    },
    /// It says no (RFC 6749, section 5.2).
    #[error("the provider says {error}: {error_description}")]
    No {
        /// In one word.
        error: String,
        /// In a sentence, or nothing.
        error_description: String,
    },
}

/// What it says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Discovered {
    issuer: String,
    pub(super) jwks_uri: String,
    pub(super) token_endpoint: Option<String>,
    pub(super) device_authorization_endpoint: Option<String>,
    pub(super) revocation_endpoint: Option<String>,
}

/// Asks it what it is.
///
/// # Errors
/// It does not answer, or is another one than it should be.
pub async fn discover(issuer: &str, tls: Option<&Tls>) -> Result<Discovered, ProviderError> {
    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let (found, _) = get::<Discovered>(&url, tls).await?;
    if found.issuer != issuer {
        let why = format!(
            "it calls itself `{}`, and was to be `{issuer}`",
            found.issuer
        );
        return Err(ProviderError::Answer { url, why });
    }
    Ok(found)
}

/// A JSON document, and how long it says that it may be kept.
pub(super) async fn get<T: DeserializeOwned>(
    url: &str,
    tls: Option<&Tls>,
) -> Result<(T, Option<Duration>), ProviderError> {
    let answer = send(url, tls, Method::GET, String::new()).await?;
    if answer.status != StatusCode::OK {
        let why = format!("status {}", answer.status.as_u16());
        return Err(ProviderError::Answer {
            url: url.to_owned(),
            why,
        });
    }
    let kept = answer.headers.get(CACHE_CONTROL);
    let kept = kept.and_then(|value| value.to_str().ok()).and_then(max_age);
    Ok((read(url, &answer)?, kept))
}

/// Sends a form, and reads a JSON document or a refusal.
pub(super) async fn post<T: DeserializeOwned>(
    url: &str,
    form: &[(&str, &str)],
) -> Result<T, ProviderError> {
    let pairs = form
        .iter()
        .map(|(name, value)| format!("{name}={}", crate::probe::client::escaped(value)));
    let body = pairs.collect::<Vec<_>>().join("&");
    let answer = send(url, None, Method::POST, body).await?;
    if answer.status.is_success() {
        return read(url, &answer);
    }
    #[derive(Deserialize)]
    struct No {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    let no: No = read(url, &answer)?;
    Err(ProviderError::No {
        error: no.error,
        error_description: no.error_description,
    })
}

async fn send(
    url: &str,
    tls: Option<&Tls>,
    method: Method,
    body: String,
) -> Result<Answer, ProviderError> {
    let failed = |why: String| ProviderError::Answer {
        url: url.to_owned(),
        why,
    };
    is_safe(url).map_err(failed)?;
    let source = Source {
        tls: tls.cloned(),
        ..Source::bare(url.to_owned())
    };
    let client = Client::new("login", &source, Http::One)
        .map_err(|error| failed(crate::words::chain(&error)))?;
    let mut request = client.request(method, client.uri().clone(), Bytes::from(body));
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, form);
    let answer = tokio::time::timeout(ANSWER_MAX, client.send(request)).await;
    let answer = answer.map_err(|_| failed(format!("no answer within {ANSWER_MAX:?}")))?;
    answer.map_err(|none| failed(none.reason))
}

fn read<T: DeserializeOwned>(url: &str, answer: &Answer) -> Result<T, ProviderError> {
    serde_json::from_slice(&answer.body).map_err(|error| ProviderError::Answer {
        url: url.to_owned(),
        why: format!(
            "status {}, and no answer that is understood: {error}",
            answer.status.as_u16()
        ),
    })
}

/// RFC 9111, section 5.2.2.1.
fn max_age(text: &str) -> Option<Duration> {
    let said = text
        .split(',')
        .find_map(|part| part.trim().strip_prefix("max-age="))?;
    said.parse().ok().map(Duration::from_secs)
}
