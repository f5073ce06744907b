//! Every probe and each way in which its source can fail: down, slow, the wrong certificate, the wrong password, garbage, nothing.
//!
//! The probes are those of the language's own type, so that a new one without its cells fails here. A cell asks a real server wherever one
//! can be made to fail so; where the failure is that nobody sensible is there, a peer accepts and says nothing, or rubbish, or hangs up.

mod cell;
mod cluster;
mod database;
mod local;
mod network;
mod servers;
mod table;
mod web;

use cell::Cell;
use lab::world::Result;
use libtest_mimic::{Completion, Failed, Trial};
use servers::Servers;
use squall_experiments::probe::Probe;
use std::thread;

pub(crate) use table::table;

/// How a source fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody is there.
    Down,
    /// Somebody is, and does not answer in time.
    Slow,
    /// Somebody is whom the probe does not trust, or who does not trust the probe, or speaks TLS where the other does not.
    Tls,
    /// The probe may not ask.
    Auth,
    /// What is answered is not of the protocol.
    Garbage,
    /// Nothing is answered, or a whole answer with nothing in it.
    Empty,
}

impl Failure {
    pub(crate) const ALL: [Self; 6] = [
        Self::Down,
        Self::Slow,
        Self::Tls,
        Self::Auth,
        Self::Garbage,
        Self::Empty,
    ];
}

pub(crate) fn trials() -> Vec<Trial> {
    let name = "failures::every_probe_tells_every_failure";
    vec![Trial::ignorable_test(name, || {
        matrix().map_err(|error| Failed::from(error.to_string()))
    })]
}

/// The cell of a probe; none where nobody has thought of it.
fn cell(word: &str, failure: Failure, servers: &Servers) -> Result<Option<Cell>> {
    Ok(Some(match word {
        "http" => web::http(failure, servers)?,
        "load" => web::load(failure, servers)?,
        "prometheus" => web::prometheus(failure, servers)?,
        "webhook" => web::webhook(failure, servers)?,
        "kubernetes" => cluster::kubernetes(failure, servers)?,
        "grpc" => network::grpc(failure, servers)?,
        "postgres" => database::postgres(failure, servers)?,
        "redis" => database::redis(failure, servers)?,
        "dns" => network::dns(failure, servers)?,
        "tcp" => network::tcp(failure, servers)?,
        "command" => local::command(failure, servers)?,
        "log" => local::log(failure, servers)?,
        _ => return Ok(None),
    }))
}

/// All cells at the same time: they wait for most of it.
fn matrix() -> Result<Completion> {
    let servers = Servers::start()?;
    let mut cells = Vec::new();
    for word in Probe::WORDS {
        for failure in Failure::ALL {
            let cell = cell(word, failure, &servers)?
                .ok_or_else(|| format!("the probe `{word}` has no cell for {failure:?}"))?;
            cells.push((word, failure, cell));
        }
    }
    thread::scope(|scope| {
        let run = cells.into_iter().map(|(word, failure, cell)| {
            let told = match cell {
                Cell::Runs(cases) => cases
                    .into_iter()
                    .map(|case| scope.spawn(move || (case.whom, case.told(word))))
                    .collect(),
                Cell::Senseless(why) => return (word, failure, Err(why)),
            };
            (word, failure, Ok::<Vec<_>, _>(told))
        });
        // All are begun before the first is waited for.
        let run: Vec<_> = run.collect();
        for (word, failure, cases) in run {
            let told = cases.map(|cases| {
                let ended = cases.into_iter().map(thread::ScopedJoinHandle::join);
                ended
                    .map(|ended| ended.unwrap_or_else(|_| ("?", Err("it panicked".into()))))
                    .collect()
            });
            table::note(word, failure, told);
        }
    });
    let wrong = table::wrong();
    if !wrong.is_empty() {
        return Err(wrong.into());
    }
    Ok(match servers.missing() {
        missing if missing.is_empty() => Completion::Completed,
        missing => Completion::ignored_with(format!("needs {missing}: apt-get install {missing}")),
    })
}
