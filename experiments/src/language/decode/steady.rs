//! The steady state: probes and what is expected of them.

use super::{compare, probe, product};
use crate::enough::{self, Pace};
use crate::expectation::{Bound, Burn, Check, Comparison, Expectation, Measure, Scalar};
use crate::experiment::{SteadyState, Step};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use crate::probe::Probe;
use crate::units::{Hold, Interval, Percent};
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
        &[
            "name", "probe", "compare", "expect", "confirm", "clear", "block",
        ],
    )?;
    let name = fields
        .need(cx, "name", "name: order success")
        .and_then(|e| unique(cx, e, names));
    let probe = fields
        .need(cx, "probe", "probe: { http: { url: http://orders:8080/ } }")
        .and_then(|e| probe::probe(cx, e));
    let compare = fields.option("compare", |e| {
        let probe_entry = fields.get("probe")?;
        compare::control(cx, e, probe_entry, probe.as_ref())
    });
    let expect = fields
        .need(cx, "expect", "expect: [ success >= 99% ]")
        .and_then(|e| expectations(cx, e, probe.as_ref()));
    if let Some(expect) = &expect {
        let controlled = fields.get("compare").map(|e| e.key_at);
        compare::used(cx, expect, controlled);
        product::refuse(cx, name.as_deref(), probe.as_ref(), expect);
    }
    let confirm = fields.or("confirm", SteadyState::confirm_default(), |e| {
        cx.whole(&e.node, "a number of violations in a row", 1..=CONFIRM_MOST)
    });
    let clear = fields.or("clear", SteadyState::clear_default(), |e| {
        cx.whole(&e.node, "a number of good ones in a row", 1..=CONFIRM_MOST)
    });
    let block = fields.option("block", |e| {
        cx.quantity::<Interval>(&e.node, "a time", "5s")
    });
    let (expect, expect_at) = expect?.into_iter().unzip();
    Some(Stated {
        state: SteadyState {
            name: name?,
            probe: probe?,
            compare: compare?,
            expect,
            confirm: confirm?,
            block: block?,
            clear: clear?,
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

/// Expectations, and where they are written.
pub(super) type Expected = Vec<(Expectation, At)>;

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
        let read = if compare::is_canary(item) {
            Some(Expectation::canary())
        } else {
            expectation(cx, item).map(|e| vec![e])
        };
        let read = read.filter(|all| all.iter().all(|e| measurable(cx, item, e, probe)));
        let Some(all) = read else {
            found = None;
            continue;
        };
        if let Some(found) = &mut found {
            for expectation in all {
                twice(cx, found, &expectation, item.at);
                found.push((expectation, item.at));
            }
        }
    }
    found
}

fn twice(cx: &mut Cx<'_, '_>, found: &Expected, expectation: &Expectation, at: At) {
    if let Some((_, first)) = found.iter().find(|(e, _)| e == expectation) {
        cx.warning(
            at,
            format!("{} is expected twice", quoted(&expectation.to_string())),
        )
        .related(*first, "first here")
        .mend("remove one of them");
    }
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
            "`success`, `status`, `p50` … `p999`, `max`, `rate`, `body` and `burn`",
        ),
        Probe::Tcp(_) | Probe::Grpc(_) => (
            matches!(
                measure,
                M::Success | M::Quantile(_) | M::Max | M::Rate | M::Burn(_)
            ),
            "`success`, `p50` … `p999`, `max`, `rate` and `burn`",
        ),
        Probe::Prometheus(_) | Probe::Webhook(_) | Probe::Log(_) | Probe::Kubernetes(_) => (
            matches!(measure, M::Success | M::Value | M::Rate | M::Burn(_)),
            "`value`, `success`, `rate` and `burn`",
        ),
        Probe::Command(_) => (
            matches!(
                measure,
                M::Success | M::Value | M::Exit | M::Body(_) | M::Rate | M::Burn(_)
            ),
            "`success`, `exit`, `value`, `body`, `rate` and `burn`",
        ),
        Probe::Dns(_) | Probe::Postgres(_) | Probe::Redis(_) => (
            matches!(
                measure,
                M::Success | M::Quantile(_) | M::Max | M::Rate | M::Value | M::Burn(_)
            ),
            "`success`, `p50` … `p999`, `max`, `rate`, `value` and `burn`",
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
    let at = first_word(cx, node);
    cx.error(
        at,
        format!("the `{word}` probe cannot measure `{}`", bare(measure)),
    )
    .label(format!("it measures {has}"))
    .mend(mend);
    false
}

/// Where the measure stands: the first word of the expectation.
fn first_word(cx: &Cx<'_, '_>, node: &Node) -> At {
    let text = match &node.value {
        Value::Scalar { text, .. } => text.as_str(),
        _ => "",
    };
    let start = text.len() - text.trim_start().len();
    let end = text
        .get(start..)
        .and_then(|t| t.find([' ', '<', '>', '=', '!']))
        .map_or(text.len(), |e| start + e);
    cx.inside(node, text, start, end)
}

/// The measure's word alone.
fn bare(measure: &Measure) -> String {
    match measure {
        Measure::Body(_) => "body".to_owned(),
        Measure::Burn(_) => "burn".to_owned(),
        other => other.to_string(),
    }
}

/// Warns where a phase is too short to show what is expected.
pub(super) fn enough_samples(cx: &mut Cx<'_, '_>, states: &[Stated], phase: &str, length: Hold) {
    for stated in states {
        if matches!(stated.state.probe, Probe::Command(_)) {
            continue;
        }
        let per_second = Pace::of(&stated.state).attempts_per_second;
        let samples = (per_second * length.duration().as_secs_f64()).floor();
        for (expectation, at) in stated.state.expect.iter().zip(&stated.expect_at) {
            if let Measure::Burn(burn) = &expectation.measure {
                one_is_enough(cx, *at, expectation, burn, per_second);
            }
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

/// Warns where no run could be called held, because its shortest hold is too short even if nothing at all violates.
pub(super) fn enough_to_hold(
    cx: &mut Cx<'_, '_>,
    states: &[Stated],
    method: &[Step],
    confidence: Percent,
) {
    // What is kept goes on being shown in the step that keeps it.
    let is_kept = |at: &usize| method.get(at + 1).is_some_and(|next| next.keep_previous);
    let shown = method.iter().enumerate().filter(|(at, _)| !is_kept(at));
    let Some(hold) = shown.map(|(_, step)| step.hold).min_by_key(|h| h.get()) else {
        return;
    };
    for stated in states {
        let pace = Pace::of(&stated.state);
        for (expectation, at) in stated.state.expect.iter().zip(&stated.expect_at) {
            let pace = pace.of_expectation(expectation);
            let given = pace.trials(hold);
            let healthy = enough::needed(expectation, confidence, 0.0);
            let Some(needed) = healthy.filter(|needed| *needed > given) else {
                continue;
            };
            let (what, well) = match (expectation.against_control(), stated.state.block) {
                (true, _) => ("pairs", "in which both groups are alike"),
                (false, Some(_)) => ("blocks", "of which none violates"),
                (false, None) => ("samples", "of which none violates"),
            };
            cx.warning(*at, format!("a hold of {hold} gives {given} {what}, too few to show `{expectation}` with {confidence} confidence"))
                .label(format!("needs {needed} {well}: {} at this pace", pace.lasting(needed)))
                .mend("hold longer, probe more often, or expect less: until then a run that does not break is inconclusive");
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

/// Warns where the probe asks so seldom that one failure alone burns faster than the bound.
fn one_is_enough(
    cx: &mut Cx<'_, '_>,
    at: At,
    expectation: &Expectation,
    burn: &Burn,
    per_second: f64,
) {
    let Check::Compare(_, Bound::Absolute(Scalar::Number(factor))) = &expectation.check else {
        return;
    };
    let attempts = (per_second * burn.long.duration().as_secs_f64()).max(1.0);
    if factor * burn.budget() * attempts < 1.0 {
        let (long, objective) = (burn.long, burn.objective);
        cx.warning(at, format!("a single failure burns faster than {factor}"))
            .label(format!(
                "{attempts:.0} attempts in {long}, of which {objective} lets less than one fail"
            ))
            .mend("probe more often, or look over a longer window");
    }
}
