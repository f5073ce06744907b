//! The machine, driven through whole runs without a clock, a socket or a kernel.

use super::fixture::{self, SECOND_US};
use super::halt::Who;
use super::machine::Input;
use super::world::{NODE, World, armed, attempt, dosed, ended, heard, packets};
use crate::judge::Trial;
use squall_experiments::dose::{Dose, HttpDose};
use squall_experiments::event::{Happening, StopReason};
use squall_experiments::run_life::RunState;
use squall_experiments::verdict::Verdict;
use squall_experiments::wire::{EndCause, FromAgent, FromController, Refused};

#[test]
fn a_system_that_bears_it_is_held_after_every_phase() {
    let mut world = World::new(&fixture::experiment());
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Held, "{}", finished.because);
    let entered: Vec<RunState> = world
        .said
        .iter()
        .filter_map(|happening| match happening {
            Happening::Entered(state) => Some(*state),
            _ => None,
        })
        .collect();
    assert_eq!(
        entered,
        [
            RunState::Gated,
            RunState::Baseline,
            RunState::Injecting(0),
            RunState::Injecting(1),
            RunState::Recovering,
            RunState::Finished
        ]
    );
    assert_eq!(world.decided(), Some(&StopReason::Done));
    assert!(finished.revert_ms.is_some() && finished.recover_ms.is_some());
    assert_eq!(finished.detect_ms, None);
    assert!(world.live.is_empty());
}

#[test]
fn a_system_that_does_not_is_broken_and_stopped_within_a_second() {
    let mut world = World::new(&fixture::experiment());
    world.fails_under_fault = 50;
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Broken, "{}", finished.because);
    assert!(
        finished.because.contains("success >= 99%"),
        "{}",
        finished.because
    );
    assert_eq!(world.decided(), Some(&StopReason::Violated));
    let detect_ms = finished.detect_ms.unwrap();
    assert!(detect_ms > 0.0 && detect_ms < 1000.0, "{detect_ms}");
    assert!(finished.recover_ms.is_some());
    // The second half of the ramp was never reached.
    let arms = world
        .sent
        .iter()
        .filter(|m| matches!(m, FromController::Arm(_)));
    assert_eq!(arms.count(), 1);
}

#[test]
fn leases_are_renewed_five_times_as_often_as_they_end_and_not_after_a_stop() {
    let mut world = World::new(&fixture::experiment());
    world.through();
    let renews = world
        .sent
        .iter()
        .filter(|m| matches!(m, FromController::Renew(_)));
    // Two stages of 10 s each, a lease of 10 s: each stage's first renewal is due 2 s after arming.
    assert_eq!(renews.count(), 8);
    let last_renew = world
        .sent
        .iter()
        .rposition(|m| matches!(m, FromController::Renew(_)));
    let stop = world
        .sent
        .iter()
        .position(|m| matches!(m, FromController::Stop(_)));
    assert!(last_renew < stop);
}

#[test]
fn a_fault_that_touched_nothing_is_no_evidence() {
    let mut world = World::new(&fixture::experiment());
    world.did = packets(0);
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    assert!(
        finished.because.contains("touched nothing"),
        "{}",
        finished.because
    );
}

#[test]
fn a_fault_that_could_read_nothing_says_so_in_the_verdict() {
    let mut world = World::new(&fixture::experiment());
    world.did = Dose::Http(HttpDose {
        connections: 7,
        tls_passed: 7,
        ..HttpDose::default()
    });
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    let because = &finished.because;
    assert!(
        because.contains("7 of 7 connections are encrypted"),
        "{because}"
    );
}

#[test]
fn too_few_samples_are_no_evidence() {
    let mut experiment = fixture::experiment();
    experiment.method[0].hold = "5s".parse().unwrap();
    let mut world = World::new(&experiment);
    let finished = world.through();
    // 250 samples without a violation; some 350 show that at most one in a hundred violates.
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    let because = &finished.because;
    assert!(because.contains("are missing"), "{because}");
    assert!(
        because.contains("step `step 1`: probe `orders`: success >= 99%"),
        "{because}"
    );
    assert!(because.contains("hold longer"), "{because}");
}

#[test]
fn a_run_that_is_neither_broken_nor_shown_to_hold_is_inconclusive() {
    let mut experiment = fixture::experiment();
    experiment.steady_state[0].expect = vec![fixture::success()];
    let mut world = World::new(&experiment);
    world.fails_under_fault = 1;
    let finished = world.through();
    assert_eq!(
        finished.verdict,
        Verdict::Inconclusive,
        "{}",
        finished.because
    );
    assert!(
        finished.because.contains("as are tolerated"),
        "{}",
        finished.because
    );
}

