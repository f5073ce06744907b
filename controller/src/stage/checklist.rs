//! The twelve questions before production: what a machine can see it shows; the rest a named person answers.

use super::evidence::Evidence;
use super::gate::{Ask, Facts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::policy::Stage;
use squall_experiments::verdict::Verdict;

/// How many there are.
pub const ITEMS: u8 = 12;

/// Who answers a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// Squall looks.
    Machine,
    /// A person says.
    Person,
}

/// The questions, in order, and who answers them.
pub const QUESTIONS: [(&str, By); ITEMS as usize] = [
    (
        "Is what runs now backward compatible with what calls it?",
        By::Person,
    ),
    (
        "Are state and sessions outside the process that is hit?",
        By::Person,
    ),
    ("Can the last change of a schema be taken back?", By::Person),
    ("Does the system come back by itself?", By::Machine),
    ("Is the stop condition a number?", By::Machine),
    ("Are the service levels defined and measured?", By::Machine),
    (
        "Are alarms on errors and latency ready, and do they reach somebody?",
        By::Person,
    ),
    ("Is somebody in charge?", By::Machine),
    ("Is there a runbook that can be read now?", By::Machine),
    (
        "Is it sure that no external dependency changes meanwhile?",
        By::Person,
    ),
    (
        "Is the moment at which traffic is switched clear?",
        By::Person,
    ),
    ("Can it be said why now is safe?", By::Person),
];

/// Whether a person answers this question.
///
/// # Errors
/// There is no such question, or nobody is asked it.
pub fn is_asked(item: u8) -> Result<(), String> {
    let at = usize::from(item).checked_sub(1);
    match at.and_then(|at| QUESTIONS.get(at)) {
        Some((_, By::Person)) => Ok(()),
        Some((question, By::Machine)) => Err(format!(
            "question {item} ({question}) is not answered but looked at"
        )),
        None => Err(format!(
            "there is no question {item}: they are 1 to {ITEMS}"
        )),
    }
}

/// A person's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// For this digest.
    pub digest: String,
    /// Here.
    pub environment: String,
    /// Which question, from 1.
    pub item: u8,
    /// Yes lets it through.
    pub yes: bool,
    /// Why.
    pub because: String,
    /// Who says so.
    pub by: String,
    /// When, microseconds since the Unix epoch.
    pub at_us: i64,
}

/// One question, looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// Which, from 1.
    pub item: u8,
    /// In words.
    pub question: String,
    /// Who answers it.
    pub answered_by: By,
    /// Whether it is answered with yes, now.
    pub yes: bool,
    /// What was seen, or who said what and when.
    pub evidence: String,
    /// Whether the stage that is asked for needs it.
    pub needed: bool,
}

/// What somebody saw of the runbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunbookSeen {
    /// Whether it can be read.
    pub readable: bool,
    /// What was asked and answered.
    pub evidence: String,
}

/// Looks at all twelve. Answers are taken in the order in which they were kept: the last one counts.
#[must_use]
pub fn check(ask: &Ask<'_>, facts: &Facts<'_>, stage: Stage) -> Vec<Checked> {
    let items = (1_u8..).zip(QUESTIONS);
    let checked = items.map(|(item, (question, answered_by))| {
        let (yes, evidence) = match answered_by {
            By::Machine => seen(item, ask, facts),
            By::Person => said(item, ask, facts),
        };
        // What the file alone shows is there from the beginning; the rest is what production is earned with.
        let needed = stage > Stage::NonProduction || item == 5 || item == 6;
        Checked {
            item,
            question: question.to_owned(),
            answered_by,
            yes,
            evidence,
            needed,
        }
    });
    checked.collect()
}

fn seen(item: u8, ask: &Ask<'_>, facts: &Facts<'_>) -> (bool, String) {
    let experiment = ask.experiment;
    let expectations = experiment
        .steady_state
        .iter()
        .map(|s| s.expect.len())
        .sum::<usize>();
    match item {
        4 => recovery(ask, facts),
        5 => {
            let (chance, lease) = (experiment.false_stop, experiment.lease);
            let say = format!(
                "{expectations} expectations with numbers; a healthy system is stopped in {chance} of runs; lease {lease}"
            );
            (expectations > 0, say)
        }
        6 => {
            let names: Vec<&str> = experiment
                .steady_state
                .iter()
                .map(|s| s.name.as_str())
                .collect();
            (!names.is_empty(), format!("measured: {}", names.join(", ")))
        }
        8 => match &experiment.metadata.owner {
            Some(owner) => (true, format!("owner: {owner}")),
            None => (false, "no owner; write `metadata: { owner: … }`".to_owned()),
        },
        _ => match (&experiment.metadata.runbook, facts.runbook) {
            (None, _) => (
                false,
                "no runbook; write `metadata: { runbook: … }`".to_owned(),
            ),
            (Some(_), None) => (false, "nobody has looked whether it can be read".to_owned()),
            (Some(_), Some(seen)) => (seen.readable, seen.evidence.clone()),
        },
    }
}

/// The latest held run that shows how long the system took to recover.
fn recovery(ask: &Ask<'_>, facts: &Facts<'_>) -> (bool, String) {
    let shows = |e: &&Evidence| {
        let known =
            e.environment == ask.environment.name || ask.environment.from.contains(&e.environment);
        e.digest == ask.digest
            && e.verdict == Verdict::Held
            && e.recover_ms.is_some()
            && known
            && e.is_trusted(facts.policy)
    };
    let newest = facts
        .evidence
        .iter()
        .filter(shows)
        .max_by_key(|e| e.ended_us);
    match newest.and_then(|e| e.recover_ms.map(|ms| (e, ms))) {
        Some((e, ms)) => {
            let say = format!(
                "recovered {:.1}s after the faults were gone in {} ({})",
                ms / 1e3,
                e.run,
                e.environment
            );
            (true, say)
        }
        None => (false, "no held run has measured a recovery yet".to_owned()),
    }
}

fn said(item: u8, ask: &Ask<'_>, facts: &Facts<'_>) -> (bool, String) {
    let here = |a: &&Answer| {
        a.item == item && a.digest == ask.digest && a.environment == ask.environment.name
    };
    let Some(answer) = facts.answers.iter().rev().find(here) else {
        return (
            false,
            format!("not answered; `squall checklist FILE --answer {item}=yes --because …`"),
        );
    };
    let good_us = ask.environment.checklist.duration().as_micros();
    let until_us = answer
        .at_us
        .saturating_add(i64::try_from(good_us).unwrap_or(i64::MAX));
    let word = if answer.yes { "yes" } else { "no" };
    let say = format!("{word}, says {}: {}", answer.by, answer.because);
    let is_young = answer.at_us <= facts.now_us && facts.now_us < until_us;
    match is_young {
        true => (answer.yes, say),
        false => (
            false,
            format!("answered too long ago, or in the future ({say})"),
        ),
    }
}
