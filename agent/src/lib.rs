//! The node's half of Squall, and its only privileged code.
//!
//! An agent does as a controller says, within what its node's policy allows, and each fault is held by a process of
//! its own that the kernel ends with the agent ([`hold`]). The agent knows no experiment, no probe and no verdict; it
//! listens on nothing.

mod admit;
mod arming;
mod boot;
mod capabilities;
mod cli;
mod confine;
mod doctor;
mod halt;
pub mod hold;
mod inventory;
mod journal;
mod kernel;
mod link;
mod names;
mod notify;
mod policy;
mod privileges;
mod rhythm;
mod serve;
mod watchdog;

pub use cli::main;
