//! What must be so, whatever happens.

use super::experiment::TARGETS_MAX;
use super::node::Life;
use super::scenario::{SECOND_US, SPELL_US_MAX, Scenario};
use super::world::STEP_US;
use crate::store::simulated::{RunKept, Tables};
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::{FaultId, RunId};
use squall_experiments::plan::Plan;
use squall_experiments::run_life::RunState;
use squall_experiments::verdict::Verdict;
use std::collections::{BTreeMap, BTreeSet};

/// A law that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) law: &'static str,
    pub(super) at_us: u64,
    pub(super) how: String,
}

/// What whoever watches has seen and said.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What was told of each run.
    pub(super) told: BTreeMap<RunId, Vec<Event>>,
    /// When somebody's stop was taken.
    pub(super) stopped_us: BTreeMap<RunId, u64>,
    /// Somebody wanted everything to stand still.
    pub(super) wanted_halt: bool,
    /// Since when everything stands still.
    pub(super) halted_us: Option<u64>,
    /// When it was first seen that a run is over, in the database.
    pub(super) over_us: BTreeMap<RunId, u64>,
    /// Runs whose controller was killed while they were under way.
    pub(super) cut_off: BTreeSet<RunId>,
    /// Who led at the last two looks, and until when.
    pub(super) leaders: [(String, u64); 2],
}

/// A word that waits in the network may come so much later, and is good for a lease then: it was sent within the lease before.
fn patience_us(scenario: &Scenario) -> u64 {
    if scenario.is_calm {
        return 1_500_000;
    }
    SPELL_US_MAX * 2 + 2 * scenario.lease_us + 2 * SECOND_US
}

/// What must be so at each moment.
pub(super) fn now(
    scenario: &Scenario,
    now_us: u64,
    lives: &[Life],
    known: &Known,
) -> Result<(), Broken> {
    let broken = |law, how: String| Broken {
        law,
        at_us: now_us,
        how,
    };
    let live: Vec<&Life> = lives
        .iter()
        .filter(|life| life.ended_us.is_none())
        .collect();
    for life in &live {
        let since_us = now_us - life.renewed_us;
        if since_us > scenario.lease_us + STEP_US {
            let how = format!(
                "{} is in force {since_us} us after the last word",
                life.fault
            );
            return Err(broken(
                "no fault outlives its lease by more than a tick",
                how,
            ));
        }
        let most_us = patience_us(scenario);
        let late = |since: Option<&u64>| since.is_some_and(|since| now_us > since + most_us);
        if late(known.over_us.get(&life.run)) {
            let how = format!("{} is in force, and its run is over", life.fault);
            return Err(broken("no fault outlives its run", how));
        }
        if late(known.stopped_us.get(&life.run)) || late(known.halted_us.as_ref()) {
            let how = format!("{} is in force after somebody said stop", life.fault);
            return Err(broken("stop always wins", how));
        }
    }
    let targets: BTreeSet<_> = live.iter().map(|life| (life.node, &life.target)).collect();
    if targets.len() > TARGETS_MAX {
        let how = live.iter().map(|life| life.fault.0.as_str());
        let how = how.collect::<Vec<_>>().join(", ");
        return Err(broken("the budget is never exceeded", how));
    }
    Ok(())
}

/// Who does not lead says nothing but stops.
pub(super) fn spoken(known: &Known, controller: usize, at_us: u64) -> Result<(), Broken> {
    let name = super::controller_name(controller);
    let mut leaders = known.leaders.iter();
    if leaders.any(|(leader, until_us)| *leader == name && at_us <= until_us + STEP_US) {
        return Ok(());
    }
    Err(Broken {
        law: "who does not lead says nothing but stops",
        at_us,
        how: format!("{name} spoke; {:?}", known.leaders),
    })
}

/// What must be so in the end.
pub(super) fn after(
    scenario: &Scenario,
    now_us: u64,
    lives: &[Life],
    known: &Known,
    tables: &Tables,
) -> Result<(), Broken> {
    let broken = |law, how: String| Broken {
        law,
        at_us: now_us,
        how,
    };
    for run in tables.started.keys() {
        let verdict = tables.runs.get(run).and_then(|kept| kept.verdict);
        if verdict.is_none() {
            return Err(broken("every run ends", run.0.clone()));
        }
    }
    for life in lives {
        let kept = tables.runs.get(&life.run);
        let began = kept.and_then(|kept| kept.term?.try_into().ok());
        if began != life.term {
            let how = format!(
                "{}: its run began in {began:?}, the agent was told {:?}",
                life.fault, life.term
            );
            let law = "whoever asks for a fault leads in the term in which its run began";
            return Err(broken(law, how));
        }
    }
    for (run, kept) in &tables.runs {
        let events: Vec<&Event> = kept.events.values().collect();
        let numbers = kept.events.keys().copied();
        let told = known.told.get(run).map(Vec::as_slice).unwrap_or_default();
        // A run that was refused at once nobody may have seen.
        let is_seen = !told.is_empty();
        if !numbers.eq((0..).take(events.len()))
            || (is_seen && !as_told(&events, told, known.cut_off.contains(run)))
        {
            let how = format!(
                "{run}: kept {}; told {}",
                in_short(events.iter().copied()),
                in_short(told)
            );
            return Err(broken("no event is lost, and none is told twice", how));
        }
        verdict(scenario, lives, known, (run, kept), told)
            .map_err(|(law, how)| broken(law, how))?;
    }
    Ok(())
}

