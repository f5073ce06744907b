//! The API under load: how long reads take while 10,000 runs are kept, while many watch a run; and whether a run's stop is later for it.
//!
//! The controller is the real `squall serve`, a process of its own; agents, readers and watchers are tasks of this one. Reads are due at a
//! rate, whatever became of those before, and their time counts from when they were due: one that waits for its turn is slow too.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use lab::world::Result;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use squall_controller::store::{Started, Store};
use squall_experiments::capability::Capabilities;
use squall_experiments::event::{Created, Event, Finished, Happening, Window};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::fleet::{Controller, PORT, Told, experiment, join, start};
use crate::table::{Row, quantile};

/// Runs kept before anything is asked.
const KEPT: usize = 10_000;
/// Seconds of each that are kept.
const WINDOWS: usize = 10;
/// Reads a second.
const RATE: u32 = 500;
/// Connections that reads are made on.
const READERS: usize = 32;
/// Who watches the run.
const WATCHERS: usize = 200;
/// Agents in the run.
const AGENTS: usize = 10;

pub(crate) fn measure(runs: usize) -> Result<Vec<Row>> {
    tokio::runtime::Runtime::new()?.block_on(measured(runs))
}

async fn measured(runs: usize) -> Result<Vec<Row>> {
    let home = TempDir::new()?;
    keep_many(home.path()).await?;
    let controller = Controller::serve_in(home)?;
    let (told, mut tell) = mpsc::unbounded_channel();
    start(join(controller.home.path(), AGENTS).await?, &told);
    let mut linked = 0;
    while linked < AGENTS {
        let word = tell.recv().await.ok_or("no agents")?;
        linked += usize::from(matches!(word, Told::Linked));
    }
    let file = controller.home.path().join("all.yaml");
    std::fs::write(&file, experiment())?;
    let door = Arc::new(Door::open(controller.home.path())?);
    let mut quiet = Vec::new();
    for _ in 0..runs {
        quiet.push(stopped(&controller, &file)?);
    }
    eprintln!("measure: {runs} runs without load, and now as many with it");
    let load = Load::begin(&door).await?;
    let (mut loaded, mut watched, mut heard) = (Vec::new(), 0, 0);
    for _ in 0..runs {
        let watching = tokio::spawn(watch(Arc::clone(&door)));
        loaded.push(tokio::task::block_in_place(|| stopped(&controller, &file))?);
        let (whole, events) = watching.await?.map_err(|error| error.to_string())?;
        watched += whole;
        heard += events;
    }
    let reads = load.end().await;
    Ok(rows(&quiet, &loaded, &reads, (watched, heard, runs)))
}

#[allow(clippy::cast_precision_loss, reason = "thousands")]
fn rows(
    quiet: &[f64],
    loaded: &[f64],
    reads: &Reads,
    (watched, heard, runs): (usize, usize, usize),
) -> Vec<Row> {
    let read = |what: &str, share| {
        Row::alone(
            format!("read at {RATE}/s, {KEPT} runs kept: {what}"),
            "ms",
            quantile(&reads.ms, share),
        )
    };
    let stop = |what: &str, share| {
        let name = "nobody else asks";
        Row::alone(
            format!("stop to last confirmation, {what}"),
            "ms",
            quantile(loaded, share),
        )
        .beside(name, quantile(quiet, share))
    };
    vec![
        Row::alone(
            "reads answered",
            "1/s",
            reads.ms.len() as f64 / reads.seconds,
        ),
        Row::alone("reads that failed", "", reads.failed as f64),
        read("p50", 0.5),
        read("p99", 0.99),
        read("worst", 1.0),
        Row::alone(
            format!("of {WATCHERS} who watch: told the verdict"),
            "",
            watched as f64 / runs as f64,
        ),
        Row::alone(
            "events told to each",
            "",
            heard as f64 / watched.max(1) as f64,
        ),
        stop("median", 0.5),
        stop("worst", 1.0),
    ]
}

