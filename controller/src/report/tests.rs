//! What every kind of report must keep to, whatever the run.

use super::sample::{armed, broken, created, ended, event, held, plan, ramp, window};
use super::{FaultOutcome, PhaseKind, Summary, html, markdown, schema};
use squall_experiments::dose::{Dose, PulsedDose};
use squall_experiments::event::{
    Event, ExpectationRef, FaultDosed, FaultRefused, Finished, Happening, StopReason,
};
use squall_experiments::run_life::RunState;
use squall_experiments::verdict::Verdict;

fn page(events: &[Event]) -> String {
    html(&Summary::of(events)).unwrap()
}

#[test]
fn a_broken_run_is_told() {
    let run = Summary::of(&broken());
    assert_eq!(run.verdict, Some(Verdict::Broken));
    let first = run.first_broken.as_ref().unwrap();
    assert_eq!(
        (first.expectation.as_str(), first.at_ms),
        ("p99 <= 400ms", 13_070.0)
    );
    assert_eq!(run.stages[0].from_ms, Some(10_090.0));
    assert_eq!(run.stages[0].to_ms, Some(13_075.0));
    let success = &run.expectations[0];
    assert_eq!(success.worst_under_fault, Some(0.86));
    assert_eq!(
        (success.windows_unsatisfied, success.windows_under_fault),
        (1, 3)
    );
    assert_eq!(success.violated_at_ms, None);
    let p99 = &run.expectations[1];
    assert_eq!(p99.worst_under_fault, Some(1_012_000.0));
    assert_eq!((p99.baseline, p99.last), (Some(20_400.0), Some(18_000.0)));
    let kinds: Vec<PhaseKind> = run.phases.iter().map(|p| p.kind).collect();
    use PhaseKind as K;
    assert_eq!(
        kinds,
        [
            K::Preparing,
            K::Preparing,
            K::Baseline,
            K::Injecting,
            K::Recovering
        ]
    );
    assert!(matches!(run.faults[0].outcome, FaultOutcome::Ended(_)));
    assert_eq!(
        run.faults[0].dose_in_words,
        "412 packets matched, 412 delayed by 300 ms on average"
    );
    assert_eq!(
        run.timings.started_at.as_deref(),
        Some("2026-11-22T12:00:00.000Z")
    );
}

#[test]
fn within_the_bound_the_nearest_to_it_is_the_worst() {
    let run = Summary::of(&held());
    let p99 = &run.expectations[1];
    assert_eq!(p99.windows_unsatisfied, 0);
    let most = p99
        .points
        .iter()
        .filter(|p| p.at_ms > 10_900.0 && p.at_ms < 40_100.0);
    let most = most.filter_map(|p| p.measured).fold(0.0, f64::max);
    assert_eq!(p99.worst_under_fault, Some(most));
}

#[test]
fn within_a_band_the_farthest_from_its_middle_is_the_worst() {
    let run = Summary::of(&ramp());
    let gauge = &run.expectations[2];
    let points = gauge
        .points
        .iter()
        .filter(|p| p.at_ms > 10_200.0 && p.at_ms < 50_900.0);
    let far = points
        .filter_map(|p| p.measured)
        .map(|m| (m - 1040.0).abs());
    let farthest = far.fold(0.0, f64::max);
    assert_eq!((gauge.worst_under_fault.unwrap() - 1040.0).abs(), farthest);
}

#[test]
fn a_window_counts_as_under_fault_by_the_time_it_shares_with_it() {
    // In force from 1.9 s to 2.4 s: the first window ends just after, the second sees all of it, the third nothing.
    let events = [
        event(0, Happening::Created(Box::new(created()))),
        event(10, Happening::Planned(plan())),
        event(11, Happening::Entered(RunState::Baseline)),
        event(1_890, Happening::Entered(RunState::Injecting(0))),
        armed(1_900, "run-1/0.0.0"),
        window(2_000, 10_000, 50),
        ended(2_400, "run-1/0.0.0"),
        window(3_000, 20_000, 50),
        window(4_000, 390_000, 50),
    ];
    let run = Summary::of(&events);
    assert_eq!(run.expectations[1].windows_under_fault, 1);
    assert_eq!(run.expectations[1].worst_under_fault, Some(20_000.0));
}

#[test]
fn every_beginning_of_a_run_is_a_report() {
    for whole in [broken(), held(), ramp()] {
        for length in 0..=whole.len() {
            let run = Summary::of(&whole[..length]);
            assert_eq!(run.verdict.is_some(), length == whole.len());
            let page = html(&run).unwrap();
            assert!(page.contains("</html>") && !page.contains("NaN") && !page.contains("inf "));
            assert!(markdown(&run).contains("Repeat") || markdown(&run).contains("squall run"));
            serde_json::to_string(&run).unwrap();
        }
    }
}

