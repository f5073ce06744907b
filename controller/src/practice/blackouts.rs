//! Calendars of when nothing may run, whoever starts it: read anew for each decision, so that an event put into one counts at once.

use crate::calendar::{Calendar, longest};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Deserialize;
use squall_experiments::experiment::Experiment;
use std::path::PathBuf;

/// A calendar, and where it counts: `blackouts` in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BlackoutFile {
    /// An iCalendar file.
    pub calendar: PathBuf,
    /// Where its all-day events and times without a zone are; UTC where nothing is said.
    #[serde(default)]
    pub time_zone: Option<String>,
    /// Where it counts; everywhere where nothing is said.
    #[serde(default)]
    pub environments: Option<Vec<String>>,
}

/// What keeps a run that begins now from this environment: an event that it would meet before it is over, or a calendar that cannot be
/// read, which may have one.
pub(super) async fn on(
    files: &[BlackoutFile],
    environment: &str,
    experiment: &Experiment,
) -> Option<String> {
    let now = Timestamp::now();
    let length = SignedDuration::try_from(longest(experiment)).unwrap_or(SignedDuration::MAX);
    let end = now.checked_add(length).unwrap_or(Timestamp::MAX);
    let here = |file: &&BlackoutFile| {
        let environments = file.environments.as_ref();
        environments.is_none_or(|all| all.iter().any(|one| one == environment))
    };
    for file in files.iter().filter(here) {
        match read(file).await {
            Ok(calendar) => {
                if let Some(met) = calendar.meets(now, end) {
                    let (what, calendar, from, to) = (met.what, met.calendar, met.from, met.to);
                    return Some(format!("{what}, from {from} to {to}, by {calendar}"));
                }
            }
            Err(why) => return Some(why),
        }
    }
    None
}

async fn read(file: &BlackoutFile) -> Result<Calendar, String> {
    let path = &file.calendar;
    let bad = |why: String| format!("the calendar `{}` cannot be used: {why}", path.display());
    let zone = match &file.time_zone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|_| bad(format!("`{name}` is no time zone")))?,
    };
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|error| bad(error.to_string()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Calendar::read(&name, &text, &zone).map_err(|error| bad(crate::words::chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(from: Timestamp, minutes: i64) -> String {
        let show = |at: Timestamp| at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let end = from + SignedDuration::from_mins(minutes);
        format!(
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Freeze\r\nDTSTART:{}\r\nDTEND:{}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
            show(from),
            show(end)
        )
    }

    #[tokio::test]
    async fn an_event_counts_where_it_should_from_the_moment_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("freeze.ics");
        let (experiment, _) = crate::stage::fixture::experiment(crate::stage::fixture::FILE);
        let files = [BlackoutFile {
            calendar: path.clone(),
            time_zone: None,
            environments: Some(vec!["production".into()]),
        }];
        let in_production = async || on(&files, "production", &experiment).await;
        let missing = in_production().await.unwrap();
        assert!(missing.contains("freeze.ics"), "{missing}");
        let now = Timestamp::now();
        // Over; on; and beginning before the run is over, which is more than a minute long.
        for (from, minutes, is_on) in [
            (-20, 10, false),
            (-5, 10, true),
            (1, 10, true),
            (300, 10, false),
        ] {
            let from = now + SignedDuration::from_mins(from);
            std::fs::write(&path, calendar(from, minutes)).unwrap();
            assert_eq!(in_production().await.is_some(), is_on, "{from}");
            assert_eq!(on(&files, "staging", &experiment).await, None);
        }
        std::fs::write(&path, "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n").unwrap();
        assert!(in_production().await.is_some());
    }

    /// Whoever starts a run at the desk, by hand too, is told which event keeps it out.
    #[tokio::test]
    async fn the_desk_s_gate_keeps_a_run_out_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("freeze.ics");
        let store = crate::store::Store::open(folder.path()).await.unwrap();
        let practice = crate::practice::Practice::open(folder.path(), None, Vec::new()).unwrap();
        let practice = practice.with_blackouts(vec![BlackoutFile {
            calendar: path.clone(),
            time_zone: None,
            environments: None,
        }]);
        let (experiment, digest) = crate::stage::fixture::experiment(crate::stage::fixture::FILE);
        let experiment = std::sync::Arc::new(experiment);
        let gate = practice.gate(&store);
        let asked = |run: &str| {
            gate(crate::run::desk::Asking {
                run: run.into(),
                experiment: std::sync::Arc::clone(&experiment),
                digest: digest.clone(),
                environment: crate::run::desk::ENVIRONMENT.to_owned(),
                by: "ann".into(),
                trigger: crate::stage::Trigger::Hand,
                present: Vec::new(),
                together: crate::stage::Together::default(),
            })
        };
        let now = Timestamp::now();
        std::fs::write(&path, calendar(now - SignedDuration::from_mins(5), 10)).unwrap();
        let refused = asked("a").await.unwrap_err();
        assert!(
            refused.iter().any(|why| why.contains("Freeze")),
            "{refused:?}"
        );
        std::fs::write(&path, calendar(now + SignedDuration::from_hours(9), 10)).unwrap();
        assert_eq!(asked("b").await, Ok(()));
    }
}
