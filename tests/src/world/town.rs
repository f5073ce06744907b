//! A town: agents that have joined over TLS, each the root of a network namespace of its own with a service in it, and one controller in
//! the middle, or two on one database.
//!
//! ```text
//!   node 0  10.78.0.2 ── 10.78.0.1 ┐
//!   node 1  10.78.1.2 ── 10.78.1.1 ├ centre: the controllers, and who measures
//!   node …  10.78.….2 ── 10.78.….1 ┘
//! ```

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::agent::program;
use super::fingerprint::Fingerprint;
use super::http::Service;
use super::netns::Netns;
use super::serve::{get, until_it_serves};
use super::{Ended, Result, answer, postgres, service, until};

/// How long anything may take, on a machine that is busy with other things.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Where each node's service listens.
pub const PORT: u16 = 8080;

/// Where the first controller listens; the second at the next.
const CONTROLLER: u16 = 7410;

/// The faults delay a connection by 300 ms, which is longer than the wire takes, and less than a connection may.
const FELT: Duration = Duration::from_millis(250);

struct Node {
    netns: Netns,
    agent: Option<Ended>,
    _service: Service,
}

/// Nodes with their agents, and what they have joined.
pub struct Town {
    home: TempDir,
    nodes: Vec<Node>,
    controllers: Vec<Option<Ended>>,
    /// More arguments of each controller.
    args: Vec<String>,
    centre: Netns,
    database: Option<service::Service>,
}

/// The address of a node's end of its wire (2), or of the centre's (1).
#[must_use]
pub fn address(node: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, node, last)
}

impl Town {
    /// So many nodes around one controller with a file of its own.
    ///
    /// # Errors
    /// Without root, or where anything does not start.
    pub fn new(nodes: u8) -> Result<Self> {
        Self::around(nodes, 1, None, Vec::new())
    }

    /// So many nodes around two controllers on one PostgreSQL.
    ///
    /// # Errors
    /// Without root, or where anything does not start.
    pub fn paired(nodes: u8, programs: &Path) -> Result<Self> {
        let (database, url) = postgres::open_by_socket(programs)?;
        let store = ["--store".to_owned(), url];
        Self::around(nodes, 2, Some(database), store.to_vec())
    }

    fn around(
        nodes: u8,
        controllers: usize,
        database: Option<service::Service>,
        args: Vec<String>,
    ) -> Result<Self> {
        let own = std::process::id();
        let centre = Netns::create(&format!("sqt-centre-{own}"))?;
        ip(centre.name(), &["link set lo up".to_owned()])?;
        let mut town = Self {
            home: TempDir::new()?,
            nodes: Vec::new(),
            controllers: (0..controllers).map(|_| None).collect(),
            args,
            centre,
            database,
        };
        for number in 0..nodes {
            let node = town.node(&format!("sqt-node-{own}-{number}"), number)?;
            town.nodes.push(node);
        }
        for place in 0..controllers {
            town.serve(place)?;
            until("a leader", LIMIT, || town.leader())?;
        }
        for number in 0..nodes {
            town.join(number)?;
        }
        town.until_whole()?;
        Ok(town)
    }

    fn node(&self, name: &str, number: u8) -> Result<Node> {
        let netns = Netns::create(name)?;
        let centre = [
            format!("link add node{number} type veth peer name eth0 netns {name}"),
            // Without addresses that come by themselves, and later.
            format!("link set node{number} addrgenmode none"),
            format!("link set node{number} up"),
            format!("addr add {}/24 dev node{number}", address(number, 1)),
        ];
        ip(self.centre.name(), &centre)?;
        let own = format!("addr add {}/24 dev eth0", address(number, 2));
        let up = [
            "link set lo up",
            "link set eth0 addrgenmode none",
            "link set eth0 up",
        ]
        .map(str::to_owned);
        ip(name, &[&up[..], &[own]].concat())?;
        let service = Service::start(&netns, IpAddr::V4(address(number, 2)), PORT)?;
        Ok(Node {
            netns,
            agent: None,
            _service: service,
        })
    }

    /// How many nodes there are.
    #[must_use]
    pub fn size(&self) -> u8 {
        u8::try_from(self.nodes.len()).unwrap_or(u8::MAX)
    }

    /// Starts a controller, or starts it again, and waits until it serves.
    ///
    /// # Errors
    /// With what it says instead.
    pub fn serve(&mut self, place: usize) -> Result<()> {
        let mut command = self.command("squall", place)?;
        command.env("SQUALL_DATA", self.data(place));
        command.args(["serve", "--listen"]);
        command.arg(format!("0.0.0.0:{}", port(place)));
        for number in 0..self.size() {
            command.args(["--name", &address(number, 1).to_string()]);
        }
        command.args(&self.args).stderr(Stdio::piped());
        let mut child = self.centre.enter(|| Ok(command.spawn()?))?;
        let serves = until_it_serves(&mut child);
        self.controllers[place] = Some(Ended(child));
        serves
    }

