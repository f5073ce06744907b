//! Steps that follow their target, driven without a clock or a kernel.

use super::fixture;
use super::machine::Input;
use super::world::{World, ended, heard};
use proptest::prelude::*;
use squall_experiments::event::{FaultArmed, Happening};
use squall_experiments::experiment::Experiment;
use squall_experiments::follow::Follow;
use squall_experiments::ids::FaultId;
use squall_experiments::run_life::RunState;
use squall_experiments::target::Share;
use squall_experiments::verdict::Verdict;
use squall_experiments::wire::{EndCause, FromAgent, FromController};

fn following(ramp: Vec<Share>, at_most: Option<u32>) -> Experiment {
    let mut experiment = fixture::experiment();
    experiment.method[0].ramp = ramp;
    experiment.method[0].follow = Some(Follow {
        at_most,
        ..Follow::default()
    });
    experiment
}

impl World {
    /// A target ends, and its faults with it; another may come in its place.
    fn restart(&mut self, target: &str, replacement: Option<&str>) {
        self.there.retain(|there| there != target);
        self.there.extend(replacement.map(str::to_owned));
        for id in self.on(target) {
            self.live.retain(|live| *live != id);
            self.take(heard(ended(&id, EndCause::TargetGone)));
        }
    }

    /// The live faults on a target.
    fn on(&self, target: &str) -> Vec<FaultId> {
        let is = |id: &&FaultId| self.aims.get(*id).is_some_and(|aim| aim == target);
        self.live.iter().filter(is).cloned().collect()
    }

    fn seconds(&mut self, seconds: usize) {
        (0..seconds * 50).for_each(|_| self.step());
    }

    fn names(&self, joined: bool) -> Vec<String> {
        let named = self.said.iter().filter_map(|what| match what {
            Happening::TargetJoined(one) if joined => Some(one.target.label.clone()),
            Happening::TargetLeft(one) if !joined => Some(one.target.label.clone()),
            _ => None,
        });
        named.collect()
    }
}

#[test]
fn what_replaces_a_target_is_hit_and_what_ended_is_let_go() {
    let mut world = World::new(&following(vec![Share::All], None));
    world.take(Input::Begin);
    world.until(RunState::Injecting(0));
    world.seconds(2);
    world.restart("a", Some("c"));
    world.seconds(2);
    assert_eq!((world.on("a").len(), world.on("c").len()), (0, 1));
    assert_eq!(
        (world.names(false), world.names(true)),
        (vec!["netns a".into()], vec!["netns c".into()])
    );
    // New ones that match, too; each is told with how many are hit by then, of how many.
    world.there.extend(["d", "e"].map(str::to_owned));
    world.seconds(2);
    assert_eq!((world.on("d").len(), world.on("e").len()), (1, 1));
    let told = world.said.iter().filter_map(|what| match what {
        Happening::TargetJoined(one) => Some((one.hit, one.candidates)),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(2, 2), (3, 4), (4, 4)]);
    world.until(RunState::Finished);
    let finished = world.finished();
    assert_eq!(finished.verdict, Verdict::Held, "{}", finished.because);
    assert!(
        finished.because.contains("5 faults were in force"),
        "{}",
        finished.because
    );
    assert!(world.live.is_empty());
}

#[test]
fn a_target_that_comes_back_under_its_old_name_is_hit_again() {
    let mut world = World::new(&following(vec![Share::All], None));
    world.take(Input::Begin);
    world.until(RunState::Injecting(0));
    world.seconds(2);
    world.restart("a", Some("a"));
    world.seconds(2);
    assert_eq!(world.on("a").len(), 1);
    world.until(RunState::Finished);
    assert_eq!(world.finished().verdict, Verdict::Held);
}

#[test]
fn a_share_stays_that_of_what_matches_now() {
    let half = Share::Percent("50%".parse().unwrap());
    let mut world = World::new(&following(vec![half], Some(2)));
    world.take(Input::Begin);
    world.until(RunState::Injecting(0));
    world.seconds(2);
    assert_eq!(world.live.len(), 1);
    world.there.extend(["c", "d"].map(str::to_owned));
    world.seconds(2);
    assert_eq!(world.live.len(), 2);
    // Never more than was allowed, however many come.
    world.there.extend(["e", "f", "g", "h"].map(str::to_owned));
    world.seconds(2);
    assert_eq!(world.live.len(), 2);
    let hit = world.aims[&world.live[1]].clone();
    world.there.retain(|there| *there == hit);
    world.seconds(2);
    assert_eq!(world.live.len(), 1);
    assert_eq!(world.on(&hit).len(), 1);
}

