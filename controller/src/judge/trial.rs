//! One attempt of one probe, as the judge sees it.

use serde_json::Value;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As the probe's own notion of success has it.
    Success,
    /// An answer came, and it was not a success: `status 503`, `exit code 1`.
    Failed(String),
    /// No answer came: `connection refused`, `no answer within 5s`, `1000 requests were already waiting`.
    Unanswered(String),
}

/// One attempt. Times are microseconds since the Unix epoch by the controller's clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// When it should have been sent; its latency counts from here.
    pub due_us: u64,
    /// When it was over.
    pub ended_us: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// The number that a command printed.
    pub value: Option<f64>,
    /// The exit code of a command.
    pub exit: Option<i32>,
    /// What was found at the JSON path of each `body` expectation of the probe, in the file's order.
    pub bodies: Vec<Option<Value>>,
}

impl Trial {
    /// An attempt that was announced, or should have been, and of which nothing was heard after so long: it is not known to have been well.
    #[must_use]
    pub fn missing(due_us: u64, waited_us: u64) -> Self {
        let why = "it was due, and nothing was heard of it";
        Self {
            due_us,
            ended_us: due_us.saturating_add(waited_us),
            outcome: Outcome::Unanswered(why.into()),
            status: None,
            value: None,
            exit: None,
            bodies: Vec::new(),
        }
    }

    /// From when it was due to when it was over, in microseconds.
    #[must_use]
    pub fn latency_us(&self) -> u64 {
        self.ended_us.saturating_sub(self.due_us)
    }

    /// Whether it succeeded.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.outcome == Outcome::Success
    }

    /// Whether any answer came.
    #[must_use]
    pub const fn answered(&self) -> bool {
        !matches!(self.outcome, Outcome::Unanswered(_))
    }
}
