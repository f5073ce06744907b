//! Agents lent to runs: one link serves many at once, and each run hears what concerns it.
//!
//! A fault's name begins with its run's, a question's number with its run's slot: by these an agent's words find their way. What belongs
//! to no run that is under way is told to stop, whoever began it.

use super::registry::Registry;
use squall_experiments::capability::Capabilities;
use squall_experiments::ids::{FaultId, RunId};
use squall_experiments::join::Labels;
use squall_experiments::wire::{FromAgent, FromController, Stop};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// So many words may wait for a run; then the link on which the next comes waits. A word of each of the 10,000 targets that an answer may
/// have, several times over.
const WAITING_MAX: usize = 65_536;

/// A run numbers its questions below this.
const QUESTIONS_MAX: u64 = 1 << 40;

/// What a run hears of a node.
#[derive(Debug)]
pub enum Word {
    /// Its agent spoke.
    Said(Box<FromAgent>),
    /// Its link is gone, and why. It may come back.
    Away(String),
    /// It has a link again.
    Back,
}

/// A node with an agent that is there.
#[derive(Debug, Clone)]
pub struct Present {
    /// Its name.
    pub node: String,
    /// What it is labelled with.
    pub labels: Labels,
    /// What it can do.
    pub capabilities: Arc<Capabilities>,
}

/// Where words for a run go: its slot and its queue.
#[derive(Debug)]
struct Mailbox {
    slot: u64,
    words: mpsc::Sender<(String, Word)>,
}

/// The runs that are under way.
#[derive(Debug, Default)]
pub(super) struct Mailboxes {
    slots: u64,
    runs: HashMap<RunId, Mailbox>,
}

/// For whom a word is.
pub(super) enum Addressee {
    /// A run.
    Run(mpsc::Sender<(String, Word)>, Box<FromAgent>),
    /// A run that is not under way, and has a fault in force.
    Nobody(RunId),
    /// What it was about is over.
    Past,
}

impl Mailboxes {
    fn open(&mut self, run: &RunId) -> (u64, mpsc::Receiver<(String, Word)>) {
        let (words, heard) = mpsc::channel(WAITING_MAX);
        self.slots += 1;
        let slot = self.slots;
        self.runs.insert(run.clone(), Mailbox { slot, words });
        (slot, heard)
    }

    pub(super) fn close(&mut self, run: &RunId) {
        self.runs.remove(run);
    }

    pub(super) fn runs(&self) -> Vec<RunId> {
        self.runs.keys().cloned().collect()
    }

    pub(super) fn all(&self) -> Vec<mpsc::Sender<(String, Word)>> {
        self.runs.values().map(|one| one.words.clone()).collect()
    }

    /// Finds who is meant.
    pub(super) fn route(&self, mut message: FromAgent) -> Addressee {
        let (id, may_act) = match &mut message {
            FromAgent::Resolved(resolved) => {
                let slot = resolved.request / QUESTIONS_MAX;
                resolved.request %= QUESTIONS_MAX;
                let mut runs = self.runs.values();
                let asked = runs.find(|mailbox| mailbox.slot == slot);
                let asked = asked.map(|mailbox| mailbox.words.clone());
                return asked.map_or(Addressee::Past, |words| {
                    Addressee::Run(words, Box::new(message))
                });
            }
            FromAgent::Hello(_) => return Addressee::Past,
            FromAgent::Armed(armed) => (&armed.id, true),
            FromAgent::Dosed(dosed) => (&dosed.id, true),
            FromAgent::Stuck(stuck) => (&stuck.id, true),
            FromAgent::Refused(refused) => (&refused.id, false),
            FromAgent::Ended(ended) => (&ended.id, false),
        };
        let run = run_of(id);
        match self.runs.get(&run) {
            Some(mailbox) => Addressee::Run(mailbox.words.clone(), Box::new(message)),
            None if may_act => Addressee::Nobody(run),
            None => Addressee::Past,
        }
    }
}

/// A fault is called after its run.
fn run_of(fault: &FaultId) -> RunId {
    let run = fault
        .0
        .split_once('/')
        .map_or(fault.0.as_str(), |(run, _)| run);
    RunId::from(run)
}

/// All agents, for one run. Dropped, nothing more is heard, and what is still in force is told to stop by the next word of it.
pub struct Lent {
    registry: Registry,
    run: RunId,
    slot: u64,
    heard: mpsc::Receiver<(String, Word)>,
}

impl Lent {
    pub(super) fn new(registry: Registry, run: &RunId, mailboxes: &mut Mailboxes) -> Self {
        let (slot, heard) = mailboxes.open(run);
        Self {
            registry,
            run: run.clone(),
            slot,
            heard,
        }
    }

    /// One that hears what is said into the other end, of so many words at most, and has nobody to speak to.
    #[cfg(test)]
    pub(crate) fn heard_through(run: &RunId, words: usize) -> (mpsc::Sender<(String, Word)>, Self) {
        let (say, heard) = mpsc::channel(words);
        let lent = Self {
            registry: Registry::default(),
            run: run.clone(),
            slot: 0,
            heard,
        };
        (say, lent)
    }

    /// Who is there.
    #[must_use]
    pub fn present(&self) -> Vec<Present> {
        self.registry.present()
    }

    /// Says something to a node's agent without waiting; `false` when it is not there, or reads nothing.
    #[must_use]
    pub fn say(&self, node: &str, mut message: FromController) -> bool {
        if let FromController::Resolve(question) = &mut message {
            question.request += self.slot * QUESTIONS_MAX;
        }
        self.registry.say(node, message)
    }

    /// The next that is heard, and of which node.
    pub async fn hear(&mut self) -> (String, Word) {
        match self.heard.recv().await {
            Some(word) => word,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.registry.take_back(&self.run);
    }
}

/// What an agent is told that has just opened its link: to end whatever no run here knows of.
pub(super) fn others(runs: Vec<RunId>) -> FromController {
    FromController::Stop(Stop::Others(runs))
}
