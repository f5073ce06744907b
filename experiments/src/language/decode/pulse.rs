//! How a step's faults come and go.

use crate::fault::{Fault, FaultKind};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::tree::{Entry, Value};
use crate::pulse::Pulse;
use crate::units::Hold;

const EXAMPLE: &str = "pulse: { on: 5s, off: 10s }";

/// Reads `pulse:`.
pub(super) fn pulse(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Pulse> {
    if let Value::Scalar { .. } = entry.node.value
        && !entry.node.is_null()
    {
        cx.error(entry.node.at, "a pulse has two times")
            .label("which of them is this?")
            .mend(format!("write `{EXAMPLE}`"));
        return None;
    }
    let fields = Fields::open(cx, entry.key_at, &entry.node, "a pulse", &["on", "off"])?;
    let on = fields.need(cx, "on", EXAMPLE);
    let on = on.and_then(|e| cx.quantity(&e.node, "a time", "5s"));
    let off = fields.need(cx, "off", EXAMPLE);
    let off = off.and_then(|e| cx.quantity(&e.node, "a time", "10s"));
    Some(Pulse { on: on?, off: off? })
}

/// Whether the step's faults can come and go, and have the time to.
pub(super) fn sense(
    cx: &mut Cx<'_, '_>,
    pulse: Pulse,
    at: At,
    faults: &[(Fault, At)],
    hold: Option<Hold>,
) {
    for (fault, fault_at) in faults.iter().filter(|(f, _)| !f.kind().can_pulse()) {
        let kind = fault.kind();
        cx.error(at, format!("a {kind} cannot come and go"))
            .related(*fault_at, "over in an instant, and not to be taken back")
            .mend(match kind {
                FaultKind::Kill => "remove `pulse`; `every: 10s` kills again and again",
                _ => "remove `pulse`",
            });
    }
    if let Some(hold) = hold.filter(|hold| hold.get() <= pulse.on.get()) {
        cx.warning(at, format!("a pulse of {pulse} in a step of {hold}"))
            .label("it never comes to the first `off`")
            .mend(
                "make `hold` several times as long as `on` and `off` together, or remove `pulse`",
            );
    }
}
