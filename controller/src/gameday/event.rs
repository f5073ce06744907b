//! What happens on a game day, in the order in which it happened. A day *is* its events, as a run is.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::game_day::GameDay;
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;
use std::fmt;

/// The name of a game day that was opened; sorts by the time it was.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct DayId(pub String);

impl fmt::Display for DayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DayEvent {
    /// Microseconds since the Unix epoch, by the controller's clock.
    pub at_us: u64,
    /// What.
    pub what: What,
}

/// What can happen on a game day. Steps are counted from 1, as people do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// It was opened. Always the first.
    Opened(Box<Opened>),
    /// The lead says go: a run of this name is about to begin.
    Go(Go),
    /// The run was not let begin; the step waits again.
    Refused(NotBegun),
    /// The run is under way.
    Began(Began),
    /// The lead says no-go; the step waits on.
    NoGo(Declined),
    /// The lead leaves the step out.
    Skipped(Declined),
    /// Somebody stops the step's run.
    Stopped(Stopped),
    /// The step's run has ended.
    Ended(StepEnded),
    /// Another person has the lead.
    HandedOver(HandedOver),
    /// Somebody wrote something down.
    Noted(Note),
    /// Something that is to be done afterwards.
    Action(Action),
    /// Another controller goes on with the day, or the same one after it was started again.
    TakenUp(Controller),
    /// It is over. Only notes and action items come afterwards.
    Over(Over),
}

/// A game day was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Opened {
    /// By whom.
    pub by: String,
    /// Its file, as it was read.
    pub game_day: GameDay,
    /// Its experiments, in order.
    pub experiments: Vec<Planned>,
    /// On which controller.
    pub controller: Controller,
    /// The commit that its files come from; none where a person gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// An experiment of the day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// What is believed.
    pub hypothesis: String,
    /// SHA-256 over what its file does, in hex.
    pub digest: String,
    /// Where it runs.
    pub environment: String,
}

/// A controller, as a leader of its database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Controller {
    /// Grows with each leader.
    pub term: i64,
    /// Where it is reached.
    pub address: String,
}

/// A step is to begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Go {
    /// Which step.
    pub step: u32,
    /// Who says so.
    pub by: String,
    /// The run that is to be.
    pub run: RunId,
    /// What they said to it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
}

/// A run was not let begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotBegun {
    /// Of which step.
    pub step: u32,
    /// Which run it would have been.
    pub run: RunId,
    /// Each reason.
    pub reasons: Vec<String>,
}

/// A run is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Began {
    /// Of which step.
    pub step: u32,
    /// Which.
    pub run: RunId,
}

/// What the lead says of a step that does not begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Declined {
    /// Which step.
    pub step: u32,
    /// Who says so.
    pub by: String,
    /// Why.
    pub because: String,
}

/// A step's run is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stopped {
    /// Of which step.
    pub step: u32,
    /// Which run.
    pub run: RunId,
    /// Who says so.
    pub by: String,
    /// Why.
    pub because: String,
}

/// A step's run has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepEnded {
    /// Which step.
    pub step: u32,
    /// Which run.
    pub run: RunId,
    /// How; none where its record has no end.
    pub verdict: Option<Verdict>,
    /// Why, in a sentence.
    pub because: String,
}

/// Another person has the lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandedOver {
    /// Who has it from now on.
    pub to: String,
    /// Who says so: who had it, or who takes it.
    pub by: String,
    /// Why.
    pub because: String,
}

/// Something written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Note {
    /// Who.
    pub by: String,
    /// What.
    pub text: String,
}

/// Something that is to be done afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// Who wrote it down.
    pub by: String,
    /// What.
    pub text: String,
    /// Who does it; need not be one of the day's people.
    pub owner: String,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Date>,
}

/// The day is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Over {
    /// Who says so.
    pub by: String,
    /// What they said to it; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
}
