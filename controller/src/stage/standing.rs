//! The stage of a digest in an environment: recorded evidence, counted.
//!
//! ```text
//!            N held runs in `from`                N held runs here, in stage 2
//!  1 ───────────────────────────────▶ 2 ───────────────────────────────────▶ 3
//!  ▲                                  │ ▲                                    │
//!  └── broken here by hand, or in ────┘ └──────── broken here by itself ─────┘
//!      `from`; or another digest
//! ```
//!
//! A held run counts while it is young enough, not from the future, and newer than the last broken run: both by the time it
//! ended and by the order in which it was kept here, so that no clock that is set makes an old success young.

use super::evidence::Evidence;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use squall_experiments::policy::{Environment, Needs, Policy, Stage};
use squall_experiments::verdict::Verdict;
use std::collections::BTreeSet;

/// How far a digest has come in an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// The highest stage that its evidence allows here.
    pub stage: Stage,
    /// What counts for stage 2; none where the environment goes no further than stage 1.
    pub limited: Option<Count>,
    /// What counts for runs by themselves; none where there are none.
    pub automated: Option<Count>,
}

/// Held runs, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// What is needed.
    pub needed: u32,
    /// Those that count, by name.
    pub runs: Vec<String>,
    /// Held, and older than it may be.
    pub too_old: u32,
    /// Held, and dated in the future: somebody's clock is, or was, wrong.
    pub in_future: u32,
    /// Held before the last broken run.
    pub before_break: u32,
    /// Vouched for by a key that may not speak for its environment, or not any more.
    pub untrusted: u32,
    /// The last broken run, by name.
    pub broken: Option<String>,
}

impl Count {
    /// Whether it is enough.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.runs.len() >= self.needed as usize
    }
}

/// Counts.
#[must_use]
pub fn standing(
    policy: &Policy,
    environment: &Environment,
    digest: &str,
    evidence: &[Evidence],
    now_us: i64,
) -> Standing {
    let own: Vec<&Evidence> = evidence.iter().filter(|e| e.digest == digest).collect();
    let here = |e: &Evidence| e.environment == environment.name;
    let before = |e: &Evidence| environment.from.contains(&e.environment);
    let limited = (environment.stage >= Stage::Limited).then(|| {
        // A run by itself that breaks costs stage 3 alone.
        let breaks = |e: &Evidence| before(e) || (here(e) && e.stage < Stage::Automated);
        count(policy, environment.needs, &own, before, breaks, now_us)
    });
    let automated = environment.automated.map(|needs| {
        let least = environment.stage.min(Stage::Limited);
        let held = |e: &Evidence| here(e) && e.stage >= least;
        let breaks = |e: &Evidence| before(e) || here(e);
        count(policy, needs, &own, held, breaks, now_us)
    });
    let met = |count: &Option<Count>| count.as_ref().is_some_and(Count::is_met);
    let stage = match (met(&limited), met(&automated)) {
        (_, true) if environment.stage == Stage::Automated => Stage::Automated,
        (true, _) => Stage::Limited,
        _ => Stage::NonProduction,
    };
    Standing {
        stage,
        limited,
        automated,
    }
}

/// The last broken run that `breaks`: the greatest time and the greatest place in order, each for itself, which is never
/// later than what either says alone.
fn last_break<'e>(
    policy: &Policy,
    own: &[&'e Evidence],
    breaks: impl Fn(&Evidence) -> bool,
) -> Option<(&'e Evidence, i64, i64)> {
    let broken = |e: &&&Evidence| e.verdict == Verdict::Broken && breaks(e) && e.is_trusted(policy);
    let all: Vec<&Evidence> = own.iter().filter(broken).copied().collect();
    let newest = all.iter().max_by_key(|e| e.recorded)?;
    let ended_us = all.iter().map(|e| e.ended_us).max()?;
    Some((newest, ended_us, newest.recorded))
}

/// The place in order of the last broken run in the environment or in those it takes evidence from: what was agreed to
/// before it was agreed to without knowing of it.
#[must_use]
pub fn broken_at(
    policy: &Policy,
    environment: &Environment,
    digest: &str,
    evidence: &[Evidence],
) -> Option<i64> {
    let own: Vec<&Evidence> = evidence.iter().filter(|e| e.digest == digest).collect();
    let breaks = |e: &Evidence| {
        e.environment == environment.name || environment.from.contains(&e.environment)
    };
    last_break(policy, &own, breaks).map(|(_, _, recorded)| recorded)
}

fn count(
    policy: &Policy,
    needs: Needs,
    own: &[&Evidence],
    counts: impl Fn(&Evidence) -> bool,
    breaks: impl Fn(&Evidence) -> bool,
    now_us: i64,
) -> Count {
    let broken = last_break(policy, own, breaks);
    let oldest_us = now_us.saturating_sub(age_us(needs));
    let mut count = Count {
        needed: needs.held,
        runs: Vec::new(),
        too_old: 0,
        in_future: 0,
        before_break: 0,
        untrusted: 0,
        broken: broken.map(|(run, _, _)| run.run.0.clone()),
    };
    let mut runs = BTreeSet::new();
    let held = |e: &&&Evidence| e.verdict == Verdict::Held && counts(e);
    for one in own.iter().filter(held) {
        let stale = |(_, at_us, recorded): (&Evidence, i64, i64)| {
            one.ended_us <= at_us || one.recorded <= recorded
        };
        if !one.is_trusted(policy) {
            count.untrusted += 1;
        } else if broken.is_some_and(stale) {
            count.before_break += 1;
        } else if one.ended_us > now_us {
            count.in_future += 1;
        } else if one.ended_us < oldest_us {
            count.too_old += 1;
        } else {
            // The same run vouched for twice is one run.
            runs.insert(one.run.0.clone());
        }
    }
    count.runs = runs.into_iter().collect();
    count
}

fn age_us(needs: Needs) -> i64 {
    i64::try_from(needs.within.duration().as_micros()).unwrap_or(i64::MAX)
}
