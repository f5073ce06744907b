//! What happens by itself: schedules, and what keeps them from running.
//!
//! | file | what |
//! | --- | --- |
//! | `times.rs` | the times of a cron expression, through every change of the clock |
//! | `blackout.rs` | iCalendar files: when nothing runs |
//! | `timetable.rs` | a schedule's times with jitter, windows and blackouts |
//! | `decide.rs` | what becomes of each time: pure |
//! | `keeper.rs` | does it: claims each start in the store, and finds what a controller that died has left |
//!
//! No time is ever started twice: its row in the store has one key, and the run that it starts has one name.

mod blackout;
mod decide;
mod keeper;
mod times;
mod timetable;

pub use blackout::{BYTES_MAX as CALENDAR_BYTES_MAX, Blackout, BlackoutError, Calendar};
pub use decide::{Decision, Outcome, Standing, decide};
pub use keeper::{GitRights, Keeper, NotStarted, Order, PrepareError, Prepared, Starter};
pub use times::Times;
pub use timetable::{
    Blocked, Due, Timetable, TimetableError, Upcoming, longest, run_name, upcoming,
};

#[cfg(test)]
mod keeper_tests;
#[cfg(test)]
mod tests;