    /// Ends a controller in the hardest way.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill_controller(&mut self, place: usize) -> Result<()> {
        let mut serving = self.controllers[place].take().ok_or("it does not run")?;
        serving.kill()
    }

    /// Ends the database in the hardest way.
    ///
    /// # Errors
    /// When there is none, or it has ended already.
    pub fn kill_database(&mut self) -> Result<()> {
        self.database.as_mut().ok_or("there is no database")?.kill()
    }

    /// Starts whatever was killed again, but for agents.
    ///
    /// # Errors
    /// What does not start.
    pub fn raise(&mut self, database: bool) -> Result<()> {
        if let Some(killed) = self.database.as_mut().filter(|_| database) {
            killed.again()?;
        }
        for place in 0..self.controllers.len() {
            let ended = |serving: &mut Ended| !matches!(serving.0.try_wait(), Ok(None));
            if self.controllers[place].as_mut().is_none_or(ended) {
                self.serve(place)?;
            }
        }
        Ok(())
    }

    fn command(&self, name: &str, place: usize) -> Result<Command> {
        let mut command = Command::new(program(name)?);
        // The first controller's folder has the token that lets people in; all are told where they are asked.
        command
            .env("SQUALL_DATA", self.data(0))
            .env("SQUALL_CONTROLLER", url(place))
            .stdin(Stdio::null());
        Ok(command)
    }

    fn data(&self, place: usize) -> PathBuf {
        self.home.path().join(format!("data-{place}"))
    }

    /// Starts a node's agent, which joins or comes back.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn join(&mut self, number: u8) -> Result<()> {
        let state = self.home.path().join(format!("state-{number}"));
        let token = self.home.path().join(format!("token-{number}"));
        let mut command = Command::new(program("squall-agent")?);
        command
            .args(["run", "--node", &format!("node-{number}")])
            .args(["--label", &format!("zone=z{number}")])
            .arg("--state")
            .arg(&state)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        for place in 0..self.controllers.len() {
            let at = format!("https://{}:{}", address(number, 1), port(place));
            command.args(["--controller", &at]);
        }
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

    /// Ends a node's agent in the hardest way.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill_agent(&mut self, number: u8) -> Result<()> {
        let agent = &mut self.nodes[usize::from(number)].agent;
        agent.as_mut().ok_or("it does not run")?.kill()
    }

    /// What a command on the machine of the first controller that runs says.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn squall(&self, args: &[&str]) -> Result<Output> {
        let place = self.controllers.iter().position(Option::is_some);
        let mut command = self.command("squall", place.unwrap_or_default())?;
        command.args(args);
        self.centre.enter(|| Ok(command.output()?))
    }

    /// The same as JSON.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Option<Value> {
        let output = self.squall(args).ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// What a controller keeps: its answer, as JSON, to a command that must be told which controller is meant.
    ///
    /// # Errors
    /// What is said instead.
    pub fn kept(&self, args: &[&str]) -> Result<Value> {
        let place = self.controllers.iter().position(Option::is_some);
        let at = url(place.unwrap_or_default());
        let output = self.squall(&[args, &["--controller", &at]].concat())?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(serde_json::from_slice(&output.stdout).map_err(|_| said())?)
    }

    /// Which controller says that it leads.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        self.that_says("ready: leads")
    }

    /// Which of those that run answers with this when it is asked whether it is ready.
    fn that_says(&self, what: &str) -> Option<usize> {
        (0..self.controllers.len()).find(|&place| {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port(place)));
            let runs = self.controllers[place].is_some();
            let asked = || {
                let data = self.data(place);
                self.centre.enter(|| get(at, &data, "/readyz", ""))
            };
            runs && asked().is_ok_and(|answer| answer.contains(what))
        })
    }

    /// How many agents have a link.
    #[must_use]
    pub fn connected(&self) -> usize {
        let agents = self.json(&["agents", "--json"]);
        let agents = agents.as_ref().and_then(Value::as_array);
        agents.map_or(0, |all| {
            all.iter()
                .filter(|one| one["connected"].is_object())
                .count()
        })
    }

    /// Waits until one controller leads, the other stands by, every agent has its link, and nothing is left of earlier runs.
    ///
    /// # Errors
    /// When that does not come.
    pub fn until_whole(&self) -> Result<()> {
        until("a leader", LIMIT, || self.leader())?;
        if self.controllers.len() > 1 {
            until("one that stands by", LIMIT, || {
                self.that_says("ready: stands by for")
            })?;
        }
        let all = || (self.connected() == self.nodes.len()).then_some(());
        until("all agents' links", LIMIT, all).map_err(|error| {
            let agents = self.json(&["agents", "--json"]).unwrap_or_default();
            format!("{error}: {agents}")
        })?;
        self.until_free()
    }

    /// Waits until no run counts as one that may hit anything: also none that a dead leader has left, whose leases last.
    ///
    /// # Errors
    /// When that does not come.
    pub fn until_free(&self) -> Result<()> {
        let token = fs::read_to_string(self.data(0).join("admin.token"))?;
        let header = format!("authorization: Bearer {}\r\n", token.trim());
        let free = || {
            let place = self.leader()?;
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port(place)));
            let data = self.data(place);
            let asked = self
                .centre
                .enter(|| get(at, &data, "/api/v1/metrics", &header));
            let answer = asked.ok()?;
            let mut lines = answer.lines();
            lines
                .any(|line| line == "squall_targets_taken 0")
                .then_some(())
        };
        until("the end of what was left of a run", LIMIT, free)
    }

    /// On how many nodes a fault is felt, by those who have nothing to do with Squall.
    ///
    /// # Errors
    /// When the centre cannot be entered.
    pub fn felt(&self) -> Result<usize> {
        let all: Vec<u8> = (0..self.size()).collect();
        self.felt_on(&all)
    }

    /// On how many of these nodes one is felt.
    ///
    /// # Errors
    /// When the centre cannot be entered.
    pub fn felt_on(&self, nodes: &[u8]) -> Result<usize> {
        let slow = |number: u8| {
            self.centre.enter(|| {
                let to = SocketAddr::from((address(number, 2), PORT));
                let begun = Instant::now();
                let _connected = TcpStream::connect_timeout(&to, Duration::from_secs(2));
                Ok(begun.elapsed() >= FELT)
            })
        };
        thread::scope(|scope| {
            let asked: Vec<_> = nodes
                .iter()
                .map(|&number| scope.spawn(move || slow(number)))
                .collect();
            let answers = asked.into_iter().map(|one| match one.join() {
                Ok(answer) => answer,
                Err(_) => Err("a connection panicked".into()),
            });
            let answers: Result<Vec<bool>> = answers.collect();
            Ok(answers?.into_iter().filter(|slow| *slow).count())
        })
    }

    /// Waits until a fault is felt on so many nodes.
    ///
    /// # Errors
    /// When that does not come.
    pub fn until_felt(&self, on: usize) -> Result<()> {
        let felt = || (self.felt().ok()? == on).then_some(());
        until(&format!("a fault on {on} nodes"), LIMIT, felt).map_err(|error| {
            let runs = self.kept(&["runs", "--json"]).unwrap_or_default();
            format!("{error}; the last run: {}", runs[0]).into()
        })
    }

    /// What there is on the host and in all namespaces of the town.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn fingerprint(&self) -> Result<Fingerprint> {
        let nodes = self.nodes.iter().map(|node| &node.netns);
        let all: Vec<&Netns> = nodes.chain([&self.centre]).collect();
        Fingerprint::take(&all)
    }

    /// An experiment in which every node's service answers 300 ms late, and is asked all the while.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn late(&self, ramp: &str, hold: &str) -> Result<PathBuf> {
        let file = self.home.path().join("late.yaml");
        let all = 0..self.size();
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
        let probes: String = all.clone().map(probe).collect();
        let names: Vec<String> = all.map(|number| format!("node-{number}")).collect();
        let names = names.join(", ");
        let text = format!(
            "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: late-everywhere, owner: lab, runbook: \"https://wiki.example/late\" }}
hypothesis: Users are served while answers come 300 ms late on every node.
steadyState:
{probes}method:
  - fault: {{ delay: {{ time: 300ms, direction: egress, from: {{ port: {PORT} }} }} }}
    on: {{ host: {{}} }}
    nodes: {{ names: [ {names} ] }}
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

    /// Starts a run of a file on whoever leads.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, file: &Path) -> Result<Running> {
        let place = self.leader().ok_or("nobody leads")?;
        let mut command = self.command("squall", place)?;
        command
            .args(["run", "--json", "--controller", &url(place)])
            .arg(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = self.centre.enter(|| Ok(command.spawn()?))?;
        Ok(Running(child))
    }
}

/// A `squall run` under way.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Its exit code, and its report.
    ///
    /// # Errors
    /// What it said where there is no report.
    pub fn end(self) -> Result<(Option<i32>, Value)> {
        let (code, stdout, said) = self.wait()?;
        let report = serde_json::from_str(&stdout);
        Ok((code, report.map_err(|_| said)?))
    }

    /// Its exit code, and what it wrote to its two streams.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(self) -> Result<(Option<i32>, String, String)> {
        let output = self.0.wait_with_output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        ))
    }
}

fn port(place: usize) -> u16 {
    CONTROLLER + u16::try_from(place).unwrap_or_default()
}

fn url(place: usize) -> String {
    format!("https://127.0.0.1:{}", port(place))
}

fn ip(netns: &str, commands: &[String]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-n", netns, "-batch", "-"]);
    answer(&mut command, &commands.join("\n")).map(drop)
}
