//! What holds a fault that no kernel object gives back by itself: an entry of the journal, and a guard that carries it out.

use super::held::{HoldError, chain};
use super::speech::HoldSpec;
use crate::inventory::process::identity;
use crate::journal::guard::Guard;
use crate::journal::{self, Entry, Journal, Kept, Undo};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

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

    /// Where it is written how things were.
    pub(super) fn path(&self) -> &Path {
        self.kept.path()
    }

    /// Readable when the guard has ended.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.guard.pidfd().as_fd()
    }

    /// An error when somebody has ended the guard: without one no such fault goes on.
    pub(super) fn stands(&self) -> Result<(), HoldError> {
        if self.guard.has_ended() {
            return Err(HoldError::Unable(
                "its guard was ended, and without one nothing is held that a journal gives back"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Gives back what the entry says, and lets the guard go.
    pub(super) fn give_back(mut self) -> Result<(), HoldError> {
        self.kept
            .give_back()
            .map_err(|error| HoldError::Unable(chain(&error)))?;
        self.guard.end();
        Ok(())
    }
}
