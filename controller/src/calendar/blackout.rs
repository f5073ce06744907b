//! Blackout calendars: iCalendar files (RFC 5545) whose events no run may touch.
//!
//! What is not understood is refused, for a calendar that is read in part lets runs through that it was written to stop. An event with a time
//! zone of its own is in that; all-day events and times without one are in the schedule's. Whether an event is shown as busy does
//! not matter: that it is in the calendar says enough. A cancelled one counts for nothing.

use super::times::instant;
use icalendar::parser::{Component, Property, read_calendar, unfold};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, ToSpan};
use rrule::RRuleSet;
use std::collections::BTreeMap;

/// A calendar has hundreds of events; more than this is not a blackout calendar.
pub const BYTES_MAX: usize = 4 << 20;

/// So many times of one event are looked at, from its first: enough for each day of 179 years.
const OCCURRENCES_MAX: u16 = u16::MAX;

/// Why a calendar cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BlackoutError {
    /// Its form.
    #[error("`{file}` is no iCalendar file: {why}")]
    Form {
        /// Which.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// An event.
    #[error("event `{event}` of `{file}` is not understood: {why}")]
    Event {
        /// In which file.
        file: String,
        /// What it is called.
        event: String,
        /// What is wrong, and what to do.
        why: String,
    },
}

/// A stretch of time in which nothing runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blackout {
    /// What it is called.
    pub what: String,
    /// In which calendar.
    pub calendar: String,
    /// From then on.
    pub from: Timestamp,
    /// Up to then.
    pub to: Timestamp,
}

/// A calendar that was read.
#[derive(Debug, Clone)]
pub struct Calendar {
    name: String,
    events: Vec<Event>,
}

#[derive(Debug, Clone)]
struct Event {
    what: String,
    start: DateTime,
    zone: TimeZone,
    length: Length,
    /// What repeats it, by the clock on the wall: worked out as if that were UTC, and put into its zone afterwards.
    again: Option<Box<RRuleSet>>,
    /// Times at which it is not, though its rule says so: another event stands in their place.
    moved: Vec<DateTime>,
}

#[derive(Debug, Clone, Copy)]
enum Length {
    Days(i32),
    Exactly(SignedDuration),
}

impl Calendar {
    /// Reads a calendar. `zone` is where all-day events and times without a zone are.
    ///
    /// # Errors
    /// Anything in it that is not understood.
    pub fn read(name: &str, text: &str, zone: &TimeZone) -> Result<Self, BlackoutError> {
        let form = |why: String| BlackoutError::Form {
            file: name.to_owned(),
            why,
        };
        if text.len() > BYTES_MAX {
            return Err(form(format!("it has more than {BYTES_MAX} bytes")));
        }
        let text = unfold(text.trim_start_matches('\u{feff}'));
        let parsed = read_calendar(&text).map_err(|error| form(first_line(&error)))?;
        let events: Vec<&Component<'_>> = parsed
            .components
            .iter()
            .filter(|c| c.name == "VEVENT")
            .collect();
        // The parser stops where it does not understand, and says nothing of it.
        let begun = text
            .lines()
            .filter(|line| line.trim_end().eq_ignore_ascii_case("BEGIN:VEVENT"))
            .count();
        let ends = text
            .trim_end()
            .to_ascii_uppercase()
            .ends_with("END:VCALENDAR");
        if begun != events.len() || !ends {
            return Err(form(format!(
                "of {begun} events, {} can be read; is it cut off?",
                events.len()
            )));
        }
        let mut read = Vec::new();
        for event in events {
            read.push(
                Raw {
                    file: name,
                    component: event,
                }
                .read(zone)?,
            );
        }
        Ok(Self {
            name: name.to_owned(),
            events: together(read),
        })
    }

    /// The first event that has a moment in common with this stretch of time.
    #[must_use]
    pub fn meets(&self, from: Timestamp, to: Timestamp) -> Option<Blackout> {
        let met = self.events.iter().filter_map(|event| event.meets(from, to));
        let (what, from, to) = met.min_by_key(|(_, from, _)| *from)?;
        Some(Blackout {
            what,
            calendar: self.name.clone(),
            from,
            to,
        })
    }
}

