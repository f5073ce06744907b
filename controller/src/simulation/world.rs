//! Everything of one scenario, let go on step by step, with the laws looked after at each.

use super::agent;
use super::controller::{self, Place, Serving};
use super::laws::{self, Broken, Known};
use super::node::{Life, Machine};
use super::process::Process;
use super::scenario::{CALM_US, Event, SECOND_US, Scenario};
use super::wire::{End, Network};
use super::{ENVIRONMENT, Truth, experiment};
use crate::run::Feed;
use crate::run::desk::{Trigger, Wanted};
use crate::store::simulated::{Database, Session, Way as Asking};
use squall_experiments::event::Happening;
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot};

/// How far all processes go on before the next one does; nothing that is said between them takes less.
pub(super) const STEP_US: u64 = 20_000;
/// Within so long after everything was mended all runs are over: the longest a run waits for a fault that is not shown gone, and more.
const OVER_US: u64 = CALM_US + 60 * SECOND_US;
/// Long enough after the last run for what should not happen any more.
const AFTER_US: u64 = 8 * SECOND_US;
const WALL_US: u64 = 1_800_000_000_000_000;

/// What a scenario came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Over all that happened: the same seed gives the same.
    pub(super) trace: u64,
    pub(super) broken: Option<Broken>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) leaders: i64,
    pub(super) faults: usize,
}

struct Controller {
    process: Option<Process>,
    stands_still: bool,
    place: Place,
    links: mpsc::UnboundedSender<(String, End)>,
    way: Arc<Mutex<Asking>>,
    end: Option<oneshot::Sender<()>>,
    wall_us: u64,
    starts: u64,
}

struct Agent {
    process: Option<Process>,
    stands_still: bool,
    machine: Machine,
    starts: u64,
}

/// Where agents find the controllers of now.
type Doors = Arc<Mutex<Vec<Option<mpsc::UnboundedSender<(String, End)>>>>>;

pub(super) struct World {
    seed: u64,
    scenario: Scenario,
    now_us: u64,
    network: Network,
    database: Database,
    controllers: Vec<Controller>,
    agents: Vec<Agent>,
    doors: Doors,
    truth: Truth,
    feeds: BTreeMap<RunId, Feed>,
    known: Known,
}

impl World {
    pub(super) fn new(seed: u64, scenario: Scenario) -> Self {
        let machines = (0..scenario.agents).map(|n| Machine::new(n, seed ^ (0x100 + n as u64)));
        let machines: Vec<Machine> = machines.collect();
        let truth = Truth {
            machines: machines.clone(),
            is_weak: scenario.is_weak,
        };
        let idle = |machine| Agent {
            process: None,
            stands_still: false,
            machine,
            starts: 0,
        };
        let mut world = Self {
            seed,
            now_us: 0,
            network: Network::new(STEP_US, seed ^ 0x200),
            database: Database::default(),
            controllers: (0..scenario.controllers)
                .map(|_| Controller::new())
                .collect(),
            agents: machines.into_iter().map(idle).collect(),
            doors: Arc::new(Mutex::new(vec![None; scenario.controllers])),
            truth,
            feeds: BTreeMap::new(),
            known: Known::default(),
            scenario,
        };
        (0..world.controllers.len()).for_each(|n| world.start_controller(n));
        (0..world.agents.len()).for_each(|n| world.start_agent(n));
        world
    }

    /// From the beginning to where all is over, or a law is broken.
    pub(super) fn run(mut self) -> Outcome {
        let mut events = std::mem::take(&mut self.scenario.events)
            .into_iter()
            .peekable();
        let (mut broken, mut quiet_us) = (None, None);
        while broken.is_none() {
            while let Some((_, event)) = events.next_if(|(at_us, _)| *at_us <= self.now_us) {
                self.befall(event);
            }
            if self.now_us == CALM_US {
                self.mend_all();
            }
            broken = self.step().err();
            let quiet = self.now_us > CALM_US && self.is_quiet();
            quiet_us = quiet.then(|| quiet_us.unwrap_or(self.now_us));
            if quiet_us.is_some_and(|at| self.now_us > at + AFTER_US) || self.now_us > OVER_US {
                break;
            }
        }
        let lives = self.lives();
        let broken = broken.or_else(|| {
            let (scenario, now_us, known) = (&self.scenario, self.now_us, &self.known);
            let after = |tables: &mut _| laws::after(scenario, now_us, &lives, known, tables);
            self.database.look(after).err()
        });
        self.outcome(broken, &lives)
    }

