//! An experiment, checked: what a file says once every mistake in it has been mended.

use crate::expectation::Expectation;
use crate::fault::Fault;
use crate::follow::Follow;
use crate::nodes::Nodes;
use crate::probe::{Cluster, Probe};
use crate::pulse::Pulse;
use crate::target::{Share, Target};
use crate::units::{Hold, Interval, Lease, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A hypothesis about a system, how it is observed, and what is done to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Experiment {
    /// Who it belongs to.
    pub metadata: Metadata,
    /// What is believed, in a sentence.
    pub hypothesis: String,
    /// What must stay true; at least one.
    pub steady_state: Vec<SteadyState>,
    /// What is done, step after step; at least one.
    pub method: Vec<Step>,
    /// How long the steady state is watched before anything is injected.
    #[serde(default = "Experiment::baseline_default")]
    pub baseline: Hold,
    /// Within this after the faults are gone, the steady state must be back.
    #[serde(default = "Experiment::recovery_default")]
    pub recovery: Hold,
    /// The chance, per run, of ever stopping a healthy system.
    #[serde(default = "Experiment::false_stop_default")]
    pub false_stop: Percent,
    /// How sure a run must be that every share of attempts was within its bound, before it is called held.
    #[serde(default = "Experiment::confidence_default")]
    pub confidence: Percent,
    /// How long an agent keeps a fault without word from the controller.
    #[serde(default = "Experiment::lease_default")]
    pub lease: Lease,
    /// The Kubernetes cluster whose services and pods are named as ends of conversations; the controller's own where nothing is
    /// said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// Whose experiment it is; not part of what it does, and so not of its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case words joined by hyphens, up to 63 characters.
    pub name: String,
    /// The team that answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Where it is written what to do when it goes wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// One probe and what is expected of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SteadyState {
    /// Unique in the file.
    pub name: String,
    /// How it is observed.
    pub probe: Probe,
    /// The same probe, asked of a control group at the same moments: what `control` means in an expectation. A file says only what is
    /// asked elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Probe>,
    /// What must hold; at least one.
    pub expect: Vec<Expectation>,
    /// Where only a gauge exists: so many violations in a row confirm one. 3 where nothing is said.
    #[serde(default = "SteadyState::confirm_default")]
    pub confirm: u32,
    /// One trial is so long a block of attempts, of which the violating share counts: for attempts that fail together. Each attempt
    /// is one where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Interval>,
    /// After so many good ones in a row the count of violations starts again. 1 where nothing is said.
    #[serde(
        default = "SteadyState::clear_default",
        skip_serializing_if = "SteadyState::is_clear_default"
    )]
    pub clear: u32,
}

/// Faults on a target, on a growing share of it, for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Step {
    /// For people; `step 1` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All at once; at least one. A file may write `fault:` for a single one.
    pub faults: Vec<Fault>,
    /// What they hit.
    pub on: Target,
    /// Where it is looked for; on every node that has joined where nothing is said. A run on one node has that one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Nodes>,
    /// The shares, one after another, never shrinking; `[all]` where nothing is said. A file may write `share:` for one.
    #[serde(default = "Step::ramp_default")]
    pub ramp: Vec<Share>,
    /// How long each share is held.
    pub hold: Hold,
    /// The faults come and go all the while; they stay where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulse: Option<Pulse>,
    /// The target is looked for again while the step holds; what was found at first is all there is where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<Follow>,
    /// The faults of the steps before stay while this one holds: so faults on packets and faults on processes are in
    /// force at once.
    #[serde(default, skip_serializing_if = "Step::is_false")]
    pub keep_previous: bool,
}

impl Experiment {
    /// How long baseline and method take when nothing stops them and every share of every ramp adds targets. The
    /// recovery comes on top: at most [`recovery`](Self::recovery), less when the steady state is back sooner.
    #[must_use]
    pub fn duration(&self) -> Duration {
        let steps = self.method.iter().map(|step| {
            let stages = u32::try_from(step.ramp.len()).unwrap_or(u32::MAX);
            step.hold.duration().saturating_mul(stages)
        });
        steps.fold(self.baseline.duration(), Duration::saturating_add)
    }

    /// The place of a probe's control among all that make attempts: the probes come first, in the file's order, and then
    /// the controls beside them.
    #[must_use]
    pub const fn place_of_control(probes: usize, probe: usize) -> usize {
        probes + probe
    }

    /// 20 s of evidence before anything is injected.
    #[must_use]
    pub fn baseline_default() -> Hold {
        Hold::clamped(Duration::from_secs(20))
    }
    /// One minute.
    #[must_use]
    pub fn recovery_default() -> Hold {
        Hold::clamped(Duration::from_secs(60))
    }
    /// One healthy run in a thousand may be stopped by chance.
    #[must_use]
    pub fn false_stop_default() -> Percent {
        const ONE_IN_A_THOUSAND: Option<Percent> = Percent::new(1_000);
        ONE_IN_A_THOUSAND.unwrap_or(Percent::ALL)
    }
    /// 95 %: of systems exactly at the edge of a bound one run in twenty may be called held, and of worse ones far fewer. It is
    /// the usual level for a claim that is checked again by the next run, and costs about four samples for each
    /// tolerated violation (99 % costs five and a half).
    #[must_use]
    pub fn confidence_default() -> Percent {
        const NINETY_FIVE: Option<Percent> = Percent::new(950_000);
        NINETY_FIVE.unwrap_or(Percent::ALL)
    }
    /// 10 s, renewed five times as often.
    #[must_use]
    pub fn lease_default() -> Lease {
        Lease::clamped(Duration::from_secs(10))
    }
}

impl SteadyState {
    /// Three in a row: one may be chance, two bad luck.
    #[must_use]
    pub const fn confirm_default() -> u32 {
        3
    }
    /// A single good one: three bad ones in a row are then nothing but that.
    #[must_use]
    pub const fn clear_default() -> u32 {
        1
    }
    /// Left out where it says nothing, so that a file without it keeps the digest it always had.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    const fn is_clear_default(clear: &u32) -> bool {
        *clear == Self::clear_default()
    }
    /// The control as a steady state of its own, with nothing to compare it with; none where there is no control.
    #[must_use]
    pub fn control(&self) -> Option<Self> {
        self.compare.as_ref().map(|probe| Self {
            probe: probe.clone(),
            compare: None,
            ..self.clone()
        })
    }
}

impl Step {
    /// Left out where it says nothing, so that a file without it keeps the digest it always had.
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    const fn is_false(keep: &bool) -> bool {
        !*keep
    }

    /// Every candidate at once.
    #[must_use]
    pub fn ramp_default() -> Vec<Share> {
        vec![Share::All]
    }
}
