//! Controllers that serve: two of them on one database, what one starts by itself, keeps and shows, what its API lets through, a
//! game day that is held on one, and how all of it is deployed. The real programs; they touch loopback, their own folders, and
//! processes of their own.

mod at_once;
mod controller;
mod deploy;
mod full_disk;
mod fuzz;
mod gameday;
mod gates;
mod in_flight;
mod kept;
mod logins;
mod old;
mod pair;
mod rest;
mod schedules;
mod shop;
mod traces;

use libtest_mimic::Arguments;
use std::process::ExitCode;

/// So many tests run at once: they mostly wait, some of them for the next minute of a schedule.
const AT_ONCE: usize = 5;

fn main() -> ExitCode {
    if let Some(code) = lab::world::victim::main_if_victim() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let trials = [
        pair::trials(),
        schedules::trials(),
        logins::trials(),
        gates::trials(),
        rest::trials(),
        fuzz::trials(),
        deploy::trials(),
        kept::trials(),
        gameday::trials(),
        full_disk::trials(),
        traces::trials(),
        at_once::trials(),
        old::trials(),
    ];
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}
