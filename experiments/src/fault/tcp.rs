//! The fault on connections: they are reset, refused, slow to close, or stand still.

use super::dns::{all, share};
use crate::filter::Filter;
use crate::units::{Delay, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// TCP connections are reset, refused, slow to close, or stand still; all others go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tcp {
    /// What happens to a connection.
    pub effect: TcpEffect,
    /// The share of the connections that is hit, each drawn on its own; not for [`TcpEffect::Stall`].
    #[serde(default = "all")]
    pub share: Percent,
    /// Which packets, and so which connections.
    #[serde(default)]
    pub filter: Filter,
}

/// What happens to a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TcpEffect {
    /// It is reset at both ends: those there are at once, new ones as soon as they are made.
    Reset,
    /// New ones are refused; those there are go on.
    Refuse,
    /// Its end takes so long: packets with FIN are held back.
    Close(Delay),
    /// It stands still: to who sends the matched packets, the other side's window is closed.
    Stall,
}

/// `tcp reset 30%`; the filter is said by whoever shows the fault.
impl fmt::Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.effect {
            TcpEffect::Reset => f.write_str("tcp reset")?,
            TcpEffect::Refuse => f.write_str("tcp refuse")?,
            TcpEffect::Close(time) => write!(f, "tcp close {time} late")?,
            TcpEffect::Stall => f.write_str("tcp stall")?,
        }
        share(f, self.share)
    }
}
