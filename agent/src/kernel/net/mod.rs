//! The kernel's network objects, as this agent needs them: links, qdiscs, nftables, queues and namespaces.
//!
//! Everything here speaks netlink itself and acts in the network namespace of the calling thread; a socket
//! stays bound to the namespace it was opened in. Nothing here knows of experiments, faults or leases.

pub(crate) mod attr;
pub(crate) mod burst;
pub(crate) mod forgotten;
pub(crate) mod late;
pub(crate) mod links;
pub(crate) mod netem;
pub(crate) mod netlink;
pub(crate) mod netns;
pub(crate) mod nfqueue;
pub(crate) mod nft;
pub(crate) mod origin;
pub(crate) mod probe;
pub(crate) mod qdisc;
pub(crate) mod rawsend;
pub(crate) mod shape;
pub(crate) mod sockets;
pub(crate) mod tracked;

#[cfg(test)]
mod live_tests;

use std::io;

/// Why a request about the network failed: the operation, its object, and what the kernel said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetError {
    /// The kernel refused a request.
    #[error("cannot {operation} {object}{}", .text.as_ref().map(|t| format!(" (the kernel says: {t})")).unwrap_or_default())]
    Refused {
        /// What was asked, as a verb: "create", "list".
        operation: &'static str,
        /// Of what: "link sq1a2b3c", "table netdev sq1a2b3c".
        object: String,
        /// The kernel's extended acknowledgement, where it gave one.
        text: Option<String>,
        /// The error number.
        #[source]
        errno: io::Error,
    },
    /// What was made is not what the kernel reports.
    #[error(
        "{object} was set up, but reading it back shows {found} where {expected} was asked; it was taken back"
    )]
    ReadBack {
        /// The object read.
        object: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// More than a named limit allows.
    #[error(
        "{what} needs {wanted}, and the limit is {limit}; name fewer addresses or ports, or use a CIDR or a range"
    )]
    TooMany {
        /// What is limited.
        what: &'static str,
        /// What was asked for.
        wanted: usize,
        /// What is allowed.
        limit: usize,
    },
}

impl NetError {
    /// The kernel's error number, where there is one.
    #[must_use]
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => errno.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the object was not there (so that taking it back again is no failure).
    #[must_use]
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV))
    }

    pub(crate) fn io(operation: &'static str, object: impl Into<String>, errno: io::Error) -> Self {
        Self::Refused {
            operation,
            object: object.into(),
            text: None,
            errno,
        }
    }
}
