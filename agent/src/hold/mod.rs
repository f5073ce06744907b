//! Holding faults: one process each.
//!
//! A *holder* is this same program, executed again under another name. It owns the kernel object whose existence is
//! the fault; however it ends, the kernel takes the fault back. [`supervise`] is the agent's side of it, [`holder`]
//! the process itself, [`held`] the seam to the families of faults, a file each.

pub(crate) mod busy;
mod checksum;
pub(crate) mod conntrack;
pub(crate) mod cpu;
pub(crate) mod detour;
pub(crate) mod dns;
pub(crate) mod exhaust;
pub(crate) mod fds;
mod fill;
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
mod nic_down;
pub(crate) mod node_end;
pub(crate) mod owner;
mod page_cache;
pub(crate) mod partition;
pub(crate) mod pause;
mod place;
mod pulse;
pub(crate) mod queue;
pub(crate) mod redirect;
mod refuse;
mod replacement;
mod safeguard;
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

/// The name under which that runs which ends the node when it is told to; how follows.
pub const END_NAME: &str = "squall-end:";

/// Whether this process was started as a holder, as what is beside one, or as the watchdog. Whoever links the
/// agent asks this before anything else: none of them must become a thread pool, parse arguments or open anything.
#[must_use]
pub fn is_holder() -> bool {
    std::env::args_os().next().is_some_and(|name| {
        [HOLDER_NAME, GUARD_NAME, END_NAME, watchdog::NAME]
            .iter()
            .any(|ours| name == *ours)
    })
}

/// The whole life of any of them.
#[must_use]
pub fn main() -> ExitCode {
    match std::env::args_os().next() {
        Some(name) if name == watchdog::NAME => watchdog::run(),
        Some(name) if name == GUARD_NAME => crate::journal::guard::run(),
        Some(name) if name == END_NAME => node_end::run(),
        _ => holder::run(),
    }
}
