//! `cargo measure NAME [--world here|vm] [--json]`: benchmarks, each beside a named rival in the same session.
#![allow(clippy::print_stdout, reason = "the table is the result")]
#![allow(
    clippy::print_stderr,
    reason = "progress and trouble are not part of the result"
)]

mod agent;
mod load;
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
}

/// What can be measured.
#[derive(Clone, Copy, ValueEnum)]
enum Benchmark {
    /// Faults: how fast they come and go, how exact they are, what they cost.
    Agent,
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
    let rows = match arguments.benchmark {
        Benchmark::Agent => {
            build()?;
            agent::measure()?
        }
        Benchmark::Load => load::measure()?,
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
    if !matches!(arguments.benchmark, Benchmark::Agent) {
        return Err("this is measured here alone: wrk is not in the VM".into());
    }
    build()?;
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

/// Builds the agent in this program's own profile; in the VM there is no cargo, and it is built already.
fn build() -> Result<()> {
    let own: PathBuf = std::env::current_exe()?;
    let release = own
        .parent()
        .is_some_and(|folder| folder.ends_with("release"));
    let Some(cargo) = std::env::var_os("CARGO").filter(|cargo| Path::new(cargo).exists()) else {
        return Ok(());
    };
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--package",
        "squall-agent",
        "--bin",
        "squall-agent",
    ]);
    if release {
        command.arg("--release");
    }
    if command.status()?.success() {
        Ok(())
    } else {
        Err("the agent does not build".into())
    }
}
