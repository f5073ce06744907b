//! What is said, and in which form.

use super::deliver::BadReceiver;
use crate::probe::base64;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::Sha256;
use squall_experiments::ids::RunId;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Event {
    #[serde(rename = "schedule.passedOver")]
    SchedulePassedOver,
    #[serde(rename = "schedule.refused")]
    ScheduleRefused,
    #[serde(rename = "schedule.suspended")]
    ScheduleSuspended,
    #[serde(rename = "git.applied")]
    GitApplied,
    #[serde(rename = "git.refused")]
    GitRefused,
    #[serde(rename = "run.finished")]
    RunFinished,
    #[serde(rename = "gameDay.opened")]
    GameDayOpened,
    #[serde(rename = "gameDay.go")]
    GameDayGo,
    /// Also of a gate, and where a step is left out.
    #[serde(rename = "gameDay.noGo")]
    GameDayNoGo,
    #[serde(rename = "gameDay.stopped")]
    GameDayStopped,
    #[serde(rename = "gameDay.handedOver")]
    GameDayHandedOver,
    #[serde(rename = "gameDay.over")]
    GameDayOver,
}

/// In which form a receiver wants it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// All of it, as JSON.
    #[default]
    Squall,
    /// `{"text": …}`: Slack's incoming webhooks, and those of Mattermost, Rocket.Chat and others that take the same.
    Slack,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// The same each time it is sent.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
    /// In a sentence.
    pub text: String,
    /// Of which schedule, game day or repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Of which run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

impl Notice {
    /// Something that happened now.
    #[must_use]
    pub fn new(event: Event, text: impl Into<String>) -> Self {
        Self {
            id: format!("msg_{:032x}", rand::random::<u128>()),
            at: Timestamp::now(),
            event,
            text: text.into(),
            of: None,
            run: None,
        }
    }

    /// What it is about.
    #[must_use]
    pub fn about(mut self, of: &str, run: Option<&RunId>) -> Self {
        self.of = Some(of.to_owned());
        self.run = run.cloned();
        self
    }

    /// The body of a request.
    pub(super) fn body(&self, format: Format) -> String {
        match format {
            Format::Squall => {
                json!({ "apiVersion": "squall/v1", "kind": "Notice", "notice": self }).to_string()
            }
            Format::Slack => json!({ "text": slack(&self.text) }).to_string(),
        }
    }
}

/// The three characters that Slack takes for its own (<https://api.slack.com/reference/surfaces/formatting#escaping>): a name in a file
/// must not become a link or call everybody.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The header `webhook-signature` of Standard Webhooks 1.0: HMAC-SHA256 over id, time and body. A secret that begins with `whsec_` is
/// base64 behind it, any other is taken as it is.
///
/// # Errors
/// What is behind `whsec_` is not base64.
pub fn signature(secret: &str, id: &str, seconds: i64, body: &str) -> Result<String, BadReceiver> {
    let key = match secret.strip_prefix("whsec_") {
        Some(text) => base64::read(text).ok_or(BadReceiver::Secret)?,
        None => secret.as_bytes().to_vec(),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| BadReceiver::Secret)?;
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    Ok(format!(
        "v1,{}",
        base64::write(&mac.finalize().into_bytes())
    ))
}
