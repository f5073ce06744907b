//! The seam between a holder process and the fault it holds.

use squall_experiments::dose::Dose;
use squall_experiments::filter::ResolvedFilter;
use squall_experiments::wire::EndCause;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// One fault in force inside this holder process. Dropping it, or dying, must be enough to end the fault.
pub(crate) trait Held {
    /// Descriptors to poll for reading besides the control channel (queue sockets…); empty for most.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
    /// When `turn` must be called next even if nothing is readable (a delayed packet falls due).
    fn next_turn(&self) -> Option<Instant> {
        None
    }
    /// Something is readable or the moment has come. Bounded work per call.
    fn turn(&mut self) -> Result<(), HoldError> {
        Ok(())
    }
    /// What was done so far, measured (kernel counters, CPU clocks, resident pages), cumulative.
    fn dose(&mut self) -> Result<Dose, HoldError>;
    /// New addresses for the fault's host names (re-resolved by the agent); ignored where there are none.
    fn update(&mut self, _endpoints: &ResolvedFilter) -> Result<(), HoldError> {
        Ok(())
    }
    /// The controller has just said that it still wants the fault.
    fn renewed(&mut self) {}
    /// Asked after every turn: whether the fault has come to its own end, and by what.
    fn over(&self) -> Option<EndCause> {
        None
    }
    /// Take it back in an orderly way (also the idle ifb); returns the final dose.
    fn release(self: Box<Self>) -> Result<Dose, HoldError>;
}

/// Why a fault cannot be held, or not any longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    /// The kernel said no.
    #[error("cannot {operation} {object}")]
    Kernel {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what, with the value.
        object: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It cannot be done here or not as asked; a sentence that says what to do instead.
    #[error("{0}")]
    Unable(String),
}

impl HoldError {
    /// For `map_err`.
    pub(crate) fn kernel<E: Into<io::Error>>(
        operation: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let object = object.into();
        move |source| Self::Kernel {
            operation,
            object,
            source: source.into(),
        }
    }
}

/// An error and all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        said.push_str(": ");
        said.push_str(&inner.to_string());
        cause = inner.source();
    }
    said
}