/// Whether a run's verdict fits what happened.
fn verdict(
    scenario: &Scenario,
    lives: &[Life],
    known: &Known,
    (run, kept): (&RunId, &RunKept),
    told: &[Event],
) -> Result<(), (&'static str, String)> {
    let is = |verdict| kept.verdict == Some(verdict);
    let broken = |law| Err((law, format!("{run}: {}", in_short(told))));
    if is(Verdict::Refused) && lives.iter().any(|life| life.run == *run) {
        return broken("nothing of a refused run was in force");
    }
    let was_stopped = known.stopped_us.contains_key(run);
    if is(Verdict::Halted)
        && says_a_person(kept.events.values())
        && !was_stopped
        && !known.wanted_halt
    {
        return broken("nobody is said to have stopped what they did not");
    }
    if is(Verdict::Broken) && !scenario.is_weak {
        return broken("no run is broken whose service stood it");
    }
    if is(Verdict::Held) && was_stopped {
        return broken("stop always wins");
    }
    if is(Verdict::Held) {
        let shown = evidence(told, lives, scenario.is_weak);
        return shown.map_err(|how| ("no run is held without evidence", how));
    }
    Ok(())
}

fn says_a_person<'a>(mut events: impl Iterator<Item = &'a Event>) -> bool {
    let ended = events.find_map(|event| match &event.what {
        Happening::Finished(finished) => Some(finished),
        _ => None,
    });
    ended.is_some_and(|finished| finished.because.contains("a person"))
}

/// Whether what is kept is what was told, up to where its controller ended: the end is told once it is kept, and so perhaps never.
fn as_told(kept: &[&Event], told: &[Event], is_cut_off: bool) -> bool {
    let ends = |event: &Event| matches!(event.what, Happening::Finished(_));
    if kept.iter().filter(|event| ends(event)).count() > 1 {
        return false;
    }
    let interrupted = |event: &&&Event| match &event.what {
        Happening::Finished(finished) => finished.because.starts_with("interrupted"),
        _ => false,
    };
    match kept.split_last() {
        Some((last, rest)) if interrupted(&last) => {
            let says_otherwise = |event: &&Event| ends(event) && !interrupted(&event);
            told.iter().filter(says_otherwise).count() == 0
                && told.len() >= rest.len()
                && rest.iter().copied().eq(&told[..rest.len()])
        }
        Some((_, rest)) if is_cut_off && rest.len() == told.len() => rest.iter().copied().eq(told),
        _ => kept.iter().copied().eq(told),
    }
}

/// What happened and when, without what is long about it.
pub(super) fn in_short<'a>(events: impl IntoIterator<Item = &'a Event>) -> String {
    let mut began_us = None;
    let events = events.into_iter().map(|event| {
        let since_us = event.at_us - *began_us.get_or_insert(event.at_us);
        format!("{:>8} ms {}", since_us / 1_000, what(event))
    });
    events.collect::<Vec<_>>().join("\n  ")
}

fn what(event: &Event) -> String {
    match &event.what {
        Happening::Created(_) => "created".to_owned(),
        Happening::Planned(plan) => format!("planned {} stages", plan.stages.len()),
        Happening::Finished(finished) => format!("{}: {}", finished.verdict, finished.because),
        Happening::Observed(_) => "observed".to_owned(),
        Happening::Dosed(dosed) => format!("dosed {}", dosed.id),
        Happening::Armed(armed) => format!("armed {}", armed.id),
        Happening::Ended(ended) => format!("ended {} {:?}", ended.id, ended.cause),
        other => format!("{other:?}"),
    }
}

/// Each fault of the plan was really in force for as long as it was to be.
fn evidence(told: &[Event], lives: &[Life], is_weak: bool) -> Result<(), String> {
    let plan = told.iter().find_map(|event| match &event.what {
        Happening::Planned(plan) => Some(plan),
        _ => None,
    });
    let Some(plan) = plan else {
        return Err("nothing was planned".into());
    };
    if is_weak {
        return Err("what was hit did not stand it".into());
    }
    for (fault, hold_us) in holds(plan) {
        let mut shown = lives.iter().filter(|life| life.fault == fault);
        let long = |life: &Life| {
            let ended_us = life.ended_us.unwrap_or(u64::MAX);
            ended_us - life.armed_us + 2 * STEP_US >= hold_us
        };
        if !shown.any(long) {
            let shown = lives.iter().filter(|life| life.fault == fault);
            let shown = shown.map(|life| (life.armed_us, life.ended_us));
            let shown: Vec<_> = shown.collect();
            let told = in_short(told);
            return Err(format!(
                "{fault} was in force {shown:?}, not for {hold_us} us:\n  {told}"
            ));
        }
    }
    let entered = |event: &&Event| matches!(event.what, Happening::Entered(RunState::Injecting(_)));
    if told.iter().filter(entered).count() != plan.stages.len() {
        return Err("not every stage began".into());
    }
    Ok(())
}

/// How long each fault is to be in force at least: its own stage.
fn holds(plan: &Plan) -> Vec<(FaultId, u64)> {
    let stages = plan.stages.iter();
    let each = stages.flat_map(|stage| {
        let hold_us = u64::try_from(stage.hold.duration().as_micros()).unwrap();
        stage
            .arm
            .iter()
            .map(move |fault| (fault.id.clone(), hold_us))
    });
    each.collect()
}
