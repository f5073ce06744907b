//! What holds a fault that no kernel object gives back by itself: an entry of the journal, and a guard that carries it out.

use super::held::{Held, HoldError, chain};
use super::speech::HoldSpec;
use crate::inventory::process::identity;
use crate::journal::guard::Guard;
use crate::journal::{self, Entry, Journal, Kept, Undo};
use squall_experiments::dose::Dose;
use squall_experiments::wire::EndCause;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Stands before the fault does, and outlives whoever holds it. Dropping it gives back what the entry says.
pub(super) struct Safeguard {
    kept: Kept,
    guard: Guard,
}

impl Safeguard {
    /// Puts `undo` on disk and has a guard ready; only then may be done what it undoes.
    pub(super) fn stand(spec: &HoldSpec, undo: Undo) -> Result<Self, HoldError> {
        let folder = spec.journal.clone().ok_or_else(|| {
            let kind = spec.fault.kind();
            HoldError::Unable(format!(
                "no journal was named, and {kind} needs one: start the agent with a state folder"
            ))
        })?;
        let entry = Entry {
            boot: journal::boot(),
            fault: spec.id.clone(),
            holder: std::process::id(),
            started: identity(std::process::id()).map_or(0, |id| id.started),
            undo,
        };
        let kept = Journal::new(folder)
            .write(entry)
            .map_err(|error| HoldError::Unable(chain(&error)))?;
        let guard = Guard::start(&kept).map_err(HoldError::kernel(
            "start",
            "the guard of the journal's entry",
        ))?;
        Ok(Self { kept, guard })
    }

    /// The means of a fault that is done like this, with where it is written how things were.
    pub(super) fn means(&self, how: &str) -> String {
        format!("{how}; {} says how it was", self.kept.path().display())
    }

    /// Holds what was done under it.
    pub(super) fn hold<F: Undoable + 'static>(self, fault: F) -> Box<dyn Held> {
        Box::new(Safe {
            fault,
            next: F::LOOK_EVERY.map(|every| Instant::now() + every),
            safeguard: self,
        })
    }

    /// An error when somebody has ended the guard: without one no such fault goes on.
    fn stands(&self) -> Result<(), HoldError> {
        if self.guard.has_ended() {
            return Err(HoldError::Unable(
                "its guard was ended, and without one nothing is held that a journal gives back"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Gives back what the entry says, and lets the guard go.
    fn give_back(mut self) -> Result<(), HoldError> {
        self.kept
            .give_back()
            .map_err(|error| HoldError::Unable(chain(&error)))?;
        self.guard.end();
        Ok(())
    }
}

/// What a fault under a safeguard has of its own: how it stands, and what that has come to.
pub(super) trait Undoable {
    /// How often it is looked at, besides when its dose is asked for; never where there is nothing that must be seen sooner.
    const LOOK_EVERY: Option<Duration>;

    /// Asks the kernel how it stands, and counts the time since the last look.
    fn look(&mut self) -> Result<(), HoldError>;

    /// What was done as of the last look.
    fn dose(&self) -> Dose;

    /// As [`Held::over`], as of the last look.
    fn over(&self) -> Option<EndCause>;
}

/// A fault under its safeguard. Dropping it gives back what the entry says.
struct Safe<F> {
    fault: F,
    safeguard: Safeguard,
    next: Option<Instant>,
}

impl<F: Undoable> Held for Safe<F> {
    /// Readable when the guard has ended.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.safeguard.guard.pidfd().as_fd()]
    }

    fn next_turn(&self) -> Option<Instant> {
        self.next
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        self.safeguard.stands()?;
        let now = Instant::now();
        if self.next.is_some_and(|next| now >= next) {
            self.next = F::LOOK_EVERY.map(|every| now + every);
            self.fault.look()?;
        }
        Ok(())
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        self.fault.look()?;
        Ok(self.fault.dose())
    }

    fn over(&self) -> Option<EndCause> {
        self.fault.over()
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        // One that is over stands as it stood when that was seen.
        if self.fault.over().is_none() {
            self.fault.look()?;
        }
        let Self {
            fault, safeguard, ..
        } = *self;
        safeguard.give_back()?;
        Ok(fault.dose())
    }
}
