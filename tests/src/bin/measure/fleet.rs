//! Many agents at one controller: real TLS, the real wire, and no faults behind them. What each costs the controller, how long it takes until a
//! fault is in force on all of them, and how long from the decision to stop until the last of them has confirmed it.
//!
//! The controller is the real `squall serve`, a process of its own; all agents are tasks of this one. The same once more with a hundred other
//! runs in progress on them, and at last everything is halted.

mod beside;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use lab::world::Result;
use lab::world::agent::program;
use lab::world::serve::until_it_serves;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use squall_controller::fleet::authority::Authority;
use squall_controller::fleet::secret;
use squall_controller::store::{NewJoinToken, Store};
use squall_experiments::capability::{Capabilities, Capability, Means};
use squall_experiments::dose::{Dose, Evidence, NetworkDose};
use squall_experiments::fault::{FaultKind, Holding};
use squall_experiments::ids::{FaultId, RunId, TargetId};
use squall_experiments::join::LINK_PATH;
use squall_experiments::target::Candidate;
use squall_experiments::wire::{
    Armed, Dosed, EndCause, Ended, FromAgent, FromController, Hello, PROTOCOL, Resolved, Stop,
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;

use crate::table::{Row, quantile};

pub(crate) const PORT: u16 = 7419;
/// How many agents join at the same time.
const JOINING: usize = 64;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(300);

/// What agents tell the measurement.
pub(crate) enum Told {
    Linked,
    Asked,
    Ended(Instant),
}

pub(crate) fn measure(agents: &[usize], runs: usize) -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut rows = Vec::new();
    let mut last: Option<(f64, f64)> = None;
    for count in agents {
        let (memory, more) = runtime.block_on(one(*count, runs))?;
        let many = *count as f64;
        let row = |what: &str, figure| Row::alone(format!("{count} agents: {what}"), "KiB", figure);
        rows.push(row("memory at the controller, each", memory / many));
        // Of the few, what the first link of all costs is a good part.
        if let Some((fewer, less)) = last.filter(|(fewer, _)| *fewer < many) {
            let each = (memory - less) / (many - fewer);
            rows.push(row(&format!("each beyond {fewer}"), each));
        }
        last = Some((many, memory));
        rows.extend(more);
    }
    Ok(rows)
}

pub(crate) struct Controller {
    pub(crate) home: TempDir,
    child: Child,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Controller {
    /// Starts it where there may be something already.
    pub(crate) fn serve_in(home: TempDir) -> Result<Self> {
        let mut child = Command::new(program("squall")?)
            .args(["serve", "--listen", &format!("127.0.0.1:{PORT}")])
            .env("SQUALL_DATA", home.path())
            .stderr(Stdio::piped())
            .spawn()?;
        let serves = until_it_serves(&mut child);
        let controller = Self { home, child };
        serves.map(|()| controller)
    }

    /// Resident memory in KiB.
    fn resident(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.ok_or("no VmRSS")?.parse()?)
    }

    pub(crate) fn run(&self, file: &Path) -> Result<Value> {
        let output = Command::new(program("squall")?)
            .args([
                "run",
                "--json",
                "--controller",
                &format!("https://127.0.0.1:{PORT}"),
            ])
            .arg(file)
            .env("SQUALL_DATA", self.home.path())
            .output()?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(serde_json::from_slice(&output.stdout).map_err(|_| said())?)
    }
}

/// What all of them cost the controller in KiB of memory, and the other figures.
async fn one(count: usize, runs: usize) -> Result<(f64, Vec<Row>)> {
    let controller = Controller::serve_in(TempDir::new()?)?;
    let (told, mut tell) = mpsc::unbounded_channel();
    let connectors = join(controller.home.path(), count).await?;
    let before = controller.resident()?;
    let begun = Instant::now();
    start(connectors, &told);
    let mut linked = 0;
    while linked < count {
        let word = tokio::time::timeout(LIMIT, tell.recv()).await?;
        linked += usize::from(matches!(word.ok_or("no agents")?, Told::Linked));
    }
    eprintln!(
        "measure: {count} agents are there after {:?}",
        begun.elapsed()
    );
    let memory = controller.resident()? - before;
    let mut rows = stopped(&controller, count, runs, &mut tell)?.rows(count, "");
    beside::begin(&controller, count, &mut tell).await?;
    eprintln!("measure: {} other runs are in progress", beside::RUNS);
    let beside = format!(", {} runs beside", beside::RUNS);
    rows.extend(stopped(&controller, count, runs, &mut tell)?.rows(count, &beside));
    let halt = beside::halt(&controller, count, &mut tell).await?;
    let what = format!("{count} agents: {} runs halted, all over", beside::RUNS);
    rows.push(Row::alone(what, "ms", halt));
    Ok((memory, rows))
}

