//! The tree of a file to the types, one decoder per subject.

mod cluster;
mod compare;
mod connection;
mod container;
mod disk;
mod dns;
mod experiment;
mod fault;
mod filter;
mod follow;
mod game_day;
mod http;
mod kubernetes;
mod load;
mod log;
mod network;
mod node;
mod nodes;
mod observer;
mod policy;
mod probe;
mod product;
mod pulse;
mod request;
mod schedule;
mod sense;
mod steady;
mod step;
mod target;
mod tcp;

pub(crate) use experiment::experiment;
pub(crate) use game_day::game_day;
pub(crate) use policy::policy;
pub(crate) use schedule::schedule;
