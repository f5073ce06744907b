//! How often somebody may ask: a limit for each token, and for each address from which nobody known has come.

use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Requests a second of one token: twice what the API is measured at.
const TOKEN_PER_S: NonZeroU32 = NonZeroU32::new(1000).unwrap();
/// Requests a second of one address, whoever comes from it: a rack of agents that come back at once, and people behind one proxy.
const ADDRESS_PER_S: NonZeroU32 = NonZeroU32::new(4000).unwrap();
/// Bad tokens a second of one address: a token cannot be guessed, but asking costs the database.
const BAD_PER_S: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// So many bad tokens at once: a fleet of programs whose token has just expired.
const BAD_AT_ONCE: NonZeroU32 = NonZeroU32::new(400).unwrap();
/// After so many questions those who have been quiet are forgotten, so that there are never many more to remember.
const FORGET_EVERY: u32 = 4096;

type Limiter<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// Who has asked how often. Cloning it is another handle to the same.
#[derive(Clone)]
pub struct Pace(Arc<Limits>);

struct Limits {
    tokens: Limiter<String>,
    addresses: Limiter<IpAddr>,
    bad: Limiter<IpAddr>,
    asked: AtomicU32,
}

impl Default for Pace {
    fn default() -> Self {
        Self::of(TOKEN_PER_S, ADDRESS_PER_S)
    }
}

impl std::fmt::Debug for Pace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pace")
    }
}

impl Pace {
    /// With other limits a second, for one token and for one address.
    #[must_use]
    pub fn of(token: NonZeroU32, address: NonZeroU32) -> Self {
        Self(Arc::new(Limits {
            tokens: RateLimiter::hashmap(Quota::per_second(token)),
            addresses: RateLimiter::hashmap(Quota::per_second(address)),
            bad: RateLimiter::hashmap(Quota::per_second(BAD_PER_S).allow_burst(BAD_AT_ONCE)),
            asked: AtomicU32::new(0),
        }))
    }

    /// Whether this address may ask now; counts it.
    #[must_use]
    pub fn address(&self, address: IpAddr) -> bool {
        self.forget();
        self.0.addresses.check_key(&address).is_ok()
    }

    /// Whether this token may be used now; counts it.
    #[must_use]
    pub fn token(&self, token: &str) -> bool {
        self.0.tokens.check_key(&token.to_owned()).is_ok()
    }

    /// Counts a bad token; `false` when there were too many from this address.
    #[must_use]
    pub fn bad(&self, address: IpAddr) -> bool {
        self.0.bad.check_key(&address).is_ok()
    }

    fn forget(&self) {
        fn quiet<K: Hash + Eq + Clone>(limiter: &Limiter<K>) {
            limiter.retain_recent();
        }
        let asked = self.0.asked.fetch_add(1, Ordering::Relaxed);
        if asked.is_multiple_of(FORGET_EVERY) {
            quiet(&self.0.tokens);
            quiet(&self.0.addresses);
            quiet(&self.0.bad);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_limit_of_its_own() {
        let two = NonZeroU32::new(2).unwrap();
        let pace = Pace::of(two, two);
        let [one, other] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(IpAddr::from);
        assert!(pace.token("a") && pace.token("a") && !pace.token("a") && pace.token("b"));
        assert!(pace.address(one) && pace.address(one) && !pace.address(one));
        assert!(pace.address(other));
        let taken = (0..BAD_AT_ONCE.get() + 50)
            .filter(|_| pace.bad(one))
            .count();
        // A few more where the machine is so slow that a second has gone by.
        assert!((400..450).contains(&taken), "{taken}");
        assert!(pace.bad(other));
    }
}
