//! The state machines against small models of what they promise.
#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use squall_experiments::fault_life::{FaultEvent, FaultState};
use squall_experiments::run_life::{RunEvent, RunState};

fn run_event() -> impl Strategy<Value = RunEvent> {
    prop_oneof![
        Just(RunEvent::Allowed),
        Just(RunEvent::Refused),
        Just(RunEvent::Observing),
        (0_u32..4).prop_map(RunEvent::Inject),
        Just(RunEvent::Stop),
        Just(RunEvent::Finish),
    ]
}

fn fault_event() -> impl Strategy<Value = FaultEvent> {
    prop_oneof![
        Just(FaultEvent::Armed),
        Just(FaultEvent::Refused),
        Just(FaultEvent::Stop),
        Just(FaultEvent::Ended),
        Just(FaultEvent::NotShownGone),
    ]
}

/// How far a run has come; it never goes back.
fn place(state: RunState) -> u32 {
    match state {
        RunState::Planned => 0,
        RunState::Gated => 1,
        RunState::Baseline => 2,
        RunState::Injecting(stage) => 3 + stage,
        RunState::Recovering => 1_000,
        RunState::Finished => 1_001,
    }
}

proptest! {
    #[test]
    fn a_run_only_goes_forward(events in prop::collection::vec(run_event(), 0..40)) {
        let mut state = RunState::Planned;
        let mut may_have_touched = false;
        for event in events {
            let Ok(next) = state.next(event) else {
                // Refusing changes nothing, and a stop is never refused.
                prop_assert_ne!(event, RunEvent::Stop);
                continue;
            };
            prop_assert!(place(next) >= place(state), "{:?} after {:?}", next, state);
            if state == RunState::Finished {
                prop_assert_eq!(next, RunState::Finished);
            }
            // What was injected is recovered from before the run may finish.
            if may_have_touched && next == RunState::Finished && state != RunState::Finished {
                prop_assert_eq!(state, RunState::Recovering);
            }
            may_have_touched |= matches!(next, RunState::Injecting(_));
            // Stages come one after another, the first from the baseline.
            if let (RunState::Injecting(stage), RunEvent::Inject(_)) = (next, event) {
                match state {
                    RunState::Baseline => prop_assert_eq!(stage, 0),
                    RunState::Injecting(before) => prop_assert_eq!(stage, before + 1),
                    other => prop_assert!(false, "injecting from {:?}", other),
                }
            }
            state = next;
        }
        // From wherever it is, two words end it.
        let stopped = state.next(RunEvent::Stop).unwrap();
        let ended = stopped.next(RunEvent::Finish).unwrap_or(stopped);
        prop_assert_eq!(ended, RunState::Finished);
    }

    #[test]
    fn a_fault_is_gone_only_when_somebody_showed_it(events in prop::collection::vec(fault_event(), 0..40)) {
        let mut state = FaultState::Arming;
        let mut told_to_stop = false;
        for event in events {
            let Ok(next) = state.next(event) else {
                prop_assert_ne!(event, FaultEvent::Stop, "a stop is never refused");
                continue;
            };
            told_to_stop |= event == FaultEvent::Stop && state.may_act();
            // It stops acting only by being shown gone, or by never having begun.
            if state.may_act() && !next.may_act() {
                prop_assert!(matches!(event, FaultEvent::Ended | FaultEvent::Refused));
            }
            // What was told to stop is never again taken for a fault in force.
            if told_to_stop {
                prop_assert_ne!(next, FaultState::Armed);
                prop_assert_ne!(next, FaultState::Arming);
            }
            // Once gone, always gone.
            if !state.may_act() {
                prop_assert_eq!(next, state);
            }
            // Saying it twice is saying it once.
            if let Ok(again) = next.next(event) {
                prop_assert_eq!(again, next);
            }
            state = next;
        }
        prop_assert!(state.next(FaultEvent::Stop).is_ok());
    }
}

#[test]
fn the_last_stage_there_can_be_is_no_overflow() {
    let last = RunState::Injecting(u32::MAX);
    assert!(last.next(RunEvent::Inject(0)).is_err());
    assert_eq!(last.next(RunEvent::Stop), Ok(RunState::Recovering));
}
