//! Runs across nodes: a controller, and three agents that have joined it over TLS, each the root of a network namespace of its own with a
//! service in it.
//!
//! ```text
//!   node 0  10.78.0.2 ── 10.78.0.1 ┐
//!   node 1  10.78.1.2 ── 10.78.1.1 ├ centre: the controller, and who measures
//!   node 2  10.78.2.2 ── 10.78.2.1 ┘
//! ```

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lab::world::agent::program;
use lab::world::http::Service;
use lab::world::netns::Netns;
use lab::world::serve::until_it_serves;
use lab::world::{Result, answer, until};
use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::as_root;

/// How long anything may take, under emulation.
const LIMIT: Duration = Duration::from_secs(60);
const NODES: u8 = 3;
const PORT: u16 = 8080;
const CONTROLLER: u16 = 7410;
/// The faults delay a connection by 300 ms, which is longer than the wire takes, and less than a connection may.
const FELT: Duration = Duration::from_millis(250);

pub(crate) fn trials() -> Vec<Trial> {
    vec![as_root(
        "fleet::a_run_spans_three_nodes_and_nothing_outlives_anything",
        spans_three_nodes,
    )]
}

/// A child that ends with this value.
struct Ended(Child);

impl Ended {
    fn kill(&mut self) -> Result<()> {
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

struct Node {
    netns: Netns,
    agent: Option<Ended>,
    _service: Service,
}

struct Town {
    home: TempDir,
    nodes: Vec<Node>,
    controller: Option<Ended>,
    centre: Netns,
}

fn address(node: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, node, last)
}

impl Town {
    fn new() -> Result<Self> {
        let own = std::process::id();
        let centre = Netns::create(&format!("sqt-centre-{own}"))?;
        ip(centre.name(), &["link set lo up".to_owned()])?;
        let mut town = Self {
            home: TempDir::new()?,
            nodes: Vec::new(),
            controller: None,
            centre,
        };
        for number in 0..NODES {
            let netns = Netns::create(&format!("sqt-node-{own}-{number}"))?;
            ip(
                town.centre.name(),
                &[
                    format!(
                        "link add node{number} type veth peer name eth0 netns {}",
                        netns.name()
                    ),
                    format!("link set node{number} up"),
                    format!("addr add {}/24 dev node{number}", address(number, 1)),
                ],
            )?;
            let own = ["link set lo up", "link set eth0 up"].map(str::to_owned);
            let mut own = Vec::from(own);
            own.push(format!("addr add {}/24 dev eth0", address(number, 2)));
            ip(netns.name(), &own)?;
            let service = Service::start(&netns, IpAddr::V4(address(number, 2)), PORT)?;
            town.nodes.push(Node {
                netns,
                agent: None,
                _service: service,
            });
        }
        town.serve()?;
        for number in 0..NODES {
            town.join(number)?;
        }
        until("three agents", LIMIT, || {
            (town.connected() == 3).then_some(())
        })?;
        Ok(town)
    }

    fn serve(&mut self) -> Result<()> {
        let mut command = self.command("squall")?;
        command.args(["serve", "--listen", &format!("0.0.0.0:{CONTROLLER}")]);
        for number in 0..NODES {
            command.args(["--name", &address(number, 1).to_string()]);
        }
        command.stderr(Stdio::piped());
        let mut child = self.centre.enter(|| Ok(command.spawn()?))?;
        let serves = until_it_serves(&mut child);
        self.controller = Some(Ended(child));
        serves
    }

    fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(program(name)?);
        command
            .env("SQUALL_DATA", self.home.path().join("data"))
            .stdin(Stdio::null());
        Ok(command)
    }

    fn join(&mut self, number: u8) -> Result<()> {
        let state = self.home.path().join(format!("state-{number}"));
        let token = self.home.path().join(format!("token-{number}"));
        let mut command = self.command("squall-agent")?;
        command
            .args(["run", "--node", &format!("node-{number}")])
            .args(["--label", &format!("zone=z{number}")])
            .args([
                "--controller",
                &format!("https://{}:{CONTROLLER}", address(number, 1)),
            ])
            .arg("--state")
            .arg(&state)
            .stderr(Stdio::null());
        if !state.exists() {
            let made = self.squall(&["token", "create"])?;
            fs::write(&token, &made.stdout)?;
            command.arg("--join-token-file").arg(&token);
        }
        let node = &mut self.nodes[usize::from(number)];
        let child = node.netns.enter(|| Ok(command.spawn()?))?;
        node.agent = Some(Ended(child));
        Ok(())
    }