/// One run of the experiment; milliseconds from the decision to stop until the last agent has confirmed it.
fn stopped(controller: &Controller, file: &Path) -> Result<f64> {
    let report = controller.run(file)?;
    let stop = report["timings"]["revertMs"].as_f64();
    stop.ok_or_else(|| format!("not reverted: {}", report["because"]).into())
}

/// Fills the store as many runs would.
async fn keep_many(directory: &Path) -> Result<()> {
    let store = Store::open(directory).await?;
    let begun = Instant::now();
    // One a second until now: what is too old is removed while the reads go on.
    let now_us = i64::try_from(UNIX_EPOCH.elapsed()?.as_micros())?;
    let first_us = now_us - 1_000_000 * i64::try_from(KEPT)?;
    for number in 0..KEPT {
        let run = RunId(name(number));
        let at_us = first_us + 1_000_000 * i64::try_from(number)?;
        let started = Started {
            run: run.clone(),
            environment: "default".into(),
            by: "ann".into(),
            at_us,
        };
        let at_us = u64::try_from(at_us)?;
        let all = happenings(&run).into_iter();
        let mut events = all.map(|what| Event { at_us, what });
        let created = events.next().ok_or("a run begins with an event")?;
        store.start_run(&started, &created).await?;
        let mut writer = store.writer(&run, 1);
        for event in events {
            writer.append(&event);
        }
        writer.close().await;
    }
    eprintln!("measure: {KEPT} runs are kept after {:?}", begun.elapsed());
    Ok(())
}

fn name(number: usize) -> String {
    format!("2026-{number:05}")
}

fn happenings(run: &RunId) -> Vec<Happening> {
    let created = Happening::Created(Box::new(Created {
        run: run.clone(),
        name: "orders".into(),
        hypothesis: "Orders succeed.".into(),
        file_text: "x".repeat(1000),
        file_path: "orders.yaml".into(),
        digest: "d".into(),
        seed: 1,
        node: "node".into(),
        capabilities: Capabilities::default(),
        version: "0".into(),
        expectations: Vec::new(),
        environment: Some("default".into()),
        by: Some("ann".into()),
    }));
    let window = Happening::Observed(Window {
        probe: "orders".into(),
        length_ms: 1000,
        attempts: 50,
        successes: 50,
        p50_us: Some(1200),
        ..Window::default()
    });
    let finished = Happening::Finished(Finished {
        verdict: Verdict::Held,
        because: "it stood".into(),
        detect_ms: None,
        revert_ms: Some(1.5),
        recover_ms: Some(100.0),
    });
    let windows = std::iter::repeat_n(window, WINDOWS);
    std::iter::once(created)
        .chain(windows)
        .chain([finished])
        .collect()
}

/// How the controller is reached.
struct Door {
    tls: TlsConnector,
    bearer: String,
}

type Connection = SendRequest<Empty<Bytes>>;

impl Door {
    fn open(directory: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(directory.join("authority.pem"))?;
        roots.add(CertificateDer::from_pem_slice(&pem)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let token = std::fs::read_to_string(directory.join("admin.token"))?;
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            bearer: format!("Bearer {}", token.trim()),
        })
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", PORT)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1")?;
        let stream = self.tls.connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(&self, path: &str) -> Result<Request<Empty<Bytes>>> {
        let request = Request::get(format!("/api/v1{path}"))
            .header(header::HOST, "127.0.0.1")
            .header(header::AUTHORIZATION, &self.bearer);
        Ok(request.body(Empty::new())?)
    }

    /// Reads a whole answer.
    async fn read(&self, connection: &mut Connection, path: &str) -> Result<Bytes> {
        connection.ready().await?;
        let answer = connection.send_request(self.request(path)?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        match status.is_success() {
            true => Ok(body),
            false => Err(format!("{path}: {status}").into()),
        }
    }
}

