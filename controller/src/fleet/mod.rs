//! Agents' sessions: of a child process of this one on a socketpair, and of far nodes that dial in, on the same wire.

pub mod authority;
mod lend;
mod link;
pub mod registry;
pub mod secret;
mod session;
pub mod shared;

pub use lend::{Lent, Present, Word};
#[cfg(test)]
pub(crate) use link::framing;
pub use link::{Heard, Sayer};
pub use session::{Session, greet};

use squall_experiments::wire::skew::TooFar;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// An agent that lost its link has this long to end its faults and itself, before it is killed: enough for an
/// orderly end of thousands of holders, short enough for a person to wait.
const END_MAX: Duration = Duration::from_secs(5);

/// How a local agent is started: the program, and its arguments up to where the link is named. The link is
/// always descriptor 0, which a child can be given without `unsafe`: `… --link-fd 0` is appended.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments, `["agent", "run"]` when it is `squall` itself.
    pub args: Vec<OsString>,
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// It did not start.
    #[error("the agent `{}` could not be started", path.display())]
    Start {
        /// The executable.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// It did not say hello.
    #[error("the agent said no hello: {why}")]
    NoHello {
        /// What happened instead.
        why: String,
    },
    /// It speaks another language.
    #[error(transparent)]
    Protocol(#[from] TooFar),
    /// It calls itself by another's name.
    #[error("the agent says that it is `{says}`, and its certificate that it is `{is}`")]
    Forged {
        /// What it says.
        says: String,
        /// What it is.
        is: String,
    },
    /// It is labelled with what cannot be shown.
    #[error("the agent's labels are not taken")]
    Labels(#[source] squall_experiments::join::BadName),
    /// It did not answer.
    #[error("the agent of {node} did not answer: {why}")]
    Silent {
        /// Its node.
        node: String,
        /// What it was asked.
        why: String,
    },
    /// Nobody is there.
    #[error(
        "no agent is there: `squall agents` lists those that have joined, `squall token create` lets one join"
    )]
    Nobody,
}

/// A local agent: its session, and the process behind it. Dropping it kills the process, whereupon the
/// kernel takes back whatever it held.
#[derive(Debug)]
pub struct Agent {
    /// What is said and heard.
    pub session: Session,
    child: Child,
}

impl Agent {
    /// Starts a local agent and waits for its hello.
    ///
    /// # Errors
    /// It does not start, ends at once, or does not say hello in time.
    pub async fn start(program: &Program) -> Result<Self, FleetError> {
        let failed = |source| FleetError::Start {
            path: program.path.clone(),
            source,
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let theirs = theirs.into_std().map_err(failed)?;
        theirs.set_nonblocking(false).map_err(failed)?;
        let mut command = Command::new(&program.path);
        if program.path == Path::new("/proc/self/exe") {
            // So that `ps` names it.
            command.arg0("squall");
        }
        let mut child = command
            .args(&program.args)
            .args(["--link-fd", "0"])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            // A group of its own: Ctrl-C in the terminal is for the controller, which then stops the run.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        match greet(ours).await {
            Ok(session) => Ok(Self { session, child }),
            Err(FleetError::NoHello { why }) => {
                let ended = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
                let why = match ended {
                    Ok(Ok(status)) => format!("it ended with {status}; what it said is above"),
                    _ => why,
                };
                Err(FleetError::NoHello { why })
            }
            Err(error) => Err(error),
        }
    }

    /// Kills the process at once; the kernel takes back whatever it held.
    pub async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "the agent could not be killed");
        }
    }

    /// Hangs up and waits for the process to end in order; kills it when it does not.
    pub async fn end(self) {
        let Self { session, mut child } = self;
        drop(session);
        if tokio::time::timeout(END_MAX, child.wait()).await.is_err() {
            tracing::warn!("the agent did not end after its link was closed, and is killed");
            if let Err(error) = child.kill().await {
                tracing::warn!(%error, "the agent could not be killed");
            }
        }
    }
}

#[cfg(test)]
mod tests;
