//! What takes a killed container's place: the node's container runtimes are asked again, on a thread of its own. A holder that
//! waited for a runtime that hangs could not be told to stop.

use super::held::HoldError;
use super::speech::{Places, Prey};
use crate::inventory::Rules;
use crate::inventory::containers::ask;
use crate::inventory::containers::grasp::{Successor, successor};
use squall_experiments::fault::FaultKind;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

/// How often it is looked whether the runtimes have answered; so much later the signal may be.
const LOOK: Duration = Duration::from_millis(20);

/// The search, over and over.
pub(super) struct Search {
    places: Places,
    prey: Prey,
    answer: Option<Receiver<Option<Successor>>>,
}

impl Search {
    /// For a target that is a container; none for another.
    pub(super) fn of(prey: &Prey) -> Option<Self> {
        Some(Self {
            places: prey.places.clone()?,
            prey: prey.clone(),
            answer: None,
        })
    }

    /// Asks, where no answer is waited for already.
    pub(super) fn begin(&mut self) -> Result<(), HoldError> {
        if self.answer.is_some() {
            return Ok(());
        }
        let (places, prey) = (self.places.clone(), self.prey.clone());
        let (sender, answer) = channel();
        // It ends by itself within the limits of its questions, or with this process.
        let asking = std::thread::Builder::new().name("squall-runtimes".to_owned());
        asking
            .spawn(move || {
                // Nobody who listens any more needs no answer.
                let _ = sender.send(search(&places, &prey));
            })
            .map_err(HoldError::kernel(
                "start",
                "the thread that asks container runtimes",
            ))?;
        self.answer = Some(answer);
        Ok(())
    }

    /// When to look for the answer, while one is waited for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.answer.as_ref().map(|_| Instant::now() + LOOK)
    }

    /// What was found, once.
    pub(super) fn take(&mut self) -> Option<Successor> {
        let found = match self.answer.as_ref()?.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => None,
            Ok(found) => found,
        };
        self.answer = None;
        let found = found.filter(|found| self.prey.may_be_hit(found.main.1))?;
        self.places.kin.clone_from(&found.kin);
        Some(found)
    }
}

/// What stands there now; nothing, where nothing does yet or nobody answers.
fn search(places: &Places, prey: &Prey) -> Option<Successor> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_io().enable_time().build().ok()?;
    let rules = Rules {
        spare_pids: prey.spare_pids.iter().map(|pid| (*pid, "spared")).collect(),
        protected_names: prey.spare_names.clone(),
        protected_units: prey.spare_units.clone(),
        protected_namespaces: places.spare_namespaces.clone(),
        ..Rules::default()
    };
    let asked = ask(&places.target, &[FaultKind::Kill], &places.sockets, &rules);
    let asked = runtime.block_on(asked);
    successor(&asked, &places.kin, places.siblings.as_deref(), &rules)
}
