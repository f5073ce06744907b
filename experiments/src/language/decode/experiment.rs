//! The file's outermost fields.

use super::{kubernetes, steady, step};
use crate::experiment::{Experiment, Metadata};
use crate::language::diagnostic::Severity;
use crate::language::reader::{Cx, Fields};
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::units::{Hold, Lease, Percent};
use std::collections::BTreeMap;
use std::time::Duration;

/// A method to start from.
const METHOD: &str = "method: [ { fault: { … }, on: { … }, hold: 30s } ]";

const FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "hypothesis",
    "steadyState",
    "method",
    "baseline",
    "recovery",
    "falseStop",
    "confidence",
    "lease",
    "cluster",
];

/// Longer than this, a node whose controller is gone keeps its faults for too long to be called bounded.
const LEASE_SENSIBLE: Duration = Duration::from_secs(30);
/// Shorter than this, a busy machine that misses a few renewals loses its faults in the middle of a run.
const LEASE_STEADY: Duration = Duration::from_secs(1);
/// More than one healthy system in five stopped by chance is no test any more.
const FALSE_STOP_MOST: u64 = 200_000;

/// Below an even chance nothing is shown; above 99.99 % the samples of hours are not enough.
const CONFIDENCE: std::ops::RangeInclusive<u64> = 500_000..=999_900;

/// Reads the whole file.
pub(crate) fn experiment(cx: &mut Cx<'_, '_>, root: &Node) -> Option<Experiment> {
    let fields = Fields::open(cx, root.head(), root, "an experiment", FIELDS)?;
    let version = constant(cx, &fields, "apiVersion", "squall/v1");
    let kind = constant(cx, &fields, "kind", "Experiment");
    let metadata = fields
        .need(
            cx,
            "metadata",
            "metadata: { name: orders-survive-slow-payment }",
        )
        .and_then(|e| metadata(cx, e));
    let hypothesis = fields
        .need(
            cx,
            "hypothesis",
            "hypothesis: Orders keep succeeding while payment is slow.",
        )
        .and_then(|e| cx.words(&e.node, "a sentence", "what is believed of the system"));
    let steady_state = fields
        .need(
            cx,
            "steadyState",
            "steadyState: [ { name: …, probe: { … }, expect: [ … ] } ]",
        )
        .and_then(|e| steady::list(cx, e));
    let method = fields
        .need(cx, "method", METHOD)
        .and_then(|e| step::list(cx, e));
    let cluster = fields.option("cluster", |e| kubernetes::of_file(cx, e));
    let baseline = fields.or("baseline", Experiment::baseline_default(), |e| hold(cx, e));
    let recovery = fields.or("recovery", Experiment::recovery_default(), |e| hold(cx, e));
    let false_stop = fields.or("falseStop", Experiment::false_stop_default(), |e| {
        false_stop(cx, e)
    });
    let confidence = fields.or("confidence", Experiment::confidence_default(), |e| {
        confidence(cx, e)
    });
    let lease = fields.or("lease", Experiment::lease_default(), |e| lease(cx, e));
    if let (Some(states), Some(baseline)) = (&steady_state, baseline) {
        steady::enough_samples(cx, states, "baseline", baseline);
    }
    (version? && kind?).then_some(())?;
    let (steady_state, method, confidence) = (steady_state?, method?, confidence?);
    let experiment = Experiment {
        metadata: metadata?,
        hypothesis: hypothesis?,
        steady_state: steady_state.iter().map(|s| s.state.clone()).collect(),
        method,
        baseline: baseline?,
        recovery: recovery?,
        false_stop: false_stop?,
        confidence,
        lease: lease?,
        cluster: cluster?.flatten(),
    };
    // Beside a mistake this would be noise.
    if cx.drafts.iter().all(|d| d.severity != Severity::Error) {
        steady::enough_to_hold(cx, &steady_state, &experiment.method, confidence);
    }
    Some(experiment)
}

/// A field that can say one thing only.
pub(super) fn constant(
    cx: &mut Cx<'_, '_>,
    fields: &Fields<'_>,
    name: &str,
    wanted: &str,
) -> Option<bool> {
    let entry = fields.need(cx, name, &format!("{name}: {wanted}"))?;
    let text = cx.text(&entry.node, name, &format!("`{name}: {wanted}`"))?;
    if text != wanted {
        cx.error(
            entry.node.at,
            format!(
                "`{name}` is {}, which this version of Squall does not know",
                quoted(text)
            ),
        )
        .mend(format!("write `{name}: {wanted}`"));
    }
    Some(text == wanted)
}

