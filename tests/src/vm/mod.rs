//! A throw-away VM on Debian's own kernel: the second world every test runs in.
//!
//! This machine's kernel may lack netem, cgroup v2 or modules; Debian's has them all. The VM needs
//! neither root nor hardware virtualisation (QEMU's software emulation is enough) and boots in about
//! three seconds, so one boot can run all tests:
//!
//! ```text
//! Debian's archive ──► cache: kernel, QEMU, kmod            (once; `debian`, `kernel`, `qemu`)
//!                       │
//! this machine's tools ─┤
//! test binaries ────────┴─► one initramfs (`image`, `cpio`) ──► QEMU ──► this very binary as init (`guest`)
//!                                                                │
//!            `machine` ◄── serial ports: control, stdout, stderr ┘       (`protocol`)
//! ```
//!
//! No disk, no network, no shared folder: nothing in the VM can touch the machine around it.

mod cpio;
mod debian;
mod error;
mod guest;
mod image;
mod kernel;
mod machine;
mod protocol;
mod qemu;

pub use error::VmError;
pub use guest::main_if_init;
pub use image::{libraries_of, on_path};
pub use kernel::Kernel;
pub use machine::{Boot, Machine};
pub use protocol::Job;
