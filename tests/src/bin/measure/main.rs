//! `cargo measure NAME [--world here|vm] [--json]`: benchmarks, each beside a named rival in the same session.
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(
    clippy::print_stderr,
    reason = "progress and trouble are not part of the result"
)]

mod agent;
mod api;
mod compare;
mod fleet;
mod judge;
mod kills;
mod load;
mod stops;
mod table;

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use lab::verify::World;
use lab::vm::{Boot, Job, Machine};
use lab::world::{Result, victim};

/// How long a benchmark may take in the VM, where everything is some ten times slower.
const VM_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Measures Squall beside what others would use in its place.
#[derive(Parser)]
struct Arguments {
    /// What to measure.
    benchmark: Benchmark,
    /// On this machine's kernel, or in a VM on Debian's.
    #[arg(long, default_value = "here")]
    world: World,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Of `judge`: how many healthy days are simulated (100000); what is not rare gets a fiftieth of them. Of `stops`: how many
    /// runs, shared out evenly among the rates of failure (200). Of `kills`: how many runs (200). Of `fleet`: how many runs, one
    /// after the other (5). Of `api`: how many rounds, each with load and without (4).
    #[arg(long)]
    runs: Option<u64>,
    /// Of `fleet`: how many agents, one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000])]
    agents: Vec<usize>,
    /// Of `judge`: draw a simulated run and its evidence into this SVG file, and measure nothing.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Of `judge`: one table alone.
    #[arg(long)]
    table: Option<judge::Table>,
    /// Of `agent`: one part of it alone.
    #[arg(long)]
    only: Option<agent::Part>,
    /// Of `agent`: another build of it, in the place of the one that is shipped.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Of `kills`: what the moments are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Of `kills`: how many nodes.
    #[arg(long, default_value_t = 10)]
    nodes: u8,
    /// Of `stops`: how many runs at the same time.
    #[arg(long, default_value_t = 3)]
    at_once: usize,
}

/// What can be measured.
#[derive(Clone, Copy, ValueEnum)]
enum Benchmark {
    /// Faults: how fast they come and go, how exact they are, what they cost.
    Agent,
    /// The verdict: false stops, samples to a stop, dependence and quantiles, by simulation.
    Judge,
    /// A real service that begins to fail: how many runs are stopped, and how soon.
    Stops,
    /// Many agents at one controller: what each costs, and how soon all are stopped.
    Fleet,
    /// Runs over ten agents while controllers, database and agents are killed: what each kind of kill ends in.
    Kills,
    /// The API: how long reads take under load, and whether a run's stop is later for it.
    Api,
    /// A load: whether it keeps its rate and sends on time, and what it costs.
    Load,
}

fn main() -> ExitCode {
    lab::vm::main_if_init();
    if let Some(code) = victim::main_if_victim() {
        return code;
    }
    if let Some(code) = load::main_if_server() {
        return code;
    }
    if let Some(code) = api::main_if_child() {
        return code;
    }
    let arguments = Arguments::parse();
    let result = match arguments.world {
        World::Here => here(&arguments),
        World::Vm => in_vm(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("measure: {error}");
            ExitCode::FAILURE
        }
    }
}

fn here(arguments: &Arguments) -> Result<()> {
    if let (Benchmark::Judge, Some(file)) = (arguments.benchmark, &arguments.plot) {
        return judge::plot(file);
    }
    let rows = match arguments.benchmark {
        Benchmark::Agent => {
            let shipped = match &arguments.agent {
                Some(file) => Some(file.clone()),
                None => build_shipped()?,
            };
            if let Some(file) = shipped {
                lab::world::agent::take(file);
            }
            agent::measure(arguments.only)?
        }
        Benchmark::Judge => judge::measure(arguments.runs.unwrap_or(100_000), arguments.table)?,
        Benchmark::Fleet => {
            build("squall-controller", "squall")?;
            let runs = arguments.runs.unwrap_or(5);
            fleet::measure(&arguments.agents, usize::try_from(runs)?)?
        }
        Benchmark::Api => {
            build("squall-controller", "squall")?;
            api::measure(usize::try_from(arguments.runs.unwrap_or(4))?)?
        }
        Benchmark::Load => load::measure()?,
        Benchmark::Kills => {
            build("squall-controller", "squall")?;
            build("squall-agent", "squall-agent")?;
            let runs = usize::try_from(arguments.runs.unwrap_or(200))?;
            kills::measure(runs, arguments.nodes, arguments.seed)?
        }
        Benchmark::Stops => {
            build("squall-controller", "squall")?;
            stops::measure(arguments.runs.unwrap_or(200), arguments.at_once)?
        }
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!("{}", table::table(&rows));
    }
    Ok(())
}

