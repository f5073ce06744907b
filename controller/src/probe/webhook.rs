//! One question to something that answers in our words.

use super::client::{Answer, Client, Http, refusal};
use super::{ProbeError, Seen, first_line};
use crate::judge::Outcome;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use squall_experiments::probe::{Question, Reply, Webhook as Asked};

/// The version of what is asked and answered.
const VERSION: &str = "squall/v1";

/// So much of a reason is passed on.
const REASON_CHARACTERS_MAX: usize = 300;

/// A question, ready to be asked again and again.
pub(super) struct Questioning {
    client: Client,
    body: Bytes,
}

impl Questioning {
    pub(super) fn new(probe: &str, asked: &Asked) -> Result<Self, ProbeError> {
        let question = Question {
            api_version: VERSION.to_owned(),
            probe: probe.to_owned(),
        };
        Ok(Self {
            client: Client::new(probe, &asked.source, Http::One)?,
            body: Bytes::from(serde_json::json!(question).to_string()),
        })
    }

    pub(super) async fn ask(&self) -> Seen {
        let uri = self.client.uri().clone();
        let mut request = self.client.request(Method::POST, uri, self.body.clone());
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json.clone());
        request.headers_mut().insert(ACCEPT, json);
        match self.client.send(request).await {
            Ok(answer) => self.seen(&answer),
            Err(none) => none.seen(),
        }
    }

    fn seen(&self, answer: &Answer) -> Seen {
        let status = answer.status.as_u16();
        let with = |outcome: Outcome, value: Option<f64>| Seen {
            status: Some(status),
            value: value.filter(|value| value.is_finite()),
            ..Seen::only(outcome)
        };
        if !answer.status.is_success() {
            return with(Outcome::Unanswered(refusal(answer.status)), None);
        }
        let reply: Reply = match serde_json::from_slice(&answer.body) {
            Ok(reply) => reply,
            Err(error) => {
                let said = self.client.hide(first_line(&answer.body));
                let why =
                    format!("the answer is not {{ \"ok\": true or false, … }}: {error}: {said}");
                return with(Outcome::Unanswered(why), None);
            }
        };
        if reply.ok {
            return with(Outcome::Success, reply.value);
        }
        let reason = reply.reason.unwrap_or_default();
        let reason: String = reason.chars().take(REASON_CHARACTERS_MAX).collect();
        let why = match reason.trim() {
            "" => "it says that it is not ok, and not why".to_owned(),
            reason => self.client.hide(reason.to_owned()),
        };
        with(Outcome::Failed(why), reply.value)
    }
}
