//! Experiments, schedules and game days from a Git repository: fetched, checked, shown, put into force.
//!
//! ```text
//!   branch ──fetch──▶ commit ──signed?──▶ files ──plan (pure)──▶ what changes, what is broken ──▶ the store
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `command.rs` | `git`, called so that nothing in a repository or on the machine makes it do anything else |
//! | `repository.rs` | what is fetched, verified and read |
//! | `days.rs` | opens the game days of a commit |
//! | `plan.rs` | what a commit would change: pure |
//! | `follow.rs` | follows a branch, and puts what is good into force |
//!
//! A file that is broken is said with its line; what it said when it was last good stays in force. A commit that is not signed as it must
//! be changes nothing.

mod command;
mod days;
mod follow;
mod plan;
mod repository;

pub use days::GameDays;
pub use follow::{FollowError, Followed, Follower, Hook};
pub use plan::{Broken, Change, DayPut, Plan, Put, Tried, plan};
pub use repository::{GitError, Repository, Source, Tree, at_commit};

#[cfg(test)]
mod tests;
