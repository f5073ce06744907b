//! Many runs over many nodes, in each of which something is killed: what each kind of kill ends in, and how long a fault is felt after it.

use lab::world::kills::{Campaign, Outcome, Victim};
use lab::world::{Result, postgres};

use crate::table::Row;

pub(crate) fn measure(runs: usize, nodes: u8, seed: u64) -> Result<Vec<Row>> {
    let programs = postgres::programs().ok_or("needs postgresql: apt-get install postgresql")?;
    let mut campaign = Campaign::new(&programs, nodes, seed)?;
    let mut outcomes = Vec::new();
    for number in 1..=runs {
        let outcome = campaign.one_more()?;
        eprintln!("measure: {number} of {runs}: {outcome}");
        outcomes.push(outcome);
    }
    Ok(Victim::ALL
        .into_iter()
        .flat_map(|victim| rows(victim, &outcomes))
        .collect())
}

#[allow(clippy::cast_precision_loss, reason = "counts of runs")]
fn rows(victim: Victim, outcomes: &[Outcome]) -> Vec<Row> {
    let of: Vec<&Outcome> = outcomes.iter().filter(|o| o.victim == victim).collect();
    if of.is_empty() {
        return Vec::new();
    }
    let count = |what: &str, is: &dyn Fn(&Outcome) -> bool| {
        let number = of.iter().filter(|outcome| is(outcome)).count();
        Row::alone(format!("{victim:?}: {what}"), "runs", number as f64)
    };
    let ended = |verdict: Option<&'static str>| {
        move |outcome: &Outcome| outcome.verdict.as_deref() == verdict
    };
    let felt = of.iter().map(|outcome| outcome.felt.as_secs_f64());
    vec![
        count("held", &ended(Some("held"))),
        count("inconclusive", &ended(Some("inconclusive"))),
        count("refused", &ended(Some("refused"))),
        count("killed before it began", &ended(None)),
        count("something wrong", &|outcome| !outcome.wrong.is_empty()),
        Row::alone(
            format!("{victim:?}: felt after the kill, at most"),
            "s",
            felt.fold(0.0, f64::max),
        ),
    ]
}
