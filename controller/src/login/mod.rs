//! Logins of people: tokens of an OpenID Connect provider, taken beside API tokens.
//!
//! ```text
//!   bearer JWT ──▶ keys of the provider (kept, fetched again) ──▶ checked: pure ──▶ who, and which roles: pure ──▶ Caller
//! ```
//!
//! | file | what |
//! | --- | --- |
//! | `provider.rs` | what is said of a provider, and what it says of itself |
//! | `keys.rs` | its keys: how long they are good, and when they are fetched again |
//! | `token.rs` | whether a token is good: pure |
//! | `roles.rs` | who somebody is, and what they may: pure |
//! | `ring.rs` | signatures, by the cryptography that TLS uses too |
//! | `device.rs`, `kept.rs` | `squall login`: asking for a token, and keeping it |
//!
//! Nothing here is asked of the provider for a request: a token is good by its signature until it expires. Whoever must be shut out
//! sooner loses their groups or account there, and is out when their token ends.

pub mod device;
pub mod kept;
mod keys;
pub mod provider;
mod ring;
mod roles;
mod token;

pub use provider::{Login, Shown};
pub use roles::Rule;

use crate::access::{Caller, Grants};
use keys::Keys;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// See [`Logins::is_news`]: each request would be a write.
const NOTED_EVERY: Duration = Duration::from_secs(3600);
/// So many people are remembered at once.
const NOTED_MAX: usize = 10_000;

/// The keys of the provider are too old, and newer ones are not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the login provider {issuer} is not reached, and its keys are too old to trust: {why}; API tokens work meanwhile"
)]
pub struct NoKeys {
    issuer: String,
    why: String,
}

/// Logins that a controller takes. Cloning it is another handle to the same; the default takes none.
#[derive(Debug, Clone, Default)]
pub struct Logins(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    login: Login,
    keys: Keys,
    /// What was noted of people, and when.
    noted: Mutex<HashMap<String, (Grants, Instant)>>,
}

impl Logins {
    /// Takes those of a provider. It is not asked anything yet.
    ///
    /// # Errors
    /// What is said of it cannot be used: why.
    pub fn new(login: Login) -> Result<Self, String> {
        login.check()?;
        ring::install();
        let keys = Keys::new(&login);
        let noted = Mutex::default();
        Ok(Self(Some(Arc::new(Inner { login, keys, noted }))))
    }

    /// What `squall login` needs to know, where logins are taken.
    #[must_use]
    pub fn shown(&self) -> Option<Shown> {
        self.0.as_ref().map(|inner| inner.login.shown())
    }

    /// Whether it is to be noted what somebody may: when that is another thing than before, and once an hour.
    #[must_use]
    pub fn is_news(&self, caller: &Caller) -> bool {
        let Some(inner) = &self.0 else {
            return false;
        };
        let mut noted = inner.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = noted.get(&caller.name);
        if known.is_some_and(|(grants, at)| *grants == caller.grants && at.elapsed() < NOTED_EVERY)
        {
            return false;
        }
        if noted.len() >= NOTED_MAX {
            noted.clear();
        }
        noted.insert(caller.name.clone(), (caller.grants.clone(), Instant::now()));
        true
    }

    /// Whose token it is, and what they may; none where it is not good, or no logins are taken.
    ///
    /// # Errors
    /// The provider's keys are not to be had now.
    pub async fn caller(&self, text: &str) -> Result<Option<Caller>, NoKeys> {
        let Some(inner) = &self.0 else {
            return Ok(None);
        };
        // What no key could make good is no reason to ask for any.
        if !matches!(
            token::check(text, &[], &inner.login),
            Err(token::Bad::Key(_))
        ) {
            return Ok(None);
        }
        let keys = inner.keys.now().await?;
        let claims = match token::check(text, &keys, &inner.login) {
            // The provider may have a new key; how often it is asked is bounded.
            Err(token::Bad::Key(_)) => {
                let keys = inner.keys.newer().await?;
                token::check(text, &keys, &inner.login)
            }
            checked => checked,
        };
        match claims {
            Ok(claims) => Ok(roles::caller(&inner.login, &claims)),
            Err(why) => {
                tracing::info!(%why, "a login was refused");
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests;
