//! What came of the checks, and the one line it is boiled down to.

use serde::Serialize;

/// A check or test that did not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Which, with its world and package in front.
    pub name: String,
    /// What it said.
    pub text: String,
}

/// A test that was not run, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skip {
    /// Which, with its world and package in front.
    pub name: String,
    /// Why not.
    pub reason: String,
}

/// The sum of all results so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How many passed.
    pub passed: usize,
    /// Those that failed.
    pub failed: Vec<Failure>,
    /// Those that did not run.
    pub skipped: Vec<Skip>,
}

impl Tally {
    /// A single check's result.
    pub(super) fn of_check(name: &str, result: Result<(), String>) -> Self {
        let mut tally = Self::default();
        match result {
            Ok(()) => tally.passed = 1,
            Err(text) => tally.failed.push(Failure {
                name: name.to_owned(),
                text,
            }),
        }
        tally
    }

    /// Adds `more`.
    pub(super) fn add(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed.extend(more.failed);
        self.skipped.extend(more.skipped);
    }

    /// In CI's own lanes everything must run: there a skip is a failure.
    pub(super) fn without_skips(mut self) -> Self {
        let skips = std::mem::take(&mut self.skipped);
        self.failed.extend(skips.into_iter().map(|skip| Failure {
            name: skip.name,
            text: format!("skipped, which CI does not allow: {}", skip.reason),
        }));
        self
    }

    /// The last line of all.
    pub fn line(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.skipped.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ci_turns_a_skip_into_a_failure() {
        let skip = Skip {
            name: "vm: x".to_owned(),
            reason: "no root".to_owned(),
        };
        let tally = Tally {
            passed: 2,
            failed: Vec::new(),
            skipped: vec![skip],
        };
        assert_eq!(tally.line(), "2 passed, 0 failed, 1 skipped");
        let strict = tally.without_skips();
        assert_eq!(strict.line(), "2 passed, 1 failed, 0 skipped");
        assert!(strict.failed[0].text.contains("no root"));
    }
}
