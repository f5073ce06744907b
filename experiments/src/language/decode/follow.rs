//! How a step goes on hitting what its target means.

use crate::fault::{Fault, FaultKind};
use crate::follow::Follow;
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::tree::{Entry, Value};
use crate::target::{NetnsSelector, Target};
use crate::units::Interval;
use std::time::Duration;

/// As many as the agent answers with.
const TARGETS_MOST: u32 = 10_000;
/// Oftener would keep a node busy with looking.
const EVERY_LEAST: Duration = Duration::from_millis(100);

/// Reads `follow:`; `Some(None)` for `false`.
pub(super) fn follow(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Option<Follow>> {
    if let Value::Scalar { .. } = entry.node.value {
        let words = [("true", Some(Follow::default())), ("false", None)];
        return cx.word(&entry.node, "an answer to `follow`", &words);
    }
    let known = ["every", "atMost"];
    let fields = Fields::open(cx, entry.key_at, &entry.node, "`follow`", &known)?;
    let every = fields.or("every", Follow::every_default(), |e| {
        let every: Interval = cx.quantity(&e.node, "a time", "1s")?;
        if every.duration() < EVERY_LEAST {
            cx.error(
                e.node.at,
                format!("looking every {every} keeps the node busy"),
            )
            .mend("write 100ms or more; 1s where nothing is said");
            return None;
        }
        Some(every)
    });
    let at_most = fields.option("atMost", |e| {
        cx.whole(&e.node, "a number of targets", 1..=TARGETS_MOST)
    });
    Some(Some(Follow {
        every: every?,
        at_most: at_most?,
    }))
}

/// Whether there is anything to follow.
pub(super) fn sense(
    cx: &mut Cx<'_, '_>,
    at: At,
    faults: Option<&[(Fault, At)]>,
    target: Option<&(Target, At)>,
) {
    let kills = |faults: &&[(Fault, At)]| faults.iter().all(|(f, _)| f.kind() == FaultKind::Kill);
    if faults.filter(kills).is_some() {
        cx.error(
            at,
            "a kill does not follow: what comes back would be killed without end",
        )
        .mend(
            "write `kill: { every: 10s }`, which kills again what came back, and remove `follow`",
        );
    }
    let Some((target, target_at)) = target else {
        return;
    };
    let by_pid = |pid: Option<u32>| pid.is_some();
    let why = match target {
        Target::Host(_) => "the host stays what it is",
        Target::Process(selector) | Target::Netns(NetnsSelector::Process(selector))
            if by_pid(selector.pid) =>
        {
            "what was named by its pid does not come back"
        }
        _ => return,
    };
    cx.error(at, format!("there is nothing to follow: {why}"))
        .related(*target_at, "the target")
        .mend("remove `follow`, or select by what a replacement has too: `name`, `command`, `user`, `port`");
}
