//! A machine with an agent: its holders, which live by the kernel's timers whatever their agent does, and the truth about each fault.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use squall_experiments::dose::{Dose, Evidence, NetworkDose};
use squall_experiments::fault::Holding;
use squall_experiments::ids::{FaultId, RunId, TargetId};
use squall_experiments::wire::{Arm, Armed, Dosed, EndCause, Ended, FromAgent, Refused};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// What there is to hit on each machine.
pub(super) const TARGETS: [&str; 2] = ["one", "two"];
const SECOND_US: u64 = 1_000_000;

/// What really happened to a fault, whoever knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Life {
    pub(super) fault: FaultId,
    pub(super) run: RunId,
    pub(super) node: usize,
    pub(super) target: TargetId,
    pub(super) armed_us: u64,
    pub(super) ended_us: Option<u64>,
    /// When the last word came by which it may stay.
    pub(super) renewed_us: u64,
    /// In which term its controller said that it leads.
    pub(super) term: Option<u64>,
}

struct Holder {
    arm: Arm,
    term: Option<u64>,
    /// When it is in force, unless it fails.
    arms_us: u64,
    fails: bool,
    /// Its place in the truth, once it is in force.
    life: Option<usize>,
    lease_end_us: u64,
    stops_us: Option<u64>,
    dosed_us: u64,
}

/// The machine.
pub(super) struct Node {
    number: usize,
    now_us: u64,
    dice: StdRng,
    holders: BTreeMap<FaultId, Holder>,
    lives: Vec<Life>,
    /// Where the agent of now hears its holders.
    agent: Option<mpsc::UnboundedSender<FromAgent>>,
    /// The next holders to arm fail.
    pub(super) fails_to_arm: u32,
}

/// A handle to it.
#[derive(Clone)]
pub(super) struct Machine(Arc<Mutex<Node>>);

impl Machine {
    pub(super) fn new(number: usize, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Node {
            number,
            now_us: 0,
            dice: StdRng::seed_from_u64(seed),
            holders: BTreeMap::new(),
            lives: Vec::new(),
            agent: None,
            fails_to_arm: 0,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Node> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    pub(super) fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// An agent begins: it hears the holders that it starts.
    pub(super) fn agent_begins(&mut self) -> mpsc::UnboundedReceiver<FromAgent> {
        let (say, hear) = mpsc::unbounded_channel();
        self.agent = Some(say);
        hear
    }

    /// It is killed, and its holders with it.
    pub(super) fn agent_dies(&mut self) {
        self.agent = None;
        for holder in std::mem::take(&mut self.holders).into_values() {
            self.gone(&holder);
        }
    }

    /// A holder is killed by somebody.
    pub(super) fn kill_a_holder(&mut self) {
        if let Some((id, holder)) = self.holders.pop_first() {
            self.gone(&holder);
            self.bury(&id, &holder, EndCause::HolderKilled("SIGKILL".into()));
        }
    }

    pub(super) fn hold(&mut self, arm: Arm, term: Option<u64>) {
        let fails = self.fails_to_arm > 0;
        self.fails_to_arm = self.fails_to_arm.saturating_sub(1);
        let holder = Holder {
            arms_us: self.now_us + self.dice.random_range(2_000..200_000),
            lease_end_us: self.now_us + us(&arm),
            fails,
            life: None,
            stops_us: None,
            dosed_us: 0,
            arm,
            term,
        };
        self.holders.insert(holder.arm.id.clone(), holder);
    }

    pub(super) fn renew(&mut self, id: &FaultId, lease_us: u64) {
        if let Some(holder) = self.holders.get_mut(id).filter(|h| h.stops_us.is_none()) {
            holder.lease_end_us = self.now_us + lease_us;
            if let Some(life) = holder.life.and_then(|life| self.lives.get_mut(life)) {
                life.renewed_us = self.now_us;
            }
        }
    }

    pub(super) fn stop(&mut self, id: &FaultId) {
        let stops_us = self.now_us + self.dice.random_range(1_000..50_000);
        if let Some(holder) = self.holders.get_mut(id) {
            holder.stops_us.get_or_insert(stops_us);
        }
    }

    /// Time goes on, for the kernel too.
    pub(super) fn tick(&mut self, now_us: u64) {
        self.now_us = now_us;
        for (id, mut holder) in std::mem::take(&mut self.holders) {
            if let Some(cause) = holder.ends(now_us) {
                self.gone(&holder);
                self.bury(&id, &holder, cause);
                continue;
            }
            if holder.life.is_none() && holder.arms_us <= now_us {
                holder.dosed_us = now_us;
                holder.life = Some(self.lives.len());
                self.armed(&holder.arm, holder.term);
            }
            if holder.life.is_some() && now_us >= holder.dosed_us + SECOND_US {
                holder.dosed_us = now_us;
                self.say(dosed(&id, now_us));
            }
            self.holders.insert(id, holder);
        }
    }

    fn armed(&mut self, arm: &Arm, term: Option<u64>) {
        self.lives.push(Life {
            fault: arm.id.clone(),
            run: arm.run.clone(),
            node: self.number,
            target: arm.target.clone(),
            armed_us: self.now_us,
            ended_us: None,
            renewed_us: self.now_us,
            term,
        });
        self.say(FromAgent::Armed(Armed {
            id: arm.id.clone(),
            holder: 1,
            evidence: Evidence::default(),
            held: Holding::Kernel,
            at_us: self.now_us,
            took_us: 1,
        }));
    }

    fn gone(&mut self, holder: &Holder) {
        if let Some(life) = holder.life.and_then(|life| self.lives.get_mut(life)) {
            life.ended_us = Some(self.now_us);
        }
    }

    fn bury(&mut self, id: &FaultId, holder: &Holder, cause: EndCause) {
        let life = holder.life.and_then(|life| self.lives.get(life));
        let lasted_us = life.map(|life| self.now_us - life.armed_us);
        let word = if life.is_none() {
            FromAgent::Refused(Refused {
                id: id.clone(),
                reason: format!("it never was in force: {cause:?}"),
                denied: false,
                gone: false,
            })
        } else {
            FromAgent::Ended(Ended {
                id: id.clone(),
                cause,
                dose: None,
                at_us: self.now_us,
                took_us: Some(1),
                lasted_us,
            })
        };
        self.say(word);
    }

    fn say(&self, word: FromAgent) {
        if let Some(agent) = &self.agent {
            let _it_ends = agent.send(word);
        }
    }
}

impl Holder {
    fn ends(&self, now_us: u64) -> Option<EndCause> {
        if self.stops_us.is_some_and(|at| now_us >= at) {
            return Some(EndCause::Stopped);
        }
        if self.fails && now_us >= self.arms_us {
            return Some(EndCause::Failed("the kernel said no".into()));
        }
        (now_us >= self.lease_end_us).then_some(EndCause::LeaseEnded)
    }
}

fn dosed(id: &FaultId, at_us: u64) -> FromAgent {
    let dose = NetworkDose {
        matched: 10,
        ..NetworkDose::default()
    };
    FromAgent::Dosed(Dosed {
        id: id.clone(),
        dose: Dose::Network(dose),
        at_us,
    })
}

/// The longest that a node lets a fault stay without a word.
fn us(arm: &Arm) -> u64 {
    u64::try_from(arm.lease.duration().as_micros()).unwrap_or(u64::MAX)
}