fn hold(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Hold> {
    cx.quantity(&entry.node, "a time", "20s")
}

fn lease(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Lease> {
    let lease: Lease = cx.quantity(&entry.node, "a time", "10s")?;
    if lease.duration() > LEASE_SENSIBLE {
        cx.warning(entry.node.at, format!("a lease of {lease} is long"))
            .label("after the last word from the controller, every fault stays for as long as this")
            .mend("10s is enough for five missed renewals");
    } else if lease.duration() < LEASE_STEADY {
        cx.warning(entry.node.at, format!("a lease of {lease} is short"))
            .label(
                "a busy machine may miss the renewals, and the faults end in the middle of the run",
            )
            .mend("10s is enough for five missed renewals");
    }
    Some(lease)
}

fn false_stop(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Percent> {
    let chance: Percent = cx.quantity(&entry.node, "a percentage", "0.1%")?;
    if (1..=FALSE_STOP_MOST).contains(&chance.get()) {
        return Some(chance);
    }
    let label = if chance.get() == 0 {
        "a test that never stops a healthy system never stops anything"
    } else {
        "this would stop healthy systems all the time"
    };
    cx.error(
        entry.node.at,
        format!("`falseStop` of {chance} cannot be used"),
    )
    .label(label)
    .mend("write something above 0% and up to 20%; 0.1% where nothing is said");
    None
}

fn confidence(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Percent> {
    let confidence: Percent = cx.quantity(&entry.node, "a percentage", "95%")?;
    if CONFIDENCE.contains(&confidence.get()) {
        return Some(confidence);
    }
    let label = if confidence.get() < *CONFIDENCE.start() {
        "a coin would be as sure"
    } else {
        "no run gives enough samples for this"
    };
    cx.error(
        entry.node.at,
        format!("`confidence` of {confidence} cannot be used"),
    )
    .label(label)
    .mend("write something from 50% to 99.99%; 95% where nothing is said");
    None
}

pub(super) fn metadata(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Metadata> {
    let known = ["name", "owner", "runbook", "labels"];
    let fields = Fields::open(cx, entry.key_at, &entry.node, "`metadata`", &known)?;
    let name = fields
        .need(cx, "name", "name: orders-survive-slow-payment")
        .and_then(|e| name(cx, e));
    let owner = fields.option("owner", |e| {
        cx.words(&e.node, "a team's name", "`team-orders`")
    });
    let runbook = fields.option("runbook", |e| {
        cx.words(&e.node, "a place to read", "`https://wiki.example/orders`")
    });
    let labels = fields.or("labels", BTreeMap::new(), |e| texts(cx, &e.node, "labels"));
    Some(Metadata {
        name: name?,
        owner: owner?,
        runbook: runbook?,
        labels: labels?,
    })
}

/// Lower-case words joined by hyphens, as DNS labels are (RFC 1123), so that a name fits wherever names go.
pub(super) fn name(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    const NAME_BYTES_MAX: usize = 63;
    let text = cx.words(&entry.node, "a name", "`orders-survive-slow-payment`")?;
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.len() <= NAME_BYTES_MAX
        && text.bytes().all(letter)
        && !text.starts_with('-')
        && !text.ends_with('-')
    {
        return Some(text);
    }
    let words: Vec<String> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(str::to_lowercase)
        .collect();
    let mut better = words.join("-");
    better.truncate(NAME_BYTES_MAX);
    let better = better.trim_end_matches('-');
    let label = if text.len() > NAME_BYTES_MAX {
        "longer than 63 letters"
    } else {
        "lower-case words joined by hyphens"
    };
    let draft = cx.error(entry.node.at, format!("{} is not a name", quoted(&text)));
    draft.label(label);
    if better.is_empty() {
        draft.mend("write one such as `orders-survive-slow-payment`");
    } else {
        draft.mend(format!("write `{better}`"));
    }
    None
}

/// A mapping of texts.
pub(super) fn texts(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    what: &str,
) -> Option<BTreeMap<String, String>> {
    let entries = match &node.value {
        Value::Map(entries) => entries,
        _ if node.is_null() => return Some(BTreeMap::new()),
        _ => {
            cx.error(node.at, format!("`{what}` is a mapping of texts"))
                .mend(format!("write `{what}: {{ key: value }}`"));
            return None;
        }
    };
    let mut texts = Some(BTreeMap::new());
    for entry in entries {
        match cx.text(&entry.node, "a text", "it in quotes") {
            Some(text) => {
                if let Some(texts) = &mut texts {
                    texts.insert(entry.key.clone(), text.to_owned());
                }
            }
            None => texts = None,
        }
    }
    texts
}
