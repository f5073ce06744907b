//! Agents' sessions. Today one: a child process of this one, on a socketpair, speaking the same wire as an
//! agent on a far node would.

use std::ffi::OsString;
use std::path::PathBuf;

/// How a local agent is started: the program, and its arguments up to where the link is named. The link is
/// always descriptor 0, which a child can be given without `unsafe`: `… --link-fd 0` is appended.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments, `["agent", "run"]` when it is `squall` itself.
    pub args: Vec<OsString>,
}
