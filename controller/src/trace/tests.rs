use super::*;
use crate::report::sample;
use opentelemetry::trace::{SpanId, Status};
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What a span is called, with its parents' names before it.
fn paths(all: &[SpanData]) -> Vec<String> {
    let by_id: HashMap<SpanId, &SpanData> = all
        .iter()
        .map(|span| (span.span_context.span_id(), span))
        .collect();
    assert_eq!(by_id.len(), all.len(), "a span's id is not its own");
    let path = |span: &SpanData| {
        let mut path = span.name.to_string();
        let mut parent = span.parent_span_id;
        while parent != SpanId::INVALID {
            path = format!("{}/{path}", by_id[&parent].name);
            parent = by_id[&parent].parent_span_id;
        }
        path
    };
    all.iter().map(path).collect()
}

fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<&'a opentelemetry::Value> {
    let found = span.attributes.iter().find(|kv| kv.key.as_str() == key);
    found.map(|kv| &kv.value)
}

fn ms(span: &SpanData) -> u128 {
    let length = span.end_time.duration_since(span.start_time);
    length.expect("a span ends after it began").as_millis()
}

/// Its stage is told a moment after the order is out, and the agent may say that it took longer than since then.
#[test]
fn what_an_order_begins_is_not_before_it() {
    let mut events = sample::broken();
    for event in &mut events {
        if let Happening::Armed(armed) = &mut event.what {
            armed.took_us = 60_000_000;
        }
    }
    let spans = spans::of(&events);
    let arm = spans.controller.iter().find(|span| span.name == "arm");
    let fault = &spans.agents[0];
    assert_eq!(fault.start_time, arm.unwrap().start_time);
    assert!(fault.start_time <= fault.end_time);
}

#[test]
fn a_run_is_one_trace_and_its_parts_have_their_places() {
    let events = sample::broken();
    let spans = spans::of(&events);
    let all: Vec<SpanData> = spans
        .controller
        .iter()
        .chain(&spans.agents)
        .cloned()
        .collect();
    let expected = [
        "run",
        "run/planning",
        "run/baseline",
        "run/stage",
        "run/stage/arm",
        "run/stage/hold",
        "run/stop",
        "run/recovery",
        "run/stage/arm/fault",
        "run/stage/arm/fault/arming",
    ];
    assert_eq!(paths(&all), expected);
    assert_eq!(spans.agents.len(), 2);
    let root = &all[0];
    for span in &all {
        assert_eq!(span.span_context.trace_id(), root.span_context.trace_id());
        assert!(span.start_time >= root.start_time && span.end_time <= root.end_time);
        assert!(span.start_time <= span.end_time, "{}", span.name);
    }
    assert!(matches!(root.status, Status::Error { .. }), "{root:?}");
    assert_eq!(root.events[0].name, "violated");
    // From the agent's receipt of the order: its own 8.3 ms before its word came in.
    let arming = &spans.agents[1];
    assert_eq!(ms(arming), 8);
    let fault = &spans.agents[0];
    assert_eq!(arming.start_time, fault.start_time);
    assert_eq!(
        attribute(fault, "squall.held").map(ToString::to_string),
        Some("kernel".into())
    );
    assert!(attribute(fault, "squall.dose").is_some(), "{fault:?}");
    assert_eq!(fault.status, Status::Unset);
}

#[test]
fn what_was_not_in_force_or_has_no_end_is_an_error() {
    let mut events = sample::broken();
    events.retain(|event| !matches!(event.what, Happening::Ended(_)));
    let spans = spans::of(&events);
    assert!(matches!(spans.agents[0].status, Status::Error { .. }));
    let refused = |event: &Event| match &event.what {
        Happening::Armed(armed) => Some(Event {
            at_us: event.at_us,
            what: Happening::Refused(squall_experiments::event::FaultRefused {
                id: armed.id.clone(),
                reason: "the node says no".into(),
            }),
        }),
        Happening::Dosed(_) => None,
        _ => Some(event.clone()),
    };
    let events: Vec<Event> = events.iter().filter_map(refused).collect();
    let spans = spans::of(&events);
    let [fault] = &spans.agents[..] else {
        panic!("{:?}", spans.agents);
    };
    assert_eq!(fault.status, Status::error("the node says no"));
    let names: Vec<_> = spans.controller.iter().map(|span| &span.name).collect();
    assert!(!names.iter().any(|name| *name == "hold"), "{names:?}");
    // A record that is torn off anywhere is told as far as it goes.
    for length in 0..events.len() {
        let spans = spans::of(&events[..length]);
        assert_eq!(spans.controller.is_empty(), length == 0);
    }
}

/// A receiver as a test wants it.
#[derive(Debug, Clone, Copy)]
enum Receives {
    All,
    Nothing,
    /// Not even an answer.
    Never,
}

#[derive(Debug, Clone)]
struct Fake(Receives, Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Fake {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match self.0 {
            Receives::All => {
                self.1.lock().unwrap().extend(batch);
                Ok(())
            }
            Receives::Nothing => Err(OTelSdkError::InternalFailure("no".into())),
            Receives::Never => std::future::pending().await,
        }
    }
}

fn to(receives: Receives, waiting: usize) -> (Traces, Fake) {
    let fake = Fake(receives, Arc::default());
    let counts = Counts::default();
    let traces = Traces::start(fake.clone(), fake.clone(), counts, waiting);
    (traces, fake)
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_or_does_not_fit_is_counted_and_nobody_waits() {
    let events = sample::broken();
    let most = Duration::from_secs(600);
    let counted = |traces: &Traces| (traces.counts.sent.get(), traces.counts.dropped.get());

    let (traces, fake) = to(Receives::All, WAITING_MAX);
    traces.tell(&events);
    traces.flush(most).await;
    assert_eq!(counted(&traces), (10, 0));
    assert_eq!(fake.1.lock().unwrap().len(), 10);

    let (traces, _) = to(Receives::Nothing, WAITING_MAX);
    traces.tell(&events);
    traces.flush(most).await;
    assert_eq!(counted(&traces), (0, 10));

    // `tell` cannot wait, being no future; what does not fit is dropped there and then, and the rest when its time is over.
    let (traces, _) = to(Receives::Never, 4);
    traces.tell(&events);
    assert_eq!(counted(&traces), (0, 6));
    traces.flush(Duration::from_secs(1)).await;
    assert_eq!(
        counted(&traces),
        (0, 6),
        "flush waited for longer than it was told"
    );
    traces.flush(most).await;
    assert_eq!(counted(&traces), (0, 10));
}

#[test]
fn an_endpoint_is_what_the_specification_says() {
    for given in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
        assert_eq!(traces_url(given), "http://c:4318/v1/traces");
    }
}
