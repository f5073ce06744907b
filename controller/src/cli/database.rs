//! Which database the controller's commands use.

use crate::store::{self, BadServer, Server, Store, StoreError};
use std::path::{Path, PathBuf};

/// The password of `--store`, where it is not in a file.
const PASSWORD: &str = "SQUALL_STORE_PASSWORD";

#[derive(Debug, clap::Args)]
// Its name is another's too, and names of groups are one command's.
#[group(skip)]
pub(super) struct Args {
    /// Keep everything in PostgreSQL, at postgres://USER@HOST[:PORT]/DATABASE; without, in a file of the data directory
    #[arg(long, value_name = "URL", env = "SQUALL_STORE", hide_env_values = true)]
    store: Option<String>,
    /// The file with the password of --store; SQUALL_STORE_PASSWORD may hold it instead
    #[arg(long, value_name = "FILE", env = "SQUALL_STORE_PASSWORD_FILE")]
    store_password_file: Option<PathBuf>,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Server(#[from] BadServer),
    #[error("the store's password cannot be read from `{}`", path.display())]
    Password {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Args {
    /// Opens it. The data directory is made in either case: a controller keeps more there.
    pub(super) async fn open(&self, directory: &Path) -> Result<Store, DatabaseError> {
        let Some(url) = &self.store else {
            return Ok(Store::open(directory).await?);
        };
        store::make_directory(directory)?;
        let server = Server::new(url, self.password()?.as_deref())?;
        Ok(Store::connect(&server).await?)
    }

    fn password(&self) -> Result<Option<String>, DatabaseError> {
        let Some(path) = &self.store_password_file else {
            return Ok(std::env::var(PASSWORD).ok().filter(|text| !text.is_empty()));
        };
        let text = std::fs::read_to_string(path).map_err(|source| DatabaseError::Password {
            path: path.clone(),
            source,
        })?;
        // Editors leave a line break.
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}