#[test]
fn the_whole_dose_of_every_step_must_be_shown_to_be_borne() {
    let mut experiment = fixture::experiment();
    experiment.method.push(experiment.method[0].clone());
    experiment.method[0].hold = "5s".parse().unwrap();
    let mut world = World::new(&experiment);
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    assert!(
        finished.because.starts_with("step `step 1`"),
        "{}",
        finished.because
    );
    // A share of the dose need not be: the ramp's first half may be as short as one likes, and its end is what counts.
    let mut experiment = fixture::experiment();
    experiment.method[0].ramp.reverse();
    experiment.method[0].ramp.truncate(1);
    let mut world = World::new(&experiment);
    assert_eq!(world.through().verdict, Verdict::Held);
    let shown =
        |h: &Happening| matches!(h, Happening::Noted(note) if note.contains("95% confidence"));
    assert_eq!(world.said.iter().filter(|h| shown(h)).count(), 2);
}

#[test]
fn the_time_to_recover_is_from_the_last_fault_gone_to_the_proof() {
    let mut world = World::new(&fixture::experiment());
    world.take(Input::Begin);
    world.until(RunState::Recovering);
    let gone_us = world.now_us;
    world.fails = 50;
    while world.now_us < gone_us + 3 * SECOND_US {
        world.step();
    }
    world.fails = 0;
    world.until(RunState::Finished);
    let finished = world.finished();
    assert_eq!(finished.verdict, Verdict::Held, "{}", finished.because);
    // Three bad seconds, then three good windows in a row; those begin where they begin.
    let recover_ms = finished.recover_ms.unwrap();
    assert!((6_000.0..7_500.0).contains(&recover_ms), "{recover_ms}");
    assert!(
        finished.because.contains("proven back"),
        "{}",
        finished.because
    );
}

#[test]
fn a_drifting_baseline_is_not_started_from() {
    let mut experiment = fixture::experiment();
    experiment.baseline = "30s".parse().unwrap();
    experiment.steady_state[0].expect = vec!["success >= 98%".parse().unwrap()];
    let mut world = World::new(&experiment);
    world.take(Input::Begin);
    while world.now_us < world.record[0].0 + 15 * SECOND_US {
        world.step();
    }
    // From none to some three in a hundred: within what a stop rule takes for chance, and not what it was.
    world.fails = 3;
    world.until(RunState::Finished);
    let finished = world.finished();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    assert!(
        finished.because.contains("baseline drifts"),
        "{}",
        finished.because
    );
    assert!(world.sent.is_empty());
}

#[test]
fn nothing_is_injected_into_a_system_that_is_not_well() {
    let mut world = World::new(&fixture::experiment());
    world.fails = 30;
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    assert!(matches!(world.decided(), Some(StopReason::Baseline(_))));
    assert!(world.sent.is_empty(), "{:?}", world.sent);
}

#[test]
fn a_probe_that_says_nothing_is_not_well_either() {
    let mut world = World::new(&fixture::experiment());
    world.reports = false;
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    assert!(world.sent.is_empty());
}

#[test]
fn a_probe_that_falls_silent_under_the_fault_breaks_the_run() {
    let mut experiment = fixture::experiment();
    experiment.method[0].hold = "60s".parse().unwrap();
    let mut world = World::new(&experiment);
    world.take(Input::Begin);
    world.until(RunState::Injecting(0));
    world.reports = false;
    world.until(RunState::Recovering);
    let no_data = world
        .said
        .iter()
        .any(|happening| matches!(happening, Happening::Violated(violation) if violation.no_data));
    assert!(no_data);
    world.until(RunState::Finished);
    assert_eq!(world.finished().verdict, Verdict::Broken);
}

#[test]
fn a_steady_state_that_does_not_come_back_is_broken_though_it_stood_under_the_fault() {
    let mut world = World::new(&fixture::experiment());
    world.take(Input::Begin);
    world.until(RunState::Recovering);
    world.fails = 50;
    world.until(RunState::Finished);
    let finished = world.finished();
    assert_eq!(finished.verdict, Verdict::Broken);
    assert!(
        finished.because.contains("not back within 10s"),
        "{}",
        finished.because
    );
    assert_eq!(finished.recover_ms, None);
}

#[test]
fn what_was_due_under_the_fault_is_judged_even_when_it_comes_in_later() {
    let mut world = World::new(&fixture::experiment());
    world.take(Input::Begin);
    world.until(RunState::Injecting(1));
    // The hold ends; forty requests of its last moments fail only now.
    world.until(RunState::Recovering);
    let due_us = world.now_us - SECOND_US;
    for _ in 0..40 {
        let late = Trial {
            due_us,
            ..attempt(world.now_us, true)
        };
        world.take(Input::Trial(0, late));
    }
    world.until(RunState::Finished);
    assert_eq!(world.finished().verdict, Verdict::Broken);
}

