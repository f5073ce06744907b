//! Whole runs of a group beside its control.

use super::fixture;
use super::world::World;
use squall_experiments::event::{Happening, Window};
use squall_experiments::experiment::Experiment;
use squall_experiments::verdict::Verdict;

/// The fixture, held against a control instead of against fixed bounds.
fn canary() -> Experiment {
    let mut experiment = fixture::experiment();
    let steady = &mut experiment.steady_state[0];
    let control = fixture::load("http://127.0.0.1:2/", "50/s", Vec::new());
    steady.compare = Some(control.probe);
    steady.expect = vec!["success within 1% of control".parse().unwrap()];
    experiment
}

fn windows(world: &World) -> impl Iterator<Item = &Window> {
    world.said.iter().filter_map(|happening| match happening {
        Happening::Observed(window) => Some(window),
        _ => None,
    })
}

#[test]
fn what_hits_the_control_as_well_is_weather_and_held() {
    let mut world = World::new(&canary());
    world.fails_under_fault = 30;
    world.control_fails_under_fault = Some(30);
    world.control_out_of_step = 0;
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Held, "{}", finished.because);
    // The control can be seen: at the worst it was as bad as the group.
    let bounds = windows(&world).filter_map(|window| window.checks[0].bound);
    let least = bounds.fold(1.0, f64::min);
    assert!((0.6..0.8).contains(&least), "{least}");
}

/// In weather in which each of them fails by itself a difference of one in a hundred cannot be seen so soon: no stop, and no claim.
#[test]
fn weather_that_hides_the_difference_is_inconclusive_and_says_what_is_missing() {
    let mut world = World::new(&canary());
    world.fails_under_fault = 30;
    world.control_fails_under_fault = Some(30);
    let finished = world.through();
    assert_eq!(
        finished.verdict,
        Verdict::Inconclusive,
        "{}",
        finished.because
    );
    assert!(
        finished.because.contains("more pairs are missing"),
        "{}",
        finished.because
    );
}

#[test]
fn what_hits_the_group_alone_is_broken() {
    let mut world = World::new(&canary());
    world.fails_under_fault = 30;
    world.control_fails_under_fault = Some(2);
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Broken, "{}", finished.because);
    assert!(
        finished.because.contains("of the control's as many"),
        "{}",
        finished.because
    );
    assert!(finished.detect_ms.unwrap() < 2_000.0, "{finished:?}");
    assert!(finished.recover_ms.is_some());
}

#[test]
fn without_a_word_of_the_control_nothing_is_injected() {
    let mut world = World::new(&canary());
    let finished = world.through();
    assert_eq!(finished.verdict, Verdict::Inconclusive);
    assert!(finished.because.contains("control"), "{}", finished.because);
    assert!(world.sent.is_empty(), "{:?}", world.sent);
}

#[test]
fn the_same_attempts_give_the_same_run_again() {
    let told = || {
        let mut world = World::new(&canary());
        world.fails_under_fault = 10;
        world.control_fails_under_fault = Some(4);
        world.through();
        world.said
    };
    assert_eq!(told(), told());
}