#[test]
fn an_empty_record_says_so() {
    let page = page(&[]);
    assert!(page.contains("no verdict") && page.contains("The record ends before a verdict."));
    assert!(page.contains("Nothing was injected."));
}

#[test]
fn a_refused_run_says_why_and_that_nothing_was_injected() {
    let finished = Finished {
        verdict: Verdict::Refused,
        because: "The node's policy forbids delay.".into(),
        detect_ms: None,
        revert_ms: None,
        recover_ms: None,
    };
    let events = [
        event(0, Happening::Created(Box::new(created()))),
        event(1, Happening::Planned(plan())),
        event(2, Happening::Entered(RunState::Planned)),
        event(3, Happening::Finished(finished)),
    ];
    let run = Summary::of(&events);
    let page = html(&run).unwrap();
    assert!(page.contains("refused") && page.contains("The node&#39;s policy forbids delay."));
    assert!(page.contains("not reached") && page.contains("0 faults"));
    assert!(run.expectations.iter().all(|e| e.points.is_empty()));
}

#[test]
fn what_is_not_shown_gone_is_said_loudly() {
    let mut events = broken();
    events.truncate(events.len() - 8);
    let stuck = FaultRefused {
        id: "run-1/0.0.0".into(),
        reason: "the table is still there".into(),
    };
    events.push(event(14_000, Happening::Stuck(stuck)));
    let run = Summary::of(&events);
    assert!(matches!(run.faults[0].outcome, FaultOutcome::Stuck(_)));
    assert!(
        html(&run)
            .unwrap()
            .contains("NOT SHOWN GONE: the table is still there")
    );
    assert!(markdown(&run).contains("NOT SHOWN GONE"));
}

/// Everything in a run that somebody else may have written, hostile.
fn hostile() -> Vec<Event> {
    const EVIL: &str =
        "\"'><script>alert(1)</script><img src=http://evil.example/x onerror=1>|`@all\n# h";
    let mut created = created();
    for text in [
        &mut created.name,
        &mut created.hypothesis,
        &mut created.file_text,
        &mut created.file_path,
        &mut created.digest,
        &mut created.node,
        &mut created.version,
        &mut created.capabilities.kernel,
        &mut created.run.0,
    ] {
        *text = EVIL.into();
    }
    created.expectations = vec![ExpectationRef {
        probe: EVIL.into(),
        text: EVIL.into(),
    }];
    let mut plan = plan();
    plan.stages[0].name = EVIL.into();
    plan.stages[0].arm[0].target.label = EVIL.into();
    plan.stages[0].arm[0].target.node = EVIL.into();
    let mut seen = window(2_000, 20_000, 50);
    if let Happening::Observed(window) = &mut seen.what {
        window.probe = EVIL.into();
    }
    let refused = FaultRefused {
        id: EVIL.into(),
        reason: EVIL.into(),
    };
    vec![
        event(0, Happening::Created(Box::new(created))),
        event(10, Happening::Planned(plan)),
        event(11, Happening::Entered(RunState::Baseline)),
        seen,
        event(2_500, Happening::Entered(RunState::Injecting(0))),
        event(2_600, Happening::Refused(refused)),
        armed(2_700, EVIL),
        event(2_800, Happening::Noted(EVIL.into())),
        event(
            2_900,
            Happening::StopDecided(StopReason::Fault(EVIL.into())),
        ),
        ended(3_000, EVIL),
    ]
}

/// What of a Markdown text is not code: spans and blocks end where as many backticks follow as began them.
fn outside_code(text: &str) -> String {
    let mut outside = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('`') {
        let (before, from) = rest.split_at(at);
        outside.push_str(before);
        let fence = &from[..from.len() - from.trim_start_matches('`').len()];
        let inside = &from[fence.len()..];
        // An escaped backtick opens nothing.
        let escaped = before.ends_with('\\');
        let end = inside
            .match_indices(fence)
            .map(|(i, _)| i)
            .find(|i| !inside[..*i].ends_with('`') && !inside[i + fence.len()..].starts_with('`'));
        match end {
            Some(end) if !escaped => rest = &inside[end + fence.len()..],
            _ => {
                outside.push_str(fence);
                rest = inside;
            }
        }
    }
    outside + rest
}

