//! Probes against the real thing, and each of its failures: down, slow, wrong certificate, wrong password,
//! garbage, nothing; and the times of schedules against a second implementation. They touch loopback and their own folders alone; one whole run needs root.

#![allow(clippy::print_stderr, reason = "the matrix is a result, too")]

mod ask;
mod calendar;
mod certificates;
mod daemon;
mod dns;
mod failures;
mod grpc;
mod journal;
mod kubernetes;
mod load;
mod log;
mod peer;
mod postgres;
mod prometheus;
mod redis;
mod user;
mod webhook;
mod whole_run;

use lab::world::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = whole_run::main_if_victim() {
        return code;
    }
    let arguments = Arguments::from_args();
    let trials = [
        failures::trials(),
        prometheus::trials(),
        webhook::trials(),
        grpc::trials(),
        dns::trials(),
        postgres::trials(),
        redis::trials(),
        load::trials(),
        log::trials(),
        journal::trials(),
        kubernetes::trials(),
        calendar::trials(),
        whole_run::trials(),
    ];
    let exit = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code();
    if let Some(table) = failures::table() {
        eprintln!("\n{table}\n");
    }
    daemon::end_all();
    prometheus::clear();
    exit
}

/// A test that needs nothing but this machine's loopback.
fn test(name: &str, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || {
        test().map_err(|error| Failed::from(error.to_string()))
    })
}

/// A test that needs an installed program; without, it is skipped and says so.
fn with(
    (program, package): (&'static str, &'static str),
    name: &str,
    test: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if lab::vm::on_path(program).is_none() {
            let why = format!("needs `{program}`: apt-get install {package}");
            return Ok(Completion::ignored_with(why));
        }
        test()
            .map(|()| Completion::Completed)
            .map_err(|error| Failed::from(error.to_string()))
    })
}

/// A file with a secret in it, and how a probe names it.
pub fn secret(folder: &Path, name: &str, value: &str) -> Result<String> {
    let path = folder.join(name);
    fs::write(&path, value)?;
    Ok(format!("password: {{ file: {} }}", path.display()))
}