    fn outcome(&self, broken: Option<Broken>, lives: &[Life]) -> Outcome {
        let mut trace = DefaultHasher::new();
        lives.hash(&mut trace);
        self.now_us.hash(&mut trace);
        self.database.look(|tables| {
            for (run, kept) in &tables.runs {
                run.0.hash(&mut trace);
                for (number, event) in &kept.events {
                    let text = serde_json::to_string(event).unwrap();
                    (number, text).hash(&mut trace);
                }
            }
            Outcome {
                trace: trace.finish(),
                broken,
                verdicts: tables
                    .runs
                    .values()
                    .filter_map(|kept| kept.verdict)
                    .collect(),
                leaders: tables.token,
                faults: lives.len(),
            }
        })
    }

    fn step(&mut self) -> Result<(), Broken> {
        self.network.give_up(self.now_us);
        self.agents
            .iter()
            .for_each(|agent| agent.machine.lock().tick(self.now_us));
        let until_us = self.now_us + STEP_US;
        let controllers = self.controllers.iter();
        let controllers = controllers
            .filter(|c| !c.stands_still)
            .filter_map(|c| c.process.as_ref());
        controllers.for_each(|process| process.run_until(until_us));
        let agents = self.agents.iter();
        let agents = agents
            .filter(|a| !a.stands_still)
            .filter_map(|a| a.process.as_ref());
        agents.for_each(|process| process.run_until(until_us));
        self.now_us = until_us;
        self.watch();
        let leader = self.database.look(|t| (t.address.clone(), t.until_us));
        let before = std::mem::replace(&mut self.known.leaders[0], leader);
        self.known.leaders[1] = before;
        for (controller, at_us) in self.network.spoken() {
            laws::spoken(&self.known, controller, at_us)?;
        }
        laws::now(&self.scenario, self.now_us, &self.lives(), &self.known)
    }

    /// Takes down what can be seen from outside.
    fn watch(&mut self) {
        for controller in &self.controllers {
            let Some(serving) = controller.serving() else {
                continue;
            };
            for run in serving.desk.under_way() {
                if let Some(feed) = serving.desk.subscribe(&run) {
                    self.feeds.insert(run, feed);
                }
            }
        }
        for (run, feed) in &self.feeds {
            let told = self.known.told.entry(run.clone()).or_default();
            let (news, _) = feed.from(told.len());
            told.extend(news);
        }
        let (now_us, known) = (self.now_us, &mut self.known);
        self.database.look(|tables| {
            let over = tables
                .runs
                .iter()
                .filter(|(_, kept)| kept.verdict.is_some());
            for (run, _) in over {
                known.over_us.entry(run.clone()).or_insert(now_us);
            }
            let halted = tables.halts.iter().any(|(_, lifted)| !lifted);
            known.halted_us = halted.then(|| known.halted_us.unwrap_or(now_us));
        });
    }

    fn is_quiet(&self) -> bool {
        let nothing = self.lives().iter().all(|life| life.ended_us.is_some());
        let serving = self.controllers.iter().filter_map(Controller::serving);
        let idle = serving.map(|s| s.desk.under_way().len()).sum::<usize>() == 0;
        nothing && idle && self.controllers.iter().any(Controller::leads)
    }

    fn lives(&self) -> Vec<Life> {
        let lives = self.agents.iter();
        lives
            .flat_map(|agent| agent.machine.lock().lives().to_vec())
            .collect()
    }

