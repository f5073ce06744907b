//! From a run's events to the spans of its trace. Pure.
//!
//! ```text
//! run ─┬─ planning
//!      ├─ baseline
//!      ├─ stage ─┬─ arm (one for each node) ── fault ── arming      the last two are the agent's
//!      │         └─ hold
//!      ├─ stop
//!      └─ recovery
//! ```
//!
//! All times are the controller's: an agent's are counted back from when its word came in, by how long it says that it took. Two machines'
//! clocks are never compared. A fault may outlive the stage that armed it, as it does in the ramp.

use crate::report::words::{cause_in_words, stop_in_words};
use crate::report::{FaultOutcome, FaultReport, PhaseKind, PhaseReport, Summary};
use opentelemetry::trace::{
    Event as SpanEvent, SpanContext, SpanKind, Status, TraceFlags, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, KeyValue, SpanId, StringValue, TraceId, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::{FaultId, RunId};
use squall_experiments::trace::{Part, trace_id};
use squall_experiments::verdict::Verdict;
use squall_experiments::wire::EndCause;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// So many notes are told with the run; what receivers keep of a span is bounded, and the report has them all.
const NOTES_MAX: usize = 32;

/// A run's spans, by who they are about. The run's own is the first.
#[derive(Debug, Default)]
pub(super) struct Spans {
    /// What the controller did.
    pub(super) controller: Vec<SpanData>,
    /// What agents did.
    pub(super) agents: Vec<SpanData>,
}

/// The spans of a run that is over; none of what has no beginning.
pub(super) fn of(events: &[Event]) -> Spans {
    let (Some(first), summary) = (events.first(), Summary::of(events)) else {
        return Spans::default();
    };
    let Happening::Created(created) = &first.what else {
        return Spans::default();
    };
    let run = created.run.clone();
    let teller = Teller {
        trace: TraceId::from_bytes(trace_id(&run)),
        run,
        start_us: first.at_us,
        end_ms: summary.timings.duration_ms,
        scope: InstrumentationScope::builder("squall")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
        planned: planned(events),
        refused: refused(events),
        summary,
    };
    let mut root = teller.root();
    root.attributes.extend(
        [("environment", &created.environment), ("by", &created.by)]
            .into_iter()
            .filter_map(|(key, value)| Some(text(key, value.as_ref()?))),
    );
    let mut spans = Spans::default();
    spans.controller.push(root);
    teller.phases(&mut spans);
    teller.faults(&mut spans.agents);
    spans
}

/// Faults that are asked for when their stage begins; others join it later.
fn planned(events: &[Event]) -> HashSet<String> {
    let plans = events.iter().filter_map(|event| match &event.what {
        Happening::Planned(plan) => Some(plan),
        _ => None,
    });
    let stages = plans.flat_map(|plan| &plan.stages);
    let faults = stages.flat_map(|stage| &stage.arm);
    faults.map(|fault| fault.id.0.clone()).collect()
}

/// When faults were refused, in microseconds since the epoch.
fn refused(events: &[Event]) -> HashMap<String, u64> {
    let refused = events.iter().filter_map(|event| match &event.what {
        Happening::Refused(refused) => Some((refused.id.0.clone(), event.at_us)),
        _ => None,
    });
    refused.collect()
}

fn text(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(format!("squall.{key}"), value.to_owned())
}

fn number(key: &'static str, value: usize) -> KeyValue {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    KeyValue::new(format!("squall.{key}"), value)
}

struct Teller {
    run: RunId,
    trace: TraceId,
    start_us: u64,
    end_ms: f64,
    scope: InstrumentationScope,
    planned: HashSet<String>,
    refused: HashMap<String, u64>,
    summary: Summary,
}

impl Teller {
    /// A moment of the run, within it.
    fn at(&self, ms: f64) -> SystemTime {
        let since_start = Duration::from_secs_f64(ms.clamp(0.0, self.end_ms) / 1e3);
        UNIX_EPOCH + Duration::from_micros(self.start_us) + since_start
    }

    fn span(
        &self,
        name: &'static str,
        part: Part<'_>,
        within: Option<Part<'_>>,
        (from_ms, to_ms): (f64, f64),
    ) -> SpanData {
        let id = |part: Part<'_>| SpanId::from_bytes(part.span_id(&self.run));
        let sampled = TraceFlags::SAMPLED;
        SpanData {
            span_context: SpanContext::new(
                self.trace,
                id(part),
                sampled,
                false,
                TraceState::default(),
            ),
            parent_span_id: within.map_or(SpanId::INVALID, id),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: self.at(from_ms),
            end_time: self.at(to_ms.max(from_ms)),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    fn event(
        &self,
        name: &'static str,
        at_ms: f64,
        attributes: impl IntoIterator<Item = KeyValue>,
    ) -> SpanEvent {
        SpanEvent::new(
            name,
            self.at(at_ms),
            attributes.into_iter().collect::<Vec<_>>(),
            0,
        )
    }

    fn root(&self) -> SpanData {
        let said = &self.summary;
        let mut span = self.span("run", Part::Run, None, (0.0, self.end_ms));
        let verdict = said.verdict.map(|verdict| verdict.to_string());
        span.attributes = vec![
            text("run", &said.run),
            text("experiment", &said.name),
            text("digest", &said.digest),
            text("file", &said.file.path),
            KeyValue::new("squall.seed", said.seed.to_string()),
            text("verdict", &verdict.unwrap_or_default()),
            text("because", &said.because),
        ];
        span.status = match said.verdict {
            Some(Verdict::Held) => Status::Ok,
            Some(Verdict::Broken | Verdict::Inconclusive) | None => {
                Status::error(said.because.clone())
            }
            // Somebody's will, and no failure.
            Some(Verdict::Refused | Verdict::Halted) => Status::Unset,
        };
        let violated = said.violations.iter().map(|violation| {
            let told = [
                text("probe", &violation.probe),
                text("expectation", &violation.expectation),
                text("measured", &violation.measured),
            ];
            self.event("violated", violation.at_ms, told)
        });
        let notes = said.notes.iter().take(NOTES_MAX);
        let notes = notes.map(|note| self.event("note", self.end_ms, [text("note", note)]));
        span.events.events = violated.chain(notes).collect();
        span
    }

    fn phases(&self, spans: &mut Spans) {
        let phases = &self.summary.phases;
        let prepared = phases
            .iter()
            .find(|phase| phase.kind != PhaseKind::Preparing);
        let prepared_ms = prepared.map_or(self.end_ms, |phase| phase.from_ms);
        let root = Some(Part::Run);
        let planning = self.span("planning", Part::Planning, root, (0.0, prepared_ms));
        spans.controller.push(planning);
        for phase in phases {
            let times = (phase.from_ms, phase.to_ms);
            match (phase.kind, phase.stage) {
                (PhaseKind::Baseline, _) => {
                    let span = self.span("baseline", Part::Baseline, root, times);
                    spans.controller.push(span);
                }
                (PhaseKind::Injecting, Some(stage)) => {
                    self.stage(stage, phase, &mut spans.controller);
                }
                (PhaseKind::Recovering, _) => {
                    spans.controller.extend(self.stop());
                    let span = self.span("recovery", Part::Recovery, root, times);
                    spans.controller.push(span);
                }
                (PhaseKind::Preparing | PhaseKind::Injecting, _) => {}
            }
        }
    }

    fn stage(&self, stage: u32, phase: &PhaseReport, spans: &mut Vec<SpanData>) {
        let (root, part) = (Some(Part::Run), Part::Stage(stage));
        let times = (phase.from_ms, phase.to_ms);
        let mut span = self.span("stage", part, root, times);
        span.attributes
            .push(number("stage", usize::try_from(stage).unwrap_or_default()));
        let told = self.summary.stages.iter();
        for told in told.filter(|told| told.number == stage) {
            span.attributes.extend([
                text("step", &told.step),
                text("share", &told.share),
                number("hit", told.hit),
                number("candidates", told.candidates),
            ]);
        }
        spans.push(span);
        let asked = self.summary.faults.iter();
        let asked = asked.filter(|fault| fault.stage == stage && self.planned.contains(&fault.id));
        let asked: Vec<&FaultReport> = asked.collect();
        let mut nodes: BTreeMap<&str, Vec<&FaultReport>> = BTreeMap::new();
        for &fault in &asked {
            nodes.entry(&fault.node).or_default().push(fault);
        }
        for (node, faults) in nodes {
            spans.push(self.arm(stage, phase, node, &faults));
        }
        let armed: Option<Vec<f64>> = asked.iter().map(|fault| fault.armed_at_ms).collect();
        let last = armed.and_then(|armed| armed.into_iter().max_by(f64::total_cmp));
        if let Some(last) = last {
            let times = (last, phase.to_ms);
            spans.push(self.span("hold", Part::Hold(stage), Some(part), times));
        }
    }

    /// From when a stage began to the node's last word on whether its faults are in force.
    fn arm(
        &self,
        stage: u32,
        phase: &PhaseReport,
        node: &str,
        faults: &[&FaultReport],
    ) -> SpanData {
        let answered: Option<Vec<f64>> = faults.iter().map(|fault| self.answered(fault)).collect();
        let last = answered.and_then(|answered| answered.into_iter().max_by(f64::total_cmp));
        let times = (phase.from_ms, last.unwrap_or(phase.to_ms));
        let within = Some(Part::Stage(stage));
        let mut span = self.span("arm", Part::Arm(stage, node), within, times);
        span.span_kind = SpanKind::Client;
        span.attributes = vec![text("node", node), number("faults", faults.len())];
        let refused = faults.iter().find_map(|fault| match &fault.outcome {
            FaultOutcome::Refused(why) => Some(why.clone()),
            _ => None,
        });
        if let Some(why) = refused {
            span.status = Status::error(why);
        } else if last.is_none() {
            span.status = Status::error("not all were in force when the stage ended");
        }
        span
    }

    /// When it was known whether a fault is in force.
    fn answered(&self, fault: &FaultReport) -> Option<f64> {
        fault.armed_at_ms.or_else(|| self.refused_at_ms(fault))
    }

    fn refused_at_ms(&self, fault: &FaultReport) -> Option<f64> {
        let at_us = self.refused.get(&fault.id)?;
        Some(Duration::from_micros(at_us.saturating_sub(self.start_us)).as_secs_f64() * 1e3)
    }

    fn stop(&self) -> Option<SpanData> {
        let from = self.summary.stop_at_ms?;
        let ends = self
            .summary
            .faults
            .iter()
            .filter_map(|fault| fault.ended_at_ms);
        let last = ends.fold(from, f64::max);
        let mut span = self.span("stop", Part::Stop, Some(Part::Run), (from, last));
        let reason = self.summary.stop_reason.as_ref();
        span.attributes
            .extend(reason.map(|reason| text("because", &stop_in_words(reason))));
        Some(span)
    }

    /// The faults that were in force, and those that were refused.
    fn faults(&self, spans: &mut Vec<SpanData>) {
        let stages: HashMap<u32, f64> = self
            .summary
            .phases
            .iter()
            .filter_map(|phase| Some((phase.stage?, phase.from_ms)))
            .collect();
        for fault in &self.summary.faults {
            let id = FaultId(fault.id.clone());
            let within = if self.planned.contains(&fault.id) {
                Part::Arm(fault.stage, &fault.node)
            } else {
                Part::Stage(fault.stage)
            };
            let asked = stages.get(&fault.stage).copied();
            let (from, to) = if let Some(armed) = fault.armed_at_ms {
                let took = Duration::from_micros(fault.arm_took_us.unwrap_or_default());
                let from = armed - took.as_secs_f64() * 1e3;
                // A stage is told a moment after its orders are out: what they begin is not before it all the same.
                let from = from.max(asked.unwrap_or(from)).min(armed);
                (from, fault.ended_at_ms.unwrap_or(self.end_ms))
            } else if let Some(refused) = self.refused_at_ms(fault) {
                (asked.unwrap_or(refused).min(refused), refused)
            } else {
                continue;
            };
            let mut span = self.span("fault", Part::Fault(&id), Some(within), (from, to));
            span.span_kind = SpanKind::Server;
            span.parent_span_is_remote = true;
            span.attributes = attributes(fault);
            span.status = status(&fault.outcome);
            let pulses = fault.pulses.iter();
            span.events.events = pulses
                .flat_map(|pulse| [("on", Some(pulse.from_ms)), ("off", pulse.to_ms)])
                .filter_map(|(name, at)| Some(self.event(name, at?, [])))
                .collect();
            spans.push(span);
            if let Some(armed) = fault.armed_at_ms {
                let within = Some(Part::Fault(&id));
                let mut span = self.span("arming", Part::Arming(&id), within, (from, armed));
                span.attributes = vec![text("node", &fault.node)];
                spans.push(span);
            }
        }
    }
}

fn attributes(fault: &FaultReport) -> Vec<KeyValue> {
    let mut told = vec![
        text("fault.id", &fault.id),
        text("fault", &fault.fault),
        text("target", &fault.target),
        text("node", &fault.node),
    ];
    if fault.armed_at_ms.is_some() {
        let read_back = fault.read_back.iter().cloned().map(StringValue::from);
        let read_back = Value::Array(Array::String(read_back.collect()));
        told.extend([
            text("means", &fault.means),
            text("held", fault.held.word()),
            KeyValue::new("squall.read_back", read_back),
        ]);
    }
    if fault.dose.is_some() {
        told.push(text("dose", &fault.dose_in_words));
    }
    if let FaultOutcome::Ended(cause) = &fault.outcome {
        told.push(text("end", &cause_in_words(cause)));
    }
    let took = fault.end_took_us.and_then(|us| i64::try_from(us).ok());
    told.extend(took.map(|us| KeyValue::new("squall.end_took_us", us)));
    told
}

/// An end that nobody asked for is an error, as no end is.
fn status(outcome: &FaultOutcome) -> Status {
    match outcome {
        FaultOutcome::Ended(EndCause::Stopped | EndCause::Done) | FaultOutcome::NotReached => {
            Status::Unset
        }
        FaultOutcome::Ended(cause) => Status::error(cause_in_words(cause)),
        FaultOutcome::InForce => Status::error("no end was recorded"),
        FaultOutcome::Refused(why) | FaultOutcome::Stuck(why) => Status::error(why.clone()),
    }
}
