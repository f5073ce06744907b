//! Every shipped experiment, run as its user would run it: with the address and the process's name put in, and nothing else
//! changed. They take as long as they say, so several run side by side, each in a world of its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use lab::world::Result;
use lab::world::agent::program;
use lab::world::cgroup::Cgroup;
use lab::world::dns::Resolver;
use lab::world::fingerprint::{self, Fingerprint};
use lab::world::http::Service;
use lab::world::shop::{Place, Shop};
use lab::world::wire::{Ip, Wire, named, victim};
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use squall_experiments::fault::Holding;
use squall_experiments::language;
use tempfile::TempDir;

use crate::{as_root, is_wanted};

/// What the shipped files call the service, and where they expect it.
const NAMES: [&str; 2] = ["my-service-v2", "my-service"];
const ADDRESS: &str = "127.0.0.1:8080";

/// Where they expect the version before it, the control that no fault touches, and what that depends on in its place.
const CONTROL_ADDRESS: &str = "127.0.0.1:8081";
const CONTROL_PORT: u16 = 8081;
const CONTROL_DEPENDENCY: u16 = 9091;

/// Where the service listens and what it depends on, as the shipped files have it.
const PORT: u16 = 8080;
const DEPENDENCY: u16 = 9090;
const DATABASE: u16 = 5432;

/// The demo's own file, which the demo itself runs, against both versions of its service.
const DEMO: &str = "orders-survive-slow-payment";

/// So many instances: experiments that kill one of them say so.
const INSTANCES: usize = 3;

/// The memory limit of the service's cgroup: experiments squeeze it to a share of that.
const MEMORY_BYTES: u64 = 256 << 20;

/// So long after one another the runs begin.
const APART: Duration = Duration::from_secs(1);

/// What an expectation says that compares the service with itself before: its baseline needs a machine that is not busy with others.
const RELATIVE: &str = "x baseline";

/// The others begin when those baselines are taken: 30 s, and what it takes until then.
const BASELINES: Duration = Duration::from_secs(33);

/// Fewer ports than a namespace has as a rule: more sockets than a machine's limit of open files could not be held, and so not taken.
/// The service needs some 3,000 at most: 50 connections a second, each of which waits for a minute afterwards (tcp(7), TIME_WAIT).
fn few_ports() -> Result<()> {
    Ok(fs::write(
        "/proc/sys/net/ipv4/ip_local_port_range",
        "32768 40767",
    )?)
}

/// What a run came to, or why there is nothing to say.
type Told = std::result::Result<(), String>;

/// The experiment files that are shipped, but for those that every node forbids as it comes: what they ask for has tests with a policy
/// that allows it (`nic.rs`, `journal.rs`, `node_end.rs`), and must not be tried on a machine whose policy does.
pub(crate) fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../experiments/library");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    // A game day is no run of its own.
    files.retain(|path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        language::kind(&text).as_deref() != Some("GameDay") && !is_forbidden(&text)
    });
    files.sort();
    files
}

/// One that cannot be read has its test, which says so.
fn is_forbidden(text: &str) -> bool {
    let read = language::read("a.yaml", text).experiment;
    let steps = read.iter().flat_map(|experiment| &experiment.method);
    let mut faults = steps.flat_map(|step| &step.faults);
    faults.any(|fault| fault.kind().holding() != Holding::Kernel)
}

fn is_relative(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.contains(RELATIVE))
}

