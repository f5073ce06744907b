//! One run of one program, without a shell.

use super::Seen;
use super::paths::Paths;
use crate::judge::Outcome;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use squall_experiments::probe::Command as Asked;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

/// So much of what a program prints is read: a number or a JSON document is shorter.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// A program, ready to be run again and again.
#[derive(Debug, Clone)]
pub(super) struct Running {
    argv: Vec<String>,
    paths: Paths,
}

/// Kills the program's whole process group when it is dropped before the program ended: on a timeout, and when the run is over.
struct Group {
    child: Child,
    pid: Option<i32>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            // Gone already is as good.
            let _gone = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Running {
    pub(super) fn new(asked: &Asked, paths: Paths) -> Self {
        Self {
            argv: asked.argv.clone(),
            paths,
        }
    }

    pub(super) async fn run(&self) -> Seen {
        let Some((program, arguments)) = self.argv.split_first() else {
            return Seen::only(Outcome::Unanswered("no program is named".into()));
        };
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own: its children are killed with it, and Ctrl-C is not sent to it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                return Seen::only(Outcome::Unanswered(format!("{program}: {error}")));
            }
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        self.wait(Group { child, pid }).await
    }

    async fn wait(&self, mut group: Group) -> Seen {
        let mut printed = Vec::new();
        if let Some(output) = group.child.stdout.take() {
            // What cannot be read is not there; the exit code still counts.
            let _read = output
                .take(OUTPUT_BYTES_MAX)
                .read_to_end(&mut printed)
                .await;
        }
        let status = group.child.wait().await;
        group.pid = None;
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                let reason = format!("its end was not seen: {error}");
                return Seen::only(Outcome::Unanswered(reason));
            }
        };
        let outcome = match (status.code(), status.signal()) {
            (Some(0), _) => Outcome::Success,
            (Some(code), _) => Outcome::Failed(format!("exit code {code}")),
            (None, signal) => Outcome::Failed(format!("killed by signal {}", signal.unwrap_or(0))),
        };
        let text = String::from_utf8_lossy(&printed);
        Seen {
            exit: status.code(),
            value: text
                .trim()
                .parse()
                .ok()
                .filter(|value: &f64| value.is_finite()),
            bodies: self.paths.find(&printed),
            ..Seen::only(outcome)
        }
    }
}
