//! Who goes first when memory runs out.

use std::io;

/// The agent and what holds network faults: nearly never, so that a fault of ours is not ended by another's hunger.
pub(crate) const PROTECTED: i32 = -900;
/// What presses on memory or processor: first.
pub(crate) const FIRST_TO_GO: i32 = 1000;

/// Sets this process's score (proc(5), `oom_score_adj`). Lowering it needs `CAP_SYS_RESOURCE`.
///
/// # Errors
/// `EACCES` without the capability.
pub(crate) fn set(score: i32) -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", score.to_string())
}
