//! `squall demo`: Squall's point in about two minutes, on this machine, leaving nothing behind but its reports.
//!
//! An order service and its payment service run as processes of their own, each in its own network namespace, and one
//! and the same experiment file is run twice: against an order service that waits for payment however long it takes
//! (v1), and against one that gives payment a deadline and accepts the order as payment-pending (v2).
//!
//! ```text
//!  squall demo            asks the kernel for namespaces of its own: network, process ids, mounts, and, where the
//!   │                     caller is not root, users; then only waits and hands signals on
//!   └─ demo-service play  the first process in them: controller, load and live view; when it ends, the kernel ends
//!       │                 every process below it
//!       ├─ squall agent   started by the run, as always
//!       ├─ orders         10.77.1.2, in its own network namespace
//!       └─ payment        10.77.2.2, in its own network namespace
//!
//!  play 10.77.1.1 ── veth ── 10.77.1.2 orders 10.77.2.1 ── veth ── 10.77.2.2 payment
//! ```
//!
//! What this buys: the host's links, rules and processes are not merely left alone, they cannot be seen. The agent
//! finds the target by its program's name, and no other `payment` of the machine is among the candidates.
//!
//! What is absent: nothing here knows how a fault is held, and nothing here judges. The demo starts two services and
//! calls [`crate::run::here`] as `squall run` does.

mod closing;
mod http;
mod net;
mod play;
mod sandbox;
mod service;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

/// What can be said on the command line of `squall demo`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Where the reports are written; `squall-demo` in the current folder where nothing is said
    #[arg(long, value_name = "FOLDER")]
    pub reports: Option<PathBuf>,
}

/// What went wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The kernel would not give namespaces.
    #[error(
        "the kernel gave no namespaces of its own to the demo ({operation}: {source}). Run it as root, or let users \
         have namespaces: `sysctl user.max_user_namespaces` must be above 0, on Debian \
         `sysctl kernel.unprivileged_userns_clone=1`, on Ubuntu \
         `sysctl kernel.apparmor_restrict_unprivileged_userns=0`; in a container it needs the SYS_ADMIN capability \
         (`docker run --privileged`)"
    )]
    NoNamespaces {
        /// What was asked for.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// Something with a file, a process or a pipe.
    #[error("{operation}: {source}")]
    Io {
        /// What was done, and to what.
        operation: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused a change to the demo's own network.
    #[error("the demo's own network: {operation}: {source}")]
    Net {
        /// What was done, and to what.
        operation: String,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// A service did not come up.
    #[error("the {service} service did not say `{expected}` within {seconds} s; it said `{said}`")]
    NotReady {
        /// Which.
        service: &'static str,
        /// What it should have said.
        expected: &'static str,
        /// What it said instead; empty when it said nothing.
        said: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A service did not answer a question.
    #[error("asking {url}: {problem}")]
    Http {
        /// What was asked.
        url: String,
        /// What came back instead.
        problem: String,
    },
    /// A command line that only the demo itself writes.
    #[error("`squall demo-service` is the demo's own; start it with `squall demo` ({0})")]
    Usage(String),
    /// The shipped file does not pass the check of this very build.
    #[error("the experiment file of the demo does not pass the check:\n{0}")]
    File(String),
    /// There was no run.
    #[error("the run could not be started: {0}")]
    Run(#[source] crate::run::RunError),
    /// A report could not be rendered.
    #[error("{0}")]
    Report(#[source] crate::report::ReportError),
}

impl DemoError {
    fn io(operation: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let operation = operation.into();
        |source| Self::Io { operation, source }
    }
}

/// Shows it. 0 only if v1 was broken and v2 held.
///
/// Must be called while the process has one thread, before any runtime is started: the kernel moves only processes
/// with one thread into a new user namespace.
#[must_use]
pub fn main(options: &Options) -> ExitCode {
    say(sandbox::enter(options))
}

/// The processes that the demo starts: `play`, `orders` and `payment`. The same condition as for [`main`].
#[must_use]
pub fn service_main(args: &[String]) -> ExitCode {
    say(match args.first().map(String::as_str) {
        Some("play") => sandbox::play(&args[1..]),
        Some("orders" | "payment") => service::main(args).map(|()| ExitCode::SUCCESS),
        _ => Err(DemoError::Usage(format!("it was given {args:?}"))),
    })
}

#[expect(
    clippy::print_stderr,
    reason = "the edge where the demo's errors are told"
)]
fn say(result: Result<ExitCode, DemoError>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("squall demo: {error}");
        ExitCode::FAILURE
    })
}
