//! The kernel, as far as the agent needs it. Raw system calls and `unsafe` live here and nowhere else.
//!
//! Nothing here knows what a fault is.

pub(crate) mod cgroup;
pub(crate) mod channel;
pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod freezer;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod net;
pub(crate) mod oom;
pub(crate) mod ports;
pub(crate) mod power;
pub(crate) mod process;
pub(crate) mod psi;
pub(crate) mod ptrace;
pub(crate) mod timer;
