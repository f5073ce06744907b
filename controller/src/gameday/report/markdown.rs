//! The report of a day as Markdown, for a wiki or a pull request. What people wrote is text in it, and nothing else.

use super::html::held_on;
use super::{DayReport, StepReport, at_clock, detected, recovered};
use crate::report::{code, plain};
use jiff::tz::TimeZone;
use std::fmt::{self, Write as _};

/// The report of a day as Markdown (GitHub's dialect).
#[must_use]
pub fn markdown(day: &DayReport) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, day);
    text
}

fn write(out: &mut String, day: &DayReport) -> fmt::Result {
    let zone = day.zone();
    let clock = |at_us| at_clock(at_us, zone.as_ref());
    writeln!(out, "# Game day {}\n", plain(&day.name))?;
    writeln!(
        out,
        "{}. **{}.**\n",
        held_on(day, zone.as_ref()),
        day.outcomes()
    )?;
    if let Some(conclusion) = &day.conclusion {
        writeln!(out, "{}\n", plain(conclusion))?;
    }
    list(out, "What was to be learnt", &day.objectives)?;
    let people = day.people.iter();
    let people: Vec<String> = people.map(|p| format!("{}: {}", p.name, p.role)).collect();
    list(out, "Who took part", &people)?;
    let handed = day.hand_overs.iter().map(|h| {
        let at = clock(h.at_us);
        format!(
            "{at}: the lead went from {} to {} ({}: {})",
            h.from, h.to, h.by, h.because
        )
    });
    list(out, "Hand-overs", &handed.collect::<Vec<_>>())?;
    experiments(out, &day.steps, zone.as_ref())?;
    broke(out, &day.steps)?;
    let no_gos = day.no_gos.iter().map(|said| {
        let by = said.by.as_deref().unwrap_or("a gate");
        let left_out = if said.skipped { " (left out)" } else { "" };
        format!(
            "{}, {by}: {}. {}{left_out}: {}",
            clock(said.at_us),
            said.step,
            said.name,
            said.because
        )
    });
    list(out, "No-gos", &no_gos.collect::<Vec<_>>())?;
    actions(out, day)?;
    let notes = day.notes.iter();
    let notes = notes.map(|note| format!("{}, {}: {}", clock(note.at_us), note.by, note.text));
    list(out, "Notes", &notes.collect::<Vec<_>>())?;
    let moments = day.timeline.iter().map(|moment| {
        let who = moment
            .who
            .as_ref()
            .map_or_else(String::new, |who| format!(", {who}"));
        format!("{}{who}: {}", clock(moment.at_us), moment.what)
    });
    list(out, "What happened", &moments.collect::<Vec<_>>())
}

fn list(out: &mut String, title: &str, items: &[String]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "## {title}\n")?;
    for item in items {
        writeln!(out, "- {}", plain(item))?;
    }
    writeln!(out)
}

fn experiments(out: &mut String, steps: &[StepReport], zone: Option<&TimeZone>) -> fmt::Result {
    out.push_str("## Experiments\n\n| | experiment | went | go | detected in | recovered in | why |\n| --- | --- | --- | --- | --- | --- | --- |\n");
    for step in steps {
        let (number, name) = (step.step, plain(&step.name));
        if step.runs.is_empty() {
            let went = step.outcome().words();
            writeln!(out, "| {number} | {name} | {went} | – | – | – | |")?;
        }
        for run in &step.runs {
            let went = match run.ended_us {
                Some(_) => run.verdict.map_or("no verdict".into(), |v| v.to_string()),
                None => "under way".to_owned(),
            };
            let stopped = run.stopped_by.as_ref();
            let stopped =
                stopped.map_or_else(String::new, |by| format!(", stopped by {}", plain(by)));
            writeln!(
                out,
                "| {number} | {name} | {went}{stopped} | {}, {} | {} | {} | {} (run {}) |",
                at_clock(run.go_us, zone),
                plain(&run.go_by),
                detected(run),
                recovered(run),
                plain(&run.because),
                plain(&run.run)
            )?;
        }
    }
    writeln!(out)
}

fn broke(out: &mut String, steps: &[StepReport]) -> fmt::Result {
    out.push_str("## What broke\n\n");
    let mut is_whole = true;
    for step in steps {
        for broke in step.runs.iter().filter_map(|run| run.broke.as_ref()) {
            is_whole = false;
            let (name, probe) = (plain(&step.name), plain(&broke.probe));
            let measured = plain(&broke.measured);
            writeln!(
                out,
                "- {name}: {} of {probe}: {measured}",
                code(&broke.expectation)
            )?;
        }
    }
    if is_whole {
        out.push_str("Nothing was seen to break.\n");
    }
    writeln!(out)
}

fn actions(out: &mut String, day: &DayReport) -> fmt::Result {
    out.push_str("## To be done\n\n");
    if day.actions.is_empty() {
        return writeln!(out, "Nothing was written down.\n");
    }
    for action in &day.actions {
        let due = action
            .due
            .map_or_else(String::new, |due| format!(", until {due}"));
        let (text, owner) = (plain(&action.text), plain(&action.owner));
        writeln!(out, "- [ ] {text} (**{owner}**{due})")?;
    }
    writeln!(out)
}
