//! How the steady state is observed. A probe makes attempts, each at its due time and in its own task, and
//! reports every one of them as a [`Trial`]; what they mean is the judge's business.
//!
//! Attempts are made in an open loop: attempt `k` is due at `t0 + k / rate` whatever became of those before, and
//! its latency counts from then. A service that hangs for a second thus shows in every request that was due in that second,
//! and not, as with a closed loop, in one.

mod command;
mod dns;
mod http;
mod pace;
mod paths;
mod tcp;

use crate::clock::Clock;
use crate::judge::{Outcome, Trial};
use paths::Paths;
use squall_experiments::experiment::SteadyState;
use squall_experiments::probe::Probe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How many trials may wait for the run's task: seconds of the fastest load. A probe that finds it full waits.
pub const TRIALS_WAITING_MAX: usize = 65_536;

/// So many HTTP or TCP attempts of one probe may be under way; more are due than that only when nothing answers.
const IN_FLIGHT_MAX: usize = 10_000;

/// So many programs of one probe may be under way.
const PROGRAMS_MAX: usize = 32;

/// Why a probe cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Not a URL that can be asked.
    #[error("probe `{probe}`: `{url}` cannot be asked: {why}")]
    Url {
        /// The probe's name.
        probe: String,
        /// As the file says it.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a request that can be sent.
    #[error("probe `{probe}`: the request cannot be made; check its method and headers")]
    Request {
        /// The probe's name.
        probe: String,
        /// What the HTTP library says.
        #[source]
        source: hyper::http::Error,
    },
    /// No certificates to check the other side with.
    #[error("probe `{probe}`: https needs the system's root certificates; install ca-certificates")]
    Roots {
        /// The probe's name.
        probe: String,
        /// What reading them said.
        #[source]
        source: std::io::Error,
    },
    /// Not a JSON path.
    #[error("probe `{probe}`: `{path}` is not a JSON path (RFC 9535)")]
    Path {
        /// The probe's name.
        probe: String,
        /// As the file says it.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json_path::ParseError,
    },
    /// It is not said whom to ask, and the system does not say either.
    #[error(
        "probe `{probe}`: no name server is found in {file}; name one with `server: 10.0.0.53`"
    )]
    NameServer {
        /// The probe's name.
        probe: String,
        /// Where it was looked for.
        file: &'static str,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
    /// No thread to keep its time.
    #[error("probe `{probe}`: its timer thread could not be started")]
    Thread {
        /// The probe's name.
        probe: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// What a probe says of one attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// It was due then, and is under way.
    Begun(u64),
    /// It ended.
    Ended(Box<Trial>),
}

/// What one attempt saw, without its times.
#[derive(Debug)]
struct Seen {
    outcome: Outcome,
    status: Option<u16>,
    value: Option<f64>,
    exit: Option<i32>,
    bodies: Vec<Option<serde_json::Value>>,
}

impl Seen {
    fn only(outcome: Outcome) -> Self {
        Self {
            outcome,
            status: None,
            value: None,
            exit: None,
            bodies: Vec::new(),
        }
    }

    fn trial(self, due_us: u64, ended_us: u64) -> Trial {
        Trial {
            due_us,
            ended_us,
            outcome: self.outcome,
            status: self.status,
            value: self.value,
            exit: self.exit,
            bodies: self.bodies,
        }
    }
}

/// A probe made ready: everything that can be wrong with it has been found.
#[derive(Clone)]
enum Attempt {
    Http(Arc<http::Asking>),
    Tcp(tcp::Connecting),
    Command(command::Running),
    Dns(Arc<dns::Asking>),
}

impl Attempt {
    async fn make(&self) -> Seen {
        match self {
            Self::Http(http) => http.ask().await,
            Self::Tcp(tcp) => tcp.connect().await,
            Self::Command(command) => command.run().await,
            Self::Dns(dns) => dns.ask().await,
        }
    }
}

/// How often, and how long for each.
struct Pace {
    every: Duration,
    timeout: Duration,
    in_flight_max: usize,
}

/// Probes at work. Dropping it ends them, and every attempt under way.
#[derive(Debug)]
pub struct Probes(#[expect(dead_code, reason = "held for its drop")] JoinSet<()>);

/// Starts the probes of an experiment; the n-th trial's number is its probe's place in `steady`.
///
/// # Errors
/// The first probe that cannot begin.
pub fn start(
    steady: &[SteadyState],
    clock: Clock,
    trials: &mpsc::Sender<(usize, Report)>,
) -> Result<Probes, ProbeError> {
    let mut tasks = JoinSet::new();
    let ready: Result<Vec<_>, _> = steady.iter().map(ready).collect();
    for (place, (attempt, pace)) in ready?.into_iter().enumerate() {
        let due = pace::pacer(&steady[place].name, pace.every)?;
        tasks.spawn(work(place, attempt, pace, due, clock, trials.clone()));
    }
    Ok(Probes(tasks))
}

/// Whether the probes of an experiment could begin; asks nothing and connects nowhere.
///
/// # Errors
/// The first probe that cannot begin.
pub fn check(steady: &[SteadyState]) -> Result<(), ProbeError> {
    steady.iter().try_for_each(|steady| ready(steady).map(drop))
}

fn ready(steady: &SteadyState) -> Result<(Attempt, Pace), ProbeError> {
    let name = &steady.name;
    let paths = Paths::of(steady)?;
    Ok(match &steady.probe {
        Probe::Http(http) => (
            Attempt::Http(Arc::new(http::Asking::new(name, &http.request, paths)?)),
            Pace {
                every: http.every.duration(),
                timeout: http.request.timeout.duration(),
                in_flight_max: IN_FLIGHT_MAX,
            },
        ),
        Probe::Load(load) => (
            Attempt::Http(Arc::new(http::Asking::new(name, &load.request, paths)?)),
            Pace {
                every: Duration::from_secs_f64(1.0 / load.rate.per_second()),
                timeout: load.request.timeout.duration(),
                in_flight_max: IN_FLIGHT_MAX,
            },
        ),
        Probe::Tcp(tcp) => (
            Attempt::Tcp(tcp::Connecting::new(tcp)),
            Pace {
                every: tcp.every.duration(),
                timeout: tcp.timeout.duration(),
                in_flight_max: IN_FLIGHT_MAX,
            },
        ),
        Probe::Command(command) => (
            Attempt::Command(command::Running::new(command, paths)),
            Pace {
                every: command.every.duration(),
                timeout: command.timeout.duration(),
                in_flight_max: PROGRAMS_MAX,
            },
        ),
        Probe::Dns(dns) => (
            Attempt::Dns(Arc::new(dns::Asking::new(name, dns)?)),
            Pace {
                every: dns.every.duration(),
                timeout: dns.timeout.duration(),
                in_flight_max: IN_FLIGHT_MAX,
            },
        ),
    })
}

/// One probe's task: starts each attempt when it is due.
async fn work(
    place: usize,
    attempt: Attempt,
    pace: Pace,
    mut due: mpsc::Receiver<std::time::Instant>,
    clock: Clock,
    trials: mpsc::Sender<(usize, Report)>,
) {
    let mut under_way = JoinSet::new();
    while let Some(at) = due.recv().await {
        while under_way.try_join_next().is_some() {}
        let due_us = clock.at_us(at);
        if under_way.len() >= pace.in_flight_max {
            let reason = format!("{} attempts were already waiting", pace.in_flight_max);
            let seen = Seen::only(Outcome::Unanswered(reason));
            let trial = Box::new(seen.trial(due_us, clock.now_us()));
            if trials.send((place, Report::Ended(trial))).await.is_err() {
                return;
            }
            continue;
        }
        if trials.send((place, Report::Begun(due_us))).await.is_err() {
            return;
        }
        let (attempt, trials, timeout) = (attempt.clone(), trials.clone(), pace.timeout);
        under_way.spawn(async move {
            let late = tokio::time::Instant::from_std(at + timeout);
            let seen = tokio::time::timeout_at(late, attempt.make()).await;
            let seen = seen.unwrap_or_else(|_| Seen::only(unanswered_within(timeout)));
            // The run is over when nobody listens.
            let trial = Box::new(seen.trial(due_us, clock.now_us()));
            let _over = trials.send((place, Report::Ended(trial))).await;
        });
    }
}

fn unanswered_within(timeout: Duration) -> Outcome {
    Outcome::Unanswered(format!("no answer within {timeout:?}"))
}

#[cfg(test)]
mod tests;
