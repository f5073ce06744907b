//! Controllers that serve: two of them on one database, a disk that is full, backups, metrics, and how all of it is deployed.
//! The real programs; they touch loopback and their own folders, and one mounts a small file system in a namespace of its own.

mod controller;
mod pair;

use libtest_mimic::Arguments;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = [pair::trials()];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
