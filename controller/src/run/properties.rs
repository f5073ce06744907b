//! What holds of every run, whatever happens to it.

use super::fixture;
use super::halt::Who;
use super::machine::{Effect, Input};
use super::world::{NODE, World, armed, ended, heard};
use crate::report::Summary;
use proptest::prelude::*;
use squall_experiments::event::{Event, Happening};
use squall_experiments::run_life::RunState;
use squall_experiments::verdict::Verdict;
use squall_experiments::wire::{EndCause, FromAgent, Refused};

/// Anything that can happen to a run.
#[derive(Debug, Clone)]
enum Any {
    Steps(u8),
    Fails(u8),
    Mute,
    DeafToStop,
    Lost,
    Refuse,
    EndOne,
    ArmTwice,
}

fn any_input() -> impl Strategy<Value = Any> {
    prop_oneof![
        8 => any::<u8>().prop_map(Any::Steps),
        1 => (0..100u8).prop_map(Any::Fails),
        1 => Just(Any::Mute),
        1 => Just(Any::DeafToStop),
        1 => Just(Any::Lost),
        1 => Just(Any::Refuse),
        1 => Just(Any::EndOne),
        1 => Just(Any::ArmTwice),
    ]
}

fn happen(world: &mut World, any: &Any) {
    let first = world.live.first().cloned();
    match any {
        Any::Steps(count) => (0..*count).for_each(|_| world.step()),
        Any::Fails(share) => world.fails_under_fault = u64::from(*share),
        Any::Mute => world.answers = false,
        Any::DeafToStop => world.ends = false,
        Any::Lost => world.take(Input::AgentLost(NODE.into(), "gone".into())),
        Any::Refuse => {
            if let Some(id) = first {
                let reason = "no".to_owned();
                let denied = false;
                world.take(heard(FromAgent::Refused(Refused {
                    id,
                    reason,
                    denied,
                    gone: false,
                })));
            }
        }
        Any::EndOne => {
            if let Some(id) = first {
                world.live.retain(|live| *live != id);
                world.take(heard(ended(&id, EndCause::TargetGone)));
            }
        }
        Any::ArmTwice => {
            if let Some(id) = first {
                world.take(heard(armed(&id)));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// From wherever a run is: stop leads to recovering (or to the end, where nothing may act), with a word to the agent when anything
    /// may act, and the run then ends by itself within a limit.
    #[test]
    fn stop_is_never_refused(happenings in proptest::collection::vec(any_input(), 0..24)) {
        let mut world = World::new(&fixture::experiment());
        world.take(Input::Begin);
        for any in &happenings {
            happen(&mut world, any);
        }
        let may_act = !world.live.is_empty() && world.machine.state() != RunState::Finished;
        let before = world.stops_sent();
        world.take(Input::Halt(Who::Person));
        prop_assert!(matches!(world.machine.state(), RunState::Recovering | RunState::Finished));
        if may_act {
            prop_assert!(world.stops_sent() > before);
        }
        world.until(RunState::Finished);
        prop_assert!(world.machine.verdict().is_some());
        let ends = world.said.iter().filter(|h| matches!(h, Happening::Finished(_))).count();
        prop_assert_eq!(ends, 1);
        prop_assert!(matches!(world.said.last(), Some(Happening::Finished(_))));
    }

    /// What is kept of a run says the same verdict, and why, as the run itself did: written down, read again and told from the beginning.
    #[test]
    fn the_verdict_of_the_kept_events_is_the_live_one(happenings in proptest::collection::vec(any_input(), 0..24)) {
        let mut world = World::new(&fixture::experiment());
        world.take(Input::Begin);
        for any in &happenings {
            happen(&mut world, any);
        }
        world.until(RunState::Finished);
        let said = world.record.iter().flat_map(|(now_us, _, effects)| {
            let said = effects.iter().filter_map(|effect| match effect {
                Effect::Say(what) => Some(what.clone()),
                _ => None,
            });
            said.map(|what| Event { at_us: *now_us, what })
        });
        let kept: Vec<String> = said.map(|event| serde_json::to_string(&event).unwrap()).collect();
        let read: Vec<Event> = kept.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let told = Summary::of(&read);
        prop_assert_eq!(told.verdict, world.machine.verdict());
        prop_assert_eq!(&told.because, &world.finished().because);
    }

    /// A run is its inputs: the same ones, given again, lead to the same words, commands and verdict.
    #[test]
    fn a_replay_comes_to_the_same_verdict(happenings in proptest::collection::vec(any_input(), 0..24)) {
        let experiment = fixture::experiment();
        let mut world = World::new(&experiment);
        world.take(Input::Begin);
        for any in &happenings {
            happen(&mut world, any);
        }
        world.until(RunState::Finished);
        let mut again = World::new(&experiment).machine;
        for (now_us, input, effects) in world.record {
            prop_assert_eq!(again.take(now_us, input), effects);
        }
        prop_assert_eq!(again.verdict(), world.machine.verdict());
    }

    /// An attempt under a fault that began and was never heard of again, or of which nobody heard at all, makes no verdict better.
    #[test]
    fn a_missing_sample_never_makes_a_verdict_better(
        fails in 0..8_u64,
        lost in proptest::collection::vec(proptest::bool::weighted(0.03), 97),
        left_out in proptest::collection::vec(proptest::bool::weighted(0.03), 89),
        loses_failures: bool,
        percent in 96..100_u32,
    ) {
        let mut experiment = fixture::experiment();
        let bound = format!("success >= {percent}%").parse().unwrap();
        experiment.steady_state[0].expect = vec![bound];
        let verdict = |lost: Vec<bool>, left_out: Vec<bool>, loses_failures| {
            let mut world = World::new(&experiment);
            world.lost = lost;
            world.left_out = left_out;
            world.loses_failures = loses_failures;
            world.fails_under_fault = fails;
            world.through().verdict
        };
        let rank = |verdict| match verdict {
            Verdict::Held => 0,
            Verdict::Inconclusive => 1,
            Verdict::Broken => 2,
            other => panic!("{other:?}"),
        };
        let whole = verdict(vec![false], vec![false], false);
        let less = verdict(lost, left_out, loses_failures);
        prop_assert!(rank(less) >= rank(whole), "{whole:?} became {less:?}");
    }

    /// A violation that was never confirmed under a fault is never called broken, and a held run had every fault in force.
    #[test]
    fn verdicts_rest_on_what_was_said(happenings in proptest::collection::vec(any_input(), 0..24)) {
        let mut world = World::new(&fixture::experiment());
        world.take(Input::Begin);
        for any in &happenings {
            happen(&mut world, any);
        }
        world.until(RunState::Finished);
        let armed = world.said.iter().filter(|h| matches!(h, Happening::Armed(_))).count();
        let violated = world.said.iter().any(|h| matches!(h, Happening::Violated(_)));
        let recovered = world.said.iter().any(|h| matches!(h, Happening::Recovered));
        match world.finished().verdict {
            Verdict::Held => prop_assert!(armed == 2 && recovered && !violated),
            Verdict::Broken => prop_assert!(armed > 0 && (violated || !recovered)),
            _ => {}
        }
    }
}
