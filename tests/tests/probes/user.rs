//! What a test does as somebody without rights.

use nix::unistd::{Uid, geteuid, setfsuid};

/// This thread, and those that it starts, open files as a user of no group; root again with the end of the value.
pub(crate) struct Unprivileged;

impl Unprivileged {
    pub(crate) fn become_one() -> Self {
        if geteuid().is_root() {
            setfsuid(Uid::from_raw(65534));
        }
        Self
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        setfsuid(geteuid());
    }
}
