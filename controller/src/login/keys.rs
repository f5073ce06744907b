//! The provider's keys. They are good for a time; at half of it they are fetched again beside whoever asks, and sooner where a token names a
//! key that is not among them. A provider that is away changes nothing until their time is over.

use super::NoKeys;
use super::provider::{KEYS_FOR_MIN, Login, discover, get};
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;
use squall_experiments::probe::Tls;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The provider is asked at most so often, whatever tokens come.
const ASKED_MIN: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub(super) struct Keys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    issuer: String,
    tls: Option<Tls>,
    most: Duration,
    kept: RwLock<Option<Kept>>,
    /// When it was asked last, and why that was in vain.
    asked: Mutex<Option<(Instant, String)>>,
}

#[derive(Debug, Clone)]
struct Kept {
    since: Instant,
    good_for: Duration,
    keys: Arc<Vec<Jwk>>,
}

impl Kept {
    fn is_good(&self) -> bool {
        self.since.elapsed() < self.good_for
    }

    fn is_young(&self) -> bool {
        self.since.elapsed() < self.good_for / 2
    }
}

impl Keys {
    pub(super) fn new(login: &Login) -> Self {
        Self(Arc::new(Inner {
            issuer: login.issuer.clone(),
            tls: login.tls.clone(),
            most: login.keys_for(),
            kept: RwLock::default(),
            asked: Mutex::default(),
        }))
    }

    /// Those that there are; fetched where there are none that are good.
    pub(super) async fn now(&self) -> Result<Arc<Vec<Jwk>>, NoKeys> {
        match self.kept() {
            Some(kept) if kept.is_good() => {
                if !kept.is_young() {
                    let own = self.clone();
                    tokio::spawn(async move { own.fetch().await });
                }
                Ok(kept.keys)
            }
            _ => self.newer().await,
        }
    }

    /// Those that there are after asking, unless that was a moment ago.
    pub(super) async fn newer(&self) -> Result<Arc<Vec<Jwk>>, NoKeys> {
        let why = self.fetch().await;
        let good = self.kept().filter(Kept::is_good);
        good.map(|kept| kept.keys).ok_or_else(|| NoKeys {
            issuer: self.0.issuer.clone(),
            why,
        })
    }

    /// Asks, where nobody has within the moment; why that was in vain.
    async fn fetch(&self) -> String {
        let mut asked = self.0.asked.lock().await;
        if let Some((at, why)) = asked.as_ref()
            && at.elapsed() < ASKED_MIN
        {
            return why.clone();
        }
        let fetched = self.fetched().await;
        let why = match fetched {
            Ok(kept) => {
                *self.0.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(kept);
                String::new()
            }
            Err(why) => {
                tracing::warn!(
                    issuer = self.0.issuer,
                    why,
                    "the keys of the login provider cannot be fetched"
                );
                why
            }
        };
        *asked = Some((Instant::now(), why.clone()));
        why
    }

    async fn fetched(&self) -> Result<Kept, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let since = Instant::now();
        let tls = self.0.tls.as_ref();
        let provider = discover(&self.0.issuer, tls)
            .await
            .map_err(|error| error.to_string())?;
        let (set, said) = get::<Set>(&provider.jwks_uri, tls)
            .await
            .map_err(|error| error.to_string())?;
        // A key of a kind that is not known here is somebody else's.
        let keys: Vec<Jwk> = set
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value(key).ok())
            .collect();
        // It may be kept for less than is said here, and never for more.
        let good_for = said.map_or(self.0.most, |said| said.clamp(KEYS_FOR_MIN, self.0.most));
        Ok(Kept {
            since,
            good_for,
            keys: Arc::new(keys),
        })
    }

    fn kept(&self) -> Option<Kept> {
        let kept = self.0.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.clone()
    }
}