/// What some runs over all agents took, in milliseconds.
struct Stopped {
    /// From the beginning of the step until the last fault was known to be in force.
    arms: Vec<f64>,
    /// From the decision to stop to the last confirmation.
    stops: Vec<f64>,
}

impl Stopped {
    fn rows(&self, agents: usize, beside: &str) -> Vec<Row> {
        let row = |what: &str, figure| {
            Row::alone(format!("{agents} agents{beside}: {what}"), "ms", figure)
        };
        vec![
            row("armed, median", quantile(&self.arms, 0.5)),
            row("stopped, median", quantile(&self.stops, 0.5)),
            row("stopped, p99", quantile(&self.stops, 0.99)),
            row("stopped, worst", quantile(&self.stops, 1.0)),
        ]
    }
}

fn stopped(
    controller: &Controller,
    agents: usize,
    runs: usize,
    tell: &mut mpsc::UnboundedReceiver<Told>,
) -> Result<Stopped> {
    let file = controller.home.path().join("all.yaml");
    fs::write(&file, experiment())?;
    let (mut arms, mut stops) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let report = tokio::task::block_in_place(|| controller.run(&file))?;
        let mut asked = 0;
        while let Ok(told) = tell.try_recv() {
            asked += usize::from(matches!(told, Told::Asked));
        }
        let because = &report["because"];
        if asked != agents {
            return Err(format!("{asked} of {agents} were asked: {because}").into());
        }
        let armed = armed_after(&report);
        arms.push(armed.ok_or_else(|| format!("not all were armed: {because}"))?);
        let stop = report["timings"]["revertMs"].as_f64();
        stops.push(stop.ok_or_else(|| format!("not reverted: {}", report["because"]))?);
    }
    Ok(Stopped { arms, stops })
}

/// Milliseconds from the beginning of the step until the last fault was known to be in force.
fn armed_after(report: &Value) -> Option<f64> {
    let phases = report["phases"].as_array()?;
    let step = phases.iter().find(|phase| phase["kind"] == "injecting")?;
    let faults = report["faults"].as_array()?.iter();
    let armed: Option<Vec<f64>> = faults.map(|fault| fault["armedAtMs"].as_f64()).collect();
    let last = armed?.into_iter().reduce(f64::max)?;
    Some(last - step["fromMs"].as_f64()?)
}

/// Lets all agents dial, some at a time.
pub(crate) fn start(connectors: Vec<TlsConnector>, told: &mpsc::UnboundedSender<Told>) {
    let room = Arc::new(Semaphore::new(JOINING));
    for (number, connector) in connectors.into_iter().enumerate() {
        let (told, room) = (told.clone(), Arc::clone(&room));
        tokio::spawn(async move {
            if let Err(error) = agent(number, connector, &told, &room).await {
                eprintln!("measure: agent {number}: {error}");
            }
        });
    }
}