    fn squall(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.command("squall")?;
        command.args(args);
        self.centre.enter(|| Ok(command.output()?))
    }

    fn json(&self, args: &[&str]) -> Option<Value> {
        let output = self.squall(args).ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    fn connected(&self) -> usize {
        let agents = self.json(&["agents", "--json"]);
        let agents = agents.as_ref().and_then(Value::as_array);
        agents.map_or(0, |all| {
            all.iter()
                .filter(|one| one["connected"].is_object())
                .count()
        })
    }

    /// On how many nodes a fault is felt, by those who have nothing to do with Squall.
    fn felt(&self) -> Result<usize> {
        self.centre.enter(|| {
            let slow = (0..NODES).filter(|number| {
                let to = SocketAddr::from((address(*number, 2), PORT));
                let begun = Instant::now();
                let _connected = TcpStream::connect_timeout(&to, Duration::from_secs(2));
                begun.elapsed() >= FELT
            });
            Ok(slow.count())
        })
    }

    fn until_felt(&self, on: usize) -> Result<()> {
        let felt = || (self.felt().ok()? == on).then_some(());
        until(&format!("a fault on {on} nodes"), LIMIT, felt)
    }

    /// Every node's service answers 300 ms late.
    fn file(&self, ramp: &str, hold: &str) -> Result<PathBuf> {
        let file = self.home.path().join("late.yaml");
        // Each service is asked, so that each fault has something to delay.
        let probe = |number| {
            let url = format!("http://{}:{PORT}/", address(number, 2));
            format!(
                "  - name: service {number}
    probe: {{ load: {{ url: \"{url}\", rate: 20/s, timeout: 3s }} }}
    expect: [ success >= 80% ]
"
            )
        };
        let probes: String = (0..NODES).map(probe).collect();
        let text = format!(
            "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: late-everywhere, owner: lab, runbook: \"https://wiki.example/late\" }}
hypothesis: Users are served while answers come 300 ms late on every node.
steadyState:
{probes}method:
  - fault: {{ delay: {{ time: 300ms, direction: egress, from: {{ port: {PORT} }} }} }}
    on: {{ host: {{}} }}
    nodes: {{ names: [ node-0, node-1, node-2 ] }}
    ramp: {ramp}
    hold: {hold}
baseline: 4s
recovery: 20s
lease: 2s
"
        );
        fs::write(&file, text)?;
        Ok(file)
    }

    fn start(&self, ramp: &str, hold: &str) -> Result<Running> {
        let mut command = self.command("squall")?;
        command
            .args(["run", "--json", "--controller", "https://127.0.0.1:7410"])
            .arg(self.file(ramp, hold)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self.centre.enter(|| Ok(command.spawn()?))?;
        Ok(Running(child))
    }
}

/// A `squall run` under way.
struct Running(Child);

impl Running {
    /// Its exit code, and its report.
    fn end(self) -> Result<(Option<i32>, Value)> {
        let output = self.0.wait_with_output()?;
        let report = serde_json::from_slice(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((output.status.code(), report.map_err(|_| said)?))
    }
}

fn ip(netns: &str, commands: &[String]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-n", netns, "-batch", "-"]);
    answer(&mut command, &commands.join("\n")).map(drop)
}

fn expect(what: &str, is: bool, seen: &impl std::fmt::Debug) -> Result<()> {
    if is {
        Ok(())
    } else {
        Err(format!("not so: {what}: {seen:?}").into())
    }
}

fn spans_three_nodes() -> Result<()> {
    let mut town = Town::new()?;

    // Through to the end: held, with the faults and the doses of all three nodes in the report.
    let (code, report) = town.start("[ 1, all ]", "5s")?.end()?;
    expect(
        "a run over three nodes is held",
        code == Some(0),
        &report["because"],
    )?;
    let nodes: std::collections::BTreeSet<&str> = report["faults"]
        .as_array()
        .map(|faults| {
            faults
                .iter()
                .filter_map(|fault| fault["node"].as_str())
                .collect()
        })
        .unwrap_or_default();
    expect("three nodes in the report", nodes.len() == 3, &nodes)?;
    expect("nothing is left", town.felt()? == 0, &())?;

    // A person's stop reaches all of them.
    let run = town.start("[ all ]", "60s")?;
    town.until_felt(3)?;
    let other = town.start("[ all ]", "60s")?.end()?;
    let because = other.1["because"].as_str().unwrap_or_default().to_owned();
    expect(
        "a second run on the same targets is refused",
        other.0 == Some(4),
        &because,
    )?;
    expect(
        "and names the first",
        because.contains("is hit by run"),
        &because,
    )?;
    let first = until("a run that is under way", LIMIT, || {
        let runs = town.json(&["runs", "--json", "--controller", "https://127.0.0.1:7410"])?;
        let all = runs.as_array()?.iter();
        all.filter(|one| one["underWay"] == true)
            .find_map(|one| one["run"].as_str().map(str::to_owned))
    })?;
    town.squall(&["stop", &first])?;
    let (code, report) = run.end()?;
    expect(
        "a stopped run is halted",
        code == Some(5),
        &report["because"],
    )?;
    expect("and nothing is left", town.felt()? == 0, &())?;

    an_agent_is_lost(&mut town)?;
    the_controller_is_lost(&mut town)?;
    everything_is_halted(&town)
}

/// SIGKILL of one agent: the kernel takes its fault back, the others are told, and the run says whose it was.
fn an_agent_is_lost(town: &mut Town) -> Result<()> {
    let run = town.start("[ all ]", "60s")?;
    town.until_felt(3)?;
    if let Some(agent) = &mut town.nodes[1].agent {
        agent.kill()?;
    }
    let (code, report) = run.end()?;
    let because = report["because"].as_str().unwrap_or_default();
    expect("a lost agent is inconclusive", code == Some(3), &because)?;
    expect(
        "and is named",
        because.contains("the agent of node-1 was lost"),
        &because,
    )?;
    expect("and nothing is left", town.felt()? == 0, &())?;
    town.join(1)?;
    until("the agent's next link", LIMIT, || {
        (town.connected() == 3).then_some(())
    })
}

/// SIGKILL of the controller: the leases end the faults; the controller that comes back says that the run was interrupted.
fn the_controller_is_lost(town: &mut Town) -> Result<()> {
    let mut run = town.start("[ all ]", "60s")?;
    town.until_felt(3)?;
    if let Some(controller) = &mut town.controller {
        controller.kill()?;
    }
    town.until_felt(0)?;
    town.serve()?;
    run.0.wait()?;
    let runs = town.json(&["runs", "--json", "--controller", "https://127.0.0.1:7410"]);
    let newest = runs.as_ref().map(|runs| &runs[0]);
    let because = newest
        .and_then(|one| one["because"].as_str())
        .unwrap_or_default();
    expect(
        "the run was interrupted",
        because.starts_with("interrupted"),
        &runs,
    )?;
    until("the agents' next links", LIMIT, || {
        (town.connected() == 3).then_some(())
    })
}

/// Halted, everything stops and nothing starts, also after a restart.
fn everything_is_halted(town: &Town) -> Result<()> {
    let run = town.start("[ all ]", "60s")?;
    town.until_felt(3)?;
    let halted = town.squall(&["halt", "--because", "the test says so"])?;
    expect("halt is taken", halted.status.success(), &halted)?;
    let (code, report) = run.end()?;
    expect(
        "a halted run is halted",
        code == Some(5),
        &report["because"],
    )?;
    expect("and nothing is left", town.felt()? == 0, &())?;
    let refused = town.start("[ all ]", "60s")?.0.wait_with_output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    expect("nothing starts", refused.status.code() == Some(4), &said)?;
    expect(
        "and it is said why",
        said.contains("the test says so"),
        &said,
    )?;
    let lifted = town.squall(&["halt", "--lift"])?;
    expect("the halt is lifted", lifted.status.success(), &lifted)
}
