//! `cargo run -p squall-tests --bin vm -- [--kernel cloud|generic|PACKAGE] [--file PATH]… COMMAND ARGS…`:
//! runs one command as root in a throw-away VM on Debian's kernel and exits with its exit code.
#![allow(
    clippy::print_stderr,
    reason = "a command-line tool answers on standard error"
)]

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lab::vm;

/// Exit code for "the VM failed, the command may have been fine", as `timeout` and `docker run` use it.
const RUNNER_FAILED: u8 = 125;

/// Runs a command as root in a throw-away VM on Debian's own kernel.
#[derive(Parser)]
struct Arguments {
    /// `cloud`, `generic`, or the name of one of Debian's kernel packages.
    #[arg(long, default_value = "cloud")]
    kernel: vm::Kernel,
    /// A program, file or folder that shall lie in the VM where it lies here.
    #[arg(long = "file")]
    files: Vec<PathBuf>,
    /// Seconds after which the command and its VM are ended.
    #[arg(long, default_value_t = 600)]
    limit_s: u64,
    /// The command.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    vm::main_if_init();
    match run(Arguments::parse()) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("vm: {}", lab::chain(&error));
            ExitCode::from(RUNNER_FAILED)
        }
    }
}

fn run(mut arguments: Arguments) -> Result<i32, vm::VmError> {
    if let Some(program) = arguments
        .command
        .first_mut()
        .filter(|program| program.contains('/'))
    {
        if let Ok(absolute) = std::path::absolute(&*program) {
            *program = absolute.display().to_string();
            arguments.files.push(absolute);
        }
    } else if let Some(found) = arguments.command.first().and_then(|name| vm::on_path(name)) {
        arguments.files.push(found);
    }
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let files = arguments.files.into_iter().map(absolute).collect();
    let mut machine = vm::Machine::boot(&vm::Boot {
        kernel: arguments.kernel,
        files,
    })?;
    let job = vm::Job::new(arguments.command);
    machine.run(
        &job,
        io::stdout(),
        io::stderr(),
        Duration::from_secs(arguments.limit_s),
    )
}