/// An event, with what it says of others.
struct Told {
    event: Event,
    uid: String,
    /// It stands for the time of a repeated one that would have been then.
    instead_of: Option<DateTime>,
    is_cancelled: bool,
}

/// Takes out of repeated events what others stand for.
fn together(told: Vec<Told>) -> Vec<Event> {
    let mut moved: BTreeMap<String, Vec<DateTime>> = BTreeMap::new();
    for one in &told {
        if let Some(at) = one.instead_of {
            moved.entry(one.uid.clone()).or_default().push(at);
        }
    }
    let kept = told.into_iter().filter(|one| !one.is_cancelled);
    kept.map(|mut one| {
        if one.instead_of.is_none() {
            one.event.moved = moved.remove(&one.uid).unwrap_or_default();
        }
        one.event
    })
    .collect()
}

impl Event {
    fn meets(&self, from: Timestamp, to: Timestamp) -> Option<(String, Timestamp, Timestamp)> {
        let Some(starts) = self.starts(from, to) else {
            // Its times are too many to tell: then there is no time without it.
            return Some((format!("{} (too often to tell when)", self.what), from, to));
        };
        let spans = starts.into_iter().filter_map(|start| self.span(start));
        let met = spans
            .filter(|(begin, end)| *begin < to && (*end > from || begin == end && *begin >= from));
        met.min_by_key(|(begin, _)| *begin)
            .map(|(begin, end)| (self.what.clone(), begin, end))
    }

    /// One occurrence as two instants.
    fn span(&self, start: DateTime) -> Option<(Timestamp, Timestamp)> {
        let begin = instant(start, &self.zone)?;
        let end = match self.length {
            Length::Days(days) => instant(start.checked_add(days.days()).ok()?, &self.zone)?,
            Length::Exactly(length) => begin.checked_add(length).ok()?,
        };
        Some((begin, end))
    }

    /// When, by its own wall clock, it begins in or around a stretch of time; `None` when that is too often to tell.
    fn starts(&self, from: Timestamp, to: Timestamp) -> Option<Vec<DateTime>> {
        let Some(set) = &self.again else {
            return Some(vec![self.start]);
        };
        let length: Span = match self.length {
            Length::Days(days) => (days + 1).days(),
            Length::Exactly(length) => (length.as_hours() + 48).hours(),
        };
        let begin = self.zone.to_datetime(from).checked_sub(length).ok()?;
        let end = self.zone.to_datetime(to).checked_add(1.day()).ok()?;
        // Not from `begin` on: the library would count only those that it gives, and look for ever.
        let found = set
            .as_ref()
            .clone()
            .before(as_utc(end)?)
            .all(OCCURRENCES_MAX);
        // There were more than this, or it gave up looking for them.
        if found.limited {
            return None;
        }
        let dates = found.dates.iter().map(|date| {
            let at = Timestamp::from_second(date.timestamp()).ok()?;
            Some(TimeZone::UTC.to_datetime(at))
        });
        let dates: Option<Vec<DateTime>> = dates.collect();
        let near = dates?
            .into_iter()
            .filter(|at| *at >= begin && !self.moved.contains(at));
        Some(near.collect())
    }
}

/// A time of a wall clock, as the library for repetitions takes it.
fn as_utc(civil: DateTime) -> Option<chrono::DateTime<rrule::Tz>> {
    let seconds = TimeZone::UTC.to_timestamp(civil).ok()?.as_second();
    let utc = chrono::DateTime::from_timestamp(seconds, 0)?;
    Some(utc.with_timezone(&rrule::Tz::UTC))
}

/// A time as a file has it.
struct When {
    civil: DateTime,
    zone: TimeZone,
    is_day: bool,
}

struct Raw<'r> {
    file: &'r str,
    component: &'r Component<'r>,
}

