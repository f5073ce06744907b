//! Tests of what is kept, on both databases.

use super::{Dialect, Server, Store};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

/// The environment variable with the address of a PostgreSQL server that tests may use; `cargo verify` starts one.
const SERVER: &str = "SQUALL_TEST_POSTGRES";

/// A database for one test; empty at first, and gone with the test.
pub(crate) enum Place {
    /// SQLite.
    Folder(TempDir),
    /// A schema of its own on the server.
    Schema(String),
}

impl Place {
    /// Opens it, once or again.
    pub(crate) async fn open(&self) -> Store {
        match self {
            Self::Folder(folder) => Store::open(&folder.path().join("new")).await.unwrap(),
            Self::Schema(url) => {
                let server = Server::new(url, None).unwrap();
                Store::connect(&server).await.unwrap()
            }
        }
    }

    /// Its address, for who opens it otherwise than a store does.
    pub(super) fn url(&self) -> (String, Dialect) {
        match self {
            Self::Folder(folder) => {
                let file = folder.path().join("new").join("runs.sqlite");
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                let url = format!("sqlite://{}?mode=rwc", file.display());
                (url, Dialect::Sqlite)
            }
            Self::Schema(url) => (url.clone(), Dialect::Postgres),
        }
    }
}

/// Runs a test on SQLite, and again on PostgreSQL where there is a server for it.
pub(crate) async fn on_both(test: impl AsyncFn(&Place)) {
    test(&Place::Folder(tempfile::tempdir().unwrap())).await;
    let Ok(server) = std::env::var(SERVER) else {
        return;
    };
    let schema = format!("test_{:032x}", rand::random::<u128>());
    let mut asking = sqlx::PgConnection::connect(&server).await.unwrap();
    let create = format!("CREATE SCHEMA {schema}");
    asking.execute(AssertSqlSafe(create)).await.unwrap();
    let url = format!("{server}?options=-csearch_path%3D{schema}");
    test(&Place::Schema(url)).await;
    let drop = format!("DROP SCHEMA {schema} CASCADE");
    asking.execute(AssertSqlSafe(drop)).await.unwrap();
}
