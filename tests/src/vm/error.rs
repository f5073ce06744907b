//! What can go wrong between a package archive and a command's exit code inside the VM.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every failure of the VM runner. A command that ran and failed is no error of the runner.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// A file or socket of the runner's own could not be used.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// A verb: "read", "create", "unpack"…
        operation: &'static str,
        /// What was to be read, created, unpacked…
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A program the runner leans on failed.
    #[error("`{command}` failed: {answer}")]
    Program {
        /// The whole command line.
        command: String,
        /// Its exit status and the end of what it said.
        answer: String,
    },
    /// The package archive knows no such kernel.
    #[error(
        "Debian's package archive offers no kernel for `{wanted}`; `apt-get update` (as root) may help"
    )]
    NoKernel {
        /// The flavour or package asked for.
        wanted: String,
    },
    /// The kernel package holds something other than a bzImage with its modules.
    #[error("kernel package unpacked at {tree} is not as expected: {what}", tree = tree.display())]
    Kernel {
        /// The unpacked package.
        tree: PathBuf,
        /// What is missing or malformed.
        what: String,
    },
    /// No boot came as far as saying "ready".
    #[error("the VM did not come up in {attempts} attempts; the last console said:\n{console}")]
    Boot {
        /// How often it was tried.
        attempts: u32,
        /// The end of the last attempt's console.
        console: String,
    },
    /// The VM went away while a command ran in it.
    #[error("the VM died while `{command}` ran; its console said:\n{console}")]
    Died {
        /// What ran.
        command: String,
        /// The end of the console.
        console: String,
    },
    /// The command outlived its limit; the VM has been ended.
    #[error("`{command}` was still running in the VM after {limit:?} and was ended with it")]
    TimedOut {
        /// What ran.
        command: String,
        /// The limit it was given.
        limit: Duration,
    },
}

/// For `map_err`: `operation` on `path` failed.
pub(crate) fn io(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> VmError + use<> {
    let path = path.to_owned();
    move |source| VmError::Io {
        operation,
        path,
        source,
    }
}
