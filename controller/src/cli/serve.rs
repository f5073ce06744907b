//! `squall serve`.

use super::database::{DatabaseError, StoreArgs};
use super::{BAD_INPUT, INCONCLUSIVE, say};
use crate::api::listen::{self, ListenError};
use crate::api::{Api, router};
use crate::fleet::authority::{Authority, AuthorityError};
use crate::fleet::registry::Registry;
use crate::fleet::secret::ApiSecret;
use crate::fleet::shared::{self, SharedError};
use crate::leader::{self, Candidate, Leadership};
use crate::store::{self, Dialect, Store, StoreError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The first API token, below the data directory: for whoever may read it, who is on this machine and owns the controller.
pub(super) const ADMIN_TOKEN_FILE: &str = "admin.token";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The one port: agents, people and programs come to it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7410")]
    listen: SocketAddr,
    /// A name or address under which agents and people reach it; this machine's own names are always among them. Other controllers
    /// of the same database send people to the first
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    #[command(flatten)]
    database: StoreArgs,
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
    Shared(#[from] SharedError),
    #[error(transparent)]
    Listen(#[from] ListenError),
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
        Err(error @ (ServeError::Listen(_) | ServeError::Database(DatabaseError::Server(_)))) => {
            say::failed(BAD_INPUT, &error)
        }
        Err(error) => say::failed(INCONCLUSIVE, &error),
    }
}

async fn through(args: &Args) -> Result<(), ServeError> {
    more_descriptors();
    let directory = store::place();
    let store = args.database.open(&directory).await?;
    let listener = listen::bind(args.listen).await?;
    let address = listener.local_addr().unwrap_or(args.listen);
    let advertised = args.advertised(address);
    let duties = Duties {
        store: store.clone(),
        directory: directory.clone(),
    };
    let served = format!("https://{address}, data in {}", directory.display());
    match store.dialect() {
        Dialect::Sqlite => {
            let _hold = store::hold(&directory)?;
            let authority = Arc::new(Authority::open(&directory)?);
            leader::only(&store, &advertised).await?;
            duties.begin().await?;
            let port = Port::new(args, store, authority, Leadership::alone(), listener)?;
            say::err!("squall: serving on {served}");
            tokio::select! {
                () = port.serve() => {}
                () = told_to_end() => {}
            }
        }
        Dialect::Postgres => {
            let authority = Arc::new(shared::authority(&store, &directory).await?);
            let (candidate, leadership) = Candidate::new(store.clone(), advertised);
            let port = Port::new(args, store, authority, leadership, listener)?;
            let registry = port.api.registry.clone();
            say::err!("squall: serving on {served}; the leader is chosen through the database");
            let standing = candidate.stand(
                async || duties.begin().await,
                || registry.hang_up_all(),
                told_to_end(),
            );
            tokio::select! {
                () = port.serve() => {}
                () = standing => {}
            }
        }
    }
    Ok(())
}

/// The port, ready to be served.
struct Port {
    api: Api,
    tls: Arc<ServerConfig>,
    listener: TcpListener,
}

impl Port {
    fn new(
        args: &Args,
        store: Store,
        authority: Arc<Authority>,
        leader: Leadership,
        listener: TcpListener,
    ) -> Result<Self, ServeError> {
        let tls = listen::tls(&authority, &args.names())?;
        let api = Api {
            store,
            authority,
            registry: Registry::new(leader.term()),
            leader,
        };
        Ok(Self { api, tls, listener })
    }

    async fn serve(self) {
        listen::serve(self.listener, self.tls, router(self.api)).await;
    }
}

/// What is to be done before a controller counts as the leader.
struct Duties {
    store: Store,
    directory: PathBuf,
}

impl Duties {
    async fn begin(&self) -> Result<(), ServeError> {
        let now_us = jiff::Timestamp::now().as_microsecond();
        let interrupted = self
            .store
            .interrupt(u64::try_from(now_us).unwrap_or(0))
            .await?;
        for run in interrupted {
            tracing::warn!(%run, "a run was interrupted: its controller ended while it ran");
        }
        first_token(&self.store, &self.directory).await
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
    let now_us = jiff::Timestamp::now().as_microsecond();
    store
        .add_api_token(&token.id, token.hash(), "admin", now_us, None)
        .await?;
    Ok(())
}
