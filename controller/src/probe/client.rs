//! The one way in which probes speak HTTP.

use super::base64;
use super::secret::{Secret, Secrets};
use super::{ProbeError, Seen, tls};
use crate::judge::Outcome;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use hyper::{Method, Request, StatusCode, Uri, Version};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Pool, Error as PoolError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use squall_experiments::probe::{Auth, Source};
use squall_experiments::secret::Said;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io;

/// So much of an answer is read; one that is longer counts as failed, for what it said cannot be judged.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Idle connections kept for the next requests: as many as a load in steady state uses at once.
const IDLE_MAX: usize = 1024;

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2: agreed on with TLS, known beforehand without (RFC 9113, section 3).
    Two,
}

/// Speaks TLS only where it must: a machine without root certificates can still be asked over http.
enum Speaker {
    Plain(Pool<HttpConnector, Full<Bytes>>),
    Tls(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// A source that is spoken to again and again.
pub(crate) struct Client {
    speaker: Speaker,
    version: Version,
    uri: Uri,
    headers: HeaderMap,
    secrets: Secrets,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no whole answer.
pub(crate) struct NoAnswer {
    /// The status, where at least that came.
    pub(crate) status: Option<StatusCode>,
    pub(crate) reason: String,
}

impl NoAnswer {
    /// As what a probe saw.
    pub(super) fn seen(self) -> Seen {
        match self.status {
            Some(status) => Seen {
                status: Some(status.as_u16()),
                ..Seen::only(Outcome::Failed(self.reason))
            },
            None => Seen::only(Outcome::Unanswered(self.reason)),
        }
    }
}

impl Client {
    /// Makes ready: reads the secrets and certificates that are named.
    pub(crate) fn new(probe: &str, source: &Source, http: Http) -> Result<Self, ProbeError> {
        let config = match source.url.starts_with("https:") {
            true => Some(tls::config(probe, source.tls.as_ref())?),
            false => None,
        };
        Self::with(probe, source, http, config)
    }

    /// The same with settings for TLS that are at hand; none speaks plain http.
    pub(super) fn with(
        probe: &str,
        source: &Source,
        http: Http,
        config: Option<ClientConfig>,
    ) -> Result<Self, ProbeError> {
        let bad_url = |why: String| ProbeError::Url {
            probe: probe.to_owned(),
            url: source.url.clone(),
            why,
        };
        let uri: Uri = source
            .url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| bad_url(error.to_string()))?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let mut builder = Pool::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_MAX)
            .http2_only(http == Http::Two);
        let speaker = match (uri.scheme_str(), config) {
            (Some("http"), _) => Speaker::Plain(builder.build(tcp)),
            (Some("https"), Some(config)) => {
                Speaker::Tls(builder.build(connector(probe, source, http, config, tcp)?))
            }
            _ => return Err(bad_url("write http:// or https:// in front".into())),
        };
        let mut secrets = Secrets::default();
        let headers = headers(probe, &source.headers, source.auth.as_ref(), &mut secrets)?;
        let version = match http {
            Http::One => Version::HTTP_11,
            Http::Two => Version::HTTP_2,
        };
        Ok(Self {
            speaker,
            version,
            uri,
            headers,
            secrets,
        })
    }

    /// What is asked where nothing else is said.
    pub(crate) const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// A request with the source's headers.
    pub(crate) fn request(&self, method: Method, uri: Uri, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Sends, and reads the whole answer.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        let answer = match &self.speaker {
            Speaker::Plain(pool) => pool.request(request).await,
            Speaker::Tls(pool) => pool.request(request).await,
        };
        let answer = answer.map_err(|error: PoolError| NoAnswer {
            status: None,
            reason: self.hide(reason(&error)),
        })?;
        let (parts, body) = answer.into_parts();
        match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => Ok(Answer {
                status: parts.status,
                headers: parts.headers,
                body: body.to_bytes(),
            }),
            Err(error) => Err(NoAnswer {
                status: Some(parts.status),
                reason: format!("the answer broke off: {}", reason(error.as_ref())),
            }),
        }
    }

    /// Proves who it is with a token that is at hand.
    pub(super) fn bear(&mut self, probe: &str, token: Secret) -> Result<(), ProbeError> {
        let value = bearer(&token).map_err(|_| ProbeError::Header {
            probe: probe.to_owned(),
            header: "authorization".into(),
        })?;
        self.headers.insert(AUTHORIZATION, value);
        self.secrets.keep(token);
        Ok(())
    }

