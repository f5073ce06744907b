//! A game day, checked: who does what, when and why.
//!
//! What happens on the day, and how it is told afterwards, is the controller's (`controller/src/gameday/`).

use crate::experiment::Metadata;
use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A day on which people break something together, to learn from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GameDay {
    /// Who it belongs to.
    pub metadata: Metadata,
    /// When.
    pub date: Date,
    /// The IANA time zone in which that is a day.
    pub time_zone: String,
    /// What is to be learnt; at least one.
    pub objectives: Vec<String>,
    /// Who takes part; exactly one leads.
    pub people: Vec<Person>,
    /// What is done, one after another; at least one.
    pub experiments: Vec<Round>,
}

impl GameDay {
    /// Who leads when it begins.
    #[must_use]
    pub fn leader(&self) -> Option<&Person> {
        self.people
            .iter()
            .find(|person| person.role == Role::Leader)
    }

    /// Somebody who takes part.
    #[must_use]
    pub fn person(&self, name: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.name == name)
    }
}

/// Somebody who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Person {
    /// As their API token is named.
    pub name: String,
    /// What they do.
    pub role: Role,
}

/// What somebody does on the day. Anybody of them may note something, and stop what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Says go and no-go, and when the day is over.
    Leader,
    /// Takes over when the leader drops out.
    Deputy,
    /// Watches one of the systems.
    Operator,
    /// Writes down what happens.
    Scribe,
    /// Looks on.
    Observer,
}

impl Role {
    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Deputy => "deputy",
            Self::Operator => "operator",
            Self::Scribe => "scribe",
            Self::Observer => "observer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One experiment of the day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Round {
    /// Its file, beside the game day's.
    pub file: String,
    /// Where it is run; the controller's own default where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// What the leader makes sure of before saying go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
}
