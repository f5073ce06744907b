//! Requests at a constant rate.

use super::request;
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::tree::{Entry, Node};
use crate::probe::{Load, Request, users_needed};
use crate::template::{self, Piece};
use crate::units::{Frequency, Interval};

/// More than this one process cannot send and time well.
const RATE_SENSIBLE: f64 = 10_000.0;

/// What a `load` probe sends.
pub(super) fn load(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Load> {
    let known = [
        "url", "method", "rate", "headers", "body", "auth", "tls", "timeout", "sessions", "think",
        "csv", "http2",
    ];
    let fields = Fields::open(cx, owner, node, "a `load` probe", &known)?;
    let request = request::request(cx, &fields);
    let rate = fields
        .need(cx, "rate", "rate: 50/s")
        .and_then(|e| rate(cx, e));
    let sessions = fields.option("sessions", |e| {
        cx.whole(&e.node, "a number of users", 1..=Load::SESSIONS_MAX)
    });
    let think = fields.option("think", |e| cx.quantity(&e.node, "a time", "2s"));
    let csv = fields.option("csv", |e| {
        cx.words(&e.node, "a CSV file", "`customers.csv`")
    });
    let words = [("true", true), ("false", false)];
    let http2 = fields.or("http2", false, |e| cx.word(&e.node, "a yes or no", &words));
    let holes = holes(cx, &fields, request.as_ref());
    let load = Load {
        request: request?,
        rate: rate?,
        sessions: sessions?,
        think: think?,
        csv: csv?,
        http2: http2?,
    };
    holes?;
    consistent(cx, &fields, &load)?;
    Some(load)
}

fn rate(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Frequency> {
    let rate: Frequency = cx.quantity(&entry.node, "a rate", "50/s")?;
    if rate.per_second() > RATE_SENSIBLE {
        cx.warning(
            entry.node.at,
            format!("{rate} is more than one machine sends on time"),
        )
        .label("late requests count as slow answers")
        .mend("10000/s is about the most that one probe keeps up");
    }
    Some(rate)
}

/// Whether what the body wants to be filled with is there.
fn holes(cx: &mut Cx<'_, '_>, fields: &Fields<'_>, request: Option<&Request>) -> Option<()> {
    let request = request?;
    let body = request.body.as_deref().unwrap_or_default();
    let Some(entry) = fields.get("body").or(fields.get("csv")) else {
        return Some(());
    };
    let pieces = match template::parse(body) {
        Ok(pieces) => pieces,
        Err(error) => {
            let at = cx.inside(&entry.node, body, error.at, error.end);
            cx.error(at, error.problem)
                .mend("write `{{seq}}`, `{{uuid}}` or `{{csv.column}}`");
            return None;
        }
    };
    let column = pieces.iter().find_map(|piece| match piece {
        Piece::Csv(column) => Some(column),
        _ => None,
    });
    match (column, fields.get("csv")) {
        (Some(column), None) => {
            cx.error(
                entry.key_at,
                format!("the body takes `{column}` from a CSV file, and none is named"),
            )
            .mend("add `csv: FILE`, a file whose first line names its columns");
            None
        }
        (None, Some(csv)) => {
            cx.warning(csv.key_at, "nothing is taken out of this file")
                .mend("use a column in the body, such as `{{csv.customer}}`, or remove `csv`");
            Some(())
        }
        _ => Some(()),
    }
}

/// Whether so many users can keep the rate and still think for so long.
fn consistent(cx: &mut Cx<'_, '_>, fields: &Fields<'_>, load: &Load) -> Option<()> {
    let (Some(think), Some(entry)) = (load.think, fields.get("think")) else {
        return Some(());
    };
    let (rate, needed) = (load.rate, users_needed(load.rate, think));
    if needed > Load::SESSIONS_MAX {
        cx.error(
            entry.key_at,
            format!("{rate} with {think} between a user's requests takes {needed} users"),
        )
        .label(format!("{} at most", Load::SESSIONS_MAX))
        .mend("think for less, or send less");
        return None;
    }
    match (load.sessions, fields.get("sessions")) {
        (Some(sessions), Some(said)) if sessions < needed => {
            let gap = f64::from(sessions) / rate.per_second();
            let gap = Interval::clamped(std::time::Duration::from_secs_f64(gap));
            cx.error(
                entry.key_at,
                format!("{sessions} users who wait for {think} between two requests cannot send {rate}"),
            )
            .related(said.key_at, "too few")
            .mend(format!(
                "write `sessions: {needed}` or leave it out; with {sessions} users, `think: {gap}` is the most"
            ));
            None
        }
        _ => Some(()),
    }
}
