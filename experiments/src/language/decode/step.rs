//! A step of the method: faults on a target, on a growing share of it, for a time.

use super::{fault, follow, node, nodes, pulse, sense, target};
use crate::experiment::Step;
use crate::fault::Fault;
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::target::Share;
use crate::units::Hold;
use std::rc::Rc;

/// Reads `method:`.
pub(super) fn list(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<Step>> {
    let example = "`- fault: { delay: { time: 300ms } }`, `on: { netns: shop }`, `hold: 30s`";
    let items = cx.list(&entry.node, "a list of steps", example)?;
    let steps: Vec<Option<(Step, Option<At>)>> = items.iter().map(|item| one(cx, item)).collect();
    for (number, read) in steps.iter().enumerate() {
        if let Some((_, Some(at))) = read {
            let before = number.checked_sub(1).and_then(|before| steps.get(before));
            kept(cx, *at, before);
        }
    }
    let read = steps.iter().zip(items);
    let read = read.filter_map(|(step, item)| Some((&step.as_ref()?.0, item.head())));
    node::once(cx, &read.collect::<Vec<_>>());
    let steps: Option<Vec<(Step, Option<At>)>> = steps.into_iter().collect();
    steps.map(|steps| steps.into_iter().map(|(step, _)| step).collect())
}

/// The fields of a step.
const FIELDS: [&str; 11] = [
    "name",
    "fault",
    "faults",
    "on",
    "nodes",
    "ramp",
    "share",
    "hold",
    "pulse",
    "follow",
    "keepPrevious",
];

/// Whether there is anything to keep.
fn kept(cx: &mut Cx<'_, '_>, at: At, before: Option<&Option<(Step, Option<At>)>>) {
    match before {
        None => {
            cx.error(at, "there is no step before whose faults could stay")
                .mend("remove `keepPrevious`, or put the step behind the one that it adds to");
        }
        Some(Some((before, _))) if before.follow.is_some() => {
            cx.error(
                at,
                "the faults of a step that follows its target end with it",
            )
            .mend("put `follow` on this step, behind the one without it");
        }
        Some(_) => {}
    }
}

/// A step, and where it says that the faults before stay.
fn one(cx: &mut Cx<'_, '_>, node: &Node) -> Option<(Step, Option<At>)> {
    let owner = node.head();
    let fields = Fields::open(cx, owner, node, "a step", &FIELDS)?;
    let name = fields.option("name", |e| {
        cx.words(&e.node, "a name", "`payment slows down`")
    });
    let faults = faults(cx, &fields);
    let on = fields
        .need(cx, "on", "on: { netns: { process: { name: payment } } }")
        .and_then(|e| Some((target::target(cx, e)?, e.key_at.to(e.node.at))));
    let nodes = fields.option("nodes", |e| nodes::nodes(cx, e));
    let ramp = ramp(cx, &fields);
    let hold = fields
        .need(cx, "hold", "hold: 30s")
        .and_then(|e| cx.quantity::<Hold>(&e.node, "a time", "30s"));
    if let (Some(faults), Some((target, at))) = (&faults, &on) {
        sense::together(cx, faults, target, *at);
    }
    let pulse = fields.option("pulse", |e| {
        Some((pulse::pulse(cx, e)?, e.key_at.to(e.node.at)))
    });
    let follow = fields.option("follow", |e| {
        let at = e.key_at.to(e.node.at);
        Some(follow::follow(cx, e)?.map(|follow| (follow, at)))
    });
    let follow = follow.map(Option::flatten);
    if let Some(Some((_, at))) = follow {
        follow::sense(cx, at, faults.as_deref(), on.as_ref());
    }
    if let (Some(faults), Some((target, at)), Some(ramp)) = (&faults, &on, &ramp) {
        node::alone(cx, faults, (target, *at), ramp);
    }
    if let Some(faults) = &faults {
        if let Some(hold) = hold {
            sense::long_enough(cx, faults, hold);
        }
        if let Some(Some((beat, at))) = pulse {
            pulse::sense(cx, beat, at, faults, hold);
        }
    }
    let keeps = fields.option("keepPrevious", |e| {
        let words = [("true", Some(e.key_at.to(e.node.at))), ("false", None)];
        cx.word(&e.node, "an answer to `keepPrevious`", &words)
    });
    let keeps = keeps?.flatten();
    let step = Step {
        name: name?,
        faults: faults?.into_iter().map(|(f, _)| f).collect(),
        on: on?.0,
        nodes: nodes?,
        ramp: ramp?,
        hold: hold?,
        pulse: pulse?.map(|(pulse, _)| pulse),
        follow: follow?.map(|(follow, _)| follow),
        keep_previous: keeps.is_some(),
    };
    Some((step, keeps))
}

/// `fault:` for one, `faults:` for several at once.
fn faults(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Vec<(Fault, At)>> {
    match (fields.get("fault"), fields.get("faults")) {
        (Some(one), Some(several)) => {
            cx.error(several.key_at, "a step has `fault` or `faults`, not both")
                .related(one.key_at, "the other")
                .mend("put them all into the list of `faults`");
            // Both are read, so that what is wrong inside them is said as well.
            fault::fault(cx, one.key_at, &one.node);
            list_of_faults(cx, several);
            None
        }
        (Some(entry), None) => {
            fault::fault(cx, entry.key_at, &entry.node).map(|f| vec![(f, entry.node.at)])
        }
        (None, Some(entry)) => list_of_faults(cx, entry),
        (None, None) => fields
            .need(cx, "fault", "fault: { delay: { time: 300ms } }")
            .and(None),
    }
}

fn list_of_faults(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<(Fault, At)>> {
    if let Value::Map(_) = entry.node.value {
        cx.error(entry.node.at, "`faults` is a list")
            .mend("write `fault:` for a single one, or put `- ` before each");
        fault::fault(cx, entry.key_at, &entry.node);
        return None;
    }
    let items = cx.list(
        &entry.node,
        "a list of faults",
        "`[ { delay: { time: 300ms } } ]`",
    )?;
    let faults: Vec<Option<(Fault, At)>> = items
        .iter()
        .map(|item| fault::fault(cx, item.at, item).map(|f| (f, item.at)))
        .collect();
    faults.into_iter().collect()
}

/// `ramp:` for several shares, `share:` for one, all where nothing is said.
fn ramp(cx: &mut Cx<'_, '_>, fields: &Fields<'_>) -> Option<Vec<Share>> {
    match (fields.get("ramp"), fields.get("share")) {
        (Some(ramp), Some(share)) => {
            cx.error(share.key_at, "a step has `share` or `ramp`, not both")
                .related(ramp.key_at, "the other")
                .mend("`share: 10%` is short for `ramp: [ 10% ]`: keep one of them");
            None
        }
        (Some(entry), None) => shares(cx, entry),
        (None, Some(entry)) => one_share(cx, &entry.node).map(|s| vec![s]),
        (None, None) => Some(Step::ramp_default()),
    }
}

fn shares(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<Share>> {
    let node = &entry.node;
    let single = [Rc::clone(node)];
    let items = match &node.value {
        Value::Scalar { .. } if !node.is_null() => &single[..],
        _ => cx.list(node, "a list of shares", "`[ 5%, 50%, all ]`")?,
    };
    let mut read: Option<Vec<(Share, At)>> = Some(Vec::new());
    for item in items {
        match (one_share(cx, item), &mut read) {
            (Some(share), Some(read)) => read.push((share, item.at)),
            _ => read = None,
        }
    }
    let read = read?;
    let mut grows = true;
    for pair in read.windows(2) {
        let [(before, before_at), (after, after_at)] = pair else {
            continue;
        };
        match order(*before, *after) {
            Some(std::cmp::Ordering::Greater) => {
                cx.error(*after_at, format!("the ramp shrinks from {before} to {after}"))
                    .label("less than before")
                    .related(*before_at, "before")
                    .mend("sort it upwards: a ramp widens the blast radius, and everything ends at once at its end");
                grows = false;
            }
            Some(std::cmp::Ordering::Equal) => {
                cx.warning(*after_at, format!("the ramp says {after} twice"))
                    .label("adds nothing and is skipped")
                    .mend("remove it, or make `hold` longer");
            }
            _ => {}
        }
    }
    grows.then(|| read.into_iter().map(|(s, _)| s).collect())
}

fn one_share(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Share> {
    let text = cx.text(node, "a share", "`10%`, `3` or `all`")?;
    if let Ok(share) = text.parse() {
        return Some(share);
    }
    let number = text.trim().trim_end_matches('%');
    let label = match number.parse::<f64>() {
        Ok(n) if n <= 0.0 => "nothing would be hit",
        Ok(_) if text.ends_with('%') => "more than all",
        Ok(_) => "a count is whole",
        Err(_) => "not a share",
    };
    cx.error(node.at, format!("{} is not a share", quoted(text)))
        .label(label)
        .mend("write `all`, a count from 1 such as `3`, or a percentage above 0 such as `10%`");
    None
}

/// Which of two shares is more, where that does not depend on how many candidates there are.
fn order(a: Share, b: Share) -> Option<std::cmp::Ordering> {
    const WHOLE: u64 = 1_000_000;
    let percent = |s: Share| match s {
        Share::All => Some(WHOLE),
        Share::Percent(p) => Some(p.get()),
        Share::Count(_) => None,
    };
    match (a, b) {
        (Share::Count(a), Share::Count(b)) => Some(a.cmp(&b)),
        (Share::All, Share::Count(_)) => Some(std::cmp::Ordering::Greater),
        (Share::Percent(p), Share::Count(_)) if p.get() == WHOLE => {
            Some(std::cmp::Ordering::Greater)
        }
        _ => Some(percent(a)?.cmp(&percent(b)?)),
    }
}
