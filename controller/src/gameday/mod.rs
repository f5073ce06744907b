//! Game days: people break something together, to learn from it.
//!
//! ```text
//! file ─▶ opened ─▶ for each experiment: no-go … go ─▶ a run at the desk, past its gates ─▶ its verdict ─▶ … ─▶ over ─▶ report
//! ```
//!
//! A day is its events, kept in the store: [`Day`] is their fold, pure, and says what may happen next and who may say so. [`Days`] does it:
//! it starts and stops runs where everybody does, and goes on with a day that another controller has begun.

mod day;
mod days;
mod event;
mod keeper;
mod notices;
pub mod report;
pub mod words;

pub use day::{Day, No, Phase};
pub use days::{Days, DaysError, Now};
pub use event::{
    Action, Began, Controller, DayEvent, DayId, Declined, Go, HandedOver, NotBegun, Note, Opened,
    Over, Planned, StepEnded, Stopped, What,
};

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
