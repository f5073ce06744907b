//! The node's half of Squall.

pub(crate) mod kernel;
