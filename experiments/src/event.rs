//! What happens in a run, in the order in which it happened. A run *is* its events: they are kept, and
//! whatever is shown of it later (terminal, report, API) is their fold.

use crate::capability::Capabilities;
use crate::dose::{Dose, Evidence};
use crate::fault::Holding;
use crate::ids::{FaultId, RunId};
use crate::plan::{Plan, PlannedFault};
use crate::run_life::RunState;
use crate::target::Candidate;
use crate::verdict::Verdict;
use crate::wire::EndCause;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Microseconds since the Unix epoch, by the controller's clock.
    pub at_us: u64,
    /// What.
    pub what: Happening,
}

/// What can happen in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Happening {
    /// The run exists. Always the first.
    Created(Box<Created>),
    /// Targets are resolved and drawn.
    Planned(Plan),
    /// The run's state changed.
    Entered(RunState),
    /// One second of one probe.
    Observed(Window),
    /// What the baseline said of one probe's measures, for expectations against it.
    BaselineTaken(BaselineTaken),
    /// A fault is in force.
    Armed(FaultArmed),
    /// A fault was not injected.
    Refused(FaultRefused),
    /// What a fault did so far.
    Dosed(FaultDosed),
    /// A fault is gone.
    Ended(FaultEnded),
    /// A fault cannot be shown gone.
    Stuck(FaultRefused),
    /// A step that follows its target hits one more.
    TargetJoined(TargetJoined),
    /// A step that follows its target lets one go.
    TargetLeft(TargetLeft),
    /// An expectation is violated, confirmed.
    Violated(Violation),
    /// The run is to end now, and why.
    StopDecided(StopReason),
    /// The steady state is proven back.
    Recovered,
    /// Something a reader should know.
    Noted(String),
    /// The verdict. Always the last.
    Finished(Finished),
}

/// The run exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// Its name.
    pub run: RunId,
    /// The experiment's name.
    pub name: String,
    /// What is believed.
    pub hypothesis: String,
    /// The file as it was read.
    pub file_text: String,
    /// Where it was read from.
    pub file_path: String,
    /// SHA-256 over what the file does, in hex.
    pub digest: String,
    /// What random decisions start from.
    pub seed: u64,
    /// The node and what it can do.
    pub node: String,
    /// What the node can do.
    pub capabilities: Capabilities,
    /// Squall's version.
    pub version: String,
    /// The expectations, probe by probe, as the file says them: plots are made of these.
    pub expectations: Vec<ExpectationRef>,
    /// The environment in which it runs, where a controller runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Who started it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Names one expectation of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExpectationRef {
    /// The probe's name in the file.
    pub probe: String,
    /// The expectation's text.
    pub text: String,
}

/// One second of one probe. Latencies are microseconds, of answers that came (failed ones count with the time
/// after which they were given up).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Window {
    /// The probe's name in the file.
    pub probe: String,
    /// How long the window is, in milliseconds.
    pub length_ms: u64,
    /// Attempts that ended in it.
    pub attempts: u64,
    /// Attempts that succeeded.
    pub successes: u64,
    /// Median latency.
    pub p50_us: Option<u64>,
    /// 95th percentile.
    pub p95_us: Option<u64>,
    /// 99th percentile.
    pub p99_us: Option<u64>,
    /// 99.9th percentile.
    pub p999_us: Option<u64>,
    /// The slowest.
    pub max_us: Option<u64>,
    /// The number that a command printed, the last in the window.
    pub value: Option<f64>,
    /// The most frequent reason why attempts failed, where some did.
    pub failure: Option<String>,
    /// For each of the probe's expectations, in the file's order: what it measured in this window, in the
    /// expectation's own unit (fraction for percentages, microseconds for latencies), and whether that alone
    /// would satisfy it.
    pub checks: Vec<CheckPoint>,
}

/// One expectation in one window: what a plot shows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckPoint {
    /// What was measured; none where there was no data.
    pub measured: Option<f64>,
    /// What it is compared with, once known (after the baseline for those against it; what the control measured in the same window for those
    /// beside one).
    pub bound: Option<f64>,
    /// Whether this window alone satisfies the expectation.
    pub satisfied: bool,
    /// How strong the evidence against the expectation is so far: 1 is none, the run stops at 1/`falseStop` split
    /// over the expectations (e-value); for gauges, violations in a row; for burn rates, 1 once both windows burnt too fast.
    pub evidence: f64,
    /// Where it is an e-value: the one at which the run stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<f64>,
}

/// What the baseline said of one probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaselineTaken {
    /// The probe.
    pub probe: String,
    /// Attempts seen.
    pub attempts: u64,
    /// Expectation by expectation, in the file's order, what was measured over the whole baseline.
    pub measured: Vec<Option<f64>>,
}

/// A fault is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultArmed {
    /// Which.
    pub id: FaultId,
    /// What the kernel answered.
    pub evidence: Evidence,
    /// What takes it back when its holder dies; the kernel where nothing is said.
    #[serde(default, skip_serializing_if = "Holding::is_kernel")]
    pub held: Holding,
    /// Microseconds from the agent's receipt of the command.
    pub took_us: u64,
}

/// A fault is not in force, or not shown gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultRefused {
    /// Which.
    pub id: FaultId,
    /// Why.
    pub reason: String,
}

/// What a fault did so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultDosed {
    /// Which.
    pub id: FaultId,
    /// What it did.
    pub dose: Dose,
}

/// A fault is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FaultEnded {
    /// Which.
    pub id: FaultId,
    /// What ended it.
    pub cause: EndCause,
    /// All that it did.
    pub dose: Option<Dose>,
    /// Microseconds from the agent's receipt of the stop.
    pub took_us: Option<u64>,
}

/// A step that follows its target hits one more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetJoined {
    /// Which step of the method, from 0.
    pub step: usize,
    /// What is hit from now on.
    pub target: Candidate,
    /// What is injected into it.
    pub faults: Vec<PlannedFault>,
    /// How many match now.
    pub candidates: usize,
    /// How many of them are hit now, this one included.
    pub hit: usize,
}

/// A step that follows its target lets one go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetLeft {
    /// Which step of the method, from 0.
    pub step: usize,
    /// What is no longer hit.
    pub target: Candidate,
    /// Why, in a sentence.
    pub reason: String,
}

/// An expectation is violated, confirmed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// Which.
    pub expectation: ExpectationRef,
    /// The phase in which it was confirmed.
    pub during: RunState,
    /// In words: `91.2% of 412 requests succeeded, 99% expected`.
    pub measured: String,
    /// Samples it took since the phase began.
    pub samples: u64,
    /// There was no data; that is a violation too.
    pub no_data: bool,
}

/// Why a run is to end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    /// The method is through.
    Done,
    /// An expectation was violated.
    Violated,
    /// A person said so.
    Person,
    /// An agent was lost, refused, a fault ended by itself, or the controller does not go on.
    Fault(String),
    /// The baseline was not fit to start from.
    Baseline(String),
}

/// The verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finished {
    /// How it ended.
    pub verdict: Verdict,
    /// Why, in a sentence a person wants to read.
    pub because: String,
    /// Milliseconds from the first fault in force to the confirmed violation.
    pub detect_ms: Option<f64>,
    /// Milliseconds from the decision to stop to the last fault gone.
    pub revert_ms: Option<f64>,
    /// Milliseconds from the last fault gone to the steady state proven back.
    pub recover_ms: Option<f64>,
}