impl Raw<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.component
            .find_prop(name)
            .map(|p| p.val.as_str().trim().to_owned())
    }

    fn bad(&self, why: impl Into<String>) -> BlackoutError {
        let named = self.text("SUMMARY").or_else(|| self.text("UID"));
        BlackoutError::Event {
            file: self.file.to_owned(),
            event: named.unwrap_or_else(|| "without a name".into()),
            why: why.into(),
        }
    }

    fn read(&self, zone: &TimeZone) -> Result<Told, BlackoutError> {
        let start = self
            .component
            .find_prop("DTSTART")
            .ok_or_else(|| self.bad("it has no DTSTART"))?;
        let start = self.when(start, zone)?;
        let what = self
            .text("SUMMARY")
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| "an event without a name".into());
        let instead_of = match self.component.find_prop("RECURRENCE-ID") {
            Some(property) => Some(self.in_zone(&self.when(property, zone)?, &start.zone)?),
            None => None,
        };
        Ok(Told {
            uid: self.text("UID").unwrap_or_default(),
            instead_of,
            is_cancelled: self
                .text("STATUS")
                .is_some_and(|status| status.eq_ignore_ascii_case("CANCELLED")),
            event: Event {
                what,
                start: start.civil,
                length: self.length(&start, zone)?,
                again: self.again(&start, zone)?,
                zone: start.zone,
                moved: Vec::new(),
            },
        })
    }

    fn when(&self, property: &Property<'_>, zone: &TimeZone) -> Result<When, BlackoutError> {
        let param = |name: &str| {
            let found = property
                .params
                .iter()
                .find(|p| p.key.as_str().eq_ignore_ascii_case(name));
            found
                .and_then(|p| p.val.as_ref())
                .map(|value| value.as_str().trim_matches('"').to_owned())
        };
        let own = match param("TZID") {
            None => zone.clone(),
            Some(name) => TimeZone::get(&name)
                .map_err(|_| self.bad(format!("`{name}` is not a time zone of IANA's; export the calendar with names such as Europe/Berlin, or in UTC")))?,
        };
        self.at(property.val.as_str().trim(), own)
    }

    /// `20261224`, `20261224T180000` or `20261224T180000Z`.
    fn at(&self, text: &str, zone: TimeZone) -> Result<When, BlackoutError> {
        let bad = |_| self.bad(format!("`{text}` is neither a day nor a time"));
        if let Some(utc) = text.strip_suffix(['Z', 'z']) {
            let civil = DateTime::strptime("%Y%m%dT%H%M%S", utc).map_err(bad)?;
            return Ok(When {
                civil,
                zone: TimeZone::UTC,
                is_day: false,
            });
        }
        if text.contains('T') {
            let civil = DateTime::strptime("%Y%m%dT%H%M%S", text).map_err(bad)?;
            return Ok(When {
                civil,
                zone,
                is_day: false,
            });
        }
        let day = Date::strptime("%Y%m%d", text).map_err(bad)?;
        Ok(When {
            civil: day.to_datetime(jiff::civil::Time::midnight()),
            zone,
            is_day: true,
        })
    }

    /// The same instant by another wall clock.
    fn in_zone(&self, when: &When, zone: &TimeZone) -> Result<DateTime, BlackoutError> {
        if when.is_day || when.zone == *zone {
            return Ok(when.civil);
        }
        let at = instant(when.civil, &when.zone)
            .ok_or_else(|| self.bad("a time in it is out of reach"))?;
        Ok(zone.to_datetime(at))
    }

    fn length(&self, start: &When, zone: &TimeZone) -> Result<Length, BlackoutError> {
        if let Some(text) = self.text("DURATION") {
            let span: Span = text
                .parse()
                .map_err(|_| self.bad(format!("`{text}` is not a duration")))?;
            let date = start
                .civil
                .checked_add(span)
                .map_err(|_| self.bad("it lasts too long"))?;
            let length = date.duration_since(start.civil);
            return self.lasting(start, length);
        }
        let Some(end) = self.component.find_prop("DTEND") else {
            return Ok(if start.is_day {
                Length::Days(1)
            } else {
                Length::Exactly(SignedDuration::ZERO)
            });
        };
        let end = self.when(end, zone)?;
        if start.is_day && end.is_day {
            return self.lasting(start, end.civil.duration_since(start.civil));
        }
        let of = |when: &When| {
            instant(when.civil, &when.zone).ok_or_else(|| self.bad("a time in it is out of reach"))
        };
        self.lasting(
            &When {
                is_day: false,
                civil: start.civil,
                zone: start.zone.clone(),
            },
            of(&end)?.duration_since(of(start)?),
        )
    }

    fn lasting(&self, start: &When, length: SignedDuration) -> Result<Length, BlackoutError> {
        const DAY_SECONDS: i64 = 24 * 3_600;
        if length.is_negative() {
            return Err(self.bad("it ends before it begins"));
        }
        if !start.is_day {
            return Ok(Length::Exactly(length));
        }
        // RFC 5545, 3.6.1: where there is no end, and where the end is the beginning, it is that day.
        let days = i32::try_from(length.as_secs() / DAY_SECONDS)
            .map_err(|_| self.bad("it lasts too long"))?;
        Ok(Length::Days(days.max(1)))
    }

    fn again(&self, start: &When, zone: &TimeZone) -> Result<Option<Box<RRuleSet>>, BlackoutError> {
        let of = |name: &'static str| {
            self.component
                .properties
                .iter()
                .filter(move |p| p.name == name)
        };
        if of("EXRULE").next().is_some() {
            return Err(self.bad("it has an EXRULE, which RFC 5545 took out; write EXDATE"));
        }
        if of("RRULE").next().is_none() && of("RDATE").next().is_none() {
            return Ok(None);
        }
        let show = |at: DateTime| at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut lines = vec![format!("DTSTART:{}", show(start.civil))];
        for rule in of("RRULE") {
            lines.push(format!("RRULE:{}", self.rule(rule.val.as_str(), start)?));
        }
        for name in ["RDATE", "EXDATE"] {
            for property in of(name) {
                let mut times = Vec::new();
                for text in property.val.as_str().split(',') {
                    let one = Property {
                        name: property.name.clone(),
                        val: text.into(),
                        params: property.params.clone(),
                    };
                    let mut at = self.when(&one, zone)?;
                    if at.is_day {
                        // A day among times: that day's occurrence.
                        at.civil = at.civil.date().to_datetime(start.civil.time());
                    }
                    times.push(show(self.in_zone(&at, &start.zone)?));
                }
                lines.push(format!("{name}:{}", times.join(",")));
            }
        }
        let set = lines.join("\n").parse::<RRuleSet>();
        set.map(|set| Some(Box::new(set.limit())))
            .map_err(|error| self.bad(format!("its repetition is wrong: {error}")))
    }

    /// A rule whose UNTIL is by the event's own wall clock.
    fn rule(&self, rule: &str, start: &When) -> Result<String, BlackoutError> {
        let mut parts = Vec::new();
        for part in rule.trim().split(';') {
            let until = part
                .get(..6)
                .filter(|name| name.eq_ignore_ascii_case("UNTIL="))
                .map(|_| &part[6..]);
            let Some(until) = until else {
                parts.push(part.to_owned());
                continue;
            };
            let at = self.at(until, start.zone.clone())?;
            let civil = if at.is_day {
                // Up to the end of that day: its occurrence is among them.
                at.civil
                    .date()
                    .to_datetime(jiff::civil::time(23, 59, 59, 0))
            } else {
                self.in_zone(&at, &start.zone)?
            };
            parts.push(format!("UNTIL={}", civil.strftime("%Y%m%dT%H%M%SZ")));
        }
        Ok(parts.join(";"))
    }
}

fn first_line(text: &str) -> String {
    text.lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim()
        .to_owned()
}