    /// Keeps a secret out of what the other side says.
    pub(crate) fn keep(&mut self, secret: Secret) {
        self.secrets.keep(secret);
    }

    /// What the other side said, without secrets.
    pub(super) fn hide(&self, text: String) -> String {
        self.secrets.hide(text)
    }
}

fn connector(
    probe: &str,
    source: &Source,
    http: Http,
    config: ClientConfig,
    tcp: HttpConnector,
) -> Result<HttpsConnector<HttpConnector>, ProbeError> {
    let tls = source.tls.as_ref();
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only();
    let builder = match tls.and_then(|tls| tls.server_name.clone()) {
        Some(name) => {
            let name = ServerName::try_from(name).map_err(|error| bad_name(probe, &error))?;
            builder.with_server_name_resolver(FixedServerNameResolver::new(name))
        }
        None => builder,
    };
    Ok(match http {
        Http::One => builder.enable_http1().wrap_connector(tcp),
        Http::Two => builder.enable_http2().wrap_connector(tcp),
    })
}

fn bearer(token: &Secret) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn bad_name(probe: &str, why: &InvalidDnsNameError) -> ProbeError {
    ProbeError::Url {
        probe: probe.to_owned(),
        url: "serverName".into(),
        why: why.to_string(),
    }
}

/// Header fields, with the one that proves who asks.
pub(super) fn headers(
    probe: &str,
    said: &BTreeMap<String, Said>,
    auth: Option<&Auth>,
    secrets: &mut Secrets,
) -> Result<HeaderMap, ProbeError> {
    let mut headers = HeaderMap::new();
    for (name, said) in said {
        let (value, is_secret) = secrets.said(probe, said)?;
        let bad = || ProbeError::Header {
            probe: probe.to_owned(),
            header: name.clone(),
        };
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        // Neither error is kept: it may quote a secret.
        let mut value = HeaderValue::from_str(&value).map_err(|_| bad())?;
        value.set_sensitive(is_secret);
        headers.append(key, value);
    }
    let proof = match auth {
        None => return Ok(headers),
        Some(Auth::Bearer(place)) => {
            format!("Bearer {}", secrets.read(probe, place)?.reveal())
        }
        Some(Auth::Basic(basic)) => {
            let password = secrets.read(probe, &basic.password)?;
            let pair = format!("{}:{}", basic.user, password.reveal());
            format!("Basic {}", base64::write(pair.as_bytes()))
        }
    };
    let mut value = HeaderValue::from_str(&proof).map_err(|_| ProbeError::Header {
        probe: probe.to_owned(),
        header: "authorization".into(),
    })?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(headers)
}

/// The innermost cause: `Connection refused (os error 111)` rather than `client error (Connect)`. Where it says what is wrong with bytes,
/// it is said first of what they should have been.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let io = inner.downcast_ref::<io::Error>();
    let is_http = inner.downcast_ref::<hyper::Error>();
    if io
        .and_then(of_tls)
        .is_some_and(|error| matches!(error, rustls::Error::InvalidMessage(_)))
    {
        format!("the other side does not speak TLS: {inner}")
    } else if inner.to_string().starts_with(CUT_OFF) {
        format!("the other side closed the connection without a word, {WANTS_CERTIFICATE}")
    } else if is_http.is_some_and(hyper::Error::is_parse) {
        format!("the answer is not HTTP: {inner}")
    } else {
        inner.to_string()
    }
}

/// What may be behind a connection over TLS that is closed before anything is answered.
pub(super) const WANTS_CERTIFICATE: &str =
    "as those do that want a client's certificate (`cert` and `key`)";

/// How rustls begins to say that a connection ended without TLS' own end.
const CUT_OFF: &str = "peer closed connection without sending TLS close_notify";

/// What TLS found wrong. What an I/O error is made of is not its source, and may be another one.
pub(super) fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    let nested = || inner.downcast_ref::<io::Error>().and_then(of_tls);
    inner.downcast_ref::<rustls::Error>().or_else(nested)
}

/// A status in place of the answer that was asked for.
pub(super) fn refusal(status: StatusCode) -> String {
    let why = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            ": the probe may not ask; see its `auth`"
        }
        _ => "",
    };
    format!("status {}{why}", status.as_u16())
}

/// A text as a value in a query or a form (RFC 3986, section 2).
pub(crate) fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
        escaped
    })
}
