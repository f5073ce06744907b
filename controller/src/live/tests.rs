//! The view, drawn from runs made by hand.

use super::paint::Paint;
use super::{Lengths, frame};
use crate::report::Telling;
use crate::report::sample::{broken, held};
use squall_experiments::event::{Event, Happening};
use std::collections::BTreeMap;

const LENGTHS: Lengths = Lengths {
    baseline_ms: 10_000.0,
    recovery_ms: 30_000.0,
};

fn seen(events: &[Event], now_ms: f64, colours: bool) -> String {
    let mut telling = Telling::default();
    let mut windows = BTreeMap::new();
    for event in events {
        telling.take(event);
        if let Happening::Observed(window) = &event.what {
            windows.insert(window.probe.clone(), window.clone());
        }
    }
    frame::frame(
        telling.raw(),
        &windows,
        LENGTHS,
        now_ms,
        &Paint::new(colours),
    )
    .join("\n")
}

fn until(events: &[Event], stop: fn(&Happening) -> bool) -> &[Event] {
    let end = events.iter().position(|e| stop(&e.what)).unwrap();
    &events[..=end]
}

#[test]
fn a_fault_in_force_is_seen_with_its_dose_and_the_time_left() {
    let all = held();
    let events = until(&all, |w| matches!(w, Happening::Armed(_)));
    let view = seen(events, 12_060.0, false);
    assert!(view.contains("stage 1 of 1"), "{view}");
    assert!(view.contains("2 s, 28 s left"), "{view}");
    assert!(
        view.contains("in force delay 300ms±30ms to :9090 on netns of payment"),
        "{view}"
    );
    assert!(
        view.contains("success 100%") && view.contains("p99 "),
        "{view}"
    );
}

#[test]
fn a_stop_says_why_and_how_soon_the_fault_was_gone() {
    let view = seen(&broken(), 20_000.0, false);
    assert!(
        view.contains("violated 3 s after the fault: p99 <= 400ms of order success"),
        "{view}"
    );
    assert!(
        view.contains("an expectation was violated; all faults gone 4 ms later"),
        "{view}"
    );
    assert!(!view.contains("in force"), "{view}");
}

#[test]
fn a_control_is_seen_beside_the_group() {
    let mut all = held();
    crate::report::sample::hold_against_control(&mut all);
    let events = until(&all, |w| matches!(w, Happening::Armed(_)));
    let view = seen(events, 12_060.0, false);
    assert!(view.contains("p99 <= 1.2x control"), "{view}");
    assert!(view.contains(" ms beside 400 ms"), "{view}");
}

#[test]
fn every_moment_of_a_run_can_be_seen() {
    for all in [broken(), held()] {
        for length in 0..=all.len() {
            let view = seen(&all[..length], 1e9, false);
            assert!(!view.contains('\u{1b}') && !view.contains("NaN"));
        }
    }
}

#[test]
fn a_name_cannot_command_the_terminal() {
    let mut events = held();
    if let Happening::Created(created) = &mut events[0].what {
        created.name = "\u{1b}]0;owned\u{7}\r\n".into();
        created.hypothesis = "\u{9b}2J".into();
    }
    let view = seen(&events, 0.0, false);
    assert!(
        view.chars().all(|c| c == '\n' || !c.is_control()),
        "{view:?}"
    );
}
