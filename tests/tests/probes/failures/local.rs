//! What is looked at on this machine: programs and logs.

use super::Failure;
use super::cell::{Case, Cell};
use super::servers::Servers;
use lab::world::Result;

const NOT_ASKED: &str = "nothing is asked over a network: what the program asks is its own affair";
const NO_NETWORK: &str = "nothing is asked over a network";

pub(super) fn command(failure: Failure, servers: &Servers) -> Result<Cell> {
    let program = |argv: &str, words| Case::new("a program", format!("argv: [ {argv} ]"), words);
    Ok(Cell::Runs(match failure {
        Failure::Down => vec![
            program("/no/such/program", &["/no/such/program", "No such file"]),
            program("\"false\"", &["exit code 1"]),
        ],
        Failure::Slow => vec![program("sleep, \"60\"", &["no answer within 300ms"]).in_vain()],
        Failure::Tls => return Ok(Cell::Senseless(NOT_ASKED)),
        Failure::Auth => vec![program(
            &servers.path("program"),
            &["program", "Permission denied"],
        )],
        Failure::Garbage => {
            vec![program("echo, rubbish", &["no value"]).seen_by("value >= 1")]
        }
        Failure::Empty => vec![program("\"true\"", &["no value"]).seen_by("value >= 1")],
    }))
}

pub(super) fn log(failure: Failure, servers: &Servers) -> Result<Cell> {
    let file = |path: &str, pattern: &str, words| {
        let fields = format!("file: \"{path}\", pattern: \"{pattern}\"");
        Case::new("a file", fields, words).without_timeout()
    };
    let journal = |folder: &str, words| {
        let fields = format!("journal: a.service, folder: \"{folder}\", pattern: ERROR");
        Case::new("a journal", fields, words).without_timeout()
    };
    Ok(Cell::Runs(match failure {
        Failure::Down => vec![
            file("/no/such.log", "ERROR", &["/no/such.log", "No such file"]),
            journal("/no/such", &["/no/such: No such file", "`folder`"]),
        ],
        Failure::Slow => {
            return Ok(Cell::Senseless(
                "the kernel reads a file at once, and there is no file system here that hangs",
            ));
        }
        Failure::Tls => return Ok(Cell::Senseless(NO_NETWORK)),
        Failure::Auth => vec![
            file(
                &servers.path("closed.log"),
                "ERROR",
                &["closed.log", "Permission denied"],
            )
            .unprivileged(),
        ],
        Failure::Garbage => vec![
            file("/proc", "ERROR", &["not a regular file"]),
            journal(
                &servers.path("broken-journal"),
                &["system.journal: it is not a journal file"],
            ),
        ],
        Failure::Empty => vec![
            // That lines come at all is an expectation of its own.
            file(&servers.path("quiet.log"), ".", &["value was 0"]).seen_by("value >= 1"),
            journal(&servers.path("no-journal"), &["no journal in"]),
        ],
    }))
}
