//! One share of violating trials: against it the test that stops a run, and for it the proof that lets one be called held.

use super::JudgeSettings;
use super::blocks::Blocks;
use super::eprocess::EProcess;
use squall_experiments::proof::Proof;

/// Both sides of what was seen in one phase.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    test: EProcess,
    proof: Proof,
    /// Where a trial is a block of attempts.
    blocks: Option<Blocks>,
}

impl Shares {
    pub(super) fn new(tolerated: f64, settings: JudgeSettings, block_us: Option<u64>) -> Self {
        Self {
            test: EProcess::new(tolerated, settings.alpha),
            proof: Proof::new(tolerated, settings.confidence),
            blocks: block_us.map(Blocks::new),
        }
    }

    /// Takes one attempt.
    pub(super) fn take(&mut self, due_us: u64, violates: bool) {
        match &mut self.blocks {
            Some(blocks) => blocks.take(due_us, violates),
            None => self.trial(f64::from(u8::from(violates))),
        }
    }

    /// Takes the blocks that are complete now.
    pub(super) fn complete(&mut self, now_us: u64, waiting_since_us: Option<u64>) {
        let blocks = self.blocks.as_mut();
        let complete = blocks.map(|blocks| blocks.complete(now_us, waiting_since_us));
        complete.into_iter().flatten().for_each(|x| self.trial(x));
    }

    fn trial(&mut self, x: f64) {
        self.test.take(x);
        self.proof.take(x, 1);
    }

    pub(super) fn confirmed(&self) -> bool {
        self.test.confirmed()
    }

    pub(super) const fn evidence(&self) -> f64 {
        self.test.evidence()
    }

    /// See [`EProcess::stretch`].
    pub(super) fn stretch(&self) -> (u64, f64) {
        self.test.stretch()
    }

    pub(super) const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// What a trial is called, where it is not an attempt.
    pub(super) fn noun(&self, attempts: &'static str) -> &'static str {
        if self.blocks.is_some() {
            "blocks"
        } else {
            attempts
        }
    }
}