fn stem(file: &Path) -> String {
    file.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// One test for each file. The first of them starts the runs of all that were asked for; the demo's waits for its turn, as
/// it shows how fast a service is.
pub(crate) fn trials(arguments: &Arguments) -> Vec<Trial> {
    let named = |file: PathBuf| (format!("library::{}_runs", stem(&file)), file);
    let (demo, others): (Vec<_>, Vec<_>) = files()
        .into_iter()
        .map(named)
        .filter(|(name, _)| is_wanted(arguments, name))
        .partition(|(_, file)| stem(file) == DEMO);
    let names: Vec<String> = others.iter().map(|(name, _)| name.clone()).collect();
    let runs = Runs::new(others);
    let others = names.into_iter().map(|name| {
        let runs = Arc::clone(&runs);
        as_root(name.clone(), move || runs.end(&name))
    });
    let demo = demo.into_iter().map(|(name, _)| as_root(name, self::demo));
    others.chain(demo).collect()
}

/// So many run at once: more of them, and it is the machine that is too slow for what the files ask, and not the service.
const AT_ONCE: usize = 9;

/// Lets so many through at once.
struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Gate {
    /// Does `work` when there is room for it.
    fn pass<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let free = self.free.lock().map_err(|_| "the gate is broken")?;
        let mut free = self
            .freed
            .wait_while(free, |free| *free == 0)
            .map_err(|_| "the gate is broken")?;
        *free -= 1;
        drop(free);
        let done = work();
        *self.free.lock().map_err(|_| "the gate is broken")? += 1;
        self.freed.notify_one();
        done
    }
}

/// Runs side by side, by the name of their test, and what each came to.
struct Runs {
    asked: Vec<(String, PathBuf)>,
    told: Mutex<BTreeMap<String, Told>>,
}

impl Runs {
    fn new(asked: Vec<(String, PathBuf)>) -> Arc<Self> {
        Arc::new(Self {
            asked,
            told: Mutex::default(),
        })
    }

    /// What one of them came to. Whoever is first has the host to itself, and keeps it until the last of them is over: others look
    /// at the host as a whole.
    fn end(&self, name: &str) -> Result<()> {
        let mut told = self.told.lock().map_err(|_| "the runs are lost")?;
        if told.is_empty() {
            *told = self.all();
        }
        Ok(told.remove(name).ok_or("its run was not started")??)
    }

    fn all(&self) -> BTreeMap<String, Told> {
        let gate = Gate {
            free: Mutex::new(AT_ONCE),
            freed: Condvar::new(),
        };
        thread::scope(|scope| {
            let gate = &gate;
            let (mut asked, others): (Vec<_>, Vec<_>) =
                self.asked.iter().partition(|(_, file)| is_relative(file));
            let relative = asked.len();
            asked.extend(others);
            let begun: Vec<_> = (asked.into_iter().enumerate())
                .map(|(number, (name, file))| {
                    let waits = number >= relative && relative > 0;
                    let ran = move || {
                        thread::sleep(if waits { BASELINES } else { Duration::ZERO });
                        gate.pass(|| run(file, number)).map_err(|e| e.to_string())
                    };
                    (name, scope.spawn(ran))
                })
                .collect();
            let ended = begun.into_iter().map(|(name, run)| {
                let told = run
                    .join()
                    .unwrap_or_else(|_| Err("the run panicked".to_owned()));
                (name.clone(), told)
            });
            ended.collect()
        })
    }
}

/// Runs one file in a world of its own.
fn run(file: &Path, number: usize) -> Result<()> {
    // One after another: all at once, the moment at which they begin to inject is the machine's busiest.
    thread::sleep(APART * u32::try_from(number % AT_ONCE)?);
    judge(&told(&fs::read_to_string(file)?, number)?)
}

