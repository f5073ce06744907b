//! A login as it is kept: one file for each controller, for its owner alone.

use super::provider::Kind;
use crate::store;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// A token that ends so soon is one that has ended: the request takes time, and clocks differ.
const SOON_S: u64 = 60;

/// A login at one controller.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    pub(super) controller: String,
    pub(super) issuer: String,
    pub(super) client: String,
    pub(super) kind: Kind,
    pub(super) token_endpoint: String,
    pub(super) revocation_endpoint: Option<String>,
    pub(super) token: String,
    pub(super) expires_s: u64,
    pub(super) refresh: Option<String>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} at {})", self.client, self.issuer)
    }
}

/// Where the login at a controller is.
fn path(controller: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let bare = controller
        .trim_end_matches('/')
        .trim_start_matches("https://");
    let name: String = bare.chars().map(plain).collect();
    store::place().join("logins").join(format!("{name}.json"))
}

impl Kept {
    /// The login at a controller, where there is one.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn find(controller: &str) -> io::Result<Option<Self>> {
        let text = match fs::read(path(controller)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let kept: Self = serde_json::from_slice(&text).map_err(io::Error::from)?;
        // Two controllers whose names differ in a sign alone.
        Ok((kept.controller == controller).then_some(kept))
    }

    /// Keeps it in the place of one that was there: whole or not at all, and readable to its owner alone.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn keep(&self) -> io::Result<()> {
        let path = path(&self.controller);
        if let Some(folder) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let new = path.with_extension(format!("{}.new", std::process::id()));
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let text = serde_json::to_vec(self).map_err(io::Error::from)?;
        file.write_all(&text).and_then(|()| file.sync_all())?;
        fs::rename(&new, &path)
    }

    /// Forgets it.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn forget(&self) -> io::Result<()> {
        fs::remove_file(path(&self.controller))
    }

    /// Whether its token is good for a request yet.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.expires_s > jsonwebtoken::get_current_timestamp() + SOON_S
    }

    /// What proves who one is: for the request, never for a log.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.token
    }
}

/// When a token ends, in seconds since the Unix epoch: as it says itself, else as was said beside it.
pub(super) fn expiry(token: &str, expires_in: Option<u64>) -> u64 {
    #[derive(Deserialize)]
    struct Ends {
        exp: u64,
    }
    // Whoever made it is asked over TLS; whether it is right the controller says.
    let own = jsonwebtoken::dangerous::insecure_decode_claims::<Ends>(token);
    let now = jsonwebtoken::get_current_timestamp();
    own.map_or(now + expires_in.unwrap_or(0), |ends| ends.exp)
}
