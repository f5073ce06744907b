//! When a schedule's runs begin, and what keeps one from beginning. Pure: it knows no clock but the instants it is given.

use super::blackout::{Blackout, BlackoutError, Calendar};
use super::times::{Times, instant};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use squall_experiments::experiment::Experiment;
use squall_experiments::schedule::{Day, Schedule, Window};
use std::fmt;
use std::time::Duration;

/// Why there is no timetable.
#[derive(Debug, thiserror::Error)]
pub enum TimetableError {
    /// The time zone.
    #[error("this machine knows no time zone `{0}`; bring its tzdata up to date")]
    Zone(String),
    /// The expression.
    #[error("the cron expression `{0}` cannot be read")]
    Cron(String),
    /// A blackout calendar.
    #[error(transparent)]
    Blackout(#[from] BlackoutError),
}

/// One time of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The instant that the expression names: what a start is known by.
    pub due: Timestamp,
    /// When it is to begin: then, or later by its jitter; never later than the next one is due.
    pub start: Timestamp,
}

/// What keeps a run from beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// It would begin or end outside all windows.
    Window,
    /// It would meet this.
    Blackout(Blackout),
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window => f.write_str("not wholly within one of its windows"),
            Self::Blackout(blackout) => write!(f, "`{}` in {}", blackout.what, blackout.calendar),
        }
    }
}

/// A schedule, ready to be asked.
#[derive(Debug, Clone)]
pub struct Timetable {
    name: String,
    times: Times,
    windows: Vec<Window>,
    blackouts: Vec<Calendar>,
    jitter: Duration,
    /// So late a run may still begin.
    pub start_within: Duration,
    /// So many of its runs at once.
    pub at_most: u32,
    /// As long as one run can take.
    pub length: Duration,
}

/// As long as a run of an experiment can take: all of it, and the whole time that the steady state has to come back.
#[must_use]
pub fn longest(experiment: &Experiment) -> Duration {
    experiment
        .duration()
        .saturating_add(experiment.recovery.duration())
}

impl Timetable {
    /// Makes ready. `length` is as long as one run can take; `blackouts` are name and text of each calendar.
    ///
    /// # Errors
    /// The time zone is not known here, or a calendar is not understood.
    pub fn new(
        schedule: &Schedule,
        length: Duration,
        blackouts: &[(String, String)],
    ) -> Result<Self, TimetableError> {
        let zone = TimeZone::get(&schedule.time_zone)
            .map_err(|_| TimetableError::Zone(schedule.time_zone.clone()))?;
        let read = |(name, text): &(String, String)| Calendar::read(name, text, &zone);
        let blackouts: Result<Vec<Calendar>, BlackoutError> = blackouts.iter().map(read).collect();
        let times = Times::new(&schedule.cron, zone.clone())
            .ok_or_else(|| TimetableError::Cron(schedule.cron.to_string()))?;
        Ok(Self {
            name: schedule.metadata.name.clone(),
            times,
            windows: schedule.windows.clone(),
            blackouts: blackouts?,
            jitter: schedule
                .jitter
                .map_or(Duration::ZERO, |jitter| jitter.duration()),
            start_within: schedule.start_within.duration(),
            at_most: schedule.at_most,
            length,
        })
    }

    /// Where its clock hangs.
    #[must_use]
    pub const fn zone(&self) -> &TimeZone {
        self.times.zone()
    }

    /// The first that is due after an instant.
    #[must_use]
    pub fn after(&self, instant: Timestamp) -> Option<Due> {
        let due = self.times.after(instant)?;
        Some(Due {
            due,
            start: self.start(due),
        })
    }

    /// Due, and its jitter. Every controller draws the same.
    fn start(&self, due: Timestamp) -> Timestamp {
        if self.jitter.is_zero() {
            return due;
        }
        let drawn = draw(&self.name, due)
            % (1 + u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX - 1));
        let drawn = SignedDuration::from_millis(i64::try_from(drawn).unwrap_or(i64::MAX));
        let start = due.checked_add(drawn).unwrap_or(due);
        // A draw never lets one run overtake the next.
        self.times.after(due).map_or(start, |next| start.min(next))
    }

    /// What keeps a run from beginning then: it must fit into a window, and meet no blackout, for as long as it can take.
    #[must_use]
    pub fn blocked(&self, start: Timestamp) -> Option<Blocked> {
        let length = SignedDuration::try_from(self.length).unwrap_or(SignedDuration::MAX);
        let end = start.checked_add(length).unwrap_or(Timestamp::MAX);
        if !self.windows.is_empty()
            && !self
                .windows
                .iter()
                .any(|window| self.holds(window, start, end))
        {
            return Some(Blocked::Window);
        }
        let met = self
            .blackouts
            .iter()
            .filter_map(|calendar| calendar.meets(start, end));
        met.min_by_key(|blackout| blackout.from)
            .map(Blocked::Blackout)
    }

    /// Whether a window that begins on that day or the one before has both ends of a run.
    fn holds(&self, window: &Window, start: Timestamp, end: Timestamp) -> bool {
        let today = self.zone().to_datetime(start).date();
        [today.checked_sub(1.day()).ok(), Some(today)]
            .into_iter()
            .flatten()
            .any(|day| {
                self.opens(window, day)
                    .is_some_and(|(opens, closes)| opens <= start && end <= closes)
            })
    }

    fn opens(&self, window: &Window, day: Date) -> Option<(Timestamp, Timestamp)> {
        let of_week = Day::ALL.get(usize::try_from(day.weekday().to_monday_zero_offset()).ok()?)?;
        if !window.days.contains(of_week) {
            return None;
        }
        let midnight = day.to_datetime(jiff::civil::Time::midnight());
        let at = |minutes: u16, days: i64| {
            let civil = midnight
                .checked_add(days.days().minutes(i64::from(minutes)))
                .ok()?;
            instant(civil, self.zone())
        };
        let is_next = i64::from(window.to <= window.from);
        Some((
            at(window.from.minutes(), 0)?,
            at(window.to.minutes(), is_next)?,
        ))
    }
}

/// One of the next times, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upcoming {
    /// The instant that the cron expression names.
    pub due: Timestamp,
    /// That, as the place's clock shows it.
    pub local: String,
    /// When the run begins: then, or later by its jitter.
    pub start: Timestamp,
    /// What will keep it from beginning, if something will.
    pub blocked: Option<String>,
}

/// The next times after an instant.
#[must_use]
pub fn upcoming(timetable: &Timetable, from: Timestamp, number: usize) -> Vec<Upcoming> {
    let all = std::iter::successors(timetable.after(from), |last| timetable.after(last.due));
    let shown = all.take(number).map(|due| Upcoming {
        due: due.due,
        local: due
            .due
            .to_zoned(timetable.zone().clone())
            .strftime("%a %Y-%m-%d %H:%M %:z")
            .to_string(),
        start: due.start,
        blocked: timetable
            .blocked(due.start)
            .map(|blocked| blocked.to_string()),
    });
    shown.collect()
}

/// A number that name and time decide, and nobody can foresee from the times before.
fn draw(name: &str, due: Timestamp) -> u64 {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update(due.as_second().to_be_bytes());
    let hash = hash.finalize();
    hash.iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What a run that a schedule starts is called: the same on every controller, so that none is started twice.
#[must_use]
pub fn run_name(schedule: &str, due: Timestamp) -> String {
    let number = draw(schedule, due) >> 32;
    format!("{}-{number:08x}", due.strftime("%Y%m%d-%H%M%S"))
}
