//! A run, told: the document behind every kind of report.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::dose::Dose;
use squall_experiments::event::StopReason;
use squall_experiments::expectation::{Expectation, Measure};
use squall_experiments::fault::Holding;
use squall_experiments::run_life::RunState;
use squall_experiments::verdict::Verdict;
use squall_experiments::wire::EndCause;

/// A run, told. Every `…Ms` named `at`, `from` or `to` counts milliseconds from the run's first event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The version of this document's form.
    pub version: u32,
    /// The run's name; empty where not even its creation was recorded.
    pub run: String,
    /// The experiment's name.
    pub name: String,
    /// What was believed.
    pub hypothesis: String,
    /// How it ended; none when the record ends before a verdict.
    pub verdict: Option<Verdict>,
    /// Why, in a sentence.
    pub because: String,
    /// The first confirmed violation.
    pub first_broken: Option<FirstBroken>,
    /// When and how long.
    pub timings: Timings,
    /// The run's phases, in order.
    pub phases: Vec<PhaseReport>,
    /// The ramp's stages, in order, as planned and as they went.
    pub stages: Vec<StageReport>,
    /// Every expectation, in the file's order, over time.
    pub expectations: Vec<ExpectationReport>,
    /// Every planned fault: where, how much, and the evidence.
    pub faults: Vec<FaultReport>,
    /// Every confirmed violation, in order.
    pub violations: Vec<ViolationReport>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// When it was decided to end the run.
    pub stop_at_ms: Option<f64>,
    /// Why.
    pub stop_reason: Option<StopReason>,
    /// What happened, in words.
    pub timeline: Vec<Moment>,
    /// Where it ran.
    pub environment: Environment,
    /// What random decisions started from: with the file it repeats the run.
    pub seed: u64,
    /// SHA-256 over what the file does, in hex.
    pub digest: String,
    /// The file.
    pub file: FileReport,
}

/// When and how long. Absent where it does not apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// The first event, by the controller's clock (RFC 3339, UTC).
    pub started_at: Option<String>,
    /// From the first event to the last.
    pub duration_ms: f64,
    /// From the first fault in force to the confirmed violation.
    pub detect_ms: Option<f64>,
    /// From the decision to stop to the last fault gone.
    pub revert_ms: Option<f64>,
    /// From the last fault gone to the steady state proven back.
    pub recover_ms: Option<f64>,
}

/// The first confirmed violation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FirstBroken {
    /// The probe's name.
    pub probe: String,
    /// The expectation's text.
    pub expectation: String,
    /// What was measured, in words.
    pub measured: String,
    /// When it was confirmed.
    pub at_ms: f64,
}

/// One confirmed violation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ViolationReport {
    /// When it was confirmed.
    pub at_ms: f64,
    /// The probe's name.
    pub probe: String,
    /// The expectation's text.
    pub expectation: String,
    /// What was measured, in words.
    pub measured: String,
    /// In which phase.
    pub during: RunState,
    /// Samples it took since the phase began.
    pub samples: u64,
    /// There was no data.
    pub no_data: bool,
}

/// The kinds of phase a reader tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PhaseKind {
    /// Before anything is observed.
    Preparing,
    /// Watching, nothing injected.
    Baseline,
    /// A stage of the ramp.
    Injecting,
    /// The faults are told to end; the steady state must come back.
    Recovering,
}

/// One phase of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhaseReport {
    /// Which.
    pub kind: PhaseKind,
    /// The stage's number, from 0, where it injects.
    pub stage: Option<u32>,
    /// When it began.
    pub from_ms: f64,
    /// When it ended, or the record's end.
    pub to_ms: f64,
}

/// One stage of the ramp.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageReport {
    /// From 0, over all steps.
    pub number: u32,
    /// The step's name.
    pub step: String,
    /// The share as the file says it.
    pub share: String,
    /// How many targets are hit in it, those of the step's earlier stages included.
    pub hit: usize,
    /// Of how many.
    pub candidates: usize,
    /// How long it was to be held.
    pub hold: String,
    /// The faults that it adds, in words, each once.
    pub faults: Vec<String>,
    /// When its first fault was in force; none when none ever was.
    pub from_ms: Option<f64>,
    /// When the next stage's began, or the last fault was gone.
    pub to_ms: Option<f64>,
}

/// In which unit an expectation's values are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// A share from 0 to 1.
    Fraction,
    /// Microseconds.
    Microseconds,
    /// Answers per second.
    PerSecond,
    /// Whatever the probe's number means.
    #[default]
    Number,
}

impl Unit {
    /// The unit in which windows give what an expectation with this text measures.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let measure = text.parse::<Expectation>().map(|e| e.measure).ok();
        match measure {
            Some(Measure::Success) => Self::Fraction,
            Some(Measure::Quantile(_) | Measure::Max) => Self::Microseconds,
            Some(Measure::Rate) => Self::PerSecond,
            Some(_) => Self::Number,
            // A record of an older version may hold a text that today's grammar does not read.
            None => match text.split_whitespace().next().unwrap_or_default() {
                "success" => Self::Fraction,
                "max" => Self::Microseconds,
                "rate" => Self::PerSecond,
                word if word.strip_prefix('p').is_some_and(|rest| {
                    !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())
                }) =>
                {
                    Self::Microseconds
                }
                _ => Self::Number,
            },
        }
    }
}

