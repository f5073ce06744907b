//! The control group: the same probe, asked elsewhere at the same moments.

use super::probe;
use super::steady::Expected;
use crate::language::reader::{Cx, kind};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::probe::Probe;
use std::rc::Rc;

/// The ready-made list of expectations.
const CANARY: &str = "canary";

/// What must be the same for both groups, or the difference would be one of the questions and not of the answers.
const SAME: &[&str] = &["rate", "every", "timeout", "method", "body"];

/// What says where a probe asks, in the order in which a short form is taken for it.
const PLACES: &[&str] = &["url", "address", "argv"];

const EXAMPLE: &str =
    "write `compare: { url: http://orders-v1:8080/ }`, with what is asked elsewhere";

/// Reads `compare:`: the probe's own fields, with those that are said here in their place.
pub(super) fn control(
    cx: &mut Cx<'_, '_>,
    entry: &Entry,
    probe_entry: &Entry,
    group: Option<&Probe>,
) -> Option<Probe> {
    let said = said(cx, entry)?;
    // What is wrong with the probe itself has been said; saying it of its double would be noise.
    let group = group?;
    let node = asked_elsewhere(cx, entry, probe_entry, said)?;
    let before = cx.drafts.len();
    let control = probe::probe(
        cx,
        &Entry {
            node,
            ..entry.clone()
        },
    );
    // Warnings of what both share have been given once.
    let (told, new) = cx.drafts.split_at(before);
    let new: Vec<bool> = new.iter().map(|d| !told.contains(d)).collect();
    let mut new = std::iter::repeat_n(true, before).chain(new);
    cx.drafts.retain(|_| new.next().unwrap_or(true));
    let control = control?;
    if control == *group {
        cx.error(entry.node.at, "this is the group itself, not a control")
            .label("asked exactly as the probe is")
            .mend("say where the untouched group is asked: another `url`, or a header that leads there");
        return None;
    }
    Some(control)
}

/// Whether an item of `expect` is the ready-made list.
pub(super) fn is_canary(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, .. } if text.trim() == CANARY)
}

/// Whether control and expectations belong together: neither says anything without the other.
pub(super) fn used(cx: &mut Cx<'_, '_>, expect: &Expected, controlled: Option<At>) {
    let first = expect.iter().find(|(e, _)| e.against_control());
    match (first, controlled) {
        (Some((expectation, at)), None) => {
            let shown = quoted(&expectation.to_string());
            cx.error(*at, format!("{shown} needs a control, and there is none"))
                .mend("add `compare: { url: http://orders-v1:8080/ }`: where the same is asked of an untouched group");
        }
        (None, Some(key_at)) => {
            cx.error(key_at, "nothing is expected beside the control")
                .label("it would be asked for nothing")
                .mend("add `canary` to `expect`, or one such as `p99 <= 1.2x control`");
        }
        _ => {}
    }
}

/// The fields that are said, or the one value of the short form.
enum Said<'n> {
    Fields(&'n [Entry]),
    Place(&'n Rc<Node>),
}

fn said<'n>(cx: &mut Cx<'_, '_>, entry: &'n Entry) -> Option<Said<'n>> {
    let entries = match &entry.node.value {
        Value::Map(entries) if !entries.is_empty() => entries,
        Value::Scalar { .. } | Value::List(_) if !entry.node.is_null() => {
            return Some(Said::Place(&entry.node));
        }
        _ => {
            let draft = cx.error(entry.key_at, "it is not said where the control is asked");
            draft.mend(EXAMPLE).missing();
            return None;
        }
    };
    let same = entries.iter().filter(|e| SAME.contains(&e.key.as_str()));
    let same: Vec<&Entry> = same.collect();
    for entry in &same {
        cx.error(
            entry.key_at,
            format!("both groups have the same `{}`", entry.key),
        )
        .label("or the questions differ, and not the answers")
        .mend("remove it: the control is asked what the probe asks, at the same moments");
    }
    same.is_empty().then_some(Said::Fields(entries))
}

/// The probe's node with what is said in its place.
fn asked_elsewhere(
    cx: &mut Cx<'_, '_>,
    entry: &Entry,
    probe_entry: &Entry,
    said: Said<'_>,
) -> Option<Rc<Node>> {
    let Value::Map(kinds) = &probe_entry.node.value else {
        return None;
    };
    let inner = kinds.first()?;
    let fields = match (&inner.node.value, said) {
        (Value::Map(own), Said::Fields(said)) => over(own, said.to_vec()),
        (Value::Map(own), Said::Place(place)) => {
            let key = PLACES.iter().find(|p| own.iter().any(|e| e.key == **p));
            let Some(key) = key else {
                let what = kind(&entry.node);
                cx.error(
                    entry.node.at,
                    format!(
                        "{what} does not say what of the `{}` probe it replaces",
                        inner.key
                    ),
                )
                .mend(EXAMPLE);
                return None;
            };
            let place = Entry {
                key: (*key).to_owned(),
                key_at: entry.key_at,
                node: Rc::clone(place),
            };
            over(own, vec![place])
        }
        // The probe in its short form: the control in its own.
        (_, Said::Place(place)) => return Some(double(probe_entry, inner, Rc::clone(place))),
        (_, Said::Fields(said)) => said.to_vec(),
    };
    let inside = Rc::new(entry.node.with(Value::Map(fields)));
    Some(double(probe_entry, inner, inside))
}

/// `{ load: inside }`, as the probe itself is written.
fn double(probe_entry: &Entry, inner: &Entry, inside: Rc<Node>) -> Rc<Node> {
    let kind = Entry {
        node: inside,
        ..inner.clone()
    };
    Rc::new(probe_entry.node.with(Value::Map(vec![kind])))
}

fn over(own: &[Entry], said: Vec<Entry>) -> Vec<Entry> {
    let mut fields = own.to_vec();
    fields.retain(|e| said.iter().all(|s| s.key != e.key));
    fields.extend(said);
    fields
}
