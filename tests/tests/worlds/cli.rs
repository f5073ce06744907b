//! The command line end to end: the real `squall`, its real agent, a real service on a wire.

mod encrypted;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab::world::agent::program;
use lab::world::fingerprint::{self, Fingerprint};
use lab::world::http::Service;
use lab::world::volley::{Pace, Volley, quantile};
use lab::world::wire::{Ip, Wire, named, victim};
use lab::world::{Result, until, victim as process};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{as_root, dose};

/// Where the service listens.
const PORT: u16 = 8080;

/// How long one run may take: its phases are seconds, but emulation stretches them.
const RUN_LIMIT: Duration = Duration::from_secs(90);

/// How long the fault may be waited for: the baseline, and what emulation adds.
const FAULT_LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root("cli::a_bad_file_is_2", a_bad_file),
        as_root(
            "cli::the_schema_is_of_files_as_they_are_written",
            the_schema,
        ),
        as_root("cli::each_end_of_a_run_has_its_code", side_by_side),
    ]
}

/// Brings a run to its end, and looks at what it says and leaves.
type End = fn() -> Result<()>;

/// How a run may end, each seen in a world of its own.
const ENDS: [(&str, End); 3] = [
    ("a fault that is not borne is 1", || {
        verdict("1200ms", 1, "broken")
    }),
    ("Ctrl-C is 5, and reverts", ctrl_c),
    (
        "a killed controller takes its fault along",
        killed_controller,
    ),
];

/// What another kernel makes no different.
const VERDICTS: [(&str, End); 3] = [
    ("a fault that is borne is 0", || verdict("20ms", 0, "held")),
    ("a group worse than its control is 1", beside_a_control),
    (
        "a fault on requests that meets only TLS is 3",
        encrypted::nothing_to_read,
    ),
];

/// So often an end is looked for again on an emulated machine, which stands still now and then, where Squall says that it did.
const AGAIN: usize = 3;

fn reached((name, end): (&str, End)) -> std::result::Result<(), String> {
    let mut again = if dose::emulated() { AGAIN } else { 0 };
    loop {
        let Err(error) = end() else { return Ok(()) };
        let error = error.to_string();
        if again == 0 || !error.contains("the controller stood still") {
            return Err(format!("{name}: {error}"));
        }
        again -= 1;
    }
}

/// They mostly wait, so all wait at once, but on an emulated machine, which would be too slow for what they promise; nothing is left of any when
/// the last is over.
fn side_by_side() -> Result<()> {
    let before = Fingerprint::take(&[])?;
    let mut wrong: Vec<String> = if dose::emulated() {
        let told = ENDS.into_iter().map(reached);
        told.filter_map(std::result::Result::err).collect()
    } else {
        thread::scope(|scope| {
            let all = ENDS.into_iter().chain(VERDICTS);
            let ends: Vec<_> = all.map(|end| scope.spawn(move || reached(end))).collect();
            let told = ends.into_iter().map(|end| {
                end.join()
                    .unwrap_or_else(|_| Err("an end panicked".to_owned()))
            });
            told.filter_map(std::result::Result::err).collect()
        })
    };
    let left = before.difference(&Fingerprint::take(&[])?);
    wrong.extend(
        left.into_iter()
            .map(|line| format!("the runs left: {line}")),
    );
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}

/// A service in the victim's namespace, and `squall` beside it: it runs in the peer's, as a user's would.
struct Bench {
    wire: Wire,
    _service: Service,
    home: TempDir,
}

impl Bench {
    fn new() -> Result<Self> {
        let wire = Wire::new()?;
        let service = Service::start(&wire.victim, victim(Ip::V4), PORT)?;
        Ok(Self {
            wire,
            _service: service,
            home: TempDir::new()?,
        })
    }

