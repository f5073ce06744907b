//! The key with which a controller vouches for what it saw, kept beside its authority.

use crate::stage::statement::{Signer, StatementError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The key's file in the data directory: PKCS #8, readable to its owner alone.
pub const KEY_FILE: &str = "evidence.key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file.
    #[error("the key for evidence `{}` cannot be read or made", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// What is in it.
    #[error("the key for evidence `{}` cannot be used", path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: StatementError,
    },
}

/// Reads the key of a data directory; makes one where there is none.
///
/// # Errors
/// It can be neither read nor made.
pub fn signer(directory: &Path) -> Result<Signer, KeyError> {
    let path = directory.join(KEY_FILE);
    let bad = |source| KeyError::Key {
        path: path.clone(),
        source,
    };
    let failed = |source| KeyError::File {
        path: path.clone(),
        source,
    };
    let key = match std::fs::read(&path) {
        Ok(key) => key,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let key = Signer::generate().map_err(bad)?;
            let mut options = std::fs::OpenOptions::new();
            let options = options.write(true).create_new(true).mode(0o600);
            let mut file = options.open(&path).map_err(failed)?;
            file.write_all(&key)
                .and_then(|()| file.sync_all())
                .map_err(failed)?;
            key
        }
        Err(error) => return Err(failed(error)),
    };
    Signer::read(&key).map_err(bad)
}
