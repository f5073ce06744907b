//! The steady state: probes and what is expected of them.

use super::probe;
use crate::expectation::{Bound, Check, Comparison, Expectation, Measure, Scalar};
use crate::experiment::SteadyState;
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::probe::Probe;
use crate::units::Hold;
use std::rc::Rc;

/// A decoded entry, with what later checks point at.
pub(super) struct Stated {
    pub(super) state: SteadyState,
    expect_at: Vec<At>,
}

/// Fewer samples than this show nothing at all, whatever is expected.
const SAMPLES_LEAST: f64 = 20.0;
/// A hundred violations in a row are minutes at the usual pace: nothing would ever be confirmed.
const CONFIRM_MOST: u32 = 100;

/// Reads `steadyState:`.
pub(super) fn list(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<Stated>> {
    let example = "`- name: …`, `probe: { http: { url: … } }`, `expect: [ success >= 99% ]`";
    let items = cx.list(&entry.node, "a list of what must stay true", example)?;
    let mut states = Vec::new();
    let mut names: Vec<(String, At)> = Vec::new();
    for item in items {
        let state = one(cx, item, &mut names);
        states.push(state);
    }
    states.into_iter().collect()
}

fn one(cx: &mut Cx<'_, '_>, node: &Node, names: &mut Vec<(String, At)>) -> Option<Stated> {
    let owner = node.head();
    let fields = Fields::open(
        cx,
        owner,
        node,
        "a steady state",
        &["name", "probe", "expect", "confirm"],
    )?;
    let name = fields
        .need(cx, "name", "name: order success")
        .and_then(|e| unique(cx, e, names));
    let probe = fields
        .need(cx, "probe", "probe: { http: { url: http://orders:8080/ } }")
        .and_then(|e| probe::probe(cx, e));
    let expect = fields
        .need(cx, "expect", "expect: [ success >= 99% ]")
        .and_then(|e| expectations(cx, e, probe.as_ref()));
    let confirm = fields.or("confirm", SteadyState::confirm_default(), |e| {
        cx.whole(&e.node, "a number of violations in a row", 1..=CONFIRM_MOST)
    });
    let (expect, expect_at) = expect?.into_iter().unzip();
    Some(Stated {
        state: SteadyState {
            name: name?,
            probe: probe?,
            expect,
            confirm: confirm?,
        },
        expect_at,
    })
}

fn unique(cx: &mut Cx<'_, '_>, entry: &Entry, names: &mut Vec<(String, At)>) -> Option<String> {
    let name = cx.words(&entry.node, "a name", "`order success`")?;
    if let Some((_, first)) = names.iter().find(|(n, _)| *n == name) {
        let first = *first;
        cx.error(
            entry.node.at,
            format!("two steady states are called {}", quoted(&name)),
        )
        .label("the second")
        .related(first, "the first")
        .mend("give each its own name: the report and the stop rule speak of them by name");
        return None;
    }
    names.push((name.clone(), entry.node.at));
    Some(name)
}

type Expected = Vec<(Expectation, At)>;

fn expectations(cx: &mut Cx<'_, '_>, entry: &Entry, probe: Option<&Probe>) -> Option<Expected> {
    let node = &entry.node;
    let single = [Rc::clone(node)];
    let is_single = matches!(node.value, Value::Scalar { .. }) && !node.is_null();
    let items = if is_single {
        &single[..]
    } else {
        cx.list(
            node,
            "a list of expectations",
            "`[ success >= 99%, p99 <= 400ms ]`",
        )?
    };
    let mut found: Option<Expected> = Some(Vec::new());
    for item in items {
        let read = expectation(cx, item).filter(|e| measurable(cx, item, e, probe));
        let Some(expectation) = read else {
            found = None;
            continue;
        };
        if let Some(found) = &mut found {
            if let Some((_, first)) = found.iter().find(|(e, _)| *e == expectation) {
                let first = *first;
                cx.warning(
                    item.at,
                    format!("{} is expected twice", quoted(&expectation.to_string())),
                )
                .related(first, "first here")
                .mend("remove one of them");
            }
            found.push((expectation, item.at));
        }
    }
    found
}

fn expectation(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Expectation> {
    if let Value::Map(_) = node.value {
        cx.error(
            node.at,
            "an expectation is a text, and YAML reads this as a mapping",
        )
        .label("because of the `:`")
        .mend("put the whole expectation in quotes");
        return None;
    }
    let text = cx.text(node, "an expectation", "one such as `success >= 99%`")?;
    match text.parse() {
        Ok(expectation) => Some(expectation),
        Err(error) => {
            let error: crate::expectation::ExpectationError = error;
            let at = cx.inside(node, text, error.at, error.end);
            let bare = text.trim().trim_end_matches(']').parse::<f64>().is_ok();
            let draft = cx.error(at, error.problem);
            if bare {
                draft.mend("a comma inside `[ … ]` separates expectations: quote one that contains a comma");
            } else if let Some(mend) = error.mend {
                draft.mend(mend);
            }
            None
        }
    }
}

/// What each probe can measure, and what to do about the rest.
fn measurable(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    expectation: &Expectation,
    probe: Option<&Probe>,
) -> bool {
    use Measure as M;
    // Without a probe there is already an error; a second one about it would be noise.
    let Some(probe) = probe else { return true };
    let measure = &expectation.measure;
    let (fits, has) = match probe {
        Probe::Http(_) | Probe::Load(_) => (
            !matches!(measure, M::Value | M::Exit),
            "`success`, `status`, `p50` … `p999`, `max`, `rate` and `body`",
        ),
        Probe::Tcp(_) => (
            matches!(measure, M::Success | M::Quantile(_) | M::Max | M::Rate),
            "`success`, `p50` … `p999`, `max` and `rate`",
        ),
        Probe::Prometheus(_) | Probe::Webhook(_) | Probe::Log(_) | Probe::Kubernetes(_) => (
            matches!(measure, M::Success | M::Value | M::Rate),
            "`value`, `success` and `rate`",
        ),
        Probe::Command(_) => (
            matches!(
                measure,
                M::Success | M::Value | M::Exit | M::Body(_) | M::Rate
            ),
            "`success`, `exit`, `value`, `body` and `rate`",
        ),
    };
    if fits {
        return true;
    }
    let word = probe.word();
    let mend = match (probe, measure) {
        (Probe::Command(_), M::Quantile(_) | M::Max) => {
            "bound its time with `timeout:` and expect `success`, or let it print a time and expect `value`".to_owned()
        }
        (Probe::Http(_) | Probe::Load(_), M::Value) => "take a number out of the answer with `body $.path`, or ask a `prometheus`, `webhook` or `command` probe".to_owned(),
        (Probe::Prometheus(_), _) => "expect `value`, the number that the query comes to, or `success`, that there is one".to_owned(),
        (Probe::Kubernetes(_), _) => "expect `value`, the number that is looked at, or `success`, that it is as it should be".to_owned(),
        (Probe::Log(_), _) => "expect `value`, the matching lines per second, or `success`, that there are none".to_owned(),
        (Probe::Webhook(_), _) => "expect `value`, the number that it answers, or `success`, that it says `ok`".to_owned(),
        (Probe::Tcp(_), M::Body(_) | M::Status) => "use an `http` probe, which reads the answer".to_owned(),
        _ => format!("expect one of {has}, or use a `command` probe"),
    };
    let text = match &node.value {
        Value::Scalar { text, .. } => text.as_str(),
        _ => "",
    };
    let start = text.len() - text.trim_start().len();
    let end = text
        .get(start..)
        .and_then(|t| t.find([' ', '<', '>', '=', '!']))
        .map_or(text.len(), |e| start + e);
    let at = cx.inside(node, text, start, end);
    cx.error(
        at,
        format!("the `{word}` probe cannot measure `{}`", bare(measure)),
    )
    .label(format!("it measures {has}"))
    .mend(mend);
    false
}

/// The measure's word alone.
fn bare(measure: &Measure) -> String {
    match measure {
        Measure::Body(_) => "body".to_owned(),
        other => other.to_string(),
    }
}

/// Warns where a phase is too short to show what is expected.
pub(super) fn enough_samples(cx: &mut Cx<'_, '_>, states: &[Stated], phase: &str, length: Hold) {
    for stated in states {
        let per_second = match &stated.state.probe {
            Probe::Load(load) => load.rate.per_second(),
            Probe::Command(_) => continue,
            other => 1.0 / other.cadence().every.as_secs_f64(),
        };
        let samples = (per_second * length.duration().as_secs_f64()).floor();
        for (expectation, at) in stated.state.expect.iter().zip(&stated.expect_at) {
            let Some(needed) = needed(expectation) else {
                continue;
            };
            if samples < needed {
                cx.warning(*at, format!("the {phase} of {length} gives {samples} samples, too few for `{expectation}`"))
                    .label(format!("needs at least {needed}"))
                    .mend(format!("probe more often, make the {phase} longer, or expect less: too few samples make a run inconclusive"));
            }
        }
    }
}

/// How many samples could show an expectation missed once by a system that just meets it.
fn needed(expectation: &Expectation) -> Option<f64> {
    let rare = match (&expectation.measure, &expectation.check) {
        (Measure::Quantile(millionths), _) => 1.0 - f64::from(*millionths) / 1e6,
        (
            Measure::Success,
            Check::Compare(
                Comparison::AtLeast | Comparison::Greater,
                Bound::Absolute(Scalar::Percent(share)),
            ),
        ) => 1.0 - share.fraction(),
        (Measure::Success, _) => 1.0,
        _ => return None,
    };
    // All of them must succeed: one failure is enough, and any number of samples can show it.
    let samples = if rare < 1e-9 {
        SAMPLES_LEAST
    } else {
        (1.0 / rare - 1e-6).ceil()
    };
    Some(samples.max(SAMPLES_LEAST))
}
