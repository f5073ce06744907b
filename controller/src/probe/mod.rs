//! How the steady state is observed. A probe makes attempts, each at its due time and in its own task, and
//! reports every one of them as a [`Trial`]; what they mean is the judge's business.
//!
//! Attempts are made in an open loop: attempt `k` is due at `t0 + k / rate` whatever became of those before, and
//! its latency counts from then. A service that hangs for a second thus shows in every request that was due in that second,
//! and not, as with a closed loop, in one.

pub(crate) mod base64;
pub(crate) mod client;
mod cluster;
mod command;
mod cookies;
mod dial;
mod dns;
mod filling;
mod grpc;
mod http;
mod kubernetes;
mod load;
mod log;
mod pace;
mod paths;
mod postgres;
mod prometheus;
mod redis;
pub(crate) mod runbook;
pub(crate) mod secret;
mod stage;
mod tcp;
mod tls;
mod webhook;
mod whereabouts;
mod work;

use crate::clock::Clock;
use crate::judge::{Outcome, Trial};
use paths::Paths;
use squall_experiments::experiment::{Experiment, SteadyState};
use squall_experiments::probe::Probe;
pub(crate) use squall_experiments::probe::Source;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
pub use whereabouts::Places;
pub(crate) use whereabouts::Whereabouts;
use work::Pace;

/// How many trials may wait for the run's task: seconds of the fastest load. A probe that finds it full waits.
pub const TRIALS_WAITING_MAX: usize = 65_536;

/// So many programs of one probe may be under way.
const PROGRAMS_MAX: usize = 32;

/// So many sessions with a database one probe may have; a server has a hundred for everybody (PostgreSQL's `max_connections`).
const SESSIONS_MAX: usize = 32;

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
    /// Not a method that can be sent.
    #[error("probe `{probe}`: `{method}` is not an HTTP method")]
    Method {
        /// The probe's name.
        probe: String,
        /// As the file says it.
        method: String,
    },
    /// A header's name or value cannot be sent. The value is not shown: it may be a secret.
    #[error(
        "probe `{probe}`: the header `{header}` cannot be sent; its value has to be one line of visible characters"
    )]
    Header {
        /// The probe's name.
        probe: String,
        /// The header's name.
        header: String,
    },
    /// A secret is not where the file says.
    #[error(
        "probe `{probe}`: {place} should hold a secret, and cannot be read: {why}; nothing was injected"
    )]
    Secret {
        /// The probe's name.
        probe: String,
        /// Where it should be.
        place: String,
        /// What is wrong there.
        why: String,
    },
    /// A certificate or key cannot be used.
    #[error(
        "probe `{probe}`: {what} in `{path}` cannot be used; give a PEM file that the controller may read"
    )]
    Tls {
        /// The probe's name.
        probe: String,
        /// What it is for.
        what: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It is not known how a cluster is reached.
    #[error("probe `{probe}`: {from} cannot be used to reach the cluster: {why}")]
    Cluster {
        /// The probe's name.
        probe: String,
        /// Where it should be said.
        from: String,
        /// What is wrong there, and what to do.
        why: String,
    },
    /// The data for a load's bodies cannot be used.
    #[error("probe `{probe}`: the data in `{path}` cannot be used: {why}")]
    Data {
        /// The probe's name.
        probe: String,
        /// The file.
        path: String,
        /// What is wrong with it, and what to do.
        why: String,
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
    /// Nothing that a certificate could be for.
    #[error(
        "probe `{probe}`: the host in `{address}` is not one that a certificate can name; say which with `tls: {{ serverName: … }}`"
    )]
    Address {
        /// The probe's name.
        probe: String,
        /// As the file says it.
        address: String,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::InvalidDnsNameError,
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
    Load(Arc<load::Loading>),
    Tcp(tcp::Connecting),
    Command(command::Running),
    Prometheus(Arc<prometheus::Querying>),
    Webhook(Arc<webhook::Questioning>),
    Grpc(Arc<grpc::Checking>),
    Dns(Arc<dns::Asking>),
    Postgres(Arc<postgres::Querying>),
    Redis(Arc<redis::Commanding>),
    Log(log::Following),
    Kubernetes(Arc<kubernetes::Looking>),
}

impl Attempt {
    async fn make(&self) -> Seen {
        match self {
            Self::Http(http) => http.ask().await,
            Self::Load(load) => load.ask().await,
            Self::Tcp(tcp) => tcp.connect().await,
            Self::Command(command) => command.run().await,
            Self::Prometheus(prometheus) => prometheus.ask().await,
            Self::Webhook(webhook) => webhook.ask().await,
            Self::Grpc(grpc) => grpc.check().await,
            Self::Dns(dns) => dns.ask().await,
            Self::Postgres(postgres) => postgres.ask().await,
            Self::Redis(redis) => redis.send().await,
            Self::Log(log) => log.look().await,
            Self::Kubernetes(kubernetes) => kubernetes.look().await,
        }
    }
}

