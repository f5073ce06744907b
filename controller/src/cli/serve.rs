//! `squall serve`.

use super::database::{self, DatabaseError};
use super::{BAD_INPUT, INCONCLUSIVE, by_itself, say};
use crate::api::listen::{self, ListenError};
use crate::api::{Api, router};
use crate::fleet::authority::{Authority, AuthorityError};
use crate::fleet::registry::Registry;
use crate::fleet::secret::ApiSecret;
use crate::notify::Receiver;
use crate::practice::{Practice, PracticeError};
use crate::run::budget::Bounded;
use crate::run::desk::{Desk, Rules};
use crate::run::{Reach, StandStill};
use crate::store::{self, Store, StoreError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The first API token, below the data directory: for whoever may read it, who is on this machine and owns the controller.
pub(super) const ADMIN_TOKEN_FILE: &str = "admin.token";

/// Runs that are under way when the controller is told to end have so long to end their faults. What takes longer ends with its lease.
const END_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The one port: agents, people and programs come to it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7410")]
    listen: SocketAddr,
    /// A name or address under which agents and people reach it; this machine's own names are always among them
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// The policy: environments, what each asks of an experiment, and whose signed evidence counts
    #[arg(long, value_name = "FILE.yaml")]
    policy: Option<PathBuf>,
    /// A YAML file: which agents belong to each environment, how much of it may be hit at once, what of this machine probes may use, whom to notify, and the Git repository to follow
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    database: database::Args,
}

#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    ByItself(#[from] by_itself::CannotStart),
    #[error(transparent)]
    Practice(#[from] PracticeError),
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
    match through(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(
            error @ (ServeError::Listen(_)
            | ServeError::Config { .. }
            | ServeError::ByItself(_)
            | ServeError::Database(DatabaseError::Server(_))),
        ) => say::failed(BAD_INPUT, &error),
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

async fn through(args: &Args) -> Result<(), ServeError> {
    more_descriptors();
    let config = config(args.config.as_deref())?;
    let directory = store::place();
    let store = args.database.open(&directory).await?;
    let authority = Arc::new(Authority::open(&directory)?);
    let named = config.environments.keys().cloned().collect();
    let practice = Practice::open(&directory, args.policy.as_deref(), named)?;
    first_token(&store, &directory).await?;
    let tls = listen::tls(&authority, &names(args))?;
    let listener = listen::bind(args.listen).await?;
    let address = listener.local_addr().unwrap_or(args.listen);
    say::err!(
        "squall: serving on https://{address}, data in {}",
        directory.display()
    );
    if args.policy.is_none() {
        tracing::warn!("no --policy: every environment counts as outside production");
    }
    for run in store.interrupt_runs(now_us()).await? {
        tracing::warn!(%run, "a run was interrupted by the end of the controller");
    }
    let registry = Registry::default();
    let still = StandStill::open(store.clone(), &directory).await?;
    let rules = Rules {
        environments: practice.bounded(&config.environments),
        reach: config.reach,
    };
    let desk = Desk::new(store.clone(), registry.clone(), rules, still.clone());
    desk.set_gate(practice.gate(&store));
    desk.set_ended(practice.ended(&store));
    let (stops, desk_of_halt) = (desk.clone(), desk.clone());
    let itself = by_itself::start(&config.notify, config.git, &store, &desk, &directory).await?;
    let api = Api {
        store,
        authority,
        practice,
        registry,
        desk,
    };
    tokio::select! {
        () = listen::serve(listener, tls, router(api).merge(itself.router())) => {}
        () = itself.keep() => {}
        () = still.watch(|| desk_of_halt.stop_all()) => {}
        () = told_to_end() => stops.end(END_MAX).await,
    }
    Ok(())
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
    git: Option<by_itself::GitWanted>,
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

fn names(args: &Args) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if let Ok(host) = nix::unistd::gethostname()
        && let Ok(host) = host.into_string()
        && !host.is_empty()
    {
        names.push(host);
    }
    if !args.listen.ip().is_unspecified() {
        names.push(args.listen.ip().to_string());
    }
    names.extend(args.names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

/// Somebody must be able to make the second token.
async fn first_token(store: &Store, directory: &Path) -> Result<(), ServeError> {
    if !store.api_tokens().await?.is_empty() {
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