/// What is read, in turn.
fn asked(number: usize) -> String {
    let run = name(number.wrapping_mul(7919) % KEPT);
    match number % 10 {
        0..=2 => "/runs?limit=50".into(),
        3 | 4 => format!("/runs/{run}"),
        5 => format!("/runs/{run}/report"),
        6 => format!("/runs/{run}/events"),
        7 => "/agents".into(),
        8 => "/whoami".into(),
        _ => "/policy".into(),
    }
}

/// What became of the reads.
struct Reads {
    ms: Vec<f64>,
    failed: usize,
    seconds: f64,
}

/// Reads at a rate, until it is ended.
struct Load {
    over: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    ms: Arc<Mutex<Vec<f64>>>,
    begun: Instant,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    async fn begin(door: &Arc<Door>) -> Result<Self> {
        let (say, hear) = mpsc::unbounded_channel::<(Instant, usize)>();
        let hear = Arc::new(tokio::sync::Mutex::new(hear));
        let mut load = Self {
            over: Arc::default(),
            failed: Arc::default(),
            ms: Arc::default(),
            begun: Instant::now(),
            tasks: Vec::new(),
        };
        for _ in 0..READERS {
            let mut connection = door.connect().await?;
            let (door, hear) = (Arc::clone(door), Arc::clone(&hear));
            let (failed, ms) = (Arc::clone(&load.failed), Arc::clone(&load.ms));
            load.tasks.push(tokio::spawn(async move {
                loop {
                    let next = hear.lock().await.recv().await;
                    let Some((due, number)) = next else { return };
                    if door.read(&mut connection, &asked(number)).await.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let took = due.elapsed().as_secs_f64() * 1e3;
                    ms.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                }
            }));
        }
        let over = Arc::clone(&load.over);
        let begun = load.begun;
        load.tasks.push(tokio::spawn(async move {
            for number in 0.. {
                let due = begun
                    + Duration::from_secs(1) * u32::try_from(number).unwrap_or(u32::MAX) / RATE;
                tokio::time::sleep_until(due.into()).await;
                if over.load(Ordering::Relaxed) || say.send((due, number)).is_err() {
                    return;
                }
            }
        }));
        Ok(load)
    }

    async fn end(self) -> Reads {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            // A task that panicked has shown up as missing answers.
            let _ = task.await;
        }
        let ms = self
            .ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Reads {
            ms,
            failed: self.failed.load(Ordering::Relaxed),
            seconds: self.begun.elapsed().as_secs_f64(),
        }
    }
}

/// Watches the run that is under way; how many were told its verdict, and how many events they were told together.
async fn watch(door: Arc<Door>) -> std::result::Result<(usize, usize), String> {
    let run = under_way(&door).await.map_err(|error| error.to_string())?;
    let path = format!("/runs/{run}/events");
    let watchers = (0..WATCHERS).map(|_| {
        let (door, path) = (Arc::clone(&door), path.clone());
        tokio::spawn(async move {
            let mut connection = door.connect().await.ok()?;
            let told = door.read(&mut connection, &path).await.ok()?;
            let told = String::from_utf8_lossy(&told);
            let events = told.lines().filter(|line| line.starts_with("data:"));
            told.contains("\"finished\"").then(|| events.count())
        })
    });
    let (mut whole, mut events) = (0, 0);
    for watcher in watchers.collect::<Vec<_>>() {
        if let Ok(Some(count)) = watcher.await {
            whole += 1;
            events += count;
        }
    }
    Ok((whole, events))
}

async fn under_way(door: &Door) -> Result<String> {
    let mut connection = door.connect().await?;
    loop {
        let page = door.read(&mut connection, "/runs?limit=1").await?;
        let page: Value = serde_json::from_slice(&page)?;
        let newest = &page["items"][0];
        if newest["underWay"] == true
            && let Some(run) = newest["run"].as_str()
        {
            return Ok(run.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