    /// An experiment that delays the service's answers. Its bounds are such as 5 s at 20/s can show: some 35 requests
    /// without a violation.
    fn experiment(&self, delay: &str, hold: &str) -> Result<PathBuf> {
        let file = self.home.path().join("experiment.yaml");
        let text = format!(
            "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: late-answers, owner: lab, runbook: \"https://wiki.example/late\" }}
hypothesis: Users are served while answers come {delay} late.
steadyState:
  - name: service
    probe: {{ load: {{ url: \"http://{}:{PORT}/\", rate: 20/s, timeout: 3s }} }}
    expect: [ success >= 90%, p90 <= 1s ]
method:
  - name: late answers
    fault: {{ delay: {{ time: {delay}, direction: egress, from: {{ port: {PORT} }} }} }}
    on: {{ netns: {{ name: {} }} }}
    hold: {hold}
baseline: 6s
recovery: 20s
",
            victim(Ip::V4),
            self.wire.victim.name()
        );
        fs::write(&file, text)?;
        Ok(file)
    }

    fn squall(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("squall")?);
        command
            .args(args)
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command.env(fingerprint::MARK, fingerprint::mark());
        // Its store of runs, too, is in this folder.
        command
            .env("HOME", self.home.path())
            .env("XDG_STATE_HOME", self.home.path());
        command
            .env("XDG_DATA_HOME", self.home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }

    /// Nothing of a run is left in the victim's namespace.
    fn is_as_before(&self, before: &Fingerprint) -> Result<()> {
        let left = before.difference(&Fingerprint::of(&self.wire.victim)?);
        if left.is_empty() {
            return Ok(());
        }
        Err(format!("the run left:\n{}", left.join("\n")).into())
    }

    fn start(&self, file: &Path) -> Result<Running> {
        let mut command = self.squall(&["run", "--json", &file.display().to_string()])?;
        let child = self.wire.peer.enter(|| Ok(command.spawn()?))?;
        Ok(Running(Some(child)))
    }

    /// The median round trip from the victim, in which the fault acts on the service's port alone.
    fn slow(&self) -> Result<bool> {
        let begun = Instant::now();
        let address = std::net::SocketAddr::new(victim(Ip::V4), PORT);
        self.wire.peer.enter(|| {
            Ok(std::net::TcpStream::connect_timeout(
                &address,
                Duration::from_secs(2),
            )?)
        })?;
        Ok(begun.elapsed() > Duration::from_millis(500))
    }
}

/// A `squall` that is ended with this value.
struct Running(Option<Child>);

impl Running {
    fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Its exit code and what it said.
    fn end(mut self, limit: Duration) -> Result<(Option<i32>, String)> {
        let mut child = self.0.take().ok_or("ended twice")?;
        let late = until("the end of the run", limit, || {
            child.try_wait().ok().flatten()
        });
        if late.is_err() {
            child.kill()?;
        }
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output()?;
        let said = format!(
            "{}\n{}",
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr)
        );
        late.map_err(|error| format!("{error}; it said:\n{said}"))?;
        Ok((status.code(), said))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn expect(got: (Option<i32>, String), code: i32, word: &str) -> Result<()> {
    if got.0 == Some(code) && got.1.to_lowercase().contains(word) {
        return Ok(());
    }
    Err(format!(
        "exit code {code} and the word `{word}` were expected, but it was {:?}:\n{}",
        got.0, got.1
    )
    .into())
}

fn a_bad_file() -> Result<()> {
    let bench = Bench::new()?;
    let file = bench.experiment("20ms", "3s")?;
    fs::write(&file, fs::read_to_string(&file)?.replace("egress", "egres"))?;
    for command in ["check", "run"] {
        let output = bench
            .squall(&[command, &file.display().to_string()])?
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        expect((output.status.code(), said), 2, "egress")?;
    }
    Ok(())
}

/// Editors are told of `fault:`, which people write, and not only of `faults`, which it is read into.
fn the_schema() -> Result<()> {
    let bench = Bench::new()?;
    let output = bench.squall(&["schema"])?.output()?;
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let step = &schema["properties"]["method"]["items"]["properties"];
    let told = ["fault", "faults", "on", "share", "ramp", "hold"];
    match told.iter().find(|word| step[**word].is_null()) {
        None => Ok(()),
        Some(word) => Err(format!("the schema knows no `{word}` in a step: {step}").into()),
    }
}

fn verdict(delay: &str, code: i32, word: &str) -> Result<()> {
    let bench = Bench::new()?;
    let before = Fingerprint::of(&bench.wire.victim)?;
    let file = bench.experiment(delay, "5s")?;
    expect(bench.start(&file)?.end(RUN_LIMIT)?, code, word)?;
    bench.is_as_before(&before)
}

/// Two services side by side; the fault is felt at one of them, and no bound is written down but the other.
fn beside_a_control() -> Result<()> {
    let bench = Bench::new()?;
    let _control = Service::start(&bench.wire.victim, victim(Ip::V4), PORT + 1)?;
    let file = bench.experiment("400ms", "60s")?;
    let place = format!("http://{}:{}/", victim(Ip::V4), PORT + 1);
    let text = fs::read_to_string(&file)?;
    let beside = format!("    compare: \"{place}\"\n    expect: median within 100ms of control");
    let lines = text.lines().map(|line| match line.trim_start() {
        expect if expect.starts_with("expect:") => beside.as_str(),
        _ => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    fs::write(&file, text)?;
    expect(
        bench.start(&file)?.end(RUN_LIMIT)?,
        1,
        "slow by the control's p50",
    )
}

fn ctrl_c() -> Result<()> {
    let bench = Bench::new()?;
    let before = Fingerprint::of(&bench.wire.victim)?;
    let file = bench.experiment("600ms", "60s")?;
    // The delay must be borne, or the run is broken before Ctrl-C comes.
    fs::write(
        &file,
        fs::read_to_string(&file)?.replace("p90 <= 1s", "p90 <= 2900ms"),
    )?;
    let running = bench.start(&file)?;
    until("the fault", FAULT_LIMIT, || {
        bench.slow().unwrap_or(false).then_some(())
    })?;
    process::signal(running.pid(), Signal::SIGINT)?;
    expect(running.end(RUN_LIMIT)?, 5, "halted")?;
    bench.is_as_before(&before)
}

/// A delay of everything, so that the wire's echo can measure when it is gone.
fn killed_controller() -> Result<()> {
    let bench = Bench::new()?;
    let file = bench.experiment("600ms", "60s")?;
    let text =
        fs::read_to_string(&file)?.replace(&format!("from: {{ port: {PORT} }}"), "protocol: udp");
    fs::write(&file, text)?;
    let mut running = bench.start(&file)?;
    let median = |count| -> Result<Duration> {
        let pace = Pace {
            count,
            gap: Duration::from_millis(5),
            patience: Duration::from_millis(900),
            size: 64,
        };
        Ok(quantile(
            &Volley::fire(&bench.wire.udp(named(Ip::V4))?, &pace)?.times(),
            0.9,
        ))
    };
    let late = until("the fault", FAULT_LIMIT, || {
        median(5)
            .is_ok_and(|rtt| rtt > Duration::from_millis(500))
            .then_some(())
    });
    if let Err(error) = late {
        let said = running
            .end(Duration::ZERO)
            .map_or_else(|e| e.to_string(), |(_, said)| said);
        return Err(format!("{error}: {said}").into());
    }
    if let Some(child) = &mut running.0 {
        child.kill()?;
    }
    thread::sleep(Duration::from_millis(100));
    let after = median(40)?;
    if after > Duration::from_millis(300) {
        return Err(format!(
            "100 ms after the controller's death round trips still take {after:?}"
        )
        .into());
    }
    Ok(())
}