#[test]
fn whoever_stops_it_stops_it_at_once_and_no_recovery_is_waited_for() {
    for (who, verdict, says) in [
        (Who::Person, Verdict::Halted, "a person"),
        (Who::Ending, Verdict::Halted, "was told to end"),
        (Who::Deposed, Verdict::Inconclusive, "leads no more"),
    ] {
        let mut world = World::new(&fixture::experiment());
        world.take(Input::Begin);
        world.until(RunState::Injecting(0));
        world.take(Input::Halt(who));
        world.step();
        assert_eq!(world.machine.state(), RunState::Finished);
        let finished = world.finished();
        assert_eq!(finished.verdict, verdict);
        assert!(finished.because.contains(says), "{}", finished.because);
        assert!(world.live.is_empty() && world.stops_sent() >= 1);
    }
}

#[test]
fn a_controller_that_leads_no_more_says_so_of_a_run_in_recovery_too() {
    let mut world = World::new(&fixture::experiment());
    world.take(Input::Begin);
    world.until(RunState::Recovering);
    world.take(Input::Halt(Who::Deposed));
    world.until(RunState::Finished);
    let finished = world.finished();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    assert!(
        finished.because.starts_with("interrupted"),
        "{}",
        finished.because
    );
}

#[test]
fn a_node_that_says_no_before_anything_is_in_force_refuses_the_run() {
    for (denied, verdict) in [(true, Verdict::Refused), (false, Verdict::Inconclusive)] {
        let mut world = World::new(&fixture::experiment());
        world.answers = false;
        world.take(Input::Begin);
        world.until(RunState::Injecting(0));
        let id = world.live.pop().unwrap();
        let reason = "policy: no faults on Fridays".to_owned();
        world.take(heard(FromAgent::Refused(Refused {
            id,
            reason,
            denied,
            gone: false,
        })));
        world.until(RunState::Finished);
        assert_eq!(world.finished().verdict, verdict);
    }
}

#[test]
fn a_run_of_which_anything_was_in_force_is_not_refused_however_late_that_is_heard() {
    let mut experiment = fixture::experiment();
    experiment.method[0].ramp.remove(0);
    let mut world = World::new(&experiment);
    world.answers = false;
    world.ends = false;
    world.take(Input::Begin);
    world.until(RunState::Injecting(0));
    let (denied, other) = (world.live[0].clone(), world.live[1].clone());
    world.take(heard(FromAgent::Refused(Refused {
        id: denied,
        reason: "no".into(),
        denied: true,
        gone: false,
    })));
    world.take(heard(armed(&other)));
    world.take(heard(ended(&other, EndCause::Stopped)));
    world.live.clear();
    world.until(RunState::Finished);
    let finished = world.finished();
    assert_eq!(finished.verdict, Verdict::Inconclusive, "{finished:?}");
}

#[test]
fn a_fault_that_ends_by_itself_makes_the_run_inconclusive_and_one_that_is_done_does_not() {
    for (cause, verdict) in [
        (
            EndCause::HolderKilled("signal 9".into()),
            Verdict::Inconclusive,
        ),
        (EndCause::LeaseEnded, Verdict::Inconclusive),
        (EndCause::Done, Verdict::Held),
    ] {
        let mut world = World::new(&fixture::experiment());
        world.take(Input::Begin);
        world.until(RunState::Injecting(0));
        let id = world.live.pop().unwrap();
        world.take(heard(dosed(&id, 3)));
        world.take(heard(ended(&id, cause.clone())));
        world.until(RunState::Finished);
        assert_eq!(world.finished().verdict, verdict, "{cause:?}");
    }
}