/// One expectation over the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExpectationReport {
    /// The probe's name.
    pub probe: String,
    /// The expectation's text.
    pub text: String,
    /// The unit of every value below.
    pub unit: Unit,
    /// Measured over the whole baseline.
    pub baseline: Option<f64>,
    /// The window under fault that was farthest on the wrong side of the bound, or nearest to it where none was.
    pub worst_under_fault: Option<f64>,
    /// What it was held against in that window, where that is what the control measured at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_beside: Option<f64>,
    /// The last window with data.
    pub last: Option<f64>,
    /// Windows under fault that had data.
    pub windows_under_fault: u64,
    /// Of those, how many would not satisfy it alone.
    pub windows_unsatisfied: u64,
    /// When it was confirmed violated.
    pub violated_at_ms: Option<f64>,
    /// Window by window.
    pub points: Vec<Point>,
}

/// One expectation in one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// The window's end.
    pub at_ms: f64,
    /// How long the window was.
    pub length_ms: f64,
    /// What was measured; none without data.
    pub measured: Option<f64>,
    /// What it is compared with, once known.
    pub bound: Option<f64>,
    /// Whether this window alone satisfies the expectation.
    pub satisfied: bool,
    /// The evidence against the expectation so far.
    pub evidence: f64,
    /// Where it is an e-value: the one at which the run stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<f64>,
}

/// What became of a planned fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FaultOutcome {
    /// The run ended before its turn came.
    NotReached,
    /// It was not injected, for this reason.
    Refused(String),
    /// In force, and no end was recorded.
    InForce,
    /// It ended.
    Ended(EndCause),
    /// It should be gone and cannot be shown gone, for this reason.
    Stuck(String),
}

/// One fault on one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultReport {
    /// Its name on the wire.
    pub id: String,
    /// The stage that armed it.
    pub stage: u32,
    /// What, in words.
    pub fault: String,
    /// Into what, in words.
    pub target: String,
    /// On which node.
    pub node: String,
    /// What became of it.
    pub outcome: FaultOutcome,
    /// When it was in force.
    pub armed_at_ms: Option<f64>,
    /// When it was gone.
    pub ended_at_ms: Option<f64>,
    /// Microseconds from the agent's receipt of the command to the kernel's answer.
    pub arm_took_us: Option<u64>,
    /// Microseconds from the agent's receipt of the stop to its being gone.
    pub end_took_us: Option<u64>,
    /// By which means.
    pub means: String,
    /// What would have taken it back had everything of Squall died; the kernel where nothing is said.
    #[serde(default, skip_serializing_if = "Holding::is_kernel")]
    pub held: Holding,
    /// What the kernel answered when asked.
    pub read_back: Vec<String>,
    /// What to know about the means.
    pub warnings: Vec<String>,
    /// All that it did, measured.
    pub dose: Option<Dose>,
    /// The same, in words.
    pub dose_in_words: String,
    /// When it was in force, of one that came and went; empty for one that stayed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pulses: Vec<PulseReport>,
}

/// One pulse of a fault that came and went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PulseReport {
    /// When it was in force.
    pub from_ms: f64,
    /// When it was gone; none while it is in force.
    pub to_ms: Option<f64>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When.
    pub at_ms: f64,
    /// What, in words.
    pub what: String,
}

/// Where it ran.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// The node's name.
    pub node: String,
    /// The kernel's release.
    pub kernel: String,
    /// `v1`, `v2` or `hybrid`.
    pub cgroup: String,
    /// Squall's version.
    pub squall: String,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileReport {
    /// Where it was read from.
    pub path: String,
    /// As it was read.
    pub text: String,
}

impl ExpectationReport {
    /// Whether it is held against a control, whose measurements are then its bound.
    #[must_use]
    pub fn is_beside_control(&self) -> bool {
        let read = self.text.parse::<Expectation>();
        read.is_ok_and(|expectation| expectation.against_control())
    }
}

impl Summary {
    /// The version of this document's form. Additions do not raise it.
    pub const VERSION: u32 = 1;

    /// The command that repeats this run, for a POSIX shell.
    #[must_use]
    pub fn repeat_command(&self) -> String {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@".contains(&b);
        let path = if !self.file.path.is_empty() && self.file.path.bytes().all(plain) {
            self.file.path.clone()
        } else {
            format!("'{}'", self.file.path.replace('\'', r"'\''"))
        };
        format!("squall run {path} --seed {}", self.seed)
    }
}

impl Timings {
    /// The start, from microseconds since the epoch.
    pub(super) fn start_text(at_us: u64) -> Option<String> {
        let micros = i64::try_from(at_us).ok()?;
        let stamp = Timestamp::from_microsecond(micros).ok()?;
        Some(format!("{stamp:.3}"))
    }
}