pub(crate) fn experiment() -> String {
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: all }}
hypothesis: The controller is there while all agents are busy.
steadyState: [ {{ name: controller, probe: {{ tcp: {{ address: \"127.0.0.1:{PORT}\", every: 50ms }} }}, expect: [ success >= 50% ] }} ]
method: [ {{ fault: {{ delay: {{ time: 1ms }} }}, on: {{ host: {{}} }}, hold: 5s }} ]
baseline: 5s
recovery: 10s
"
    )
}

/// Makes members of all of them, with one key: what is measured is the link.
pub(crate) async fn join(directory: &Path, count: usize) -> Result<Vec<TlsConnector>> {
    let store = Store::open(directory).await?;
    let authority = Authority::open(directory)?;
    let key = KeyPair::generate()?;
    let secret = secret::hash(&[7; 32]);
    let token = NewJoinToken {
        id: "measurement0",
        secret,
        note: "",
        now_us: 0,
        expires_us: i64::MAX,
        uses: u32::try_from(count)?,
    };
    store.add_join_token(&token).await?;
    let mut connectors = Vec::new();
    for number in 0..count {
        let node = format!("node-{number}");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, &node);
        let request = params.serialize_request(&key)?.pem()?;
        let issued = authority.agent(&node, &request)?;
        store.admit(token.id, secret, &node, issued.key, 1).await?;
        connectors.push(connector(
            authority.pem(),
            &issued.joined.certificate,
            &key,
        )?);
    }
    Ok(connectors)
}

fn connector(authority: &str, certificate: &str, key: &KeyPair) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes())?)?;
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn agent(
    number: usize,
    connector: TlsConnector,
    told: &mpsc::UnboundedSender<Told>,
    room: &Semaphore,
) -> Result<()> {
    let node = format!("node-{number}");
    let place = room.acquire().await?;
    let stream = TcpStream::connect(("127.0.0.1", PORT)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("127.0.0.1")?;
    let stream = connector.connect(name, stream).await?;
    let url = format!("wss://127.0.0.1{LINK_PATH}");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await?;
    let fault = FaultKind::Delay;
    let hello = FromAgent::Hello(Hello {
        protocol: PROTOCOL,
        protocol_least: None,
        version: "0".into(),
        node: node.clone(),
        pid: 1,
        capabilities: Capabilities {
            kernel: "none".into(),
            cgroup: "v2".into(),
            faults: vec![Capability {
                fault,
                means: vec![Means::Queue],
                held: Holding::Kernel,
                notes: Vec::new(),
            }],
            cluster_ends: false,
        },
        labels: beside::labels(number),
    });
    socket
        .send(Message::text(serde_json::to_string(&hello)?))
        .await?;
    let mut place = Some(place);
    let mut live: Vec<FaultId> = Vec::new();
    while let Some(message) = socket.next().await {
        // The controller ends with the measurement. A link that is lost earlier shows as an agent that was not asked.
        let Ok(message) = message else { break };
        let Ok(text) = message.to_text() else {
            continue;
        };
        for word in answers(
            &node,
            serde_json::from_str(text)?,
            &mut live,
            told,
            &mut || drop(place.take()),
        ) {
            socket
                .send(Message::text(serde_json::to_string(&word)?))
                .await?;
        }
    }
    Ok(())
}

fn answers(
    node: &str,
    message: FromController,
    live: &mut Vec<FaultId>,
    told: &mpsc::UnboundedSender<Told>,
    linked: &mut dyn FnMut(),
) -> Vec<FromAgent> {
    match message {
        FromController::Welcome(_) => {
            linked();
            let _over = told.send(Told::Linked);
            Vec::new()
        }
        FromController::Resolve(question) => vec![FromAgent::Resolved(Resolved {
            request: question.request,
            candidates: vec![Candidate {
                id: TargetId::from(beside::found(&question.target)),
                node: node.to_owned(),
                label: beside::found(&question.target).into(),
                pid: None,
                cgroup: None,
                group: None,
                namespace: None,
                zone: None,
            }],
            excluded: Vec::new(),
        })],
        FromController::Arm(arm) => {
            let _over = told.send(Told::Asked);
            live.push(arm.id.clone());
            let armed = FromAgent::Armed(Armed {
                id: arm.id.clone(),
                holder: 1,
                evidence: Evidence::default(),
                held: Holding::Kernel,
                at_us: 0,
                took_us: 1,
            });
            vec![armed, dosed(arm.id)]
        }
        FromController::Moved(_) => Vec::new(),
        FromController::Renew(renew) => renew.faults.into_iter().map(dosed).collect(),
        FromController::Stop(stop) => {
            let known = ended_by(&stop, live);
            live.retain(|id| !known.contains(id));
            if !known.is_empty() {
                let _over = told.send(Told::Ended(Instant::now()));
            }
            // Of those that are named it says what became, also of what it ended before.
            let ids = match stop {
                Stop::Faults(ids) => ids,
                _ => known,
            };
            ids.into_iter().map(ended).collect()
        }
    }
}

/// Which of the faults in force a stop ends.
fn ended_by(stop: &Stop, live: &[FaultId]) -> Vec<FaultId> {
    let of = |run: &RunId, id: &FaultId| {
        let rest = id.0.strip_prefix(run.0.as_str());
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let ends = |id: &&FaultId| match stop {
        Stop::Faults(ids) => ids.contains(id),
        Stop::Run(run) => of(run, id),
        Stop::All => true,
        Stop::Others(runs) => !runs.iter().any(|run| of(run, id)),
    };
    live.iter().filter(ends).cloned().collect()
}

fn dosed(id: FaultId) -> FromAgent {
    let dose = NetworkDose {
        matched: 10,
        ..NetworkDose::default()
    };
    FromAgent::Dosed(Dosed {
        id,
        dose: Dose::Network(dose),
        at_us: 0,
    })
}

fn ended(id: FaultId) -> FromAgent {
    FromAgent::Ended(Ended {
        id,
        cause: EndCause::Stopped,
        dose: None,
        at_us: 0,
        took_us: Some(1),
        lasted_us: None,
    })
}
