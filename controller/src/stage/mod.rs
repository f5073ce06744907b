//! How far an experiment has come in an environment, and what lets it go further.
//!
//! Pure: no clock, no file, no network, no database. Whoever asks brings the time and the facts; what is decided here
//! can therefore be tested with any sequence of runs, edits, approvals and clocks (`properties.rs`).
//!
//! ```text
//! events of a run ──▶ Evidence ─┐
//! statements of others ─────────┤
//! votes, answers, runbook ──────┼──▶ decide(Ask, Facts) ──▶ Decision: every requirement, met or not
//! policy, now ──────────────────┘
//! ```

pub mod approval;
pub mod checklist;
pub mod evidence;
pub mod gate;
mod hours;
mod limits;
pub mod standing;
pub mod statement;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use approval::{Approval, Vote, VoteRefused};
pub use checklist::{Answer, Checked};
pub use evidence::Evidence;
pub use gate::{Ask, Decision, Facts, Requirement, Together, Trigger, decide};
pub use limits::namespaces;
pub use standing::{Standing, standing};

/// Whether two names are one person's: tokens are named by people, and people do not mind capitals.
#[must_use]
pub fn is_same_person(one: &str, other: &str) -> bool {
    one.trim().eq_ignore_ascii_case(other.trim())
}
