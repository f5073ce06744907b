//! When a node may be hit at all. Pure: the time is brought by whoever asks.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// A day has so many seconds on the wall clock; one on which the clocks change has an hour that never comes, or twice.
const DAY_SECONDS: u32 = 86_400;
/// As jiff counts them: Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When faults are allowed, by the clock on a wall somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Hours {
    /// Where that wall is.
    #[serde(default)]
    pub(crate) zone: Zone,
    /// The windows; outside of all of them nothing begins, and what goes on ends.
    pub(crate) open: Vec<Window>,
}

/// A time zone by its name in the node's own database (tzdata), or UTC.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Zone(TimeZone);

/// Days and a time of day: `mon-fri 09:00-17:00`. One that ends before it begins goes on into the next day.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Window {
    /// Whether it begins on that day, Monday first.
    days: [bool; 7],
    /// Its first second of the day.
    from: u32,
    /// The first second after it.
    to: u32,
    /// As it was written.
    text: String,
}

/// Why a zone or a window could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HoursError {
    /// No such zone.
    #[error(
        "`{0}` is no time zone that this node knows: write `UTC`, or install tzdata and write a name such as `Europe/Berlin`"
    )]
    Zone(String),
    /// Not a window.
    #[error(
        "`{0}` is no window of time: write days and hours, as in `mon-fri 09:00-17:00`, `sat,sun 10:00-12:00` or `22:00-02:00`"
    )]
    Window(String),
}

impl Hours {
    /// Whether faults are allowed at this moment.
    pub(crate) fn is_open(&self, at: Timestamp) -> bool {
        let local = at.to_zoned(self.zone.0.clone());
        let time = local.time();
        let second = |n: i8| u32::from(n.unsigned_abs());
        let now = second(time.hour()) * 3600 + second(time.minute()) * 60 + second(time.second());
        let day = usize::from(local.weekday().to_monday_zero_offset().unsigned_abs());
        self.open.iter().any(|window| window.has(day, now))
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open: Vec<&str> = self
            .open
            .iter()
            .map(|window| window.text.as_str())
            .collect();
        let zone = self.zone.0.iana_name().unwrap_or("UTC");
        write!(f, "{} {zone}", open.join(", "))
    }
}

impl Window {
    fn has(&self, day: usize, second: u32) -> bool {
        let (today, yesterday) = (self.days[day % 7], self.days[(day + 6) % 7]);
        if self.from < self.to {
            return today && (self.from..self.to).contains(&second);
        }
        (today && second >= self.from) || (yesterday && second < self.to)
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl TryFrom<String> for Zone {
    type Error = HoursError;
    fn try_from(name: String) -> Result<Self, HoursError> {
        if name == "UTC" {
            return Ok(Self(TimeZone::UTC));
        }
        TimeZone::get(&name)
            .map(Self)
            .map_err(|_| HoursError::Zone(name))
    }
}

impl TryFrom<String> for Window {
    type Error = HoursError;
    fn try_from(text: String) -> Result<Self, HoursError> {
        text.parse()
    }
}

impl FromStr for Window {
    type Err = HoursError;
    fn from_str(text: &str) -> Result<Self, HoursError> {
        read_window(text).ok_or_else(|| HoursError::Window(text.to_owned()))
    }
}

fn read_window(text: &str) -> Option<Window> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (days, hours) = match words.as_slice() {
        [hours] => ([true; 7], hours),
        [days, hours] => (read_days(days)?, hours),
        _ => return None,
    };
    let (from, to) = hours.split_once('-')?;
    let (from, to) = (read_second(from)?, read_second(to)?);
    let empty = from == to || from == DAY_SECONDS;
    (!empty).then(|| Window {
        days,
        from,
        to,
        text: words.join(" "),
    })
}

fn read_days(text: &str) -> Option<[bool; 7]> {
    let number = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (number(first)?, number(last)?);
        days[day] = true;
        while day != last {
            day = (day + 1) % 7;
            days[day] = true;
        }
    }
    Some(days)
}

/// `09:00` or `09:00:30`; `24:00` is the end of the day.
fn read_second(text: &str) -> Option<u32> {
    let mut parts = text.split(':').map(|part| {
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u32>().ok()).flatten()
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = match parts.next() {
        None => 0,
        Some(second) => second?,
    };
    let sum = hour * 3600 + minute * 60 + second;
    let fits = minute < 60 && second < 60 && sum <= DAY_SECONDS && parts.next().is_none();
    fits.then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(zone: &str, open: &[&str]) -> Hours {
        Hours {
            zone: Zone::try_from(zone.to_owned()).unwrap(),
            open: open.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn open(hours: &Hours, at: &str) -> bool {
        hours.is_open(at.parse().unwrap())
    }

    // 2026-11-26 is a Thursday.
    #[test]
    fn a_window_is_its_days_and_hours_and_no_second_more() {
        let office = hours("UTC", &["mon-fri 09:00-17:00", "sun 10:00-10:00:30"]);
        assert!(open(&office, "2026-11-26T09:00:00Z") && open(&office, "2026-11-26T16:59:59Z"));
        assert!(!open(&office, "2026-11-26T08:59:59Z") && !open(&office, "2026-11-26T17:00:00Z"));
        assert!(!open(&office, "2026-11-28T12:00:00Z"), "Saturday");
        assert!(open(&office, "2026-11-29T10:00:29Z") && !open(&office, "2026-11-29T10:00:30Z"));
        let always = hours("UTC", &["00:00-24:00"]);
        assert!(open(&always, "2026-11-28T23:59:59Z") && open(&always, "2026-11-28T00:00:00Z"));
    }

    #[test]
    fn a_window_past_midnight_belongs_to_the_day_it_begins_on() {
        let night = hours("UTC", &["fri 22:00-02:00"]);
        assert!(open(&night, "2026-11-27T23:00:00Z") && open(&night, "2026-11-28T01:59:59Z"));
        assert!(!open(&night, "2026-11-27T01:00:00Z") && !open(&night, "2026-11-28T02:00:00Z"));
        // Around the week's end, too.
        let end = hours("UTC", &["sat-mon 23:00-01:00"]);
        assert!(open(&end, "2026-11-30T23:30:00Z") && open(&end, "2026-12-01T00:30:00Z"));
        assert!(!open(&end, "2026-11-27T23:30:00Z"));
    }

    #[test]
    fn a_zone_has_its_own_summers() {
        let Ok(zone) = Zone::try_from("Europe/Berlin".to_owned()) else {
            // A node without tzdata has UTC alone; the policy says so when it is read.
            return;
        };
        let berlin = Hours {
            zone,
            open: vec!["09:00-10:00".parse().unwrap()],
        };
        assert!(open(&berlin, "2026-07-01T07:30:00Z") && !open(&berlin, "2026-07-01T08:30:00Z"));
        assert!(open(&berlin, "2026-12-01T08:30:00Z") && !open(&berlin, "2026-12-01T07:30:00Z"));
    }

    #[test]
    fn what_is_no_window_is_said() {
        for wrong in [
            "",
            "mon",
            "9:00-17:00",
            "mon-fri",
            "mon 09:00",
            "09:00-09:00",
            "25:00-26:00",
            "24:00-01:00",
            "mon-foo 09:00-10:00",
            "mon 09:60-10:00",
            "mon 09:00-10:00 UTC",
        ] {
            assert!(wrong.parse::<Window>().is_err(), "{wrong}");
        }
        let error = Zone::try_from("Mars/Olympus".to_owned()).unwrap_err();
        assert!(error.to_string().contains("tzdata"), "{error}");
    }
}
