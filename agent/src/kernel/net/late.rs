//! Sockets whose closing waits for the kernel, closed where nobody waits for them.
//!
//! Closing *any* netfilter socket first lets the kernel free what earlier transactions took away, and that waits for all
//! readers of the packet path: 7 to 18 ms on Linux 6.18, for a socket that owned nothing (`nft_rcv_nl_event` flushes
//! the destroy work). Where the table was deleted by a transaction, and acknowledged, the fault has ended before; only the
//! end of the process would come that much later. So a holder hands these sockets to the agent with its last word, and
//! the agent closes them on a thread of their own. A socket that still owns a table never comes here: its closing *is* the end
//! of a fault.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use super::netlink::Netlink;

static KEPT: Mutex<Vec<Netlink>> = Mutex::new(Vec::new());

/// Leaves a socket that owns nothing to be closed later.
pub(crate) fn keep(socket: Netlink) {
    KEPT.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(socket);
}

/// Looks at the sockets kept so far.
pub(crate) fn with<R>(look: impl FnOnce(&[BorrowedFd<'_>]) -> R) -> R {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let fds: Vec<_> = kept.iter().map(AsFd::as_fd).collect();
    look(&fds)
}

/// Closes them; may take some ten milliseconds.
pub(crate) fn close() {
    let kept = std::mem::take(&mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner));
    drop(kept);
}
