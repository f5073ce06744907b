//! Which database, and how it is opened: the same tables and the same queries in both.
//!
//! Through sqlx's `Any`: queries say `$1`, types are TEXT, BIGINT (INTEGER in SQLite) and BLOB (BYTEA in PostgreSQL).

use super::{Store, StoreError};
use nix::fcntl::{Flock, FlockArg};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, ConnectOptions, Connection, Executor};
use std::fmt;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The file of the embedded database.
const FILE: &str = "runs.sqlite";

/// One writes, one reads beside it.
const FILE_CONNECTIONS_MAX: u32 = 2;

/// Each run in progress writes now and then; a server has a hundred connections for everybody.
const SERVER_CONNECTIONS_MAX: u32 = 8;

/// A query waits so long for a connection: to a server that is not there, and for others that write.
const CONNECTION_MAX: Duration = Duration::from_secs(5);

/// A controller that stands still in the middle of a transaction must not keep another from leading: the server ends its session.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '1s'; SET lock_timeout = '5s'";

static SQLITE: Migrator = sqlx::migrate!("src/store/migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// What the two understand differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// One file, one process that writes.
    Sqlite,
    /// A server; several controllers may use it at once.
    Postgres,
}

impl Dialect {
    pub(super) const fn migrations(self) -> &'static Migrator {
        match self {
            Self::Sqlite => &SQLITE,
            Self::Postgres => &POSTGRES,
        }
    }
}

/// A PostgreSQL server, and how to log in there. Neither `Debug` nor `Display` shows the password.
#[derive(Clone)]
pub struct Server(AnyConnectOptions);

/// Why an address is none of a PostgreSQL server.
#[derive(Debug, thiserror::Error)]
pub enum BadServer {
    /// Not a URL, or another one.
    #[error("the store's address must be postgres://USER@HOST[:PORT]/DATABASE")]
    Url,
    /// It would be seen by everybody on the machine.
    #[error(
        "the store's address holds a password, which `ps` would show: take it out, and name its file with --store-password-file"
    )]
    Password,
}

impl Server {
    /// Reads an address. Who asks for no kind of TLS (`?sslmode=`) gets the strict one (`verify-full`), but on this machine:
    /// an address of the loopback, or a socket's folder.
    ///
    /// # Errors
    /// It is not one of PostgreSQL, or holds a password.
    pub fn new(url: &str, password: Option<&str>) -> Result<Self, BadServer> {
        let mut options: AnyConnectOptions = url.parse().map_err(|_| BadServer::Url)?;
        let url = &mut options.database_url;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(BadServer::Url);
        }
        let said = |names: &[&str]| url.query_pairs().any(|(key, _)| names.contains(&&*key));
        if url.password().is_some() || said(&["password"]) {
            return Err(BadServer::Password);
        }
        let here = match url.host_str() {
            None | Some("") => true,
            Some(host) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let address = host.parse::<std::net::IpAddr>();
                host == "localhost"
                    || host.starts_with("%2F")
                    || address.is_ok_and(|a| a.is_loopback())
            }
        };
        if !here && !said(&["sslmode", "ssl-mode"]) {
            url.query_pairs_mut().append_pair("sslmode", "verify-full");
        }
        let password = password.map(encoded);
        url.set_password(password.as_deref())
            .map_err(|()| BadServer::Url)?;
        Ok(Self(options))
    }
}

