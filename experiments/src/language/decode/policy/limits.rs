//! What a run may be at most, and when it may start.

use super::{COUNT_MAX, age, each, names};
use crate::fault::FaultKind;
use crate::language::reader::{Cx, Fields};
use crate::language::suggest::quoted;
use crate::language::tree::Entry;
use crate::policy::{Day, Hours, Limits, TimeOfDay};

const LIMITS: &[&str] = &[
    "share",
    "targets",
    "runs",
    "targetsTogether",
    "duration",
    "faults",
    "namespaces",
];
const HOURS: &str = "hours: { zone: Europe/Berlin, days: [ mon, tue ], from: 09:00, to: 16:00 }";

pub(super) fn limits(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Limits> {
    let fields = Fields::open(cx, entry.key_at, &entry.node, "`limits`", LIMITS)?;
    let share = fields.option("share", |e| cx.quantity(&e.node, "a percentage", "10%"));
    let mut count = |name: &'static str, what: &str| {
        fields.option(name, |e| cx.whole(&e.node, what, 1..=100 * COUNT_MAX))
    };
    let targets = count("targets", "a number of targets");
    let runs = count("runs", "a number of runs");
    let targets_together = count("targetsTogether", "a number of targets");
    let duration = fields.option("duration", |e| age(cx, e));
    let faults = fields.option("faults", |e| faults(cx, e));
    let namespaces = fields.option("namespaces", |e| names(cx, e, "`namespaces: [ shop ]`"));
    Some(Limits {
        share: share?,
        targets: targets?,
        runs: runs?,
        targets_together: targets_together?,
        duration: duration?,
        faults: faults?,
        namespaces: namespaces?,
    })
}

fn faults(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<FaultKind>> {
    let items = cx.list(&entry.node, "a list of faults", "`faults: [ delay, loss ]`")?;
    let words: Vec<(String, FaultKind)> = FaultKind::ALL
        .iter()
        .map(|kind| (kind.to_string(), *kind))
        .collect();
    let words: Vec<(&str, FaultKind)> = words.iter().map(|(w, k)| (w.as_str(), *k)).collect();
    each(cx, items, |cx, item| cx.word(item, "a fault", &words))
}

pub(super) fn hours(
    cx: &mut Cx<'_, '_>,
    entry: &Entry,
    known_zone: &dyn Fn(&str) -> bool,
) -> Option<Hours> {
    let known = ["zone", "days", "from", "to"];
    let fields = Fields::open(cx, entry.key_at, &entry.node, "`hours`", &known)?;
    let zone = fields
        .need(cx, "zone", HOURS)
        .and_then(|e| zone(cx, e, known_zone));
    let days = fields.need(cx, "days", HOURS).and_then(|e| days(cx, e));
    let from = fields.need(cx, "from", HOURS).and_then(|e| time(cx, e));
    let to = fields.need(cx, "to", HOURS).and_then(|e| time(cx, e));
    let hours = Hours {
        zone: zone?,
        days: days?,
        from: from?,
        to: to?,
    };
    if hours.from < hours.to {
        return Some(hours);
    }
    cx.error(
        entry.node.at,
        format!("from {} to {} is no time of a day", hours.from, hours.to),
    )
    .mend("let `to` be later than `from`; a night is two environments' hours, or none");
    None
}

fn zone(cx: &mut Cx<'_, '_>, entry: &Entry, known: &dyn Fn(&str) -> bool) -> Option<String> {
    let zone = cx.words(&entry.node, "a time zone", "`Europe/Berlin`")?;
    if known(&zone) {
        return Some(zone);
    }
    cx.error(
        entry.node.at,
        format!("{} is no time zone that is known here", quoted(&zone)),
    )
    .mend("write a name of the IANA database, such as `Europe/Berlin` or `UTC`");
    None
}

fn days(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<Day>> {
    let items = cx.list(&entry.node, "a list of days", "`days: [ mon, tue, wed ]`")?;
    let mut days = each(cx, items, |cx, item| cx.word(item, "a day", &Day::ALL))?;
    days.sort_unstable();
    days.dedup();
    Some(days)
}

fn time(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<TimeOfDay> {
    let text = cx.words(&entry.node, "a time of day", "`09:30`")?;
    let time = text.parse();
    if time.is_err() {
        cx.error(
            entry.node.at,
            format!("{} is no time of day", quoted(&text)),
        )
        .mend("write it as `09:30`, from 00:00 to 24:00");
    }
    time.ok()
}
