//! A game day, told: one HTML file, one Markdown text, one JSON document, all of them from a [`DayReport`], which is a pure fold of the day's
//! events and of its runs'. What no event says is said to be unknown.

mod fold;
mod html;
mod markdown;

pub use html::html;
pub use markdown::markdown;

use super::words::Tone;
use crate::report::FirstBroken;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::game_day::Person;
use squall_experiments::verdict::Verdict;

/// A game day, told. Every `…Us` is microseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DayReport {
    /// The version of this document's form.
    pub version: u32,
    /// The name it was opened under.
    pub id: String,
    /// The name in its file.
    pub name: String,
    /// Who it belongs to.
    pub owner: Option<String>,
    /// Where it says what to do.
    pub runbook: Option<String>,
    /// For when it was planned.
    pub date: Option<Date>,
    /// The IANA time zone in which that is a day.
    pub time_zone: String,
    /// What was to be learnt.
    pub objectives: Vec<String>,
    /// Who took part.
    pub people: Vec<Person>,
    /// Who has the lead, or had it last.
    pub lead: String,
    /// When it was opened.
    pub opened_us: u64,
    /// By whom.
    pub opened_by: String,
    /// When it was over; none while it is not.
    pub ended_us: Option<u64>,
    /// What was said at its end.
    pub conclusion: Option<String>,
    /// Its experiments, in order.
    pub steps: Vec<StepReport>,
    /// Go was not given, or not at once.
    pub no_gos: Vec<NoGoReport>,
    /// The lead changed hands.
    pub hand_overs: Vec<HandOverReport>,
    /// What is to be done afterwards.
    pub actions: Vec<ActionReport>,
    /// What was written down.
    pub notes: Vec<NoteReport>,
    /// All that happened, in the order in which it did, the runs' own turns among it.
    pub timeline: Vec<DayMoment>,
}

/// One experiment of the day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// From 1.
    pub step: u32,
    /// Its file.
    pub file: String,
    /// Its name.
    pub name: String,
    /// What was believed.
    pub hypothesis: String,
    /// Where it runs.
    pub environment: String,
    /// What the lead was to make sure of before.
    pub before: Vec<String>,
    /// Who left it out, if somebody did.
    pub skipped_by: Option<String>,
    /// Its runs, in order: more than one where one showed nothing.
    pub runs: Vec<RunReport>,
}

/// A run of a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunReport {
    /// Its name.
    pub run: String,
    /// Who said go.
    pub go_by: String,
    /// When.
    pub go_us: u64,
    /// How it ended; none while it has not, or where its record has no end.
    pub verdict: Option<Verdict>,
    /// Why, in a sentence.
    pub because: String,
    /// Whether it has ended.
    pub ended_us: Option<u64>,
    /// Whether there is a record of it at all.
    pub recorded: bool,
    /// Who stopped it.
    pub stopped_by: Option<String>,
    /// What was injected, in words, each once.
    pub faults: Vec<String>,
    /// The first confirmed violation.
    pub broke: Option<FirstBroken>,
    /// When the first fault was in force.
    pub fault_in_us: Option<u64>,
    /// When the last fault was gone.
    pub fault_gone_us: Option<u64>,
    /// From the first fault in force to the decision to stop, where it was not simply through.
    pub detect_ms: Option<f64>,
    /// From the last fault gone to the steady state proven back.
    pub recover_ms: Option<f64>,
}

/// A go that was not given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoGoReport {
    /// When.
    pub at_us: u64,
    /// For which step.
    pub step: u32,
    /// Its name.
    pub name: String,
    /// Who said so; a gate where it is none.
    pub by: Option<String>,
    /// Why.
    pub because: String,
    /// Whether the step was left out for good.
    pub skipped: bool,
}

/// The lead changed hands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HandOverReport {
    /// When.
    pub at_us: u64,
    /// Who had it.
    pub from: String,
    /// Who has it.
    pub to: String,
    /// Who said so.
    pub by: String,
    /// Why.
    pub because: String,
}

/// Something that is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActionReport {
    /// What.
    pub text: String,
    /// Who does it.
    pub owner: String,
    /// Until when.
    pub due: Option<Date>,
    /// Who wrote it down.
    pub by: String,
}