/// Compares with a file beside this one; `SQUALL_GOLDEN=write` writes it instead.
fn golden(name: &str, written: &str) {
    let path = format!("{}/src/report/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var("SQUALL_GOLDEN").is_ok_and(|v| v == "write") {
        std::fs::write(&path, written).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert!(
        expected == written,
        "{name} is no longer what it was; look at the difference and write it anew with SQUALL_GOLDEN=write"
    );
}

#[test]
fn reports_are_what_they_were() {
    // The last two were recorded from `squall demo`, event by event.
    let recorded = |text| serde_json::from_str(text).unwrap();
    let runs: [(&str, Vec<Event>); 5] = [
        ("ramp", ramp()),
        ("broken", broken()),
        ("held", held()),
        (
            "demo-v1",
            recorded(include_str!("golden/demo-v1.events.json")),
        ),
        (
            "demo-v2",
            recorded(include_str!("golden/demo-v2.events.json")),
        ),
    ];
    for (name, events) in runs {
        let run = Summary::of(&events);
        golden(&format!("{name}.html"), &html(&run).unwrap());
        golden(&format!("{name}.md"), &markdown(&run));
        let json = serde_json::to_string_pretty(&run).unwrap() + "\n";
        golden(&format!("{name}.json"), &json);
    }
    let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    golden("schema.json", &schema);
}

#[test]
fn a_control_is_told_beside_the_group() {
    let mut events = broken();
    super::sample::hold_against_control(&mut events);
    let run = Summary::of(&events);
    let latency = &run.expectations[1];
    assert_eq!(latency.worst_beside, Some(400_000.0));
    assert_eq!(run.expectations[0].worst_beside, None);
    assert!(markdown(&run).contains("| 1 s beside 400 ms |"));
    let page = page(&events);
    assert!(page.contains("1 s beside 400 ms"));
    assert!(page.contains("by the control, lately 400 ms"));
}

#[test]
fn nothing_that_a_run_says_becomes_markup() {
    let page = page(&hostile());
    assert!(!page.contains("<script") && !page.contains("<img"));
    let text = markdown(&Summary::of(&hostile()));
    let outside = outside_code(&text);
    assert!(
        !outside.contains("<script") && !outside.contains("<img"),
        "{outside}"
    );
    assert!(
        !outside.contains("@all") && !outside.contains("\n# h"),
        "{outside}"
    );
}

#[test]
fn pulses_are_shown_where_they_were() {
    let mut events = held();
    let armed = |e: &Event| matches!(e.what, Happening::Armed(_));
    let at = events.iter().position(armed).unwrap();
    let Happening::Armed(first) = events[at].what.clone() else {
        panic!("not armed");
    };
    let begun_us = events[at].at_us;
    let told = (1..=4_u64).map(|number| Event {
        at_us: begun_us + number * 1_000_000,
        what: Happening::Dosed(FaultDosed {
            id: first.id.clone(),
            dose: Dose::Pulsed(PulsedDose {
                times_on: 2,
                is_on: number % 3 == 1,
                ..PulsedDose::default()
            }),
        }),
    });
    let told: Vec<Event> = told.collect();
    events.truncate(at + 1);
    events.extend(told);
    let run = Summary::of(&events);
    let fault = run.faults.iter().find(|f| f.id == first.id.0).unwrap();
    let from = |ms: f64| fault.armed_at_ms.unwrap() + ms;
    let pulses: Vec<_> = fault.pulses.iter().map(|p| (p.from_ms, p.to_ms)).collect();
    assert_eq!(
        pulses,
        [(from(1000.0), Some(from(2000.0))), (from(4000.0), None)]
    );
    assert_eq!(fault.spans(from(5000.0))[1], (from(4000.0), from(5000.0)));
    assert!(page(&events).contains("class=\"pulse\""));
}

#[test]
fn a_page_refers_to_nothing_outside_itself() {
    for events in [broken(), held(), hostile(), Vec::new()] {
        let page = page(&events);
        // Attributes and style rules that make a browser fetch; escaped text cannot hold a bare `<` or quote.
        for fetches in [
            "src=\"", "href=\"", "url(", "@import", "<link", "<script", "<iframe", "<object",
            "srcset",
        ] {
            let unescaped = page.matches(fetches).count();
            assert_eq!(unescaped, 0, "{fetches}");
        }
    }
}

#[test]
fn a_long_run_stays_a_small_page() {
    let mut events = broken();
    let tail = events.split_off(events.len() - 3);
    for second in 20..7_200u64 {
        let noise = u32::try_from(second * 104_729 % 9_973).unwrap();
        events.push(window(second * 1000, 15_000 + noise, 50));
    }
    for mut last in tail {
        last.at_us += 7_200_000_000;
        events.push(last);
    }
    let page = page(&events);
    assert!(page.len() < 80_000, "{} bytes", page.len());
}

#[test]
fn the_json_document_is_as_its_schema_says() {
    let run = Summary::of(&broken());
    let written = serde_json::to_value(&run).unwrap();
    assert_eq!(written["version"], Summary::VERSION);
    let back: Summary = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(back, run);
    let schema = schema();
    let known = schema["properties"].as_object().unwrap();
    for key in written.as_object().unwrap().keys() {
        let property = known
            .get(key)
            .unwrap_or_else(|| panic!("{key} is not in the schema"));
        assert!(
            property.get("description").is_some() || property.get("$ref").is_some(),
            "{key}"
        );
    }
}