/// What a run of this file tells of itself, in a world of its own, of which nothing is left.
pub(crate) fn told(text: &str, number: usize) -> Result<Value> {
    let wire = Wire::new()?;
    wire.victim.enter(few_ports)?;
    let before = Fingerprint::of(&wire.victim)?;
    let group = Arc::new(Cgroup::create(&format!(
        "sqt-library-{}-{number}",
        std::process::id()
    ))?);
    group.limit_memory(MEMORY_BYTES)?;
    let place = Place {
        name: format!("shop-{}-{number}", std::process::id()),
        own: SocketAddr::new(victim(Ip::V4), PORT),
        dependencies: named(Ip::V4),
        asked: DEPENDENCY,
        background: DATABASE,
    };
    let depends_on = |port| Service::start(&wire.peer, named(Ip::V4), port);
    let _dependencies = [
        depends_on(DEPENDENCY)?,
        depends_on(CONTROL_DEPENDENCY)?,
        depends_on(DATABASE)?,
    ];
    let _resolver = Resolver::start(&wire.peer, &[named(Ip::V4)])?;
    let settled = Arc::clone(&group);
    let shop = Shop::open(&wire.victim, &place, INSTANCES, move |pid| {
        settled.adopt(pid)
    })?;
    let control = Place {
        name: format!("old-{}-{number}", std::process::id()),
        own: SocketAddr::new(victim(Ip::V4), CONTROL_PORT),
        asked: CONTROL_DEPENDENCY,
        ..place.clone()
    };
    let control = text
        .contains(CONTROL_ADDRESS)
        .then(|| Shop::open(&wire.victim, &control, 1, |_| Ok(())))
        .transpose()?;
    let home = TempDir::new()?;
    let own = home.path().join("experiment.yaml");
    let at = |port| SocketAddr::new(victim(Ip::V4), port).to_string();
    let text = NAMES
        .iter()
        .fold(text.to_owned(), |text, name| {
            text.replace(name, &place.name)
        })
        .replace(ADDRESS, &at(PORT))
        .replace(CONTROL_ADDRESS, &at(CONTROL_PORT));
    fs::write(&own, text)?;
    let told = squall(&wire, home.path(), &own)?;
    drop((shop, control));
    let left = before.difference(&Fingerprint::of(&wire.victim)?);
    if left.is_empty() {
        Ok(told)
    } else {
        Err(format!("the run left:\n{}", left.join("\n")).into())
    }
}

/// `squall demo`: it exits with 0 only if the first version was broken and the second held.
fn demo() -> Result<()> {
    let home = TempDir::new()?;
    let mut command = quiet(home.path())?;
    let output = command.arg("demo").output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(format!("squall demo ended with {}:\n{said}", output.status).into())
}

/// `squall`, with nothing of the user's own around it.
pub(crate) fn quiet(home: &Path) -> Result<Command> {
    let mut command = Command::new(program("squall")?);
    command.current_dir(home).stdin(Stdio::null());
    command.env(fingerprint::MARK, fingerprint::mark());
    command.envs(["HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"].map(|name| (name, home)));
    Ok(command)
}

/// The run's report.
pub(crate) fn squall(wire: &Wire, home: &Path, file: &Path) -> Result<Value> {
    let mut command = quiet(home)?;
    command.args(["run", "--json", "--seed", "1"]).arg(file);
    let output = wire.peer.enter(|| Ok(command.output()?))?;
    let told = serde_json::from_slice(&output.stdout).map_err(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!(
            "{} and no report ({error}); it said:\n{said}",
            output.status
        )
    })?;
    Ok(told)
}

/// How an inconclusive run says that it was too short for what it saw.
const NOT_SHOWN: &str = "is not shown";

/// What stayed for less has no dose to show, as in `controller/src/run/joining.rs`.
const BRIEF_MS: f64 = 2000.0;

/// A verdict on the hypothesis, whichever, or too little evidence for one: on a machine that runs many experiments at once a
/// service may well be slow, or lose a request. What must not be is a file whose fault did nothing, or could not be injected.
fn judge(told: &Value) -> Result<()> {
    let (verdict, because) = (&told["verdict"], &told["because"]);
    let not_shown = because
        .as_str()
        .is_some_and(|because| because.contains(NOT_SHOWN));
    if verdict != "held" && verdict != "broken" && !not_shown {
        return Err(format!("{verdict}: {because}").into());
    }
    let faults = told["faults"]
        .as_array()
        .ok_or("the report has no faults")?;
    // A step that follows hits what is killed again within moments, before its dose is told: the verdict asks for none then.
    let brief = |fault: &Value| match (fault["armedAtMs"].as_f64(), fault["endedAtMs"].as_f64()) {
        (Some(armed), Some(ended)) => ended - armed < BRIEF_MS,
        _ => false,
    };
    let undosed = |fault: &&Value| fault["dose"].is_null();
    let idle = faults.iter().filter(undosed).find(|fault| !brief(fault));
    match idle {
        None if !faults.iter().all(|fault| undosed(&fault)) => Ok(()),
        _ => Err(format!("{verdict}, but without a measured dose: {faults:?}").into()),
    }
}
