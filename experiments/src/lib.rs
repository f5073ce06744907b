//! What every part of Squall shares: the file language, bounded units, plans, the state machines of
//! a run and of a fault, and the messages between controller and agent.
//!
//! This crate is pure. It knows no clock, no file, no socket and no process; whoever uses it brings
//! those. What is decided here can therefore be tested without a kernel, and replayed.
#![forbid(unsafe_code)]

pub mod capability;
mod digest;
pub mod dose;
pub mod enough;
pub mod event;
pub mod expectation;
pub mod experiment;
pub mod fault;
pub mod fault_life;
pub mod filter;
pub mod follow;
pub mod game_day;
pub mod ids;
pub mod join;
pub mod language;
pub mod nodes;
pub mod pattern;
pub mod plan;
pub mod policy;
pub mod probe;
pub mod proof;
pub mod pulse;
pub mod run_life;
pub mod schedule;
pub mod schema;
pub mod secret;
pub mod target;
pub mod template;
pub mod trace;
pub mod units;
pub mod verdict;
pub mod wire;
