//! Sends notices to one receiver, one after another.

use super::message::{Event, Format, Notice, signature};
use crate::probe::client::{Client, Http};
use crate::probe::secret::Secret;
use crate::probe::{ProbeError, Source};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use squall_experiments::secret::SecretRef;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// So many times a notice is sent: over some ten minutes.
const TRIES_MAX: u32 = 8;
/// The pause after the first try; each is twice as long as the one before, and drawn between its half and its whole.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause, also when the receiver asks for a longer one.
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Whom notices are sent to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Receiver {
    /// What it is called in logs.
    pub name: String,
    /// Where: an address, or a secret that holds one, as Slack's are.
    pub url: squall_experiments::secret::Said,
    /// What its requests are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// In which form.
    #[serde(default)]
    pub format: Format,
    /// What it wants to know; everything where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// The pause after the first try, in milliseconds; 5,000 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_ms: Option<u64>,
}

/// Why a receiver cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadReceiver {
    /// Its secret.
    #[error("a receiver's secret begins with `whsec_`, and is not base64 behind it")]
    Secret,
    /// Anything else.
    #[error("a receiver of notices cannot be used")]
    Client(#[from] ProbeError),
}

/// Sends to one receiver.
pub(super) struct Sender {
    name: String,
    client: Client,
    secret: Option<Secret>,
    format: Format,
    pause: Duration,
}

/// How a try ended.
enum Tried {
    Taken,
    /// It may be taken later; the receiver may have said when.
    Later(String, Option<Duration>),
    Never(String),
}

impl Sender {
    pub(super) fn new(receiver: &Receiver) -> Result<Self, BadReceiver> {
        let read = |place: &SecretRef| Secret::read(&receiver.name, place);
        let secret = receiver.secret.as_ref().map(read).transpose()?;
        if let Some(secret) = &secret {
            signature(secret.reveal(), "", 0, "")?;
        }
        let (url, hidden) = match &receiver.url {
            squall_experiments::secret::Said::Plain(url) => (url.clone(), None),
            squall_experiments::secret::Said::Secret(place) => {
                let url = read(place)?;
                (url.reveal().to_owned(), Some(url))
            }
        };
        let mut client = Client::new(&receiver.name, &Source::bare(url), Http::One)?;
        if let Some(hidden) = hidden {
            client.keep(hidden);
        }
        Ok(Self {
            name: receiver.name.clone(),
            client,
            secret,
            format: receiver.format,
            pause: receiver
                .pause_ms
                .map_or(PAUSE, Duration::from_millis)
                .min(PAUSE_MAX),
        })
    }

    async fn send(&self, notice: &Notice) -> Tried {
        let body = notice.body(self.format);
        let mut headers = HeaderMap::new();
        if let Err(why) = self.sign(&mut headers, notice, &body) {
            return Tried::Never(why.to_string());
        }
        let uri = self.client.uri().clone();
        let mut request = self.client.request(Method::POST, uri, Bytes::from(body));
        request.headers_mut().extend(headers);
        match tokio::time::timeout(ANSWER_MAX, self.client.send(request)).await {
            Err(_) => Tried::Later(format!("no answer within {ANSWER_MAX:?}"), None),
            Ok(Err(none)) => Tried::Later(none.reason, None),
            Ok(Ok(answer)) if answer.status.is_success() => Tried::Taken,
            Ok(Ok(answer)) => {
                let why = format!("status {}", answer.status.as_u16());
                let again = answer.status.is_server_error()
                    || matches!(
                        answer.status,
                        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                    );
                match again {
                    true => Tried::Later(why, retry_after(&answer.headers)),
                    false => Tried::Never(why),
                }
            }
        }
    }

    fn sign(
        &self,
        headers: &mut HeaderMap,
        notice: &Notice,
        body: &str,
    ) -> Result<(), BadReceiver> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // The time of this try: a receiver refuses what is old, for somebody may have kept it.
        let seconds = Timestamp::now().as_second();
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        };
        put("webhook-id", notice.id.clone());
        put("webhook-timestamp", seconds.to_string());
        if let Some(secret) = &self.secret {
            put(
                "webhook-signature",
                signature(secret.reveal(), &notice.id, seconds, body)?,
            );
        }
        Ok(())
    }
}

/// Seconds; a date is not looked at (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Sends all that comes, until nobody can say anything any more.
pub(super) async fn deliver(sender: Sender, mut notices: mpsc::Receiver<Notice>) {
    while let Some(notice) = notices.recv().await {
        one(&sender, &notice).await;
    }
}

async fn one(sender: &Sender, notice: &Notice) {
    let mut pause = sender.pause;
    for _ in 1..TRIES_MAX {
        let (why, asked) = match sender.send(notice).await {
            Tried::Taken => return,
            Tried::Never(why) => return given_up(sender, notice, &why),
            Tried::Later(why, asked) => (why, asked),
        };
        tracing::debug!(
            receiver = sender.name,
            notice = notice.id,
            why,
            "a notice was not taken"
        );
        let drawn = pause.mul_f64(rand::random_range(0.5..=1.0));
        tokio::time::sleep(asked.unwrap_or(drawn).max(drawn).min(PAUSE_MAX)).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
    match sender.send(notice).await {
        Tried::Taken => {}
        Tried::Later(why, _) | Tried::Never(why) => given_up(sender, notice, &why),
    }
}

fn given_up(sender: &Sender, notice: &Notice, why: &str) {
    tracing::error!(
        receiver = sender.name,
        notice = notice.id,
        why,
        "a notice is given up"
    );
}
