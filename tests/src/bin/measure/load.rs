//! `cargo measure load`: whether a load keeps its rate and sends on time, and what it costs, beside wrk.
//!
//! wrk is a closed loop: each of its connections waits for an answer before it asks again. It is slowed down by a script to
//! come near the same rate; how late it sends cannot be asked of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lab::world::{Result, output};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use squall_controller::clock::Clock;
use squall_controller::probe::{self, Report, TRIALS_WAITING_MAX};
use squall_experiments::experiment::SteadyState;
use squall_experiments::probe::{Load, Probe, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::table::{Row, quantile};

/// Requests per second: what one probe is meant to keep up on two processors.
const RATES: [u32; 3] = [500, 2_000, 5_000];

/// How long each is measured.
const LENGTH: Duration = Duration::from_secs(10);

/// Connections of wrk; with so many, each waits for milliseconds between its requests.
const CONNECTIONS: u32 = 60;

/// The first argument by which this program knows that it is to be the server.
const ROLE: &str = "be-a-server";

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";

/// Call this first in `main`: the server is this very program, started again, so that its processor time is not counted as the load's.
pub(crate) fn main_if_server() -> Option<ExitCode> {
    if std::env::args().nth(1).as_deref() != Some(ROLE) {
        return None;
    }
    Some(match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// Answers every request at once until standard input ends.
fn serve() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _no_delay = stream.set_nodelay(true);
                let mut asked = [0; 4096];
                // Requests without a body come in one piece on loopback.
                while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                    if stream.write_all(ANSWER).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let mut out = std::io::stdout();
    out.write_all(format!("{address}\n").as_bytes())?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg(ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let address = line.trim().parse()?;
        Ok(Self { child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one load generator did.
struct Done {
    /// Answers per second.
    achieved: f64,
    /// Microseconds from when each request was due to when it was begun; none of wrk.
    late_us: Vec<f64>,
    /// Microseconds to the answer: half of them, and 99 in a hundred.
    p50_us: f64,
    p99_us: f64,
    /// Processors used.
    cores: f64,
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    provide_wrk()?;
    let server = Server::start()?;
    let mut rows = Vec::new();
    for rate in RATES {
        let ours = squall(server.address, rate)?;
        let theirs = wrk(server.address, rate)?;
        let name = "wrk, a closed loop";
        let late = |share: f64| quantile(&ours.late_us, share) / 1000.0;
        rows.extend([
            Row::alone(format!("asked {rate}/s: answered"), "1/s", ours.achieved)
                .beside(name, theirs.achieved),
            Row::alone(format!("asked {rate}/s: begun late, p50"), "ms", late(0.5)),
            Row::alone(format!("asked {rate}/s: begun late, p99"), "ms", late(0.99)),
            Row::alone(
                format!("asked {rate}/s: answer p50"),
                "ms",
                ours.p50_us / 1000.0,
            )
            .beside("wrk, from when it sent", theirs.p50_us / 1000.0),
            Row::alone(
                format!("asked {rate}/s: answer p99"),
                "ms",
                ours.p99_us / 1000.0,
            )
            .beside("wrk, from when it sent", theirs.p99_us / 1000.0),
            Row::alone(
                format!("asked {rate}/s: processors used"),
                "cores",
                ours.cores,
            )
            .beside(name, theirs.cores),
        ]);
    }
    Ok(rows)
}

/// Seconds of processor time so far.
fn used(who: UsageWho) -> Result<f64> {
    let usage = getrusage(who)?;
    let microseconds =
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    #[allow(clippy::cast_precision_loss, reason = "minutes in microseconds")]
    Ok(microseconds as f64 / 1e6)
}

fn squall(server: SocketAddr, rate: u32) -> Result<Done> {
    let request = Request::bare(format!("http://{server}/"));
    let steady = SteadyState {
        name: "load".into(),
        probe: Probe::Load(Load::bare(request, format!("{rate}/s").parse()?)),
        expect: Vec::new(),
        confirm: 3,
        clear: SteadyState::clear_default(),
        block: None,
        compare: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let before = used(UsageWho::RUSAGE_SELF)?;
    let begun = Instant::now();
    let (late_us, answers_us) = runtime.block_on(async {
        let (say, mut hear) = mpsc::channel(TRIALS_WAITING_MAX);
        let clock = Clock::start();
        let probes = probe::start(&[steady], clock, &say)?;
        let (mut late, mut answers) = (Vec::new(), Vec::new());
        let over = tokio::time::sleep(LENGTH);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => break,
                heard = hear.recv() => match heard {
                    Some((_, Report::Begun(due_us))) => {
                        late.push(float(clock.now_us().saturating_sub(due_us)));
                    }
                    Some((_, Report::Ended(trial))) if trial.succeeded() => {
                        answers.push(float(trial.latency_us()));
                    }
                    Some(_) => {}
                    None => break,
                },
            }
        }
        drop(probes);
        Ok::<_, probe::ProbeError>((late, answers))
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "thousands of requests")]
    let achieved = answers_us.len() as f64 / seconds;
    Ok(Done {
        achieved,
        late_us,
        p50_us: quantile(&answers_us, 0.5),
        p99_us: quantile(&answers_us, 0.99),
        cores: (used(UsageWho::RUSAGE_SELF)? - before) / seconds,
    })
}

#[allow(clippy::cast_precision_loss, reason = "seconds in microseconds")]
const fn float(us: u64) -> f64 {
    us as f64
}

fn wrk(server: SocketAddr, rate: u32) -> Result<Done> {
    let folder = tempfile::TempDir::new()?;
    let script = folder.path().join("pace.lua");
    // Each connection waits for so long before each of its requests, in milliseconds.
    let wait = CONNECTIONS * 1000 / rate;
    let said = "done = function(s, l, r)\n  io.write(string.format('FIGURES %d %d %d %d\\n', s.requests, s.duration, l:percentile(50), l:percentile(99)))\nend\n";
    std::fs::write(
        &script,
        format!("function delay() return {wait} end\n{said}"),
    )?;
    let before = used(UsageWho::RUSAGE_CHILDREN)?;
    let begun = Instant::now();
    let text = output(
        Command::new("wrk")
            .args(["--threads", "1", "--connections", &CONNECTIONS.to_string()])
            .args(["--duration", &format!("{}s", LENGTH.as_secs()), "--script"])
            .arg(&script)
            .arg(format!("http://{server}/")),
    )?;
    let seconds = begun.elapsed().as_secs_f64();
    let cores = (used(UsageWho::RUSAGE_CHILDREN)? - before) / seconds;
    let line = text.lines().find_map(|line| line.strip_prefix("FIGURES "));
    let figures: Vec<f64> = line
        .ok_or_else(|| format!("wrk said: {text}"))?
        .split(' ')
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let [requests, microseconds, p50_us, p99_us] = figures[..] else {
        return Err(format!("wrk said: {text}").into());
    };
    Ok(Done {
        achieved: requests * 1e6 / microseconds,
        late_us: Vec::new(),
        p50_us,
        p99_us,
        cores,
    })
}

/// Installs wrk where that is allowed.
fn provide_wrk() -> Result<()> {
    if lab::vm::on_path("wrk").is_some() {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("needs `wrk`: apt-get install wrk".into());
    }
    let install = [
        "-qq",
        "install",
        "-y",
        "--no-install-recommends",
        "--no-remove",
        "wrk",
    ];
    output(
        Command::new("apt-get")
            .args(install)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null()),
    )?;
    Ok(())
}