/// Percent-encoded, all that could mean something else in an address (RFC 3986, section 2.1), `%` included.
fn encoded(password: &str) -> String {
    let mut text = String::new();
    for byte in password.bytes() {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0.database_url;
        let host = url.host_str().unwrap_or("localhost");
        write!(f, "postgres://{host}{}", url.path())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a connection may be used again. On a full disk SQLite takes a transaction back by itself, and the driver, whose own attempt then fails,
/// believes from there on that one is open: it makes each later one a part of that, which locks the file and is never committed. Where
/// that is so, the connection is closed.
async fn is_idle(connection: &mut AnyConnection) -> sqlx::Result<bool> {
    // What is still to be taken back is, before this is answered.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

impl Store {
    /// Opens the file `runs.sqlite` in a directory, both made where they are not there.
    ///
    /// # Errors
    /// The directory or the file cannot be made, opened or brought up to date.
    pub async fn open(directory: &Path) -> Result<Self, StoreError> {
        make_directory(directory)?;
        Self::open_file(&directory.join(FILE)).await
    }

    /// Opens one SQLite file.
    pub(super) async fn open_file(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .to_url_lossy();
        let pool = AnyPoolOptions::new()
            .max_connections(FILE_CONNECTIONS_MAX)
            .after_connect(|connection, _| {
                // Survives the controller's death; a power cut may cost the last seconds of a run, which it ended anyhow.
                let settings = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL";
                Box::pin(async move { connection.execute(settings).await.map(drop) })
            });
        let options = AnyConnectOptions::from_url(&options);
        let place = path.display().to_string();
        Self::through(pool, options, place, Dialect::Sqlite).await
    }

    /// Opens a PostgreSQL database, which must be there.
    ///
    /// # Errors
    /// The server is not reached, does not let us in, or its tables cannot be brought up to date.
    pub async fn connect(server: &Server) -> Result<Self, StoreError> {
        let pool = AnyPoolOptions::new()
            .max_connections(SERVER_CONNECTIONS_MAX)
            .after_connect(|connection, _| {
                let settings = SESSION;
                Box::pin(async move { connection.execute(settings).await.map(drop) })
            });
        let options = Ok(server.0.clone());
        Self::through(pool, options, server.to_string(), Dialect::Postgres).await
    }

    async fn through(
        pool: AnyPoolOptions,
        options: sqlx::Result<AnyConnectOptions>,
        place: String,
        dialect: Dialect,
    ) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let open = |source| StoreError::Open {
            place: place.clone(),
            source,
        };
        let pool = pool
            .acquire_timeout(CONNECTION_MAX)
            .after_release(|connection, _| Box::pin(is_idle(connection)));
        let pool = pool
            .connect_with(options.map_err(open)?)
            .await
            .map_err(open)?;
        let migrated = dialect.migrations().run(&pool).await;
        migrated.map_err(|source| StoreError::Migrate { place, source })?;
        Ok(Self {
            pool,
            dialect,
            term: Arc::default(),
            #[cfg(test)]
            simulated: None,
        })
    }

    /// Another handle to the same, with connections of its own, which are opened when they are needed and by whoever needs them: who asks much through
    /// it holds up nobody who asks through this one.
    #[must_use]
    pub fn beside(&self) -> Self {
        let options = (*self.pool.connect_options()).clone();
        Self {
            pool: self.pool.options().clone().connect_lazy_with(options),
            ..self.clone()
        }
    }

    /// One that asks a simulated database. Whatever that does not know of fails.
    #[cfg(test)]
    pub(crate) fn simulated(session: super::simulated::Session) -> Self {
        sqlx::any::install_default_drivers();
        let nowhere = "postgres://nobody@127.0.0.1:1/nothing".parse();
        let pool = AnyPoolOptions::new().idle_timeout(None).max_lifetime(None);
        Self {
            pool: pool.connect_lazy_with(nowhere.unwrap()),
            dialect: Dialect::Postgres,
            term: Arc::default(),
            simulated: Some(Arc::new(session)),
        }
    }
}

/// Held by a controller that serves from a directory, and let go by the kernel when it ends, however it ends.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "held, not used")] Flock<File>);

/// Takes a data directory for one controller: an SQLite file has one that leads.
///
/// # Errors
/// Another one has it, or the kernel does not let us.
pub fn hold(directory: &Path) -> Result<Hold, StoreError> {
    let path = directory.join("controller.lock");
    let held = |source| StoreError::Held {
        path: directory.to_owned(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(held)?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    lock.map(Hold).map_err(|(_, error)| held(error.into()))
}

/// Makes the data directory where it is not there, for its owner alone: experiments name what could be broken.
///
/// # Errors
/// The kernel does not let us.
pub fn make_directory(directory: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|source| StoreError::Directory {
        path: directory.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_password_and_is_not_to_hold_one() {
        let server =
            Server::new("postgres://squall@db.example/squall", Some("hunter/%32")).unwrap();
        let shown = format!("{server} {server:?}");
        assert_eq!(
            shown,
            "postgres://db.example/squall postgres://db.example/squall"
        );
        assert_eq!(server.0.database_url.password(), Some("hunter%2F%2532"));
        for bad in [
            "postgres://squall:hunter2@h/d",
            "postgres://squall@h/d?password=hunter2",
        ] {
            let error = Server::new(bad, None).unwrap_err();
            assert!(matches!(error, BadServer::Password), "{error}");
        }
        for bad in ["mysql://u@h/d", "sqlite:x", "db.example", ""] {
            assert!(
                matches!(Server::new(bad, None), Err(BadServer::Url)),
                "{bad}"
            );
        }
    }

    #[test]
    fn another_machine_is_spoken_to_over_tls_unless_the_address_says_otherwise() {
        let mode = |url: &str| {
            let options = Server::new(url, None).unwrap().0;
            let mut all = options.database_url.query_pairs();
            all.find(|(key, _)| key == "sslmode")
                .map(|(_, mode)| mode.into_owned())
        };
        assert_eq!(
            mode("postgres://u@db.example/d").as_deref(),
            Some("verify-full")
        );
        assert_eq!(
            mode("postgres://u@10.0.0.7:5433/d?sslrootcert=/ca").as_deref(),
            Some("verify-full")
        );
        assert_eq!(
            mode("postgres://u@db/d?sslmode=require").as_deref(),
            Some("require")
        );
        for here in [
            "localhost",
            "127.0.0.1:5433",
            "[::1]",
            "%2Frun%2Fpostgresql",
        ] {
            assert_eq!(mode(&format!("postgres://u@{here}/d")), None, "{here}");
        }
    }
}
