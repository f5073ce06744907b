//! One cell: what is asked, and what must be said of it.

use crate::ask::{Asking, steady_expecting};
use crate::user::Unprivileged;
use lab::world::Result;
use squall_controller::judge::{Judge, JudgeSettings, Outcome, Trial};
use squall_experiments::experiment::SteadyState;
use std::fmt::Write as _;
use std::time::Duration;

/// An attempt ends so long after its timeout at the latest, on a machine that is busy compiling.
const LATE: Duration = Duration::from_secs(15);

/// A server that answers has so much time, on such a machine.
const PATIENT: &str = "20s";

/// One that does not, so little.
const HASTY: &str = "300ms";

/// What is done for one probe and one failure.
pub(super) enum Cell {
    Runs(Vec<Case>),
    /// The probe cannot fail so, or nothing here can be made to.
    Senseless(&'static str),
}

/// What answers, as an expectation sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The attempt is a failure.
    Success,
    /// The attempt is well by itself, and what it says is not what is expected.
    Said(&'static str),
}

/// One probe that must see the failure.
pub(super) struct Case {
    /// Who is asked.
    pub(super) whom: &'static str,
    fields: String,
    timeout: Option<&'static str>,
    by: By,
    unprivileged: bool,
    /// What a person must find in the reason.
    words: &'static [&'static str],
}

impl Case {
    /// Of a probe with these fields.
    pub(super) fn new(
        whom: &'static str,
        fields: impl Into<String>,
        words: &'static [&'static str],
    ) -> Self {
        Self {
            whom,
            fields: fields.into(),
            timeout: Some(PATIENT),
            by: By::Success,
            unprivileged: false,
            words,
        }
    }

    /// Nobody answers.
    pub(super) fn in_vain(mut self) -> Self {
        self.timeout = Some(HASTY);
        self
    }

    /// The probe has no `timeout` of its own.
    pub(super) fn without_timeout(mut self) -> Self {
        self.timeout = None;
        self
    }

    /// The attempt is well by itself, and this expectation is not met by what it says.
    pub(super) fn seen_by(mut self, expectation: &'static str) -> Self {
        self.by = By::Said(expectation);
        self
    }

    /// Asked by a user without rights.
    pub(super) fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    fn steady(&self, word: &str) -> Result<SteadyState> {
        let mut probe = format!("{{ {word}: {{ {}", self.fields);
        // Once: nothing else is looked at.
        let pace = if word == "load" {
            "rate: 1/s"
        } else {
            "every: 60s"
        };
        write!(probe, ", {pace}")?;
        if let Some(timeout) = self.timeout {
            write!(probe, ", timeout: {timeout}")?;
        }
        probe.push_str(" } }");
        let mut expected = vec!["success >= 99%"];
        if let By::Said(expectation) = self.by {
            expected.push(expectation);
        } else {
            let timed = ["http", "load", "tcp", "grpc", "dns", "postgres", "redis"];
            let valued = ["prometheus", "webhook", "kubernetes", "log", "command"];
            let both = ["dns", "postgres", "redis"];
            expected.extend(timed.contains(&word).then_some("p99 <= 10min"));
            let has_value = valued.contains(&word) || both.contains(&word);
            expected.extend(has_value.then_some("value >= 1"));
        }
        steady_expecting(&probe, &expected.join(", "))
    }

    /// Asks, and says in which words a person is told, or what is wrong with them.
    pub(super) fn told(&self, word: &str) -> std::result::Result<String, String> {
        let _user = self.unprivileged.then(Unprivileged::become_one);
        self.seen(word).map_err(|error| error.to_string())
    }

    fn seen(&self, word: &str) -> Result<String> {
        let steady = self.steady(word)?;
        let trial = Asking::of(steady.clone())?.next()?;
        let limit = steady.probe.cadence().timeout + LATE;
        if Duration::from_micros(trial.latency_us()) > limit {
            return Err(format!("it ended after {limit:?}: {trial:?}").into());
        }
        let reason = match (&trial.outcome, self.by) {
            (Outcome::Failed(why) | Outcome::Unanswered(why), By::Success) => why.clone(),
            (Outcome::Success, By::Said(_)) => String::new(),
            _ => return Err(format!("it is not told as it should be: {trial:?}").into()),
        };
        let judged = judged(&steady, &trial)?;
        let reason = if reason.is_empty() { judged } else { reason };
        match self.words.iter().find(|word| !reason.contains(**word)) {
            None => Ok(reason),
            Some(missing) => Err(format!("`{missing}` is not in: {reason}").into()),
        }
    }
}

/// What the judge says of this attempt alone. Nothing that is expected may be met by it, but a latency by an answer that came.
fn judged(steady: &SteadyState, trial: &Trial) -> Result<String> {
    const SECONDS_US: u64 = 1_000_000;
    let settings = JudgeSettings {
        alpha: 0.001,
        confidence: 0.95,
    };
    let mut judge = Judge::new(steady, settings, trial.due_us);
    judge.begun(trial.due_us);
    let mut found = judge.take(trial);
    let over_us = trial.ended_us + 2 * steady.probe.cadence().every.as_secs() * SECONDS_US;
    let (window, more) = judge.tick(over_us + SECONDS_US);
    found.extend(more.into_iter().filter(|finding| finding.samples > 0));
    let window = window.ok_or("no window was shown")?;
    for (check, expected) in window.checks.iter().zip(&steady.expect) {
        let text = expected.to_string();
        let may = match &trial.outcome {
            Outcome::Success => text.starts_with("success"),
            Outcome::Failed(_) => text.starts_with("p99"),
            Outcome::Unanswered(_) => false,
        };
        if check.satisfied && !may {
            return Err(format!("`{text}` was met by {trial:?}").into());
        }
    }
    Ok(found
        .into_iter()
        .map(|finding| finding.measured)
        .collect::<Vec<_>>()
        .join("; "))
}
