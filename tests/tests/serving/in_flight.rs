//! A run in flight: a real agent holds a process of the test's own, and a person watches.

use crate::controller::{Controller, LIMIT};
use lab::world::agent::program;
use lab::world::{Ended, Result, until};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A process, and the experiment that lets it stand still for two minutes.
pub(crate) struct Still {
    victim: Ended,
    /// The experiment's file.
    pub(crate) file: PathBuf,
}

/// A run of it, and who started that.
pub(crate) struct InFlight {
    still: Still,
    watcher: Child,
    /// The run's name.
    pub(crate) run: String,
}

impl Still {
    /// Starts the process; the file is in the controller's home. The steady state is that the controller's port is open.
    pub(crate) fn start(controller: &Controller) -> Result<Self> {
        let home = controller.home.path();
        // Tests run beside each other, and none hits another's.
        static VICTIMS: AtomicU32 = AtomicU32::new(0);
        let number = VICTIMS.fetch_add(1, Ordering::Relaxed);
        let name = format!("sq{number}-{}", std::process::id());
        let still = home.join(&name);
        symlink("/usr/bin/sleep", &still)?;
        let victim = Ended(Command::new(still).arg("1000").spawn()?);
        let file = home.join("in-flight.yaml");
        fs::write(&file, experiment(&name, &controller.url()))?;
        Ok(Self { victim, file })
    }

    /// Whether the victim stands still in a tracer's hands (proc(5): `t`).
    pub(crate) fn is_held(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.victim.0.id()));
        stat.is_ok_and(|stat| {
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('t'))
        })
    }

    /// Waits until it stands still.
    pub(crate) fn held(&self) -> Result<()> {
        until("the victim's standing still", LIMIT, || {
            self.is_held().then_some(())
        })
    }

    /// Waits until it goes on.
    pub(crate) fn let_go(&self) -> Result<()> {
        until("the victim's going on", LIMIT, || {
            (!self.is_held()).then_some(())
        })
    }
}

impl InFlight {
    /// Starts a run at a controller that has an agent; it returns once the process stands still.
    pub(crate) fn start(controller: &Controller) -> Result<Self> {
        let still = Still::start(controller)?;
        let mut watcher = Command::new(program("squall")?)
            .arg("run")
            .arg(&still.file)
            .args(["--controller", &controller.url()])
            .env("SQUALL_DATA", controller.data())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = watcher
            .stderr
            .take()
            .ok_or("its standard error is no pipe")?;
        let mut in_flight = Self {
            still,
            watcher,
            run: String::new(),
        };
        in_flight.run = run_name(said)?;
        in_flight.still.held()?;
        Ok(in_flight)
    }

    /// Whether the process stands still.
    pub(crate) fn is_held(&self) -> bool {
        self.still.is_held()
    }

    /// Waits until it goes on.
    pub(crate) fn let_go(&self) -> Result<()> {
        self.still.let_go()
    }

    /// Waits until whoever watches has seen the end.
    pub(crate) fn watched(&mut self) -> Result<ExitStatus> {
        until("the watcher's end", LIMIT, || {
            self.watcher.try_wait().ok()?
        })
    }

    /// How the run ended, as the controller at `url` answers whoever is on the machine of another; none while it has not.
    pub(crate) fn end(&self, from: &Controller, url: &str) -> Option<(String, String)> {
        let runs = from.squalls(&["runs", "--json", "--controller", url]);
        let runs: Value = serde_json::from_str(&runs.ok()?).ok()?;
        let run = runs
            .as_array()?
            .iter()
            .find(|run| run["run"] == *self.run)?;
        let word = |name: &str| run[name].as_str().map(str::to_owned);
        Some((word("verdict")?, word("because")?))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let _gone = self.watcher.kill();
        let _reaped = self.watcher.wait();
    }
}

/// The first word on a watcher's screen; the rest is read by nobody, and must go somewhere.
fn run_name(said: impl std::io::Read + Send + 'static) -> Result<String> {
    let mut said = BufReader::new(said);
    let mut line = String::new();
    said.read_line(&mut line)?;
    let name = line
        .trim()
        .strip_prefix("run ")
        .ok_or(format!("no run: {line}"))?;
    let name = name.to_owned();
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    Ok(name)
}

fn experiment(victim: &str, controller: &str) -> String {
    let address = controller.trim_start_matches("https://");
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: in-flight }}
hypothesis: The port stays open.
steadyState:
  - name: port
    probe: {{ tcp: {{ address: \"{address}\", every: 200ms, timeout: 2s }} }}
    expect: [ success >= 50% ]
method:
  - fault: pause
    on: {{ process: {{ name: {victim} }} }}
    share: 1
    hold: 2min
baseline: 5s
recovery: 5s
lease: 2s
"
    )
}
