//! One share of violating trials: against it the test that stops a run, and for it the proof that lets one be called held.

use super::JudgeSettings;
use super::blocks::Blocks;
use super::eprocess::EProcess;
use super::line::Line;
use squall_experiments::proof::Proof;

/// Both sides of what was seen in one phase.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    test: Test,
    proof: Proof,
}

/// What is one trial.
#[derive(Debug, Clone)]
enum Test {
    /// An attempt.
    Attempts(Line),
    /// A block of them.
    Blocks {
        blocks: Blocks,
        test: EProcess,
        /// It was confirmed by some block.
        confirmed: bool,
    },
}

impl Shares {
    pub(super) fn new(tolerated: f64, settings: JudgeSettings, block_us: Option<u64>) -> Self {
        let test = EProcess::new(tolerated, settings.alpha);
        Self {
            test: match block_us {
                None => Test::Attempts(Line::new(test)),
                Some(length_us) => Test::Blocks {
                    blocks: Blocks::new(length_us),
                    test,
                    confirmed: false,
                },
            },
            proof: Proof::new(tolerated, settings.confidence),
        }
    }

    /// An attempt is under way.
    pub(super) fn begun(&mut self, due_us: u64) {
        if let Test::Attempts(line) = &mut self.test {
            line.begun(due_us);
        }
    }

    /// Takes one attempt.
    pub(super) fn take(&mut self, due_us: u64, violates: bool) {
        match &mut self.test {
            Test::Blocks { blocks, .. } => blocks.take(due_us, violates),
            Test::Attempts(line) => {
                line.take(due_us, violates);
                self.proof.take(f64::from(u8::from(violates)), 1);
            }
        }
    }

    /// Takes the blocks that are complete now, and looks at what attempts left to be looked at.
    pub(super) fn complete(&mut self, now_us: u64, waiting_since_us: Option<u64>) {
        match &mut self.test {
            Test::Attempts(line) => line.look(),
            Test::Blocks {
                blocks,
                test,
                confirmed,
            } => {
                for x in blocks.complete(now_us, waiting_since_us) {
                    test.take(x);
                    *confirmed |= test.confirmed();
                    self.proof.take(x, 1);
                }
            }
        }
    }

    pub(super) const fn confirmed(&self) -> bool {
        match &self.test {
            Test::Attempts(line) => line.is_confirmed(),
            Test::Blocks { confirmed, .. } => *confirmed,
        }
    }

    pub(super) fn evidence(&self) -> f64 {
        match &self.test {
            Test::Attempts(line) => line.evidence(),
            Test::Blocks { test, .. } => test.evidence(),
        }
    }

    /// See [`EProcess::stretch`].
    pub(super) fn stretch(&self) -> (u64, f64) {
        match &self.test {
            Test::Attempts(line) => line.stretch(),
            Test::Blocks { test, .. } => test.stretch(),
        }
    }

    pub(super) const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// What a trial is called, where it is not an attempt.
    pub(super) fn noun(&self, attempts: &'static str) -> &'static str {
        match self.test {
            Test::Attempts(_) => attempts,
            Test::Blocks { .. } => "blocks",
        }
    }
}
