//! Whether what was seen is what was expected. Pure: no clock, no I/O, so that it can be simulated and replayed.
//!
//! An expectation is judged in one of five ways:
//!
//! - **by samples** (`success >= 99%`, `p99 <= 400ms`): every attempt is one trial, and violates or not. An
//!   [e-process](eprocess) against the tolerated rate confirms a violation; looking after every sample costs
//!   nothing. A run in which nothing was confirmed is only held when a [proof](squall_experiments::proof) shows
//!   that no more than the tolerated rate violates. `p99 <= 400ms` is read as *at most 1 % slower than 400 ms*; an attempt that got no answer at all
//!   has no latency within any bound, and so violates it.
//! - **by every answer** (`status == 200`, `body $.ok == true`): no rate is tolerated; `confirm` violating
//!   answers in one phase confirm.
//! - **by windows** (`max`, `rate`, `value`, `exit`, and everything `within` or `between`): `confirm`
//!   violating windows in a row confirm.
//!
//! - **by pairs** (`success within 1% of control`, `p99 <= 1.2x control`): each attempt and its double of the control group, due at the same
//!   moment, are one trial of [what the two differ by](compare). Everything else beside a control is judged by windows.
//! - **by two windows at once** (`burn of 99.9% over 60s and 5s <= 14.4`): see [burn].
//!
//! Windows are good or bad one after another: `clear` good ones in a row make the count of bad ones start again, and one in which the probe answered and
//! gave no value is a bad one.
//!
//! A probe, or the control beside it, from which nothing was heard for longer than its timeout and `confirm` windows is a violation with
//! `no_data`. What does *not* happen here: deciding what a confirmed violation means for the run.

mod announced;
mod baseline;
mod blocks;
pub mod burn;
pub mod check;
pub mod compare;
mod control;
pub mod eprocess;
mod expectation;
mod line;
mod pairs;
mod probe;
mod reasons;
mod shares;
mod spells;
mod tally;
mod trial;

pub use expectation::Taken;
pub use probe::{Confirmed, Judge, JudgeSettings};
pub use trial::{Outcome, Trial};

#[cfg(test)]
mod compare_tests;
#[cfg(test)]
mod gauge_tests;
#[cfg(test)]
mod missing_tests;
#[cfg(test)]
mod simulation;
