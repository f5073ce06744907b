//! Probes that ask somebody who watches the system: Prometheus, a webhook.

use super::connection;
use super::probe::{every, is_text};
use super::request::{self, source};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::tree::{Entry, Node};
use crate::probe::{Prometheus, Range, Reduce, Source, Trouble, Webhook, every_default};

/// What a `prometheus` probe asks.
pub(super) fn prometheus(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Prometheus> {
    let known = [
        "url", "query", "range", "every", "headers", "auth", "tls", "timeout", "retries", "onError",
    ];
    let fields = Fields::open(cx, owner, node, "a `prometheus` probe", &known)?;
    let source = source(cx, &fields, "http://prometheus:9090").and_then(|s| server(cx, &fields, s));
    let query = fields
        .need(cx, "query", "query: sum(rate(paid_total[30s]))")
        .and_then(|e| query(cx, e));
    let range = fields.option("range", |e| range(cx, e));
    let every = every(cx, &fields);
    let trouble = connection::trouble(cx, &fields);
    Some(Prometheus {
        source: source?,
        query: query?,
        range: range?,
        every: every?,
        trouble: trouble?,
    })
}

/// The server's own URL: the path of its API is added to it.
fn server(cx: &mut Cx<'_, '_>, fields: &Fields<'_>, source: Source) -> Option<Source> {
    let part = ["/api/v1", "?", "#", "/graph"]
        .into_iter()
        .find(|part| source.url.contains(part));
    if let (Some(part), Some(entry)) = (part, fields.get("url")) {
        let server = source.url.split(part).next().unwrap_or_default();
        cx.error(entry.node.at, "this is more than the server's address")
            .label(format!("from `{part}` on"))
            .mend(format!(
                "write `url: {server}` and the expression as `query`"
            ));
        return None;
    }
    Some(source)
}

fn query(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let query = cx.words(
        &entry.node,
        "a PromQL expression",
        "`sum(rate(paid_total[30s]))`",
    )?;
    let open = |sign: char| query.matches(sign).count();
    for (left, right) in [('(', ')'), ('{', '}'), ('[', ']')] {
        // A bracket inside a label's value is rare, and then both are usually there.
        if open(left) != open(right) && !query.contains(['"', '\'', '`']) {
            cx.error(
                entry.node.at,
                format!(
                    "this expression has {} `{left}` and {} `{right}`",
                    open(left),
                    open(right)
                ),
            )
            .mend(
                "close what is open; an expression with `#` or `: ` in it needs quotes around it",
            );
            return None;
        }
    }
    Some(query)
}

/// `30s`, or the stretch with its step and how its points become one number.
fn range(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Range> {
    if is_text(&entry.node) {
        return Some(Range {
            over: cx.quantity(&entry.node, "a time", "30s")?,
            step: Range::step_default(),
            reduce: Reduce::default(),
        });
    }
    let known = ["over", "step", "reduce"];
    let fields = Fields::open(cx, entry.key_at, &entry.node, "a `range`", &known)?;
    let over: Option<crate::units::Hold> = fields
        .need(cx, "over", "over: 30s")
        .and_then(|e| cx.quantity(&e.node, "a time", "30s"));
    let step: Option<crate::units::Interval> = fields.or("step", Range::step_default(), |e| {
        cx.quantity(&e.node, "a time", "1s")
    });
    let words = [
        ("last", Reduce::Last),
        ("avg", Reduce::Avg),
        ("max", Reduce::Max),
        ("min", Reduce::Min),
        ("sum", Reduce::Sum),
    ];
    let reduce = fields.or("reduce", Reduce::default(), |e| {
        cx.word(&e.node, "a way to make one number of many", &words)
    });
    let (over, step, reduce) = (over?, step?, reduce?);
    if over.get() / step.get() >= Range::POINTS_MAX {
        cx.error(
            entry.key_at,
            format!("{over} in steps of {step} are too many points"),
        )
        .label(format!(
            "Prometheus answers with at most {}",
            Range::POINTS_MAX
        ))
        .mend("make `step` longer, or `over` shorter");
        return None;
    }
    Some(Range { over, step, reduce })
}

/// Whom a `webhook` probe asks.
pub(super) fn webhook(cx: &mut Cx<'_, '_>, owner: At, node: &Node) -> Option<Webhook> {
    if is_text(node) {
        return Some(Webhook {
            source: request::bare(cx, node)?.source,
            every: every_default(),
            trouble: Trouble::default(),
        });
    }
    let known = [
        "url", "every", "headers", "auth", "tls", "timeout", "retries", "onError",
    ];
    let fields = Fields::open(cx, owner, node, "a `webhook` probe", &known)?;
    let source = source(cx, &fields, "http://checks.shop:8080/orders");
    let every = every(cx, &fields);
    let trouble = connection::trouble(cx, &fields);
    Some(Webhook {
        source: source?,
        every: every?,
        trouble: trouble?,
    })
}
