//! A schedule's file.

use super::experiment::{constant, metadata};
use crate::language::reader::{Cx, Fields};
use crate::language::suggest::{closest, quoted};
use crate::language::tree::{Entry, Node};
use crate::schedule::{
    Clock, Cron, CronError, Day, Schedule, SuspendAfter, Window, is_time_zone, time_zones,
};
use std::str::FromStr;

const FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "experiment",
    "environment",
    "cron",
    "timeZone",
    "windows",
    "blackouts",
    "jitter",
    "startWithin",
    "atMost",
    "suspendAfter",
];

/// More runs of one experiment at once would be a load test of the fault injector.
const AT_MOST: std::ops::RangeInclusive<u32> = 1..=100;

/// Reads the whole file.
pub(crate) fn schedule(cx: &mut Cx<'_, '_>, root: &Node) -> Option<Schedule> {
    let fields = Fields::open(cx, root.head(), root, "a schedule", FIELDS)?;
    let version = constant(cx, &fields, "apiVersion", "squall/v1");
    let kind = constant(cx, &fields, "kind", "Schedule");
    let meta = fields.need(cx, "metadata", "metadata: { name: orders-nightly }");
    let meta = meta.and_then(|e| metadata(cx, e));
    let experiment = fields.need(
        cx,
        "experiment",
        "experiment: orders-survive-slow-payment.yaml",
    );
    let experiment = experiment.and_then(|e| {
        beside(
            cx,
            &e.node,
            "an experiment's file",
            "`orders-survive-slow-payment.yaml`",
        )
    });
    let environment = fields.option("environment", |e| {
        cx.words(&e.node, "an environment's name", "`prod`")
    });
    let cron = fields.need(cx, "cron", "cron: 30 2 * * MON-FRI");
    let cron = cron.and_then(|e| cron_of(cx, &e.node));
    let zone = fields.need(cx, "timeZone", "timeZone: Europe/Berlin");
    let zone = zone.and_then(|e| time_zone(cx, &e.node));
    let windows = fields.or("windows", Vec::new(), |e| windows(cx, e));
    let blackouts = fields.or("blackouts", Vec::new(), |e| blackouts(cx, e));
    let jitter = fields.option("jitter", |e| cx.quantity(&e.node, "a time", "10min"));
    let within = fields.or("startWithin", Schedule::start_within_default(), |e| {
        cx.quantity(&e.node, "a time", "30min")
    });
    let at_most = fields.or("atMost", Schedule::at_most_default(), |e| {
        cx.whole(&e.node, "a number of runs at once", AT_MOST)
    });
    let suspend = fields.or("suspendAfter", SuspendAfter::default(), |e| {
        suspend_after(cx, &e.node)
    });
    (version? && kind?).then_some(())?;
    Some(Schedule {
        metadata: meta?,
        experiment: experiment?,
        environment: environment?,
        cron: cron?,
        time_zone: zone?,
        windows: windows?,
        blackouts: blackouts?,
        jitter: jitter?,
        start_within: within?,
        at_most: at_most?,
        suspend_after: suspend?,
    })
}

/// A file beside this one or below: what a schedule names must come from where the schedule does.
pub(super) fn beside(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    what: &str,
    example: &str,
) -> Option<String> {
    let text = cx.words(node, what, example)?;
    let parts = || text.split('/');
    let upward = text.starts_with('/')
        || text.contains(['\\', '\0'])
        || parts().any(|part| matches!(part, "" | "." | ".."));
    if upward {
        cx.error(
            node.at,
            format!("{} is not a file beside this one", quoted(&text)),
        )
        .label("it leads out of the folder, or is not written plainly")
        .mend(format!("write a name such as {example}, or `folder/name`"));
        return None;
    }
    Some(text)
}

