//! What faults are tried on: network namespaces on a wire, cgroups with victims in them, an agent
//! driven over its real link; and what is looked at: packets, processor time, memory, and the whole
//! host's fingerprint before and after.
//!
//! Every guard puts back what it made when it is dropped, and says so aloud where it cannot.

pub mod agent;
pub mod cgroup;
pub mod check;
pub mod cluster;
pub mod disk;
pub mod dns;
pub mod fingerprint;
pub mod http;
pub mod kills;
mod netlink;
pub mod netns;
pub mod nginx;
pub mod pods;
pub mod postgres;
pub mod serve;
pub mod service;
pub mod shop;
pub mod stalls;
pub mod stub;
pub mod talker;
pub mod tcp;
pub mod town;
pub mod victim;
pub mod volley;
pub mod wire;

use std::error::Error;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A test's trouble: whatever went wrong, as a sentence.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// A program that is killed when this is dropped, however a test ends.
#[derive(Debug)]
pub struct Ended(pub Child);

impl Ended {
    /// Ends it in the hardest way.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _gone = self.kill();
    }
}

/// Waits until `condition` yields something; fails after `limit`, saying `what` did not come.
///
/// # Errors
/// After `limit`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if begun.elapsed() >= limit {
            return Err(format!("{what} did not come within {limit:?}").into());
        }
        std::thread::sleep(GLANCE);
    }
}

/// Says on standard error what a guard could not put back: the next test would trip over it.
#[allow(clippy::print_stderr, reason = "a guard has no other way to be heard")]
pub(crate) fn shout(what: &str) {
    eprintln!("lab: NOT PUT BACK: {what}");
}

/// Runs a helper program and returns its output.
///
/// # Errors
/// When it cannot be started or fails, with what it said.
pub fn output(command: &mut std::process::Command) -> Result<String> {
    answer(command, "")
}

/// Runs a helper program that reads `input`, and returns its output.
///
/// # Errors
/// When it cannot be started or fails, with what it said.
pub fn answer(command: &mut std::process::Command, input: &str) -> Result<String> {
    let shown = format!("{command:?}").replace('"', "");
    let cannot = |error| format!("cannot run `{shown}`: {error}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(cannot)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Far less than a pipe holds, so that nobody waits for anybody. Who does not read says so by failing.
        let _ = stdin.write_all(input.as_bytes());
    }
    let answer = child.wait_with_output().map_err(cannot)?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        return Err(format!("`{shown}` failed with {}: {said}", answer.status).into());
    }
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}
