//! The kernel, spoken to directly: the only place with `unsafe` and raw system calls.

pub(crate) mod net;
