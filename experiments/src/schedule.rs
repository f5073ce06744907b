//! A schedule, checked: when an experiment is run by itself, and what keeps it from running.
//!
//! Here is what a file says. When that is, in a world of clock changes and with what has happened so far, is decided by the controller
//! (`controller/src/calendar/`).

use crate::experiment::Metadata;
use crate::units::{Hold, Wait};
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZoneDatabase;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// When an experiment is run by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Schedule {
    /// Who it belongs to.
    pub metadata: Metadata,
    /// The experiment file, beside the schedule's.
    pub experiment: String,
    /// Where it is run; the controller's own default where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// When, by the clock on the wall.
    pub cron: Cron,
    /// Which wall: an IANA time zone.
    pub time_zone: String,
    /// A run begins and ends within one of these; at any time where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Window>,
    /// iCalendar files, beside the schedule's: no run touches an event in one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blackouts: Vec<String>,
    /// Each run starts up to so much later than its time, by a draw that only name and time decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Hold>,
    /// So late a run may still start, when the controller was down or too much was running.
    #[serde(default = "Schedule::start_within_default")]
    pub start_within: Wait,
    /// So many of its runs at once.
    #[serde(default = "Schedule::at_most_default")]
    pub at_most: u32,
    /// After which end of a run nothing more is started until somebody says so.
    #[serde(default)]
    pub suspend_after: SuspendAfter,
}

impl Schedule {
    /// One minute: a controller that restarts misses nothing, one that was down for longer catches nothing up.
    #[must_use]
    pub fn start_within_default() -> Wait {
        Wait::clamped(Duration::from_secs(60))
    }

    /// One: two runs of one experiment would judge each other's faults.
    #[must_use]
    pub const fn at_most_default() -> u32 {
        1
    }
}

/// After which end of a run a schedule stops by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SuspendAfter {
    /// One that was broken: the weakness is known, and more runs would only hurt.
    #[default]
    Broken,
    /// One that was broken, or said nothing.
    Inconclusive,
    /// None.
    Never,
}

/// A cron expression with five fields: minute, hour, day of the month, month, day of the week.
///
/// Beside numbers, lists, ranges and steps it takes names (`MON-FRI`, `JAN`), `L` (the last day of the month; `FRI#L`: its last
/// Friday), `MON#2` (its second Monday), `15W` (the weekday nearest to the 15th) and `@hourly`, `@daily`, `@weekly`, `@monthly`,
/// `@yearly`. Where both days are said, either will do, as cron has always had it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron(String);

/// Why a text is no cron expression, or one that names no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It has more fields than five, or fewer.
    #[error("a cron expression has five fields, and this has {0}")]
    Fields(usize),
    /// One field.
    #[error("`{field}` is not {what}")]
    Field {
        /// As it is written.
        field: String,
        /// Which byte of the expression it begins at.
        at: usize,
        /// What it should be, with its article.
        what: &'static str,
        /// What may be written there.
        may: &'static str,
    },
    /// An abbreviation that is not known.
    #[error("`{0}` is none of @hourly, @daily, @weekly, @monthly, @yearly")]
    Nickname(String),
    /// There is no such day.
    #[error("`{0}` names no time that ever comes")]
    Never(String),
}

/// What the fields are, and what may be written there.
const FIELDS: [(&str, &str); 5] = [
    (
        "a minute",
        "0 to 59, lists, ranges and steps: 0, 5-10, */15",
    ),
    ("an hour", "0 to 23, lists, ranges and steps: 2, 9-17, */6"),
    (
        "a day of the month",
        "1 to 31, L for the last, 15W for the weekday nearest to the 15th",
    ),
    ("a month", "1 to 12 or JAN to DEC"),
    (
        "a day of the week",
        "0 to 7 (both are Sunday) or SUN to SAT, MON#2 for the second Monday",
    ),
];

const NICKNAMES: [&str; 6] = [
    "@hourly",
    "@daily",
    "@weekly",
    "@monthly",
    "@yearly",
    "@annually",
];

