//! `cargo measure NAME [--world here|vm] [--json]`: benchmarks, each beside a named rival in the same session.
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(
    clippy::print_stderr,
    reason = "progress and trouble are not part of the result"
)]

mod agent;
mod judge;
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
    /// runs, shared out evenly among the rates of failure (200).
    #[arg(long)]
    runs: Option<u64>,
    /// Of `judge`: draw a simulated run and its evidence into this SVG file, and measure nothing.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
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
            build("squall-agent", "squall-agent")?;
            agent::measure()?
        }
        Benchmark::Judge => judge::measure(arguments.runs.unwrap_or(100_000))?,
        Benchmark::Load => load::measure()?,
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
        Benchmark::Load => Some("the rival of `load`, wrk, is not in the VM"),
        Benchmark::Stops => Some("`stops` takes real time, and emulated it would take hours"),
    };
    if let Some(why) = elsewhere {
        return Err(format!("{why}: leave out `--world vm`").into());
    }
    build("squall-agent", "squall-agent")?;
    let own = std::env::current_exe()?;
    let files = vec![own.clone(), lab::world::agent::program("squall-agent")?];
    let mut machine = Machine::boot(&Boot {
        files,
        ..Boot::default()
    })
    .map_err(|error| lab::chain(&error))?;
    let mut argv = vec![own.display().to_string(), "agent".to_owned()];
    argv.extend(arguments.json.then(|| "--json".to_owned()));
    let code = machine
        .run(&Job::new(argv), io::stdout(), io::stderr(), VM_LIMIT)
        .map_err(|error| lab::chain(&error))?;
    if code == 0 {
        Ok(())
    } else {
        Err(format!("the benchmark ended with exit code {code} in the VM").into())
    }
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
