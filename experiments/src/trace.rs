//! What a run and its parts are called in a distributed trace: one trace for each run.
//!
//! The names are made of the run's and the faults' own, so that whoever knows those knows these, and no message has to carry them: a
//! controller of any version, the next leader, and an agent that was started years ago all mean the same trace.

use crate::ids::{FaultId, RunId};
use sha2::{Digest, Sha256};

/// A part of a run that has a span of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// All of it: the span above all others.
    Run,
    /// Finding and drawing what is hit.
    Planning,
    /// Watching, before anything is injected.
    Baseline,
    /// A stage of the ramp, from 0 over all steps.
    Stage(u32),
    /// Getting the faults of a stage into force on a node.
    Arm(u32, &'a str),
    /// All faults of a stage in force.
    Hold(u32),
    /// From the decision to end to the last fault gone.
    Stop,
    /// Until the steady state is back.
    Recovery,
    /// One fault on one target, from the agent's receipt of the order to its end.
    Fault(&'a FaultId),
    /// Getting it into force.
    Arming(&'a FaultId),
}

/// A run's trace (W3C Trace Context: 16 bytes): the first of a SHA-256 over the run's name.
#[must_use]
pub fn trace_id(run: &RunId) -> [u8; 16] {
    first(&format!("squall trace\n{run}"))
}

impl Part<'_> {
    /// The part's span (W3C Trace Context: 8 bytes): the first of a SHA-256 over the run's name and the part's. Parts of a run differ, and so
    /// do the same parts of two runs, as far as 64 bits go.
    #[must_use]
    pub fn span_id(&self, run: &RunId) -> [u8; 8] {
        first(&format!("squall span\n{run}\n{}", self.word()))
    }

    /// Where a part names something, that is the last word.
    fn word(&self) -> String {
        match self {
            Self::Run => "run".into(),
            Self::Planning => "planning".into(),
            Self::Baseline => "baseline".into(),
            Self::Stage(stage) => format!("stage {stage}"),
            Self::Arm(stage, node) => format!("arm {stage} {node}"),
            Self::Hold(stage) => format!("hold {stage}"),
            Self::Stop => "stop".into(),
            Self::Recovery => "recovery".into(),
            Self::Fault(fault) => format!("fault {fault}"),
            Self::Arming(fault) => format!("arming {fault}"),
        }
    }
}

fn first<const N: usize>(text: &str) -> [u8; N] {
    let hash = Sha256::digest(text.as_bytes());
    std::array::from_fn(|index| hash[index])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Frozen: two versions that tell of one run, as after a change of the leader in an upgrade, tell one trace.
    #[test]
    fn names_stay_what_they_are() {
        let (run, fault) = (RunId::from("r-1"), FaultId::from("r-1/0.0.0"));
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&trace_id(&run)), "838ed8d34b5e4015495abce2b2c4c4a0");
        assert_eq!(hex(&Part::Fault(&fault).span_id(&run)), "5091d725f0d1f2c0");
    }

    #[test]
    fn no_two_parts_have_one_name() {
        let (a, b) = (FaultId::from("r/0.0.0"), FaultId::from("r/0.0.1"));
        let parts = [
            Part::Run,
            Part::Planning,
            Part::Baseline,
            Part::Stage(0),
            Part::Stage(1),
            Part::Arm(0, "n1"),
            Part::Arm(0, "n2"),
            Part::Arm(1, "n1"),
            Part::Hold(0),
            Part::Stop,
            Part::Recovery,
            Part::Fault(&a),
            Part::Fault(&b),
            Part::Arming(&a),
        ];
        let runs = [RunId::from("r"), RunId::from("s")];
        let of = |run| parts.map(|part| part.span_id(run));
        let all: BTreeSet<_> = runs.iter().flat_map(of).collect();
        assert_eq!(all.len(), 2 * parts.len());
    }
}