impl Cron {
    /// As it was written, without blanks around it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What finds its times. Reading an expression that was checked does not fail; `None` says that it did all the same.
    #[must_use]
    pub fn pattern(&self) -> Option<croner::Cron> {
        parse(&self.0).ok()
    }
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        if text.starts_with('@') {
            let known = NICKNAMES.iter().any(|name| name.eq_ignore_ascii_case(text));
            return known
                .then(|| Self(text.to_owned()))
                .ok_or_else(|| CronError::Nickname(text.to_owned()));
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        if fields.len() != FIELDS.len() {
            return Err(CronError::Fields(fields.len()));
        }
        for (place, field) in fields.iter().enumerate() {
            check_field(text, place, field)?;
        }
        let pattern = parse(text).map_err(|_| CronError::Never(text.to_owned()))?;
        // Leap days come every eight years at the worst (1896 to 1904, 2096 to 2104), on a given day of the week every forty.
        let from = Date::constant(2024, 1, 1).to_datetime(Time::midnight());
        match pattern.find_next_occurrence(&from, true) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(CronError::Never(text.to_owned())),
        }
    }
}

/// One field, with stars in the place of the others: what is wrong is then wrong with this one.
fn check_field(text: &str, place: usize, field: &str) -> Result<(), CronError> {
    let mut alone = ["*"; FIELDS.len()];
    alone[place] = field;
    // The parser passes over what it should not: a list with nothing between its commas, a `+` for another meaning of days.
    let sloppy = field.split(',').any(str::is_empty)
        || !field
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "*/,-#".contains(c));
    if !sloppy && parse(&alone.join(" ")).is_ok() {
        return Ok(());
    }
    let at = field.as_ptr() as usize - text.as_ptr() as usize;
    let (what, may) = FIELDS[place];
    Err(CronError::Field {
        field: field.to_owned(),
        at,
        what,
        may,
    })
}

fn parse(text: &str) -> Result<croner::Cron, croner::errors::CronError> {
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    parser.parse(text)
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Cron {
    type Error = CronError;
    fn try_from(text: String) -> Result<Self, CronError> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.0
    }
}

/// A stretch of some days of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// On which days it begins; on all where nothing is said.
    #[serde(default = "Window::all_days")]
    pub days: Vec<Day>,
    /// From this time on.
    pub from: Clock,
    /// Up to this time; on the next day where it is not later than `from`.
    pub to: Clock,
}

impl Window {
    /// The whole week.
    #[must_use]
    pub fn all_days() -> Vec<Day> {
        Day::ALL.to_vec()
    }
}

/// A day of the week.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "days of the week")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// In the order of ISO 8601.
    pub const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];

    /// As it is written.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }
}

/// A time of the day, to the minute: `09:00`, up to `24:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Clock(u16);

/// A text that is no time of the day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time of the day: write one such as `09:00`, up to `24:00`")]
pub struct NoClock(String);

impl Clock {
    /// Minutes since midnight, up to 1,440.
    #[must_use]
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl FromStr for Clock {
    type Err = NoClock;
    fn from_str(text: &str) -> Result<Self, NoClock> {
        const DAY: u16 = 24 * 60;
        let two = |part: &str| {
            (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse::<u16>().ok())
        };
        let minutes = text.split_once(':').and_then(|(hour, minute)| {
            let (hour, minute) = (two(hour)??, two(minute)??);
            (minute < 60).then_some(hour * 60 + minute)
        });
        minutes
            .filter(|minutes| *minutes <= DAY)
            .map(Self)
            .ok_or_else(|| NoClock(text.to_owned()))
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl TryFrom<String> for Clock {
    type Error = NoClock;
    fn try_from(text: String) -> Result<Self, NoClock> {
        text.parse()
    }
}

impl From<Clock> for String {
    fn from(clock: Clock) -> Self {
        clock.to_string()
    }
}

/// Whether there is such a time zone, in the copy of IANA's data that this library brings along: the same answer on every machine.
#[must_use]
pub fn is_time_zone(name: &str) -> bool {
    TimeZoneDatabase::bundled()
        .get(name)
        .is_ok_and(|zone| zone.iana_name() == Some(name))
}

/// The names of all time zones there are.
pub(crate) fn time_zones() -> Vec<String> {
    TimeZoneDatabase::bundled()
        .available()
        .map(|name| name.to_string())
        .collect()
}
