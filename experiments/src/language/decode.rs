//! The tree of a file to the types, one decoder per subject.

mod connection;
mod experiment;
mod fault;
mod filter;
mod kubernetes;
mod load;
mod log;
mod network;
mod observer;
mod probe;
mod request;
mod sense;
mod steady;
mod step;
mod target;

pub(crate) use experiment::experiment;
