//! `squall serve`.

use super::by_itself::Itself;
use super::database::{DatabaseError, StoreArgs};
use super::{BAD_INPUT, INCONCLUSIVE, by_itself, say};
use crate::api::listen::{self, ListenError};
use crate::api::threads::Threads;
use crate::api::{Api, router};
use crate::fleet::authority::{Authority, AuthorityError};
use crate::fleet::registry::Registry;
use crate::fleet::secret::ApiSecret;
use crate::fleet::shared::{self, SharedError};
use crate::leader::{self, Candidate, Leadership};
use crate::login::{Login, Logins};
use crate::notify::Receiver;
use crate::practice::{BlackoutFile, Practice, PracticeError};
use crate::retention::Retention;
use crate::run::budget::Bounded;
use crate::run::desk::{Desk, Rules};
use crate::run::{Reach, StandStill};
use crate::store::{self, Dialect, Store, StoreError};
use crate::trace::{TraceArgs, TraceError, Traces};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use squall_experiments::ids::RunId;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The first API token, below the data directory: for whoever may read it, who is on this machine and owns the controller.
pub(super) const ADMIN_TOKEN_FILE: &str = "admin.token";

/// Runs that are under way when the controller is told to end have so long to end their faults. What takes longer ends with its lease.
const END_MAX: Duration = Duration::from_secs(5);

