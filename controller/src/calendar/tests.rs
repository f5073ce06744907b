//! Times, windows and calendars, at the changes of the clock and around them.

use super::*;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use squall_experiments::language;
use squall_experiments::schedule::{Cron, Schedule};
use std::time::Duration;

pub(super) fn schedule(more: &str) -> Schedule {
    let text = format!(
        "apiVersion: squall/v1\nkind: Schedule\nmetadata: {{ name: nightly }}\nexperiment: e.yaml\n{more}\n"
    );
    let read = language::read_schedule("s.yaml", &text);
    read.value
        .clone()
        .unwrap_or_else(|| panic!("{}", read.render(&text, language::Colour::Never)))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn times(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let zone = TimeZone::get(zone).unwrap();
    let times = Times::new(&cron.parse::<Cron>().unwrap(), zone.clone()).unwrap();
    let all = std::iter::successors(times.after(at(from)), |last| times.after(*last));
    all.take(count)
        .map(|due| {
            due.to_zoned(zone.clone())
                .strftime("%m-%dT%H:%M%:z")
                .to_string()
        })
        .collect()
}

#[test]
fn a_time_that_is_skipped_is_due_when_the_clock_has_jumped_and_one_that_comes_twice_once() {
    let berlin = |cron, from, count| times(cron, "Europe/Berlin", from, count);
    let spring = berlin("30 2 * * *", "2026-03-27T12:00:00Z", 3);
    assert_eq!(
        spring,
        [
            "03-28T02:30+01:00",
            "03-29T03:00+02:00",
            "03-30T02:30+02:00"
        ]
    );
    let autumn = berlin("30 2 * * *", "2026-10-24T12:00:00Z", 2);
    assert_eq!(autumn, ["10-25T02:30+02:00", "10-26T02:30+01:00"]);
    // From within the hour that comes a second time, and from the very jump.
    let second = berlin("*/30 * * * *", "2026-10-25T01:10:00Z", 2);
    assert_eq!(second, ["10-25T03:00+01:00", "10-25T03:30+01:00"]);
    let jump = berlin("*/30 * * * *", "2026-03-29T00:59:00Z", 2);
    assert_eq!(jump, ["03-29T03:00+02:00", "03-29T03:30+02:00"]);
    // A day that Samoa never had, and half an hour on Lord Howe.
    let samoa = times("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3);
    assert_eq!(
        samoa,
        [
            "12-29T12:00-10:00",
            "12-31T00:00+14:00",
            "12-31T12:00+14:00"
        ]
    );
    let howe = times(
        "15 2 4 10 *",
        "Australia/Lord_Howe",
        "2026-01-01T00:00:00Z",
        1,
    );
    assert_eq!(howe, ["10-04T02:30+11:00"]);
}

const CALENDAR: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\n\
BEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Christmas\r\nDTSTART;VALUE=DATE:20261224\r\nDTEND;VALUE=DATE:20261227\r\nTRANSP:TRANSPARENT\r\nEND:VEVENT\r\n\
BEGIN:VEVENT\r\nUID:2\r\nSUMMARY:Payroll\r\nDTSTART;TZID=America/New_York:20260105T090000\r\nDURATION:PT2H\r\n\
RRULE:FREQ=WEEKLY;BYDAY=MO,FR;UNTIL=20261231T235959Z\r\nEXDATE;TZID=America/New_York:20260112T090000\r\nEND:VEVENT\r\n\
BEGIN:VEVENT\r\nUID:2\r\nRECURRENCE-ID;TZID=America/New_York:20260119T090000\r\nSUMMARY:Payroll, moved\r\n\
DTSTART;TZID=America/New_York:20260120T090000\r\nDURATION:PT1H\r\nEND:VEVENT\r\n\
BEGIN:VEVENT\r\nUID:3\r\nSUMMARY:Backup\r\nDTSTART:20260101T033000\r\nDTEND:20260101T043000\r\nRRULE:FREQ=DAILY\r\nEND:VEVENT\r\n\
BEGIN:VEVENT\r\nUID:4\r\nSUMMARY:Not any more\r\nSTATUS:CANCELLED\r\nDTSTART:20260601T000000Z\r\nDTEND:20260602T000000Z\r\nEND:VEVENT\r\n\
END:VCALENDAR\r\n";

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

#[test]
fn a_calendar_is_read_with_its_days_zones_repetitions_and_exceptions() {
    let calendar = Calendar::read("freeze.ics", CALENDAR, &berlin()).unwrap();
    let meets = |from: &str, minutes: i64| {
        let from = at(from);
        calendar
            .meets(from, from + SignedDuration::from_mins(minutes))
            .map(|b| b.what)
    };
    let what = |name: &str| Some(name.to_owned());
    // All days are the schedule's: from midnight in Berlin to midnight in Berlin.
    assert_eq!(meets("2026-12-23T22:50:00Z", 10), None);
    assert_eq!(meets("2026-12-23T22:50:00Z", 11), what("Christmas"));
    assert_eq!(meets("2026-12-26T22:59:00Z", 1), what("Christmas"));
    assert_eq!(meets("2026-12-26T23:00:00Z", 1), None);
    // Nine in New York, in winter and in summer; one left out, one moved, and none after the end.
    assert_eq!(meets("2026-01-05T14:00:00Z", 1), what("Payroll"));
    assert_eq!(meets("2026-07-06T13:00:00Z", 1), what("Payroll"));
    assert_eq!(meets("2026-07-06T12:59:00Z", 1), None);
    assert_eq!(meets("2026-01-12T14:00:00Z", 1), None);
    assert_eq!(meets("2026-01-19T14:30:00Z", 1), None);
    assert_eq!(meets("2026-01-20T14:30:00Z", 1), what("Payroll, moved"));
    assert_eq!(meets("2027-01-04T14:00:00Z", 1), None);
    // Every day, by the schedule's own clock: half past three, also when the night has an hour less.
    assert_eq!(meets("2026-03-28T02:30:00Z", 1), what("Backup"));
    assert_eq!(meets("2026-03-29T01:30:00Z", 1), what("Backup"));
    assert_eq!(meets("2026-06-01T12:00:00Z", 1), None);
}

#[test]
fn what_is_not_understood_in_a_calendar_is_refused() {
    let read = |text: &str| {
        Calendar::read("freeze.ics", text, &berlin())
            .map(drop)
            .map_err(|e| e.to_string())
    };
    let event = |lines: &str| {
        format!(
            "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Freeze\r\n{lines}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
        )
    };
    let good = "DTSTART:20260101T000000Z";
    assert_eq!(read(&event(good)), Ok(()));
    for (lines, why) in [
        ("UID:1", "DTSTART"),
        (
            "DTSTART;TZID=W. Europe Standard Time:20260101T000000",
            "`W. Europe Standard Time`",
        ),
        ("DTSTART:tomorrow", "neither a day nor a time"),
        (
            "DTSTART:20260101T000000Z\r\nDTEND:20251231T000000Z",
            "ends before it begins",
        ),
        ("DTSTART:20260101T000000Z\r\nRRULE:FREQ=NEVER", "repetition"),
        ("DTSTART:20260101T000000Z\r\nEXRULE:FREQ=DAILY", "EXRULE"),
    ] {
        let said = read(&event(lines)).unwrap_err();
        assert!(
            said.contains(why) && said.contains("`Freeze`"),
            "{lines}: {said}"
        );
    }
    assert!(
        read(&event(good).replace("END:VCALENDAR\r\n", "")).is_err(),
        "cut off"
    );
    assert!(read("hello").is_err());
    assert!(
        read(&event(&format!("{good}\r\nno property"))).is_err(),
        "a line that is none"
    );
}

#[test]
fn an_event_that_comes_too_often_to_tell_is_always_there() {
    let text = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY\nEND:VEVENT\nEND:VCALENDAR\n";
    let calendar = Calendar::read("c.ics", text, &berlin()).unwrap();
    let from = at("2026-01-01T00:00:30Z");
    assert!(
        calendar
            .meets(from, from + SignedDuration::from_secs(1))
            .is_some()
    );
}

#[test]
fn a_run_fits_wholly_into_a_window_and_touches_no_blackout() {
    let text = "cron: 0 * * * *\ntimeZone: Europe/Berlin\nwindows: [ { days: MON-FRI, from: 09:00, to: 17:00 }, { days: SAT, from: 22:00, to: 02:00 } ]\nblackouts: [ freeze.ics ]";
    let table = Timetable::new(
        &schedule(text),
        Duration::from_secs(600),
        &[("freeze.ics".into(), CALENDAR.into())],
    )
    .unwrap();
    let blocked = |text: &str| table.blocked(at(text)).map(|blocked| blocked.to_string());
    assert_eq!(blocked("2026-11-24T08:00:00Z"), None);
    let outside = Some("not wholly within one of its windows".to_owned());
    assert_eq!(blocked("2026-11-24T07:59:00Z"), outside);
    // It would last until after five.
    assert_eq!(blocked("2026-11-24T15:50:00Z"), None);
    assert_eq!(blocked("2026-11-24T15:51:00Z"), outside);
    assert_eq!(
        blocked("2026-11-29T00:30:00Z"),
        None,
        "Saturday's window lasts into Sunday"
    );
    assert_eq!(blocked("2026-11-29T01:00:00Z"), outside);
    assert_eq!(
        blocked("2026-12-24T10:00:00Z"),
        Some("`Christmas` in freeze.ics".into())
    );
}

#[test]
fn jitter_is_the_same_everywhere_and_overtakes_nothing() {
    let text = "cron: \"*/5 * * * *\"\ntimeZone: Etc/UTC\njitter: 1h";
    let table = || Timetable::new(&schedule(text), Duration::from_secs(60), &[]).unwrap();
    let (one, other) = (table(), table());
    let mut last = one.after(at("2026-01-01T00:00:00Z")).unwrap();
    let mut moved = 0;
    for _ in 0..200 {
        let next = one.after(last.due).unwrap();
        assert_eq!(other.after(last.due), Some(next));
        assert!(next.start >= next.due && next.start >= last.start);
        moved += u32::from(next.start > next.due);
        last = next;
    }
    assert!(moved > 150, "{moved} of 200 were moved");
}

fn standing(settled: &str, running: u32) -> Standing {
    Standing {
        settled: at(settled),
        running,
        is_suspended: false,
    }
}

#[test]
fn of_what_was_missed_the_latest_is_made_up_for_if_it_is_not_too_late() {
    let table = |within: &str| {
        let text = format!("cron: 0 * * * *\ntimeZone: Etc/UTC\nstartWithin: {within}");
        Timetable::new(&schedule(&text), Duration::from_secs(60), &[]).unwrap()
    };
    let settled = "2026-01-01T00:00:00Z";
    let now = at("2026-01-01T03:20:00Z");
    let decision = decide(&table("30min"), standing(settled, 0), now);
    let outcomes: Vec<(String, bool)> = decision
        .outcomes
        .iter()
        .map(|(due, outcome)| (due.due.to_string(), *outcome == Outcome::Start))
        .collect();
    let wanted = [
        ("2026-01-01T01:00:00Z", false),
        ("2026-01-01T02:00:00Z", false),
        ("2026-01-01T03:00:00Z", true),
    ];
    assert_eq!(
        outcomes,
        wanted.map(|(due, starts)| (due.to_owned(), starts))
    );
    assert_eq!(decision.look_again, Some(at("2026-01-01T04:00:00Z")));
    let late = decide(&table("10min"), standing(settled, 0), now);
    assert_eq!(
        late.outcomes.last().unwrap().1,
        Outcome::PassedOver("nobody was there to start it in time".into())
    );
    // It waits for room, and gives up when it is too late.
    let full = decide(&table("30min"), standing(settled, 1), now);
    assert_eq!(full.outcomes.len(), 2);
    assert_eq!(full.look_again, Some(at("2026-01-01T03:30:00Z")));
    let given_up = decide(
        &table("30min"),
        standing(settled, 1),
        at("2026-01-01T03:31:00Z"),
    );
    assert_eq!(
        given_up.outcomes.last().unwrap().1,
        Outcome::PassedOver("too many of its runs were under way".into())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However often, and after however long, somebody looks: each time is decided once, in order, and none is left out.
    #[test]
    fn every_time_is_decided_once(pauses in proptest::collection::vec(1_i64..20_000, 1..40), minute in 1_u32..30) {
        let text = format!("cron: \"*/{minute} * * * *\"\ntimeZone: America/Sao_Paulo\njitter: 2min\nstartWithin: 20min");
        let table = Timetable::new(&schedule(&text), Duration::from_secs(60), &[]).unwrap();
        let begin = at("2026-05-05T05:05:05Z");
        let mut settled = begin;
        let mut now = begin;
        let mut decided = Vec::new();
        for pause in pauses {
            now += SignedDuration::from_secs(pause);
            let decision = decide(&table, Standing { settled, running: 0, is_suspended: false }, now);
            for (due, outcome) in &decision.outcomes {
                let in_time = now <= due.start + SignedDuration::from_mins(20);
                prop_assert!(in_time || *outcome != Outcome::Start, "started too late");
                decided.push(due.due);
            }
            if let Some((due, _)) = decision.outcomes.last() {
                settled = due.due;
            }
        }
        let wanted: Vec<Timestamp> = std::iter::successors(table.after(begin), |last| table.after(last.due))
            .take_while(|due| due.start <= now)
            .map(|due| due.due)
            .collect();
        prop_assert_eq!(decided, wanted);
    }
}
