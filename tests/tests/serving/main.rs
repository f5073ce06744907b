//! Controllers that serve: two of them on one database, what one starts by itself, keeps and shows, what its API lets through, and how all
//! of it is deployed. The real programs; they touch loopback and their own folders.

mod controller;
mod deploy;
mod fuzz;
mod gates;
mod kept;
mod logins;
mod pair;
mod rest;
mod schedules;
mod shop;

use libtest_mimic::Arguments;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = [
        pair::trials(),
        schedules::trials(),
        logins::trials(),
        gates::trials(),
        rest::trials(),
        fuzz::trials(),
        deploy::trials(),
        kept::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