/// Runs this very program in the VM.
fn in_vm(arguments: &Arguments) -> Result<()> {
    let elsewhere = match arguments.benchmark {
        Benchmark::Agent => None,
        Benchmark::Judge => Some("`judge` is arithmetic and the same everywhere"),
        Benchmark::Fleet => Some("`fleet` touches no kernel object and is the same everywhere"),
        Benchmark::Kills => Some("`kills` takes real time, and emulated it would take hours"),
        Benchmark::Api => Some("`api` touches no kernel object and is the same everywhere"),
        Benchmark::Load => Some("the rival of `load`, wrk, is not in the VM"),
        Benchmark::Stops => Some("`stops` takes real time, and emulated it would take hours"),
    };
    if let Some(why) = elsewhere {
        return Err(format!("{why}: leave out `--world vm`").into());
    }
    let own = std::env::current_exe()?;
    let agent = match (&arguments.agent, build_shipped()?) {
        // The VM's current directory is another.
        (Some(file), _) => file.canonicalize()?,
        (None, Some(file)) => file,
        (None, None) => lab::world::agent::program("squall-agent")?,
    };
    let mut files = vec![own.clone(), agent.clone()];
    files.extend(rivals());
    let mut machine = Machine::boot(&Boot {
        files,
        ..Boot::default()
    })
    .map_err(|error| lab::chain(&error))?;
    let mut argv = vec![own.display().to_string(), "agent".to_owned()];
    argv.extend(["--agent".to_owned(), agent.display().to_string()]);
    argv.extend(arguments.json.then(|| "--json".to_owned()));
    if let Some(only) = arguments.only.and_then(|only| only.to_possible_value()) {
        argv.extend(["--only".to_owned(), only.get_name().to_owned()]);
    }
    let code = machine
        .run(&Job::new(argv), io::stdout(), io::stderr(), VM_LIMIT)
        .map_err(|error| lab::chain(&error))?;
    if code == 0 {
        Ok(())
    } else {
        Err(format!("the benchmark ended with exit code {code} in the VM").into())
    }
}

/// What Chaos Mesh's daemon calls, as far as it is installed here: the programs, and the plugins that iptables loads.
fn rivals() -> Vec<PathBuf> {
    let plugins = format!("/usr/lib/{}-linux-gnu/xtables", std::env::consts::ARCH);
    let plugins = std::fs::read_dir(plugins)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let programs = ["iptables", "ipset"]
        .into_iter()
        .filter_map(lab::vm::on_path);
    programs.chain(plugins).collect()
}

/// Builds the agent as it is shipped; in the VM there is no cargo.
fn build_shipped() -> Result<Option<PathBuf>> {
    let Some(cargo) = std::env::var_os("CARGO").filter(|cargo| Path::new(cargo).exists()) else {
        return Ok(None);
    };
    if !Command::new(cargo)
        .args(["agent", "--quiet"])
        .status()?
        .success()
    {
        return Err("the agent does not build: `cargo agent`".into());
    }
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).ok_or("not in a target folder")?;
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    Ok(Some(target.join(host).join("agent").join("squall-agent")))
}

/// Builds a program in this program's own profile; in the VM there is no cargo, and it is built already.
fn build(package: &str, program: &str) -> Result<()> {
    let own: PathBuf = std::env::current_exe()?;
    let release = own
        .parent()
        .is_some_and(|folder| folder.ends_with("release"));
    let Some(cargo) = std::env::var_os("CARGO").filter(|cargo| Path::new(cargo).exists()) else {
        return Ok(());
    };
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", package, "--bin", program]);
    if release {
        command.arg("--release");
    }
    if command.status()?.success() {
        Ok(())
    } else {
        Err(format!("{program} does not build").into())
    }
}