/// Something that was written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NoteReport {
    /// When.
    pub at_us: u64,
    /// Who.
    pub by: String,
    /// What.
    pub text: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DayMoment {
    /// When.
    pub at_us: u64,
    /// Who; none where it happened by itself.
    pub who: Option<String>,
    /// What.
    pub what: String,
    /// How it is meant to be seen.
    pub tone: Tone,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody said go.
    NotReached,
    /// The lead left it out.
    Skipped,
    /// Its run has not ended.
    UnderWay,
    /// Its last run ended so; none where its record has no end.
    Ended(Option<Verdict>),
}

impl StepReport {
    /// What became of it.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.runs.last() {
            _ if self.skipped_by.is_some() => Outcome::Skipped,
            None => Outcome::NotReached,
            Some(run) if run.ended_us.is_none() => Outcome::UnderWay,
            Some(run) => Outcome::Ended(run.verdict),
        }
    }
}

impl Outcome {
    /// In a word or two.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::NotReached => "not reached".into(),
            Self::Skipped => "left out".into(),
            Self::UnderWay => "under way".into(),
            Self::Ended(Some(verdict)) => verdict.to_string(),
            Self::Ended(None) => "no verdict".into(),
        }
    }

    /// How it is meant to be seen.
    #[must_use]
    pub const fn tone(self) -> Tone {
        match self {
            Self::NotReached | Self::Skipped => Tone::Quiet,
            Self::UnderWay => Tone::Unsure,
            Self::Ended(verdict) => Tone::of(verdict),
        }
    }
}

impl DayReport {
    /// The version of this document's form. Additions do not raise it.
    pub const VERSION: u32 = 1;

    /// How often each outcome came, in words: `1 held, 1 broken, 1 left out`.
    #[must_use]
    pub fn outcomes(&self) -> String {
        let mut counted: Vec<(String, usize)> = Vec::new();
        for step in &self.steps {
            let words = step.outcome().words();
            match counted.iter_mut().find(|(known, _)| *known == words) {
                Some((_, count)) => *count += 1,
                None => counted.push((words, 1)),
            }
        }
        let said = counted
            .iter()
            .map(|(words, count)| format!("{count} {words}"));
        said.collect::<Vec<_>>().join(", ")
    }

    /// What the day came to, as a verdict: the worst of its experiments'; what was left out counts for nothing.
    #[must_use]
    pub fn worst(&self) -> Verdict {
        let came_to = |verdict| {
            let all = self.steps.iter().map(StepReport::outcome);
            all.clone()
                .any(|outcome| outcome == Outcome::Ended(Some(verdict)))
        };
        let by_weight = [Verdict::Broken, Verdict::Halted, Verdict::Inconclusive];
        let worst = by_weight.into_iter().find(|verdict| came_to(*verdict));
        worst.unwrap_or(Verdict::Held)
    }

    fn zone(&self) -> Option<TimeZone> {
        TimeZone::get(&self.time_zone).ok()
    }
}

/// Hours, minutes and seconds of an instant, by the clock of a place; UTC where that is not known, and then it says so.
#[must_use]
pub fn at_clock(at_us: u64, zone: Option<&TimeZone>) -> String {
    in_zone(
        at_us,
        zone,
        if zone.is_some() {
            "%H:%M:%S"
        } else {
            "%H:%M:%SZ"
        },
    )
}

fn in_zone(at_us: u64, zone: Option<&TimeZone>, format: &str) -> String {
    let micros = i64::try_from(at_us).unwrap_or(i64::MAX);
    let at = Timestamp::from_microsecond(micros).unwrap_or_default();
    let zoned = at.to_zoned(zone.cloned().unwrap_or(TimeZone::UTC));
    zoned.strftime(format).to_string()
}

/// How soon it was noticed, in words; what is not known is said to be so.
fn detected(run: &RunReport) -> String {
    match (run.detect_ms, run.verdict) {
        (Some(ms), _) => crate::report::words::span_ms(ms),
        (None, None) => "unknown".into(),
        (None, _) if !run.recorded => "unknown".into(),
        (None, Some(Verdict::Held)) => "nothing to detect".into(),
        (None, _) if run.fault_in_us.is_none() => "no fault was in force".into(),
        (None, _) => "unknown".into(),
    }
}

/// How soon the steady state was back, in words.
fn recovered(run: &RunReport) -> String {
    match run.recover_ms {
        Some(ms) => crate::report::words::span_ms(ms),
        None if run.verdict.is_none() || !run.recorded => "unknown".into(),
        None if run.fault_in_us.is_none() => "no fault was in force".into(),
        None => "not proven back".into(),
    }
}
