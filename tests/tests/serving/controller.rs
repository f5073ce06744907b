//! A controller of one test: `squall serve`, and what is asked of it.

use lab::world::agent::program;
use lab::world::serve::{Connection, answer, ask, exchange, reach, until_it_serves};
use lab::world::service::free;
use lab::world::{Ended, Result, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take on a busy machine: a start, a connection, an answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A controller on a port of its own, with its data in a folder of its own.
pub(crate) struct Controller {
    pub(crate) home: TempDir,
    address: SocketAddr,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    serving: Option<Child>,
}

impl Controller {
    /// Starts it with more arguments.
    pub(crate) fn start(args: &[&str]) -> Result<Self> {
        Self::start_in(TempDir::new()?, args)
    }

    /// Starts it with more arguments and variables.
    pub(crate) fn start_with(args: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        Self::begin(TempDir::new()?, args, environment)
    }

    /// Starts it where there may be something already.
    pub(crate) fn start_in(home: TempDir, args: &[&str]) -> Result<Self> {
        Self::begin(home, args, &[])
    }

    fn begin(home: TempDir, args: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let pair = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        let mut controller = Self {
            home,
            address: free()?,
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            environment: environment.iter().map(pair).collect(),
            serving: None,
        };
        controller.serve()?;
        Ok(controller)
    }

    /// Starts it, or starts it again.
    pub(crate) fn serve(&mut self) -> Result<()> {
        let mut child = Command::new(program("squall")?)
            .args(["serve", "--name", "127.0.0.1"])
            .args(["--listen", &self.address.to_string()])
            .args(&self.args)
            .envs(self.environment.iter().cloned())
            .env("SQUALL_DATA", self.data())
            .stderr(Stdio::piped())
            .spawn()?;
        let serves = until_it_serves(&mut child);
        self.serving = Some(child);
        serves
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.serving.as_ref().ok_or("it does not run")?;
        Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
    }

    /// Waits for its end after a signal.
    pub(crate) fn end(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal)?;
        if let Some(mut child) = self.serving.take() {
            until("the controller's end", LIMIT, || child.try_wait().ok()?)?;
        }
        Ok(())
    }

    /// A command on the controller's machine.
    pub(crate) fn squall(&self, args: &[&str]) -> Result<Output> {
        Ok(Command::new(program("squall")?)
            .args(args)
            .env("SQUALL_DATA", self.data())
            .env("SQUALL_CONTROLLER", self.url())
            .output()?)
    }

    /// A command that must do; what it says.
    pub(crate) fn squalls(&self, args: &[&str]) -> Result<String> {
        let output = self.squall(args)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("squall {}: {said}", args.join(" ")).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What is answered to a GET of a path: head and body.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        self.get_as(path, "")
    }

    /// The same as the first of its administrators.
    pub(crate) fn get_as_admin(&self, path: &str) -> Result<String> {
        let token = fs::read_to_string(self.data().join("admin.token"))?;
        self.get_as(path, &format!("Authorization: Bearer {}\r\n", token.trim()))
    }

    /// The same with more headers, each with its line break.
    pub(crate) fn get_as(&self, path: &str, headers: &str) -> Result<String> {
        self.exchange("GET", path, headers, "")
    }

    /// What is answered to a POST with more headers, each with its line break.
    pub(crate) fn post(&self, path: &str, headers: &str, body: &str) -> Result<String> {
        let length = body.len();
        let headers =
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}");
        self.exchange("POST", path, &headers, body)
    }

    /// A POST on a connection that stands already, whose answer is read later.
    pub(crate) fn asking(&self) -> Result<Asking> {
        Ok(Asking(self.address, reach(self.address, &self.data())?))
    }

    fn exchange(&self, method: &str, path: &str, headers: &str, body: &str) -> Result<String> {
        exchange(self.address, &self.data(), method, path, headers, body)
    }

    /// Whether it says that it is the leader.
    pub(crate) fn leads(&self) -> bool {
        self.get("/readyz")
            .is_ok_and(|answer| answer.contains("ready: leads"))
    }

    /// For whom it says that it stands by.
    pub(crate) fn follows(&self) -> Option<String> {
        let answer = self.get("/readyz").ok()?;
        let (_, leader) = answer.split_once("ready: stands by for ")?;
        Some(leader.trim().to_owned())
    }
}

/// A connection on which something may be asked of a controller that cannot answer.
pub(crate) struct Asking(SocketAddr, Connection);

impl Asking {
    /// Sends it, whether anybody reads it or not.
    pub(crate) fn post(&mut self, path: &str, headers: &str, body: &str) -> Result<()> {
        let length = body.len();
        let headers =
            format!("Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}");
        ask(&mut self.1, self.0, "POST", path, &headers, body)
    }

    /// What is answered.
    pub(crate) fn answer(mut self) -> Result<String> {
        answer(&mut self.1)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if let Some(mut child) = self.serving.take() {
            // Ended already is as good.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

/// An agent that joins the first of these controllers, and knows all of them, the last first; waits until its leader has its link.
pub(crate) fn join(controllers: &[&Controller]) -> Result<Ended> {
    join_as("node-7", controllers)
}

/// The same, of a node of this name.
pub(crate) fn join_as(node: &str, controllers: &[&Controller]) -> Result<Ended> {
    let [first, ..] = controllers else {
        return Err("an agent of no controller".into());
    };
    let token = first.home.path().join(format!("token-{node}"));
    fs::write(&token, first.squalls(&["token", "create"])?)?;
    let mut agent = Command::new(program("squall-agent")?);
    agent.args(["run", "--node", node]);
    for controller in controllers.iter().rev() {
        agent.args(["--controller", &controller.url()]);
    }
    let agent = agent
        .arg("--state")
        .arg(first.home.path().join(format!("agent-{node}")))
        .arg("--join-token-file")
        .arg(token)
        .stderr(Stdio::null())
        .spawn()?;
    let agent = Ended(agent);
    is_linked(first, node)?;
    Ok(agent)
}

/// Waits until the leader has the agent's link, whomever is asked.
pub(crate) fn linked(controller: &Controller) -> Result<()> {
    is_linked(controller, "node-7")
}

fn is_linked(controller: &Controller, node: &str) -> Result<()> {
    let connected = || {
        let agents = controller.squalls(&["agents", "--json"]).ok()?;
        let agents: Vec<Value> = serde_json::from_str(&agents).ok()?;
        let agent = agents.into_iter().find(|agent| agent["node"] == node)?;
        agent["connected"]["sinceUs"].as_i64()
    };
    until("the agent's link to the leader", LIMIT, connected).map(drop)
}