    fn befall(&mut self, event: Event) {
        let now_us = self.now_us;
        match event {
            Event::Start(run) => self.start_run(run),
            Event::Stop(run) => self.stop_run(run),
            Event::Halt => self.halt(true),
            Event::Lift => self.halt(false),
            Event::Cut(agent, controller) => self.network.cut((agent, controller), now_us),
            Event::Mend(agent, controller) => self.network.mend((agent, controller), now_us),
            Event::Slow(agent, controller, us) => self.network.set_slow((agent, controller), us),
            Event::Reset(agent, controller) => self.network.reset((agent, controller)),
            Event::KillController(n) => self.kill_controller(n),
            Event::StartController(n) => self.start_controller(n),
            Event::PauseController(n) => self.controllers[n].stands_still = true,
            Event::WakeController(n) => self.controllers[n].wake(now_us),
            Event::EndController(n) => {
                let end = self.controllers[n].end.take();
                let _gone = end.map(|end| end.send(()));
            }
            Event::KillAgent(n) => {
                self.agents[n].process = None;
                self.agents[n].machine.lock().agent_dies();
            }
            Event::StartAgent(n) => self.start_agent(n),
            Event::PauseAgent(n) => self.agents[n].stands_still = true,
            Event::WakeAgent(n) => self.agents[n].wake(now_us),
            Event::Database(n, way) => *self.controllers[n].way.lock().unwrap() = way,
            Event::SetClock(n, wall_us) => self.controllers[n].set_wall(wall_us),
            Event::FailToArm(n) => self.agents[n].machine.lock().fails_to_arm += 1,
            Event::KillHolder(n) => self.agents[n].machine.lock().kill_a_holder(),
        }
    }

    fn mend_all(&mut self) {
        for n in 0..self.controllers.len() {
            *self.controllers[n].way.lock().unwrap() = Asking::default();
            self.controllers[n].wake(self.now_us);
            // One that was told to end is started again.
            if self.controllers[n].end.is_none() {
                self.kill_controller(n);
            }
            self.start_controller(n);
            for agent in 0..self.agents.len() {
                self.network.set_slow((agent, n), STEP_US);
                self.network.mend((agent, n), self.now_us);
            }
        }
        for n in 0..self.agents.len() {
            self.agents[n].wake(self.now_us);
            self.start_agent(n);
        }
        self.halt(false);
    }

    fn kill_controller(&mut self, n: usize) {
        let serving = self.controllers[n].serving();
        let cut_off = serving.map(|serving| serving.desk.under_way());
        self.known.cut_off.extend(cut_off.into_iter().flatten());
        self.doors.lock().unwrap()[n] = None;
        *self.controllers[n].place.lock().unwrap() = None;
        self.controllers[n].process = None;
        self.controllers[n].stands_still = false;
    }

    fn start_controller(&mut self, n: usize) {
        // It was told to end, and whoever keeps it running starts it again.
        if self.controllers[n].end.is_none() {
            self.kill_controller(n);
        }
        let controller = &mut self.controllers[n];
        if controller.process.is_some() {
            return;
        }
        controller.starts += 1;
        let process = Process::start(self.now_us, controller.wall_us);
        let (links, accepted) = mpsc::unbounded_channel();
        let (end, told_to_end) = oneshot::channel();
        controller.place = Place::default();
        controller.end = Some(end);
        controller.links = links.clone();
        self.doors.lock().unwrap()[n] = Some(links);
        let seed = self.seed ^ (0x1000 * (n as u64 + 1) + controller.starts);
        let session = Session::new(self.database.clone(), Arc::clone(&controller.way), seed);
        process.spawn(controller::serve(
            session,
            super::controller_name(n),
            accepted,
            Arc::clone(&controller.place),
            self.truth.clone(),
            told_to_end,
        ));
        controller.process = Some(process);
    }