#[test]
fn a_holder_that_was_killed_is_trouble_unless_its_target_was_killed_too() {
    for target_too in [true, false] {
        let mut world = World::new(&following(vec![Share::All], None));
        world.take(Input::Begin);
        world.until(RunState::Injecting(0));
        world.seconds(2);
        let id = world.on("a").pop().unwrap();
        world.live.retain(|live| *live != id);
        if target_too {
            world.there.retain(|there| there != "a");
        }
        let killed = EndCause::HolderKilled("SIGKILL".into());
        world.take(heard(ended(&id, killed)));
        world.until(RunState::Finished);
        let wanted = if target_too {
            Verdict::Held
        } else {
            Verdict::Inconclusive
        };
        let finished = world.finished();
        assert_eq!(finished.verdict, wanted, "{}", finished.because);
    }
}

/// What may happen to the targets of a step that follows.
#[derive(Debug, Clone)]
enum Any {
    Steps(u8),
    Come,
    Restart(u8),
    Go(u8),
    Return(u8),
}

fn happening() -> impl Strategy<Value = Any> {
    prop_oneof![
        4 => (1..120_u8).prop_map(Any::Steps),
        1 => Just(Any::Come),
        2 => any::<u8>().prop_map(Any::Restart),
        1 => any::<u8>().prop_map(Any::Go),
        1 => any::<u8>().prop_map(Any::Return),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However targets come and go: none has two of the same fault, what is hit is never more than the share of what was found, and
    /// the run comes to a verdict with nothing left.
    #[test]
    fn the_blast_radius_is_kept_however_targets_come_and_go(
        happenings in proptest::collection::vec(happening(), 0..24),
        percent in 1..=100_u32,
        at_most in proptest::option::of(1..6_u32),
    ) {
        let share = Share::Percent(format!("{percent}%").parse().unwrap());
        let mut world = World::new(&following(vec![share], at_most));
        world.take(Input::Begin);
        world.until(RunState::Injecting(0));
        for (number, any) in happenings.iter().enumerate() {
            let pick = |world: &World, which: u8| {
                let count = world.there.len();
                (count > 0).then(|| world.there[usize::from(which) % count].clone())
            };
            match any {
                Any::Steps(count) => (0..*count).for_each(|_| world.step()),
                Any::Come => world.there.push(format!("new-{number}")),
                Any::Restart(which) => if let Some(target) = pick(&world, *which) {
                    world.restart(&target, Some(&format!("again-{number}")));
                },
                Any::Go(which) => if let Some(target) = pick(&world, *which) {
                    world.restart(&target, None);
                },
                Any::Return(which) => if let Some(target) = pick(&world, *which) {
                    world.restart(&target, Some(&target));
                },
            }
        }
        world.until(RunState::Finished);
        prop_assert!(world.machine.verdict().is_some());
        prop_assert!(world.live.is_empty());
        let mut live: Vec<(FaultId, String)> = Vec::new();
        let most = at_most.map_or(usize::MAX, |most| most as usize);
        let mut allowed = share.of(2).min(most);
        for (_, input, effects) in &world.record {
            if let Input::Agent(_, message) = input {
                match message {
                    FromAgent::Ended(ended) => live.retain(|(id, _)| *id != ended.id),
                    FromAgent::Refused(refused) => live.retain(|(id, _)| *id != refused.id),
                    FromAgent::Resolved(resolved) => {
                        allowed = share.of(resolved.candidates.len()).min(most);
                    }
                    _ => {}
                }
            }
            for effect in effects {
                let super::machine::Effect::Send(_, FromController::Arm(arm)) = effect else {
                    continue;
                };
                prop_assert!(live.iter().all(|(_, target)| *target != arm.target.0), "twice on {}", arm.target);
                live.push((arm.id.clone(), arm.target.0.clone()));
                prop_assert!(live.len() <= allowed, "{} of {allowed}", live.len());
            }
        }
        let armed = world.said.iter().filter_map(|what| match what {
            Happening::Armed(FaultArmed { id, .. }) => Some(id.clone()),
            _ => None,
        });
        let names: std::collections::HashSet<FaultId> = armed.clone().collect();
        prop_assert_eq!(names.len(), armed.count(), "a name is for one fault");
    }
}
