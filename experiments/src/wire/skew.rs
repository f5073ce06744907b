//! Two ends of different versions: what they have in common, and what one says that the other does not know.
//!
//! Both say at hello which versions of the protocol they speak, and speak the newest that both do. Within one version of it messages and
//! fields may be added: a kind of message that is not known is passed over, and so is a field, except where that would make a fault another
//! one than was asked for. An order that is not understood in every word is refused, and a stop that is not understood stops everything.

use super::{FromAgent, FromController};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;

/// The version of this language. Raised when an old reader would misunderstand; additions do not raise it.
pub const PROTOCOL: u32 = 1;

/// The oldest version that is still spoken: one below the newest, once there is one.
pub const PROTOCOL_LEAST: u32 = 1;

/// Kinds of messages of an agent.
const OF_AGENTS: [&str; 7] = [
    "hello", "resolved", "armed", "refused", "dosed", "ended", "stuck",
];
/// Kinds of messages of a controller.
const OF_CONTROLLERS: [&str; 6] = ["welcome", "resolve", "arm", "renew", "stop", "moved"];

/// So many letters of a name that is not known are shown.
const NAME_MAX: usize = 40;

/// So many unknown kinds are noticed on one link; who says more of them is not worth more lines.
const NOTICED_MAX: usize = 16;

/// What one end speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaks {
    /// Its own version.
    pub version: String,
    /// The newest version of the protocol that it speaks.
    pub newest: u32,
    /// The oldest.
    pub least: u32,
}

impl Speaks {
    /// What this program speaks, whose version is given.
    #[must_use]
    pub fn ours(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            newest: PROTOCOL,
            least: PROTOCOL_LEAST,
        }
    }

    /// What an end says at hello that it speaks; it speaks no older version than its newest where it says nothing of that.
    #[must_use]
    pub fn said(version: &str, newest: u32, least: Option<u32>) -> Self {
        Self {
            version: version.to_owned(),
            newest,
            least: least.unwrap_or(newest),
        }
    }
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.chars().filter(|letter| !letter.is_control());
        let version: String = version.take(NAME_MAX).collect();
        write!(f, "Squall {version}, which speaks ")?;
        if self.least == self.newest {
            write!(f, "version {} of the protocol", self.newest)
        } else {
            write!(
                f,
                "versions {} to {} of the protocol",
                self.least, self.newest
            )
        }
    }
}

/// An agent and a controller that are too far apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the agent is {agent}, and the controller {controller}: upgrade the {}", older(.agent, .controller))]
pub struct TooFar {
    /// What the agent speaks.
    pub agent: Speaks,
    /// What the controller speaks.
    pub controller: Speaks,
}

const fn older(agent: &Speaks, controller: &Speaks) -> &'static str {
    if agent.newest < controller.newest {
        "agent"
    } else {
        "controller"
    }
}

/// The version of the protocol that both speak: the newest there is.
///
/// # Errors
/// There is none.
pub fn agree(agent: &Speaks, controller: &Speaks) -> Result<u32, TooFar> {
    let newest = agent.newest.min(controller.newest);
    if newest < agent.least.max(controller.least) {
        return Err(TooFar {
            agent: agent.clone(),
            controller: controller.clone(),
        });
    }
    Ok(newest)
}

/// What was said and is not understood.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unread {
    /// A kind of message that this version does not know: to be passed over.
    #[error("it said `{0}`, which this version does not know")]
    Kind(String),
    /// A known kind, and something in it that is not understood.
    #[error("what it said in `{kind}` is not understood: {why}")]
    Content {
        /// Which kind.
        kind: String,
        /// What was said.
        content: Value,
        /// What is wrong with it.
        why: String,
    },
    /// No message at all.
    #[error("it said something unintelligible: {0}")]
    Nonsense(String),
}

/// Reads what an agent says.
///
/// # Errors
/// What of it is not understood.
pub fn of_agent(text: &str) -> Result<FromAgent, Unread> {
    read(text, &OF_AGENTS)
}

/// Reads what a controller says.
///
/// # Errors
/// What of it is not understood.
pub fn of_controller(text: &str) -> Result<FromController, Unread> {
    read(text, &OF_CONTROLLERS)
}

fn read<T: DeserializeOwned>(text: &str, kinds: &[&str]) -> Result<T, Unread> {
    let why = match serde_json::from_str(text) {
        Ok(message) => return Ok(message),
        Err(error) => error.to_string(),
    };
    let (kind, content) = match serde_json::from_str(text) {
        Ok(Value::Object(said)) if said.len() == 1 => match said.into_iter().next() {
            Some(one) => one,
            None => return Err(Unread::Nonsense(why)),
        },
        Ok(Value::String(kind)) => (kind, Value::Null),
        _ => return Err(Unread::Nonsense(why)),
    };
    if kinds.contains(&kind.as_str()) {
        return Err(Unread::Content { kind, content, why });
    }
    let shown = kind.chars().filter(|letter| !letter.is_control());
    Err(Unread::Kind(shown.take(NAME_MAX).collect()))
}

/// The kinds of messages that were passed over on a link, so that each is said once.
#[derive(Debug, Default)]
pub struct Noticed(BTreeSet<String>);

impl Noticed {
    /// Whether this is the first of its kind.
    pub fn is_first(&mut self, kind: &str) -> bool {
        self.0.len() < NOTICED_MAX && self.0.insert(kind.to_owned())
    }
}

/// The entries of a list that are known here; a newer program may have more.
pub(crate) fn known<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    entries: D,
) -> Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry<T> {
        Known(T),
        Other(IgnoredAny),
    }
    let entries = Vec::<Entry<T>>::deserialize(entries)?.into_iter();
    let known = entries.filter_map(|entry| match entry {
        Entry::Known(known) => Some(known),
        Entry::Other(_) => None,
    });
    Ok(known.collect())
}
