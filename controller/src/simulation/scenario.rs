//! What there is and what befalls it, drawn from a seed.

use crate::store::simulated::Way as Asking;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub(super) const SECOND_US: u64 = 1_000_000;
/// Until then something may befall somebody; afterwards everything is mended.
pub(super) const CALM_US: u64 = 24 * SECOND_US;
/// Nothing is cut, stands still or is away for longer.
pub(super) const SPELL_US_MAX: u64 = 6 * SECOND_US;

/// Something that happens.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// Somebody starts the n-th run.
    Start(usize),
    Stop(usize),
    /// Somebody halts everything, at any of the controllers that is there.
    Halt,
    Lift,
    /// Between an agent and a controller.
    Cut(usize, usize),
    Mend(usize, usize),
    Slow(usize, usize, u64),
    Reset(usize, usize),
    /// SIGKILL, SIGSTOP, SIGCONT, SIGTERM.
    KillController(usize),
    StartController(usize),
    PauseController(usize),
    WakeController(usize),
    EndController(usize),
    KillAgent(usize),
    StartAgent(usize),
    PauseAgent(usize),
    WakeAgent(usize),
    /// The way of a controller to the database.
    Database(usize, Asking),
    /// Somebody sets a controller's clock.
    SetClock(usize, u64),
    FailToArm(usize),
    KillHolder(usize),
}

/// A world and its fate.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) controllers: usize,
    pub(super) agents: usize,
    pub(super) lease_us: u64,
    /// What is hit does not stand it.
    pub(super) is_weak: bool,
    pub(super) unsettled_percent: u32,
    /// For each run: how many targets it hits at most, and whether it has two steps.
    pub(super) runs: Vec<(u32, bool)>,
    /// In their order.
    pub(super) events: Vec<(u64, Event)>,
    /// Nothing but runs and words of people.
    pub(super) is_calm: bool,
}

impl Scenario {
    pub(super) fn draw(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let is_calm = dice.random_range(0..10) == 0;
        let mut scenario = Self {
            controllers: [1, 2, 2, 3][dice.random_range(0..4)],
            agents: dice.random_range(2..=3),
            lease_us: dice.random_range(2..=6) * SECOND_US / 2,
            is_weak: dice.random_range(0..4) == 0,
            unsettled_percent: [0, 0, 5, 20][dice.random_range(0..4)],
            runs: Vec::new(),
            events: Vec::new(),
            is_calm,
        };
        for run in 0..dice.random_range(1..=4) {
            scenario.run(run, &mut dice);
        }
        if dice.random_range(0..5) == 0 {
            let at_us = time(&mut dice);
            scenario.push(at_us, Event::Halt);
            let most_us = SPELL_US_MAX;
            scenario.push(at_us + dice.random_range(0..most_us), Event::Lift);
        }
        let misfortunes = if is_calm { 0 } else { dice.random_range(1..=8) };
        for _ in 0..misfortunes {
            scenario.misfortune(&mut dice);
        }
        scenario.events.sort_by_key(|(at_us, _)| *at_us);
        scenario
    }

    fn push(&mut self, at_us: u64, event: Event) {
        self.events.push((at_us, event));
    }

    fn run(&mut self, run: usize, dice: &mut StdRng) {
        self.runs.push((dice.random_range(1..=3), dice.random()));
        let at_us = dice.random_range(SECOND_US..CALM_US * 2 / 3);
        self.push(at_us, Event::Start(run));
        // A wish that is said twice.
        if dice.random_range(0..4) == 0 {
            let later_us = dice.random_range(0..3 * SECOND_US);
            self.push(at_us + later_us, Event::Start(run));
        }
        if dice.random_range(0..3) == 0 {
            let later_us = dice.random_range(0..10 * SECOND_US);
            self.push(at_us + later_us, Event::Stop(run));
        }
    }

    fn misfortune(&mut self, dice: &mut StdRng) {
        let from_us = time(dice);
        let until_us = from_us + dice.random_range(50_000..SPELL_US_MAX);
        let agent = dice.random_range(0..self.agents);
        let controller = dice.random_range(0..self.controllers);
        let (event, over) = match dice.random_range(0..13) {
            0 => (
                Event::Cut(agent, controller),
                Some(Event::Mend(agent, controller)),
            ),
            1 => return self.island(dice, from_us, until_us, agent),
            2 => {
                let slow_us = dice.random_range(50_000..1_500_000);
                let over = Event::Slow(agent, controller, 20_000);
                (Event::Slow(agent, controller, slow_us), Some(over))
            }
            3 => (Event::Reset(agent, controller), None),
            4 => (
                Event::KillController(controller),
                Some(Event::StartController(controller)),
            ),
            5 => (
                Event::PauseController(controller),
                Some(Event::WakeController(controller)),
            ),
            6 => (
                Event::EndController(controller),
                Some(Event::StartController(controller)),
            ),
            7 => (Event::KillAgent(agent), Some(Event::StartAgent(agent))),
            8 => (Event::PauseAgent(agent), Some(Event::WakeAgent(agent))),
            9 => {
                let over = Event::Database(controller, Asking::default());
                (Event::Database(controller, trouble(dice)), Some(over))
            }
            10 => {
                // A day before to a day after, in either case by much.
                let wall_us = dice.random_range(0..172_800 * SECOND_US);
                (Event::SetClock(controller, wall_us), None)
            }
            11 => (Event::FailToArm(agent), None),
            _ => (Event::KillHolder(agent), None),
        };
        self.push(from_us, event);
        if let Some(over) = over {
            self.push(until_us, over);
        }
    }

    /// An agent without any way to any controller.
    fn island(&mut self, _: &mut StdRng, from_us: u64, until_us: u64, agent: usize) {
        for controller in 0..self.controllers {
            self.push(from_us, Event::Cut(agent, controller));
            self.push(until_us, Event::Mend(agent, controller));
        }
    }
}

fn time(dice: &mut StdRng) -> u64 {
    dice.random_range(SECOND_US..CALM_US - SPELL_US_MAX)
}

fn trouble(dice: &mut StdRng) -> Asking {
    let fine = Asking::default();
    match dice.random_range(0..4) {
        0 => Asking {
            slow_us: dice.random_range(100_000..1_200_000),
            ..fine
        },
        1 => Asking {
            is_cut: true,
            ..fine
        },
        2 => Asking {
            lost_percent: dice.random_range(5..60),
            ..fine
        },
        _ => Asking {
            is_full: true,
            ..fine
        },
    }
}
