//! What becomes of the times of a schedule: started, passed over, or waited with. Pure.
//!
//! ```text
//!   settled ──────────── due ── due ── due ──▶ now
//!      │                   └──────┴──── passed over: a later one is due as well
//!      └ everything up to here is decided       └ the latest: started, passed over, or waits for room
//! ```
//!
//! Only the latest is ever made up for: ten runs one after another are not what ten nights would have been.

use super::timetable::{Due, Timetable};
use jiff::{SignedDuration, Timestamp};

/// A controller that was down for longer than a week does not tell what it missed before, one by one.
const TOLD: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is known of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Everything that was due up to then is decided.
    pub settled: Timestamp,
    /// So many of its runs are under way.
    pub running: u32,
    /// Nothing is started until somebody says so.
    pub is_suspended: bool,
}

/// What becomes of one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is started.
    Start,
    /// It is not, and this is why.
    PassedOver(String),
}

/// What is to be done now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// In the order of time; the start, if there is one, is the last.
    pub outcomes: Vec<(Due, Outcome)>,
    /// When there may be something new to decide.
    pub look_again: Option<Timestamp>,
}

/// Decides.
#[must_use]
pub fn decide(timetable: &Timetable, standing: Standing, now: Timestamp) -> Decision {
    let told_from = now.checked_sub(TOLD).unwrap_or(Timestamp::MIN);
    let mut after = standing.settled.max(told_from);
    let mut ripe: Vec<Due> = Vec::new();
    let mut look_again = None;
    while let Some(next) = timetable.after(after) {
        if next.start > now {
            look_again = Some(next.start);
            break;
        }
        after = next.due;
        ripe.push(next);
    }
    let mut outcomes: Vec<(Due, Outcome)> = Vec::with_capacity(ripe.len());
    let latest = ripe.pop();
    let passed = |why: &str| Outcome::PassedOver(why.to_owned());
    let suspended = "the schedule is suspended";
    for due in ripe {
        let why = if standing.is_suspended {
            suspended
        } else {
            "missed, and a later one is due as well"
        };
        outcomes.push((due, passed(why)));
    }
    if let Some(due) = latest {
        match of_latest(timetable, standing, due, now) {
            Some(outcome) => outcomes.push((due, outcome)),
            // It waits; the rooms are looked at again at the latest when it is too late, or the next is due.
            None => {
                look_again = [look_again, Some(too_late(timetable, due))]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }
    Decision {
        outcomes,
        look_again,
    }
}

fn too_late(timetable: &Timetable, due: Due) -> Timestamp {
    let within = SignedDuration::try_from(timetable.start_within).unwrap_or(SignedDuration::MAX);
    due.start.checked_add(within).unwrap_or(Timestamp::MAX)
}

/// `None`: it waits for a run to end.
fn of_latest(
    timetable: &Timetable,
    standing: Standing,
    due: Due,
    now: Timestamp,
) -> Option<Outcome> {
    let full = standing.running >= timetable.at_most;
    if standing.is_suspended {
        return Some(Outcome::PassedOver("the schedule is suspended".into()));
    }
    if now > too_late(timetable, due) {
        let why = if full {
            "too many of its runs were under way"
        } else {
            "nobody was there to start it in time"
        };
        return Some(Outcome::PassedOver(why.into()));
    }
    // It would begin now, which may be later than it was to.
    if let Some(blocked) = timetable.blocked(due.start.max(now)) {
        return Some(Outcome::PassedOver(blocked.to_string()));
    }
    (!full).then_some(Outcome::Start)
}
