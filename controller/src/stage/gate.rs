//! Whether a run may start, and exactly what is missing: every reason at once.

use super::approval::Approval;
use super::checklist::{self, Answer, Checked, RunbookSeen};
use super::evidence::Evidence;
use super::standing::{self, Count, Standing};
use super::{is_same_person, limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::experiment::Experiment;
use squall_experiments::policy::{Environment, Policy, Stage};
use squall_experiments::verdict::Verdict;
use std::collections::BTreeMap;

/// How a run is started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Trigger {
    /// By a person, who watches.
    #[default]
    Hand,
    /// By a schedule, a program or a change in Git.
    Automated,
}

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The checked experiment.
    pub experiment: &'a Experiment,
    /// Its digest.
    pub digest: &'a str,
    /// Where.
    pub environment: &'a Environment,
    /// How.
    pub trigger: Trigger,
    /// By whom: a person's name, or a schedule's.
    pub starter: &'a str,
    /// How many targets the plan hits, where there is a plan.
    pub targets: Option<usize>,
    /// The nodes that it touches, with their labels, where they are known.
    pub nodes: Vec<(String, BTreeMap<String, String>)>,
}

/// What other runs of the environment do now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Together {
    /// Runs under way.
    pub runs: usize,
    /// Targets that they hit.
    pub targets: usize,
}

/// What is known.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Now, microseconds since the Unix epoch.
    pub now_us: i64,
    /// Whom to trust, and the environments.
    pub policy: &'a Policy,
    /// In any order.
    pub evidence: &'a [Evidence],
    /// In any order.
    pub approvals: &'a [Approval],
    /// In the order in which they were given.
    pub answers: &'a [Answer],
    /// What somebody just saw of the runbook.
    pub runbook: Option<&'a RunbookSeen>,
    /// The runs beside this one.
    pub together: Together,
    /// The name of a blackout that is on.
    pub blackout: Option<&'a str>,
}

/// One thing that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Requirement {
    /// In a word or two.
    pub what: String,
    /// How much of it.
    pub needed: String,
    /// How much of it there is.
    pub found: String,
    /// Whether that is enough.
    pub met: bool,
    /// What to do where it is not.
    pub mend: String,
}

impl Requirement {
    /// Why it is not met, in a sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        let (what, needed, found, mend) = (&self.what, &self.needed, &self.found, &self.mend);
        format!("{what}: needed {needed}; found {found}. {mend}")
    }
}

/// Whether a run may start, with all that speaks for and against it: kept with the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When it was decided, microseconds since the Unix epoch.
    pub at_us: i64,
    /// What it is about.
    pub digest: String,
    /// Where.
    pub environment: String,
    /// How it is to be started.
    pub trigger: Trigger,
    /// The stage in which the run would be.
    pub stage: Stage,
    /// How far the digest has come here.
    pub standing: Standing,
    /// All that is asked for, the checklist aside.
    pub requirements: Vec<Requirement>,
    /// The twelve questions.
    pub checklist: Vec<Checked>,
    /// Whether the run may start.
    pub allowed: bool,
    /// Why not: every reason, in sentences.
    pub missing: Vec<String>,
}

/// Decides.
#[must_use]
pub fn decide(ask: &Ask<'_>, facts: &Facts<'_>) -> Decision {
    let environment = ask.environment;
    let stage = stage_of(ask);
    let standing = standing::standing(
        facts.policy,
        environment,
        ask.digest,
        facts.evidence,
        facts.now_us,
    );
    let mut requirements = Vec::new();
    match ask.trigger {
        Trigger::Hand => {
            if let Some(count) = &standing.limited {
                let from = environment.from.join(", ");
                requirements.push(held(count, &from, &environment.needs.within.to_string()));
                requirements.push(approved(ask, facts));
            }
        }
        Trigger::Automated => requirements.push(automated(environment, &standing)),
    }
    if stage > Stage::NonProduction {
        requirements.push(observed(ask, facts));
    }
    requirements.extend(limits::limits(ask, facts));
    let checklist = checklist::check(ask, facts, stage);
    let open = checklist.iter().filter(|item| item.needed && !item.yes);
    let missing: Vec<String> = requirements
        .iter()
        .filter(|requirement| !requirement.met)
        .map(Requirement::reason)
        .chain(open.map(|item| {
            format!(
                "checklist {}: {} {}",
                item.item, item.question, item.evidence
            )
        }))
        .collect();
    Decision {
        at_us: facts.now_us,
        digest: ask.digest.to_owned(),
        environment: environment.name.clone(),
        trigger: ask.trigger,
        stage,
        standing,
        requirements,
        checklist,
        allowed: missing.is_empty(),
        missing,
    }
}