/// Probes at work. Dropping it ends them, and every attempt under way.
#[derive(Debug)]
pub struct Probes(#[expect(dead_code, reason = "held for its drop")] JoinSet<()>);

impl Probes {
    /// Tasks that report as probes do.
    #[cfg(test)]
    pub(crate) const fn of(tasks: JoinSet<()>) -> Self {
        Self(tasks)
    }
}

/// What observes a steady state: [`start`], but in a simulation, where there is nothing to ask.
pub type Observe =
    Arc<dyn Fn(&[SteadyState], Clock, &Trials) -> Result<Probes, ProbeError> + Send + Sync>;

/// Where probes report: the number of a probe, and what it says.
pub type Trials = mpsc::Sender<(usize, Report)>;

/// Starts the probes of an experiment. A trial's number is its probe's place in `steady`, or its control's; see
/// [`Experiment::place_of_control`].
///
/// # Errors
/// The first probe that cannot begin.
pub fn start(steady: &[SteadyState], clock: Clock, trials: &Trials) -> Result<Probes, ProbeError> {
    let mut tasks = JoinSet::new();
    let ready: Result<Vec<_>, _> = steady.iter().map(groups).collect();
    for (place, groups) in ready?.into_iter().enumerate() {
        let every = groups.first().map_or(Duration::MAX, |(_, pace)| pace.every);
        let due = pace::pacer(&steady[place].name, every, groups.len())?;
        let places = [place, Experiment::place_of_control(steady.len(), place)];
        for (((attempt, pace), due), place) in groups.into_iter().zip(due).zip(places) {
            tasks.spawn(work::work(place, attempt, pace, due, clock, trials.clone()));
        }
    }
    Ok(Probes(tasks))
}

/// Whether the probes of an experiment could begin; asks nothing and connects nowhere.
///
/// # Errors
/// The first probe that cannot begin.
pub fn check(steady: &[SteadyState]) -> Result<(), ProbeError> {
    steady
        .iter()
        .try_for_each(|steady| groups(steady).map(drop))
}

/// The probe, and beside it its control, where it has one.
fn groups(steady: &SteadyState) -> Result<Vec<(Attempt, Pace)>, ProbeError> {
    let control = steady.control();
    std::iter::once(steady).chain(&control).map(ready).collect()
}

fn ready(steady: &SteadyState) -> Result<(Attempt, Pace), ProbeError> {
    let name = &steady.name;
    let paths = Paths::of(steady)?;
    let mut pace = Pace::of(&steady.probe);
    let attempt = match &steady.probe {
        Probe::Http(http) => {
            Attempt::Http(Arc::new(http::Asking::new(name, &http.request, paths)?))
        }
        Probe::Load(load) => Attempt::Load(Arc::new(load::Loading::new(name, load, paths)?)),
        Probe::Tcp(tcp) => Attempt::Tcp(tcp::Connecting::new(tcp)),
        Probe::Command(command) => {
            pace.in_flight_max = PROGRAMS_MAX;
            Attempt::Command(command::Running::new(command, paths))
        }
        Probe::Prometheus(asked) => {
            Attempt::Prometheus(Arc::new(prometheus::Querying::new(name, asked)?))
        }
        Probe::Kubernetes(asked) => {
            Attempt::Kubernetes(Arc::new(kubernetes::Looking::new(name, asked)?))
        }
        Probe::Log(asked) => Attempt::Log(log::Following::new(name, asked)?),
        Probe::Webhook(asked) => {
            Attempt::Webhook(Arc::new(webhook::Questioning::new(name, asked)?))
        }
        Probe::Grpc(grpc) => Attempt::Grpc(Arc::new(grpc::Checking::new(name, grpc)?)),
        Probe::Postgres(postgres) => {
            pace.in_flight_max = SESSIONS_MAX;
            Attempt::Postgres(Arc::new(postgres::Querying::new(name, postgres)?))
        }
        Probe::Redis(redis) => {
            pace.in_flight_max = SESSIONS_MAX;
            Attempt::Redis(Arc::new(redis::Commanding::new(name, redis)?))
        }
        Probe::Dns(dns) => Attempt::Dns(Arc::new(dns::Asking::new(name, dns)?)),
    };
    Ok((attempt, pace))
}

/// The beginning of what somebody unexpected said, for a person to recognise.
fn first_line(body: &[u8]) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 80;
    let text = String::from_utf8_lossy(body);
    let line = text.lines().find(|line| !line.trim().is_empty());
    match line {
        None => "it is empty".into(),
        Some(line) => {
            let shown = line.trim().chars().filter(|c| !c.is_control());
            format!("`{}`", shown.take(SHOWN_CHARACTERS_MAX).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests;
