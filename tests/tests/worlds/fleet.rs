//! A controller that serves and an agent that joins it: the real programs, over the loopback.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use lab::world::agent::program;
use lab::world::serve::until_it_serves;
use lab::world::{Ended, Result, until};
use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::as_root;

/// How long anything may take: starting a program and its first connection, under emulation.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    vec![as_root(
        "fleet::an_agent_joins_comes_back_and_is_shut_out",
        joins_comes_back_and_is_shut_out,
    )]
}

/// A controller on a port of its own, with its data in a folder of its own.
struct Controller {
    home: TempDir,
    port: u16,
    serving: Option<Child>,
}

impl Controller {
    fn new() -> Result<Self> {
        // Free now; nobody else on the loopback asks for it within the moment.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut controller = Self {
            home: TempDir::new()?,
            port,
            serving: None,
        };
        controller.serve()?;
        Ok(controller)
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn serve(&mut self) -> Result<()> {
        let mut child = Command::new(program("squall")?)
            .args(["serve", "--listen", &format!("127.0.0.1:{}", self.port)])
            .env("SQUALL_DATA", self.home.path().join("data"))
            .stderr(Stdio::piped())
            .spawn()?;
        let serves = until_it_serves(&mut child);
        self.serving = Some(child);
        serves
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.serving.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn squall(&self, args: &[&str]) -> Result<Output> {
        Ok(Command::new(program("squall")?)
            .args(args)
            .env("SQUALL_DATA", self.home.path().join("data"))
            .env("SQUALL_CONTROLLER", self.url())
            .output()?)
    }

    /// Since when the one agent's link stands, in microseconds since the Unix epoch.
    fn connected_since(&self) -> Option<i64> {
        let output = self.squall(&["agents", "--json"]).ok()?;
        let agents: Value = serde_json::from_slice(&output.stdout).ok()?;
        let agent = agents.get(0).filter(|agent| agent["node"] == "node-7")?;
        agent["connected"]["sinceUs"].as_i64()
    }

    fn agent(&self, state: &Path, token: Option<&Path>) -> Result<Child> {
        let mut command = Command::new(program("squall-agent")?);
        command
            .args(["run", "--node", "node-7", "--label", "zone=eu-1"])
            .args(["--controller", &self.url()])
            .arg("--state")
            .arg(state)
            .stderr(Stdio::piped());
        if let Some(token) = token {
            command.arg("--join-token-file").arg(token);
        }
        Ok(command.spawn()?)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _gone = self.kill();
    }
}

fn joins_comes_back_and_is_shut_out() -> Result<()> {
    let mut controller = Controller::new()?;
    let (state, token) = (
        controller.home.path().join("agent"),
        controller.home.path().join("token"),
    );
    let made = controller.squall(&["token", "create"])?;
    fs::write(&token, &made.stdout)?;
    let mut agent = Ended(controller.agent(&state, Some(&token))?);
    let first = until("the agent's link", LIMIT, || controller.connected_since())?;

    // The token is used up and gone; who the agent is, is in its state.
    fs::remove_file(&token)?;
    controller.kill()?;
    controller.serve()?;
    let again = || controller.connected_since().filter(|since| *since > first);
    until("the agent's next link", LIMIT, again)?;

    let revoked = controller.squall(&["agents", "revoke", "node-7"])?;
    if !revoked.status.success() {
        return Err(String::from_utf8_lossy(&revoked.stderr).into());
    }
    let status = until("the agent's end", LIMIT, || agent.0.try_wait().ok()?)?;
    if status.code() != Some(3) {
        return Err(format!("an agent that was shut out ended with {status}").into());
    }
    // Nobody joins by a token that is used up.
    fs::write(&token, &made.stdout)?;
    let other = controller.home.path().join("other");
    let mut stranger = Ended(controller.agent(&other, Some(&token))?);
    let status = until("the stranger's end", LIMIT, || {
        stranger.0.try_wait().ok()?
    })?;
    if status.code() != Some(3) || other.join("identity.json").exists() {
        return Err(format!("a used token: {status}").into());
    }
    Ok(())
}
