//! Host names of faults, turned into addresses and kept current.

use squall_experiments::filter::{
    Endpoint, Filter, Found, Host, Network, ResolvedEndpoint, ResolvedFilter,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long one name may take: a fault is not armed later than a person's patience.
const LOOKUP: Duration = Duration::from_secs(2);
/// How often names are looked up again while a fault lives: a moved service is hit again within a run's step.
pub(crate) const AGAIN: Duration = Duration::from_secs(10);
/// The most addresses of one name; round-robin names of large services have some hundred.
const ADDRESSES_MAX: usize = 256;

/// Names with their addresses.
pub(crate) type Names = BTreeMap<String, Vec<Network>>;

/// What a fault's filter is made of, as far as it is known now. Names and the hosts of a cluster become known apart from each other; the
/// filter is always made of the newest of both.
#[derive(Debug)]
pub(crate) struct Aim {
    filter: Filter,
    /// Conversations that stay as they are.
    spare: Vec<ResolvedEndpoint>,
    names: Names,
    found: Vec<Found>,
    /// The last look-up that was begun, and the newest whose answer is in `names`.
    asked: u64,
    answered: u64,
}

/// One aim, of the fault's entry and of the look-ups under way.
#[derive(Debug, Clone)]
pub(crate) struct Aimed(Arc<Mutex<Aim>>);

impl Aimed {
    pub(crate) fn new(filter: Filter, spare: Vec<ResolvedEndpoint>, found: Vec<Found>) -> Self {
        Self(Arc::new(Mutex::new(Aim {
            filter,
            spare,
            names: Names::new(),
            found,
            asked: 0,
            answered: 0,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Aim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks all names up, and takes what it finds unless a look-up that began later has answered already.
    ///
    /// # Errors
    /// A sentence: a name does not resolve.
    pub(crate) async fn look_up(&self) -> Result<(), String> {
        let (number, wanted) = self.lock().begin();
        let mut names = Names::new();
        for name in wanted {
            let networks = lookup(&name).await?;
            names.insert(name, networks);
        }
        self.lock().learn(number, names);
        Ok(())
    }
}

impl Aim {
    fn hosts(&self) -> impl Iterator<Item = &Host> {
        let ends = [&self.filter.to, &self.filter.from];
        ends.into_iter().flatten().flat_map(|end| &end.hosts)
    }

    fn wanted(&self) -> impl Iterator<Item = &String> {
        self.hosts().filter_map(|host| match host {
            Host::Name(name) => Some(name),
            Host::Network(_) | Host::Cluster(_) => None,
        })
    }

    /// Whether there are names in it at all.
    pub(crate) fn has_names(&self) -> bool {
        self.wanted().next().is_some()
    }

    /// The number of a look-up that begins now, and what it is to look up.
    fn begin(&mut self) -> (u64, Vec<String>) {
        self.asked += 1;
        (self.asked, self.wanted().cloned().collect())
    }

    fn learn(&mut self, number: u64, names: Names) {
        if number > self.answered {
            self.answered = number;
            self.names = names;
        }
    }

    /// The hosts of a cluster are there now. Whether that is news.
    pub(crate) fn moved(&mut self, found: &[Found]) -> bool {
        let named = self.hosts().any(|host| matches!(host, Host::Cluster(_)));
        let news = named && self.found != found;
        if news {
            self.found = found.to_vec();
        }
        news
    }

    /// The filter with addresses for its names; None before they are known.
    pub(crate) fn resolved(&self) -> Option<ResolvedFilter> {
        Some(ResolvedFilter {
            to: self.end(self.filter.to.as_ref())?,
            from: self.end(self.filter.from.as_ref())?,
            protocol: self.filter.protocol,
            direction: self.filter.direction,
            spare: self.spare.clone(),
        })
    }

    /// What of one end is known; an end that is not there matches everything, and one that is nowhere nothing.
    fn end(&self, end: Option<&Endpoint>) -> Option<Option<ResolvedEndpoint>> {
        let Some(end) = end else {
            return Some(None);
        };
        let mut networks = Vec::new();
        for host in &end.hosts {
            match host {
                Host::Network(network) => networks.push(*network),
                Host::Name(name) => networks.extend(self.names.get(name)?),
                // The controller knows where it is; what it has not found matches nothing.
                Host::Cluster(_) => {
                    let of = self.found.iter().find(|found| found.host == *host);
                    networks.extend(of.into_iter().flat_map(|found| &found.networks));
                }
            }
        }
        networks.sort_unstable();
        networks.dedup();
        Some(Some(ResolvedEndpoint {
            none: networks.is_empty() && !end.hosts.is_empty(),
            networks,
            ports: end.ports.clone(),
        }))
    }
}

async fn lookup(name: &str) -> Result<Vec<Network>, String> {
    // getaddrinfo blocks; tokio does it on a thread of its own.
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name, 0))).await;
    match found {
        Err(_) => Err(format!(
            "`{name}` did not resolve within {} s",
            LOOKUP.as_secs()
        )),
        Ok(Err(error)) => Err(format!("`{name}` does not resolve on this node: {error}")),
        Ok(Ok(addresses)) => Ok(addresses
            .take(ADDRESSES_MAX)
            .map(|address| Network::single(address.ip()))
            .collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aimed(filter: &str, found: Vec<Found>) -> Aimed {
        Aimed::new(serde_json::from_str(filter).unwrap(), Vec::new(), found)
    }

    fn at(addresses: &[&str]) -> Vec<Found> {
        vec![Found {
            host: "service/shop/payment".parse().unwrap(),
            networks: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }]
    }

    fn to(aimed: &Aimed) -> (Vec<String>, bool) {
        let to = aimed.lock().resolved().unwrap().to.unwrap();
        let networks = to.networks.iter().map(ToString::to_string).collect();
        (networks, to.none)
    }

    #[tokio::test]
    async fn names_become_addresses_and_the_rest_stays() {
        let aimed = aimed(
            r#"{"to": {"hosts": ["localhost", "10.0.0.0/8"], "ports": ["80"]}, "direction": "egress"}"#,
            Vec::new(),
        );
        assert!(aimed.lock().has_names());
        assert_eq!(aimed.lock().resolved(), None);
        aimed.look_up().await.unwrap();
        let resolved = aimed.lock().resolved().unwrap();
        let to = resolved.to.unwrap();
        assert!(
            to.networks.iter().any(|n| n.address.is_loopback()),
            "{to:?}"
        );
        assert!(to.networks.contains(&"10.0.0.0/8".parse().unwrap()));
        assert!(!to.none && resolved.from.is_none());
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_said() {
        let aimed = aimed(r#"{"to": {"hosts": ["no-such-host.invalid"]}}"#, Vec::new());
        let why = aimed.look_up().await.unwrap_err();
        assert!(why.contains("no-such-host.invalid"));
    }

    #[test]
    fn what_is_nowhere_matches_nothing() {
        let aimed = aimed(r#"{"to": {"hosts": ["service/shop/payment"]}}"#, Vec::new());
        assert_eq!(to(&aimed), (Vec::new(), true));
        assert!(aimed.lock().moved(&at(&["10.0.0.2"])));
        assert!(!aimed.lock().moved(&at(&["10.0.0.2"])));
        assert_eq!(to(&aimed), (vec!["10.0.0.2".to_owned()], false));
        assert!(aimed.lock().moved(&at(&[])));
        assert_eq!(to(&aimed), (Vec::new(), true));
    }

    /// Two look-ups under way at once, the older of which ends last, and a move in between.
    #[test]
    fn the_newest_that_is_known_counts_in_whatever_order_it_came() {
        let hosts = r#"{"to": {"hosts": ["db.shop", "service/shop/payment"]}}"#;
        let aimed = aimed(hosts, at(&["10.0.0.2"]));
        let names = |address: &str| {
            let networks = vec![address.parse().unwrap()];
            Names::from([("db.shop".to_owned(), networks)])
        };
        let (older, wanted) = aimed.lock().begin();
        assert_eq!(wanted, ["db.shop"]);
        let (newer, _) = aimed.lock().begin();
        // A move while nothing is known of the name is not half a filter, and is not lost.
        assert!(aimed.lock().moved(&at(&["10.0.0.3"])));
        assert_eq!(aimed.lock().resolved(), None);
        aimed.lock().learn(newer, names("10.1.0.2"));
        aimed.lock().learn(older, names("10.1.0.1"));
        let both = vec!["10.0.0.3".to_owned(), "10.1.0.2".to_owned()];
        assert_eq!(to(&aimed), (both, false));
    }
}
