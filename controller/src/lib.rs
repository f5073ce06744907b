//! The controller: it drives experiments, watches the steady state, judges it, keeps the evidence.
//!
//! It has no privileges and touches no kernel object: whatever is injected, an agent injects. This library
//! does not know the agent's; the two speak `squall_experiments::wire`.
#![forbid(unsafe_code)]

pub mod access;
pub mod api;
pub mod calendar;
pub mod cli;
pub mod clock;
pub mod demo;
pub mod fleet;
pub mod gameday;
pub mod git;
pub mod judge;
pub mod leader;
pub mod live;
pub mod login;
pub mod metrics;
pub mod notify;
pub mod practice;
pub mod probe;
pub mod report;
pub mod retention;
pub mod run;
#[cfg(test)]
mod simulation;
pub mod stage;
pub mod store;
pub mod trace;
mod words;