/// In which stage the run would be: that follows from where it runs and how it is started, and from nothing else.
fn stage_of(ask: &Ask<'_>) -> Stage {
    match (ask.environment.stage, ask.trigger) {
        (Stage::NonProduction, _) => Stage::NonProduction,
        (_, Trigger::Hand) => Stage::Limited,
        (_, Trigger::Automated) => Stage::Automated,
    }
}

fn held(count: &Count, from: &str, within: &str) -> Requirement {
    let mut found = vec![count.runs.len().to_string()];
    let mut also = |number: u32, why: &str| {
        if number > 0 {
            found.push(format!("{number} {why}"));
        }
    };
    also(count.too_old, "too old");
    also(count.in_future, "dated in the future");
    also(count.before_break, "before it last broke");
    also(
        count.untrusted,
        "signed by a key that is not trusted for it",
    );
    if let Some(broken) = &count.broken {
        found.push(format!("broke in {broken}"));
    }
    Requirement {
        what: format!("held runs in {from}"),
        needed: format!("{} within {within}", count.needed),
        found: found.join(", "),
        met: count.is_met(),
        mend: format!(
            "run this file in {from} until it has held {} times",
            count.needed
        ),
    }
}

fn automated(environment: &Environment, standing: &Standing) -> Requirement {
    match (&standing.automated, environment.automated) {
        (Some(count), Some(needs)) => held(count, &environment.name, &needs.within.to_string()),
        _ => Requirement {
            what: "stage 3".into(),
            needed: "an environment where runs start by themselves".into(),
            found: format!(
                "`{}` goes up to stage {}",
                environment.name, environment.stage
            ),
            met: false,
            mend: "start it by hand, or say `automated` in the policy".into(),
        },
    }
}

fn approved(ask: &Ask<'_>, facts: &Facts<'_>) -> Requirement {
    let environment = ask.environment;
    let rule = environment.approvals;
    let broken = standing::broken_at(facts.policy, environment, ask.digest, facts.evidence);
    let here = |a: &&Approval| a.digest == ask.digest && a.environment == environment.name;
    let mut people: Vec<&str> = Vec::new();
    let mut rejected = None;
    for approval in facts.approvals.iter().filter(here) {
        rejected = approval.rejected().or(rejected);
        for by in approval.agreeing(rule, ask.starter, broken, facts.now_us) {
            if !people.iter().any(|person| is_same_person(person, by)) {
                people.push(by);
            }
        }
    }
    let met = people.len() >= rule.count as usize;
    let found = match (people.as_slice(), rejected) {
        ([], Some(no)) => format!("none; {} said no: {}", no.by, no.because),
        ([], None) => "none".into(),
        (people, _) => people.join(", "),
    };
    Requirement {
        what: "approvals".into(),
        needed: format!(
            "{} by others than {}, within {}",
            rule.count, ask.starter, rule.valid_for
        ),
        found,
        met,
        mend: "ask with `squall promote FILE --because …`; another person says `squall approve`"
            .into(),
    }
}

/// The latest held run must have seen something with every probe.
fn observed(ask: &Ask<'_>, facts: &Facts<'_>) -> Requirement {
    let environment = ask.environment;
    let shows = |e: &&Evidence| {
        let known = e.environment == environment.name || environment.from.contains(&e.environment);
        e.digest == ask.digest && e.verdict == Verdict::Held && known && e.is_trusted(facts.policy)
    };
    let newest = facts
        .evidence
        .iter()
        .filter(shows)
        .max_by_key(|e| e.ended_us);
    let silent = |e: &Evidence| {
        let names = e.probes.iter().filter(|s| !s.is_enough());
        names
            .map(|s| s.probe.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (met, found) = match newest {
        None => (false, "no held run has shown it".into()),
        Some(e) if e.is_observed() => (true, format!("{} probes in {}", e.probes.len(), e.run)),
        Some(e) => (false, format!("too little from {} in {}", silent(e), e.run)),
    };
    Requirement {
        what: "observability".into(),
        needed: "every probe answers, with enough samples".into(),
        found,
        met,
        mend: "mend the probes that say too little, and run again".into(),
    }
}
