//! Holding faults: one process each.
//!
//! A *holder* is this same program, executed again under another name. It owns the kernel object whose existence is
//! the fault; however it ends, the kernel takes the fault back. [`supervise`] is the agent's side of it, [`holder`]
//! the process itself, [`held`] the seam to the families of faults, a file each.

pub(crate) mod busy;
mod checksum;
pub(crate) mod cpu;
pub(crate) mod detour;
pub(crate) mod dns;
pub(crate) mod exhaust;
pub(crate) mod fill;
pub(crate) mod freeze;
pub(crate) mod held;
mod holder;
pub(crate) mod http;
pub(crate) mod kill;
pub(crate) mod memory;
pub(crate) mod names;
#[cfg(test)]
mod net_tests;
pub(crate) mod network;
pub(crate) mod owner;
mod page_cache;
pub(crate) mod partition;
pub(crate) mod pause;
mod place;
mod pulse;
pub(crate) mod queue;
pub(crate) mod redirect;
mod replacement;
pub(crate) mod speech;
pub(crate) mod steer;
pub(crate) mod strain;
pub(crate) mod supervise;
pub(crate) mod sweep;
pub(crate) mod tcp;

use crate::watchdog;
use std::process::ExitCode;

/// The name under which a holder runs: its argument zero. What follows is for people who read `ps`.
pub const HOLDER_NAME: &str = "squall-agent:";

/// The name under which the guard of a journal's entry runs; the entry's file follows.
pub const GUARD_NAME: &str = "squall-guard:";

/// Whether this process was started as a holder, as the guard of one, or as the watchdog beside them. Whoever links the
/// agent asks this before anything else: none of them must become a thread pool, parse arguments or open anything.
#[must_use]
pub fn is_holder() -> bool {
    std::env::args_os()
        .next()
        .is_some_and(|name| name == HOLDER_NAME || name == GUARD_NAME || name == watchdog::NAME)
}

/// A holder's, a guard's or the watchdog's whole life.
#[must_use]
pub fn main() -> ExitCode {
    match std::env::args_os().next() {
        Some(name) if name == watchdog::NAME => watchdog::run(),
        Some(name) if name == GUARD_NAME => crate::journal::guard::run(),
        _ => holder::run(),
    }
}
