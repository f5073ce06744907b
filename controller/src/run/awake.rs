//! A controller that stood still (SIGSTOP, a suspended machine, no processor) and goes on: what it did not hear meanwhile says nothing of the
//! system, and is held against nobody.

use super::faults::Trouble;
use super::machine::{Effect, Machine};
use squall_experiments::event::Happening;
use squall_experiments::run_life::RunState;
use std::time::Duration;

/// A run hears a tick each 20 ms. Of a controller that heard nothing for so long, attempts were made late and their answers read late, and what
/// it measured is itself; below it the delay is small against what steady states tolerate.
const STILL_MAX: Duration = Duration::from_millis(500);

/// When this process was last seen awake, by a clock that goes on while it, or its machine, does not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Awake(Option<Duration>);

impl Awake {
    /// It is awake `now`, since the machine was started; for how long it was not, where that is long.
    pub(super) fn look(&mut self, now: Duration) -> Option<Duration> {
        let before = self.0.replace(now).unwrap_or(now);
        Some(now.saturating_sub(before)).filter(|still| *still >= STILL_MAX)
    }
}

impl Machine {
    /// Nothing was heard for so long because nobody listened. What was confirmed before stands; from now on nothing can be said any more, so
    /// that the run ends without a word for or against the system.
    pub(super) fn stood_still(&mut self, now_us: u64, still: Duration, out: &mut Vec<Effect>) {
        let observing = matches!(
            self.state,
            RunState::Baseline | RunState::Injecting(_) | RunState::Recovering
        );
        if !observing || self.facts.stood_still.is_some() {
            return;
        }
        let reason = format!(
            "the controller stood still for {:.1}s and saw nothing meanwhile: run it again where nothing stops or starves it",
            still.as_secs_f64()
        );
        self.facts.stood_still = Some(reason.clone());
        if self.stopping.is_some() {
            out.push(Effect::Say(Happening::Noted(reason)));
        } else {
            let denied = false;
            self.trouble(now_us, Trouble { reason, denied }, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{self, SECOND_US};
    use super::super::machine::Input;
    use super::super::world::World;
    use super::*;
    use squall_experiments::event::Finished;
    use squall_experiments::verdict::Verdict;

    #[test]
    fn a_process_that_is_not_awake_is_noticed_when_it_wakes() {
        let mut awake = Awake::default();
        let at = Duration::from_millis;
        // How long the machine was on before says nothing.
        assert_eq!(awake.look(at(90_000)), None);
        assert_eq!(awake.look(at(90_499)), None);
        assert_eq!(awake.look(at(90_999)), Some(at(500)));
        assert_eq!(awake.look(at(91_000)), None);
        assert_eq!(awake.look(at(0)), None, "a clock that goes back");
    }

    /// A run whose controller stands still once, `into` a state.
    fn still(into: RunState, seconds: u64, change: impl Fn(&mut World)) -> (World, Finished) {
        let mut world = World::new(&fixture::experiment());
        world.take(Input::Begin);
        world.until(into);
        for _ in 0..50 {
            world.step();
        }
        change(&mut world);
        world.now_us += seconds * SECOND_US;
        world.take(Input::StoodStill(Duration::from_secs(seconds)));
        world.until(RunState::Finished);
        let finished = world.finished();
        (world, finished)
    }

    #[test]
    fn what_was_not_heard_breaks_nothing_and_shows_nothing() {
        for into in [
            RunState::Baseline,
            RunState::Injecting(0),
            RunState::Recovering,
        ] {
            // A moment, longer than a lease, longer than the recovery may take.
            for seconds in [1, 15, 300] {
                let (world, finished) = still(into, seconds, |_| {});
                let said = &finished.because;
                assert_eq!(finished.verdict, Verdict::Inconclusive, "{into:?}: {said}");
                assert!(said.contains("stood still"), "{said}");
                assert!(world.live.is_empty());
                let violated = |said: &Happening| matches!(said, Happening::Violated(_));
                assert!(!world.said.iter().any(violated), "{into:?}");
            }
        }
    }

    #[test]
    fn what_waited_meanwhile_and_fails_afterwards_breaks_nothing() {
        let (_, finished) = still(RunState::Injecting(0), 5, |world| {
            world.fails_under_fault = 100;
            world.fails = 100;
        });
        assert_eq!(
            finished.verdict,
            Verdict::Inconclusive,
            "{}",
            finished.because
        );
    }

    #[test]
    fn what_was_confirmed_before_stands() {
        let mut world = World::new(&fixture::experiment());
        world.fails_under_fault = 50;
        world.take(Input::Begin);
        world.until(RunState::Recovering);
        world.now_us += 5 * SECOND_US;
        world.take(Input::StoodStill(Duration::from_secs(5)));
        world.until(RunState::Finished);
        assert_eq!(world.finished().verdict, Verdict::Broken);
    }
}