    fn start_agent(&mut self, n: usize) {
        if self.agents[n].process.is_some() {
            return;
        }
        let agent = &mut self.agents[n];
        agent.starts += 1;
        let process = Process::start(self.now_us, WALL_US);
        let (network, doors) = (self.network.clone(), Arc::clone(&self.doors));
        let dial = move |controller: usize| {
            let way = (n, controller);
            let door = doors.lock().unwrap()[controller].clone();
            let door = door.filter(|_| !network.is_cut(way))?;
            let (near, far) = network.connect(way);
            let sent = door.send((agent::name(n), far));
            sent.is_ok().then_some(near)
        };
        process.spawn(agent::serve(
            agent.machine.clone(),
            n,
            self.controllers.len(),
            self.seed ^ (0x10_0000 * (n as u64 + 1) + agent.starts),
            self.scenario.unsettled_percent,
            Box::new(dial),
        ));
        agent.process = Some(process);
    }

    /// Whom people ask: the one that leads, or one that thinks that it does not.
    fn asked(&self) -> Option<(&Process, Serving)> {
        let mut awake = self.controllers.iter().filter(|c| !c.stands_still);
        let first = awake.clone().find(|c| c.leads()).or_else(|| awake.next())?;
        Some((first.process.as_ref()?, first.serving()?))
    }

    fn start_run(&self, number: usize) {
        let Some((process, serving)) = self.asked() else {
            return;
        };
        let (most, is_long) = self.scenario.runs[number];
        let wanted = Wanted {
            run: Some(run_id(number)),
            file_text: experiment::text(self.scenario.lease_us, most, is_long),
            file_path: "simulated.yaml".into(),
            environment: ENVIRONMENT.into(),
            by: "ann".into(),
            trigger: Trigger::Hand,
            seed: Some(self.seed ^ number as u64),
        };
        process.spawn(async move {
            let started = serving.desk.start(wanted).await;
            tracing::debug!(?started, "asked for a run");
        });
    }

    fn stop_run(&mut self, number: usize) {
        let run = run_id(number);
        let Some((process, serving)) = self.asked() else {
            return;
        };
        let taken = process.within(|| serving.desk.stop(&run));
        let told = self.known.told.get(&run);
        let is_over = told.and_then(|told| told.last());
        let is_over = is_over.is_some_and(|last| matches!(last.what, Happening::Finished(_)));
        if taken && !is_over {
            self.known.stopped_us.entry(run).or_insert(self.now_us);
        }
    }

    fn halt(&mut self, halts: bool) {
        self.known.wanted_halt |= halts;
        let Some((process, serving)) = self.asked() else {
            return;
        };
        process.spawn(async move {
            let still = serving.desk.still();
            let done = if halts {
                still.halt("ann", "enough").await
            } else {
                still.lift("ann").await
            };
            tracing::debug!(?done, halts, "asked for a halt");
        });
    }
}

fn run_id(number: usize) -> RunId {
    RunId(format!("run-{number}"))
}

impl Controller {
    fn new() -> Self {
        Self {
            process: None,
            stands_still: false,
            place: Place::default(),
            links: mpsc::unbounded_channel().0,
            way: Arc::default(),
            end: None,
            wall_us: WALL_US,
            starts: 0,
        }
    }

    fn serving(&self) -> Option<Serving> {
        self.process.as_ref()?;
        self.place.lock().unwrap().clone()
    }

    fn leads(&self) -> bool {
        let (Some(process), Some(serving)) = (&self.process, self.serving()) else {
            return false;
        };
        process.within(|| serving.leadership.leads())
    }

    fn wake(&mut self, now_us: u64) {
        if std::mem::take(&mut self.stands_still)
            && let Some(process) = &self.process
        {
            process.wake(now_us);
        }
    }

    fn set_wall(&mut self, wall_us: u64) {
        self.wall_us = WALL_US - 86_400 * SECOND_US + wall_us;
        if let Some(process) = &mut self.process {
            process.set_wall(self.wall_us);
        }
    }
}

impl Agent {
    fn wake(&mut self, now_us: u64) {
        if std::mem::take(&mut self.stands_still)
            && let Some(process) = &self.process
        {
            process.wake(now_us);
        }
    }
}