fn cron_of(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Cron> {
    let text = cx.text(node, "a cron expression", "`30 2 * * MON-FRI`")?;
    let error = match Cron::from_str(text) {
        Ok(cron) => return Some(cron),
        Err(error) => error,
    };
    match &error {
        CronError::Field {
            field,
            at,
            what,
            may,
        } => {
            let shift = text.len() - text.trim_start().len();
            let at = cx.inside(node, text, shift + at, shift + at + field.len());
            cx.error(at, error.to_string())
                .label(format!("this field is {what}"))
                .mend(format!("write {may}"));
        }
        CronError::Fields(6) => {
            cx.error(node.at, error.to_string())
                .label("seconds, or a year, are not among them")
                .mend("write minute, hour, day of the month, month, day of the week: `30 2 * * MON-FRI`");
        }
        CronError::Fields(_) => {
            cx.error(node.at, error.to_string()).mend(
                "write minute, hour, day of the month, month, day of the week: `30 2 * * MON-FRI`",
            );
        }
        CronError::Nickname(_) => {
            cx.error(node.at, error.to_string())
                .mend("write five fields: `30 2 * * MON-FRI`");
        }
        CronError::Never(_) => {
            cx.error(node.at, error.to_string())
                .label("there is no such day")
                .mend("look at the day of the month and the month");
        }
    }
    None
}

/// An IANA time zone.
pub(super) fn time_zone(cx: &mut Cx<'_, '_>, node: &Node) -> Option<String> {
    let text = cx.words(node, "a time zone", "`Europe/Berlin`")?;
    if is_time_zone(&text) {
        return Some(text);
    }
    let zones = time_zones();
    let same = zones
        .iter()
        .find(|zone| zone.eq_ignore_ascii_case(&text))
        .map(String::as_str);
    let known: Vec<&str> = zones.iter().map(String::as_str).collect();
    let city = zones
        .iter()
        .find(|zone| {
            zone.rsplit('/')
                .next()
                .is_some_and(|city| city.eq_ignore_ascii_case(&text))
        })
        .map(String::as_str);
    let near = same.or(city).or_else(|| closest(&text, &known));
    let draft = cx.error(node.at, format!("{} is not a time zone", quoted(&text)));
    if let Some(near) = near {
        draft.label(format!("did you mean `{near}`?"));
    }
    draft.mend("write a name of IANA's, such as `Europe/Berlin` or `Etc/UTC`: an abbreviation or an offset knows no summer time");
    None
}

fn windows(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<Window>> {
    let items = cx.list(
        &entry.node,
        "a list of windows",
        "`- { days: MON-FRI, from: 09:00, to: 17:00 }`",
    )?;
    let read: Vec<Option<Window>> = items.iter().map(|item| window(cx, item)).collect();
    read.into_iter().collect()
}

fn window(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Window> {
    let fields = Fields::open(cx, node.head(), node, "a window", &["days", "from", "to"])?;
    let days = fields.or("days", Window::all_days(), |e| days(cx, &e.node));
    let from = fields
        .need(cx, "from", "from: 09:00")
        .and_then(|e| clock(cx, &e.node));
    let to = fields
        .need(cx, "to", "to: 17:00")
        .and_then(|e| clock(cx, &e.node));
    let (days, from, to) = (days?, from?, to?);
    if from.minutes() == 24 * 60 {
        cx.error(node.at, "a window cannot begin at 24:00")
            .mend("write `from: 00:00` and the next day");
        return None;
    }
    Some(Window { days, from, to })
}

fn clock(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Clock> {
    let text = cx.words(node, "a time of the day", "`09:00`")?;
    text.parse()
        .map_err(|_| {
            cx.error(node.at, format!("{} is not a time of the day", quoted(&text)))
                .mend("write hours and minutes with two digits each, such as `09:00`; `24:00` is the day's end");
        })
        .ok()
}

/// `MON-FRI`, `SAT`, `SUN,MON`; a range may go over the end of the week.
fn days(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Vec<Day>> {
    let text = cx.words(node, "days of the week", "`MON-FRI`")?;
    let day = |word: &str| {
        Day::ALL
            .iter()
            .position(|day| day.word().eq_ignore_ascii_case(word.trim()))
    };
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (day(first), day(last)) else {
            cx.error(node.at, format!("{} is not among the days of the week", quoted(part.trim())))
                .mend("write MON, TUE, WED, THU, FRI, SAT, SUN, lists and ranges of them: `MON-FRI`, `SAT,SUN`");
            return None;
        };
        let count = (last + Day::ALL.len() - first) % Day::ALL.len();
        days.extend((first..=first + count).map(|at| Day::ALL[at % Day::ALL.len()]));
    }
    days.sort_unstable();
    days.dedup();
    Some(days)
}

fn blackouts(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<String>> {
    let items = cx.list(&entry.node, "a list of iCalendar files", "`[ freeze.ics ]`")?;
    let read: Vec<Option<String>> = items
        .iter()
        .map(|item| beside(cx, item, "an iCalendar file", "`freeze.ics`"))
        .collect();
    read.into_iter().collect()
}

fn suspend_after(cx: &mut Cx<'_, '_>, node: &Node) -> Option<SuspendAfter> {
    let words = [
        ("broken", SuspendAfter::Broken),
        ("inconclusive", SuspendAfter::Inconclusive),
        ("never", SuspendAfter::Never),
    ];
    cx.word(node, "an end after which a schedule is suspended", &words)
}