#[test]
fn an_end_that_is_told_late_counts_from_when_it_came() {
    let long = Some(60 * SECOND_US);
    let short = Some(5 * SECOND_US);
    for (cause, lasted_us, verdict) in [
        (EndCause::LeaseEnded, long, Verdict::Held),
        (EndCause::LeaseEnded, short, Verdict::Inconclusive),
        (EndCause::LeaseEnded, None, Verdict::Inconclusive),
        // Somebody said halt on the node.
        (EndCause::Stopped, short, Verdict::Inconclusive),
        // An agent that does not know yet how to say it.
        (EndCause::Stopped, None, Verdict::Held),
    ] {
        let mut world = World::new(&fixture::experiment());
        world.ends = false;
        world.take(Input::Begin);
        world.until(RunState::Recovering);
        for id in std::mem::take(&mut world.live) {
            world.take(heard(dosed(&id, 3)));
            let FromAgent::Ended(mut ended) = ended(&id, cause.clone()) else {
                unreachable!()
            };
            ended.lasted_us = lasted_us;
            world.take(heard(FromAgent::Ended(ended)));
        }
        world.until(RunState::Finished);
        let finished = world.finished();
        assert_eq!(
            finished.verdict, verdict,
            "{cause:?} {lasted_us:?}: {}",
            finished.because
        );
        if lasted_us == short {
            let said = finished.because.contains("it was in force for 5s of 20s");
            assert!(said, "{}", finished.because);
        }
    }
}

/// Until then it might have come into force.
#[test]
fn the_steady_state_is_waited_for_from_when_the_last_fault_is_known_never_to_have_been() {
    let mut world = World::new(&fixture::experiment());
    world.take(Input::Begin);
    world.until(RunState::Injecting(0));
    world.answers = false;
    world.until(RunState::Injecting(1));
    world.ends = false;
    world.step();
    let (first, second) = (world.live[0].clone(), world.live[1].clone());
    world.live.clear();
    world.take(heard(ended(
        &first,
        EndCause::HolderKilled("signal 9".into()),
    )));
    world.until(RunState::Recovering);
    // Late, but within the time in which a fault is shown gone.
    for _ in 0..8 * 50 {
        world.step();
    }
    world.take(heard(FromAgent::Refused(Refused {
        id: second,
        reason: "it was told to end first".into(),
        denied: false,
        gone: false,
    })));
    world.until(RunState::Finished);
    let finished = world.finished();
    let back_ms = finished.recover_ms.unwrap();
    assert!((3_000.0..10_000.0).contains(&back_ms), "{back_ms} ms");
    assert_eq!(finished.verdict, Verdict::Inconclusive, "{finished:?}");
}

#[test]
fn a_lost_agent_is_inconclusive_and_its_faults_are_named() {
    let mut world = World::new(&fixture::experiment());
    world.take(Input::Begin);
    world.until(RunState::Injecting(0));
    world.ends = false;
    world.take(Input::AgentLost(NODE.into(), "it closed the link".into()));
    world.live.clear();
    world.until(RunState::Finished);
    let finished = world.finished();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    assert!(
        finished.because.contains("NOT SHOWN GONE"),
        "{}",
        finished.because
    );
    assert!(finished.revert_ms.is_none());
}

#[test]
fn a_fault_that_does_not_go_is_told_again_and_said_loudly() {
    let mut world = World::new(&fixture::experiment());
    world.take(Input::Begin);
    world.until(RunState::Injecting(0));
    world.ends = false;
    world.take(Input::Halt(Who::Person));
    world.until(RunState::Finished);
    assert!(world.stops_sent() > 10, "{}", world.stops_sent());
    let stuck = world
        .said
        .iter()
        .filter(|h| matches!(h, Happening::Stuck(_)));
    assert_eq!(stuck.count(), 1);
    assert!(world.finished().because.contains("NOT SHOWN GONE"));
}

#[test]
fn a_fault_that_is_never_in_force_ends_the_run() {
    let mut world = World::new(&fixture::experiment());
    world.answers = false;
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    assert!(
        finished.because.contains("not in force in time"),
        "{}",
        finished.because
    );
}

#[test]
fn the_second_step_begins_when_the_faults_of_the_first_are_gone() {
    let mut experiment = fixture::experiment();
    experiment.method.push(experiment.method[0].clone());
    let mut world = World::new(&experiment);
    world.take(Input::Begin);
    world.until(RunState::Injecting(1));
    world.ends = false;
    world.until(RunState::Injecting(2));
    let arms = |world: &World| {
        let arm = |m: &&FromController| matches!(m, FromController::Arm(_));
        world.sent.iter().filter(arm).count()
    };
    assert_eq!(arms(&world), 2, "nothing new while the old is there");
    for id in world.live.clone() {
        world.live.retain(|live| *live != id);
        world.take(heard(ended(&id, EndCause::Stopped)));
    }
    assert_eq!(arms(&world), 3);
    world.ends = true;
    world.until(RunState::Finished);
    assert_eq!(
        world.finished().verdict,
        Verdict::Held,
        "{}",
        world.finished().because
    );
}

#[test]
fn the_same_inputs_give_the_same_run() {
    let run = || {
        let mut world = World::new(&fixture::experiment());
        world.fails_under_fault = 7;
        world.through();
        world.said
    };
    assert_eq!(run(), run());
}