/// So long after that the traces of runs that have ended may take to be sent.
const SENT_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The one port: agents, people and programs come to it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7410")]
    listen: SocketAddr,
    /// A name or address under which agents and people reach it; this machine's own names are always among them. Other controllers
    /// of the same database send people to the first
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// The policy: environments, what each asks of an experiment, and whose signed evidence counts
    #[arg(long, value_name = "FILE.yaml")]
    policy: Option<PathBuf>,
    /// A YAML file: which agents belong to each environment, how much of it may be hit at once, what of this machine probes may use, how
    /// long runs are kept
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    database: StoreArgs,
    #[command(flatten)]
    traces: TraceArgs,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Shared(#[from] SharedError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("the threads that answer requests cannot be started")]
    Threads(#[source] std::io::Error),
    #[error(transparent)]
    ByItself(#[from] by_itself::CannotStart),
    #[error(transparent)]
    Practice(#[from] PracticeError),
    #[error(transparent)]
    Traces(#[from] TraceError),
    #[error("the configuration `{}` cannot be used: {why}", path.display())]
    Config { path: PathBuf, why: String },
    #[error("the first API token cannot be written to `{}`", path.display())]
    Token {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

pub(super) async fn serve(args: &Args) -> ExitCode {
    more_descriptors();
    match through(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(
            error @ (ServeError::Listen(_)
            | ServeError::Traces(_)
            | ServeError::Config { .. }
            | ServeError::Database(DatabaseError::Server(_))),
        ) => say::failed(BAD_INPUT, &error),
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

async fn through(args: &Args) -> Result<(), ServeError> {
    let config = config(args.config.as_deref())?;
    let directory = store::place();
    let store = args.database.open(&directory).await?;
    let practice = args.practice(&directory, &config)?;
    let logins = args.logins(&config, &practice)?;
    let listener = listen::bind(args.listen).await?;
    let address = listener.local_addr().unwrap_or(args.listen);
    let advertised = args.advertised(address);
    let duties = Duties {
        store: store.clone(),
        directory: directory.clone(),
    };
    let served = format!("https://{address}, data in {}", directory.display());
    let opened = Opened {
        config,
        practice,
        logins,
        store: store.clone(),
        still: StandStill::open(store.clone(), &directory).await?,
        listener,
    };
    match store.dialect() {
        Dialect::Sqlite => {
            let _hold = store::hold(&directory)?;
            leader::only(&store, &advertised).await?;
            let interrupted = duties.begin().await?;
            let authority = Authority::open(&directory)?;
            let alone = Leadership::alone();
            let port = opened.port(args, &directory, authority, alone).await?;
            let ending = port.ending();
            ending.inherit(interrupted).await;
            args.say(&served);
            tokio::select! {
                () = port.serve() => {}
                () = ending.told() => {}
            }
        }
        Dialect::Postgres => {
            let authority = shared::authority(&store, &directory).await?;
            let (candidate, leadership) = Candidate::new(store.clone(), advertised);
            let port = opened.port(args, &directory, authority, leadership).await?;
            args.say(&format!(
                "{served}; the leader is chosen through the database"
            ));
            stand(port, candidate, &duties).await;
        }
    }
    Ok(())
}

/// What a controller has opened before it knows with whom it shares the work.
struct Opened {
    config: Config,
    practice: Practice,
    logins: Logins,
    store: Store,
    still: StandStill,
    listener: TcpListener,
}

impl Opened {
    async fn port(
        self,
        args: &Args,
        directory: &Path,
        authority: Authority,
        leader: Leadership,
    ) -> Result<Port, ServeError> {
        let Self { config, store, .. } = self;
        let tls = listen::tls(&authority, &args.names())?;
        let registry = Registry::new(leader.term());
        let rules = Rules {
            environments: self.practice.bounded(&config.environments),
            reach: config.reach,
        };
        let desk = Desk::new(store.clone(), registry.clone(), rules, self.still);
        let practice = self.practice.with_blackouts(config.blackouts);
        let (git, beside) = (config.git, (config.retention, directory));
        let itself =
            by_itself::start(&config.notify, git, &store, &desk, &practice, beside).await?;
        let practice = practice.with_repository(itself.follower());
        desk.set_gate(practice.gate(&store));
        let traces = args.traces.start(desk.metrics().spans())?;
        let ended = practice.ended(&store);
        desk.set_ended(match traces.clone() {
            Some(traces) => traces.beside(ended),
            None => ended,
        });
        let api = Api {
            store: store.beside(),
            authority: Arc::new(authority),
            practice,
            logins: self.logins,
            registry,
            leader,
            desk,
            days: itself.days(),
        };
        Ok(Port {
            api,
            itself,
            tls,
            traces,
            listener: self.listener,
            threads: Threads::start().map_err(ServeError::Threads)?,
        })
    }
}

/// Serves beside others, and leads whenever none of them does, until this one is told to end.
async fn stand(port: Port, candidate: Candidate, duties: &Duties) {
    let (desk, registry) = (port.api.desk.clone(), port.api.registry.clone());
    let ending = port.ending();
    // Its runs are over, and its agents look for the next leader.
    let end = || {
        desk.depose();
        registry.hang_up_all();
    };
    let begin = async || {
        ending.inherit(duties.begin().await?).await;
        Ok::<_, ServeError>(())
    };
    tokio::select! {
        () = port.serve() => {}
        () = candidate.stand(begin, end, ending.told()) => {}
    }
}

/// The port, ready to be served.
struct Port {
    api: Api,
    itself: Itself,
    tls: Arc<ServerConfig>,
    traces: Option<Traces>,
    listener: TcpListener,
    threads: Threads,
}

/// How runs end with their controller, this one or the one before.
struct Ending {
    desk: Desk,
    store: Store,
    traces: Option<Traces>,
}

impl Ending {
    /// Takes over what is left of runs that an earlier leader left without an end.
    async fn inherit(&self, interrupted: Vec<RunId>) {
        if let Some(traces) = &self.traces {
            traces.tell_interrupted(&self.store, &interrupted).await;
        }
        self.desk.inherit(interrupted).await;
    }

    /// Until this controller is told to end, and its runs have ended.
    async fn told(&self) {
        told_to_end().await;
        self.desk.end(END_MAX).await;
        if let Some(traces) = &self.traces {
            traces.flush(SENT_MAX).await;
        }
    }
}

impl Port {
    fn ending(&self) -> Ending {
        Ending {
            desk: self.api.desk.clone(),
            store: self.api.store.clone(),
            traces: self.traces.clone(),
        }
    }

    /// Serves, and stops everything when that is said. Never ends.
    async fn serve(self) {
        let (desk, leader) = (self.api.desk.clone(), self.api.leader.clone());
        let still = desk.still().clone();
        let answering = self.threads.handle().clone();
        let served = router(self.api).merge(self.itself.router());
        tokio::select! {
            () = listen::serve(self.listener, self.tls, served, answering) => {}
            () = self.itself.keep(leader) => {}
            () = still.watch(|| desk.stop_all()) => {}
        }
    }
}

/// What is to be done before a controller counts as the leader.
struct Duties {
    store: Store,
    directory: PathBuf,
}

impl Duties {
    /// Which runs an earlier leader left without an end.
    async fn begin(&self) -> Result<Vec<RunId>, ServeError> {
        let interrupted = self.store.interrupt_runs(now_us()).await?;
        for run in &interrupted {
            tracing::warn!(%run, "a run was interrupted by the end of its controller");
        }
        first_token(&self.store, &self.directory).await?;
        Ok(interrupted)
    }
}

/// Each connection is a descriptor, and the usual 1,024 would be used up by half-open ones. Best effort: as many as the
/// system lets this process have.
fn more_descriptors() {
    let files = Resource::RLIMIT_NOFILE;
    let raised = getrlimit(files).and_then(|(_, most)| setrlimit(files, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is (RLIMIT_NOFILE)");
    }
}

/// What `--config` says.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Config {
    environments: BTreeMap<String, Bounded>,
    reach: Reach,
    notify: Vec<Receiver>,
    login: Option<Login>,
    blackouts: Vec<BlackoutFile>,
    git: Option<by_itself::GitWanted>,
    retention: Retention,
}

/// How long things are kept, as a controller's configuration says.
pub(super) fn retention(path: Option<&Path>) -> Result<Retention, ServeError> {
    Ok(config(path)?.retention)
}

fn config(path: Option<&Path>) -> Result<Config, ServeError> {
    let Some(path) = path else {
        return Ok(Config::default());
    };
    let bad = |why: String| ServeError::Config {
        path: path.to_owned(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    serde_saphyr::from_str(&text).map_err(|error| bad(error.to_string()))
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

async fn told_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

impl Args {
    /// The first words of a controller that serves.
    fn say(&self, served: &str) {
        say::err!("squall: serving on {served}");
        if self.policy.is_none() {
            tracing::warn!("no --policy: every environment counts as outside production");
        }
    }

    /// How a file earns production here.
    fn practice(&self, directory: &Path, config: &Config) -> Result<Practice, ServeError> {
        let named = config.environments.keys().cloned().collect();
        Ok(Practice::open(directory, self.policy.as_deref(), named)?)
    }

    /// The logins that are taken.
    fn logins(&self, config: &Config, practice: &Practice) -> Result<Logins, ServeError> {
        let Some(login) = config.login.clone() else {
            return Ok(Logins::default());
        };
        let bad = |why: String| ServeError::Config {
            path: self.config.clone().unwrap_or_default(),
            why,
        };
        let policy = practice.policy();
        if let Some(name) = login
            .environments()
            .find(|name| policy.environment(name).is_none())
        {
            return Err(bad(format!(
                "`login.roles` names the environment `{name}`, which is none"
            )));
        }
        Logins::new(login).map_err(bad)
    }

    /// Under what the controller's certificate is good.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        names.extend(host());
        if !self.listen.ip().is_unspecified() {
            names.push(self.listen.ip().to_string());
        }
        names.extend(self.names.iter().cloned());
        names.sort();
        names.dedup();
        names
    }

    /// Where other controllers send people and programs while this one leads.
    fn advertised(&self, listening: SocketAddr) -> String {
        let name = self.names.first().cloned().or_else(host);
        let name = name.unwrap_or_else(|| listening.ip().to_string());
        let bracketed = name.parse::<std::net::Ipv6Addr>().is_ok();
        let name = if bracketed { format!("[{name}]") } else { name };
        format!("https://{name}:{}", listening.port())
    }
}

/// What this machine is called.
fn host() -> Option<String> {
    let host = nix::unistd::gethostname().ok()?.into_string().ok()?;
    Some(host).filter(|host| !host.is_empty())
}

/// Somebody must be able to make the second token.
async fn first_token(store: &Store, directory: &Path) -> Result<(), ServeError> {
    if !store.api_tokens((i64::MAX, ""), 1).await?.is_empty() {
        return Ok(());
    }
    let path = directory.join(ADMIN_TOKEN_FILE);
    let token = ApiSecret::new();
    let write = || {
        let _absent = std::fs::remove_file(&path);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        writeln!(file, "{}", token.reveal())
    };
    write().map_err(|source| ServeError::Token {
        path: path.clone(),
        source,
    })?;
    store
        .add_api_token(&token.id, token.hash(), "admin", now_us(), None)
        .await?;
    Ok(())
}
