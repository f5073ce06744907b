//! What a run hears next, of all that waits to be heard.

use super::crew::Crew;
use super::machine::Input;
use crate::probe::{Places, Report};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// How often time is looked at: half of the shortest renewal (a fifth of a 200 ms lease).
const TICK: Duration = Duration::from_millis(20);

/// So many words of agents are heard before whatever else waits has its turn. Words go first, so that a fault which is gone is known to be
/// before time decides that it is late; but thousands of agents leave no moment in which none waits, and a violation must not wait for that,
/// nor a renewal.
const WORDS_IN_A_ROW_MAX: usize = 64;

/// Words of agents, attempts of probes, and time.
pub(super) struct Turns {
    trials: mpsc::Receiver<(usize, Report)>,
    /// Where the ends of conversations are that a cluster names.
    moves: mpsc::Receiver<Places>,
    /// When time is looked at next. The clock is asked, and not only a timer waited for: those run when a task gives way, and one that
    /// always has something to hear may not.
    due: Instant,
    /// How many words were heard since the others had their turn.
    words: usize,
    /// How many attempts have theirs now.
    turn_of_trials: usize,
}

impl Turns {
    pub(super) fn new(
        trials: mpsc::Receiver<(usize, Report)>,
        moves: mpsc::Receiver<Places>,
    ) -> Self {
        Self {
            trials,
            moves,
            due: Instant::now(),
            words: 0,
            turn_of_trials: 0,
        }
    }

    /// The next. Nothing is lost when it is not waited for.
    pub(super) async fn next(&mut self, crew: &mut Crew) -> Input {
        if self.words >= WORDS_IN_A_ROW_MAX {
            self.words = 0;
            self.turn_of_trials = self.trials.len();
            if Instant::now() >= self.due {
                return self.tick();
            }
            if let Ok(places) = self.moves.try_recv() {
                return Input::Found(places);
            }
        }
        while self.turn_of_trials > 0 {
            self.turn_of_trials -= 1;
            if let Ok(report) = self.trials.try_recv() {
                return reported(report);
            }
        }
        tokio::select! {
            biased;
            heard = crew.hear() => {
                self.words += 1;
                heard
            }
            () = sleep_until(self.due) => self.tick(),
            Some(places) = self.moves.recv() => Input::Found(places),
            Some(report) = self.trials.recv() => reported(report),
        }
    }

    /// What was missed is skipped.
    fn tick(&mut self) -> Input {
        self.due = (self.due + TICK).max(Instant::now());
        Input::Tick
    }
}

fn reported((probe, report): (usize, Report)) -> Input {
    match report {
        Report::Begun(due_us) => Input::Begun(probe, due_us),
        Report::Ended(trial) => Input::Trial(probe, *trial),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Lent, Word};
    use crate::run::world::{self, NODE};
    use squall_experiments::ids::{FaultId, RunId};
    use squall_experiments::wire::FromAgent;

    /// Words of thousands of agents without a pause, as they come when all are armed or stopped at once.
    #[tokio::test]
    async fn time_and_attempts_have_their_turn_however_many_agents_speak() {
        const WORDS: usize = 10_000;
        let (words, lent) = Lent::heard_through(&RunId::from("r"), WORDS);
        let Input::Agent(_, FromAgent::Dosed(dosed)) =
            world::heard(world::dosed(&FaultId::from("r/0.0.0"), 1))
        else {
            panic!("no dose");
        };
        for _ in 0..WORDS {
            let word = Word::Said(Box::new(FromAgent::Dosed(dosed.clone())));
            words.try_send((NODE.to_owned(), word)).unwrap();
        }
        let mut crew = Crew::lent(lent, |_| true);
        let (say, hear) = mpsc::channel(16);
        let mut turns = Turns::new(hear, mpsc::channel(1).1);
        for due_us in [1, 2] {
            say.try_send((0, Report::Begun(due_us))).unwrap();
        }
        let (mut heard, mut attempts, mut ticks) = (0, 0, 0);
        while heard < WORDS / 10 {
            match turns.next(&mut crew).await {
                Input::Agent(..) => heard += 1,
                Input::Begun(..) => {
                    attempts += 1;
                    assert!(heard <= WORDS_IN_A_ROW_MAX, "after {heard} words");
                }
                Input::Tick => ticks += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(attempts, 2);
        assert!(ticks > 0);
    }
}
