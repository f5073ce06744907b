//! Secrets that the controller hands out: 256 bits from the system's generator, kept as their SHA-256.
//!
//! A slow hash is for passwords, which can be guessed; these cannot.

use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use squall_experiments::join::{Fingerprint, JoinToken};
use std::fmt;
use std::str::FromStr;

/// SHA-256 over a secret: what is kept of it.
#[must_use]
pub fn hash(secret: &[u8; 32]) -> Fingerprint {
    Fingerprint(Sha256::digest(secret).into())
}

/// A new join token for agents of `authority`.
#[must_use]
pub fn join_token(authority: Fingerprint) -> JoinToken {
    JoinToken {
        id: new_id(),
        secret: random(),
        authority,
    }
}

/// What lets a person or a program speak to the API.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiSecret {
    /// Its name: what lists show.
    pub id: String,
    secret: [u8; 32],
}

/// Not an API token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no API token: it has the form squallapi1.NAME.SECRET")]
pub struct NotAToken;

const FORM: &str = "squallapi1";

impl ApiSecret {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        Self {
            id: new_id(),
            secret: random(),
        }
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> Fingerprint {
        hash(&self.secret)
    }

    /// The whole token, secret included: for its holder, never for a log.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{FORM}.{}.{}", self.id, Fingerprint(self.secret))
    }
}

impl Default for ApiSecret {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ApiSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiSecret({})", self.id)
    }
}

impl FromStr for ApiSecret {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let mut parts = text.trim().split('.');
        let (Some(FORM), Some(id), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotAToken);
        };
        let secret: Fingerprint = secret.parse().map_err(|_| NotAToken)?;
        Ok(Self {
            id: id.to_owned(),
            secret: secret.0,
        })
    }
}

fn new_id() -> String {
    Fingerprint(random()).to_string()[..12].to_owned()
}

/// # Panics
/// The system has no random numbers: nothing that is made without them may be given out.
#[expect(clippy::expect_used, reason = "see above")]
fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    SysRng
        .try_fill_bytes(&mut bytes)
        .expect("the system has random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_shows_its_secret_to_no_log() {
        let token = ApiSecret::new();
        let text = token.reveal();
        assert_eq!(text.parse(), Ok(token.clone()));
        let secret = Fingerprint(token.secret).to_string();
        assert!(text.contains(&secret) && !format!("{token:?}").contains(&secret));
        assert_ne!(ApiSecret::new(), ApiSecret::new());
        assert!(text.replace("api1", "api2").parse::<ApiSecret>().is_err());
        assert!(format!("{text}.x").parse::<ApiSecret>().is_err());
        let join = join_token(Fingerprint([1; 32]));
        assert_eq!(join.reveal().parse(), Ok(join));
    }
}
