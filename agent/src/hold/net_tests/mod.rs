//! The network families against the real kernel, measured by a client on the other end of a wire.

mod lanes;
mod life;
mod partition;
mod redirect;
mod shaping;
mod world;
