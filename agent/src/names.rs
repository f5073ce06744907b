//! Host names of faults, turned into addresses and kept current.

use squall_experiments::filter::{
    Endpoint, Filter, Host, Network, ResolvedEndpoint, ResolvedFilter,
};
use std::time::Duration;

/// How long one name may take: a fault is not armed later than a person's patience.
const LOOKUP: Duration = Duration::from_secs(2);
/// How often names are looked up again while a fault lives: a moved service is hit again within a run's step.
pub(crate) const AGAIN: Duration = Duration::from_secs(10);
/// The most addresses of one name; round-robin names of large services have some hundred.
const ADDRESSES_MAX: usize = 256;

/// Whether a filter has names in it at all.
pub(crate) fn has_names(filter: &Filter) -> bool {
    let ends = [&filter.to, &filter.from];
    let hosts = ends.into_iter().flatten().flat_map(|end| &end.hosts);
    hosts.into_iter().any(|host| matches!(host, Host::Name(_)))
}

/// The filter with addresses for its names, by the node's own resolver.
///
/// # Errors
/// A sentence: a name does not resolve.
pub(crate) async fn resolve(
    filter: &Filter,
    spare: &[ResolvedEndpoint],
) -> Result<ResolvedFilter, String> {
    Ok(ResolvedFilter {
        to: end(filter.to.as_ref()).await?,
        from: end(filter.from.as_ref()).await?,
        protocol: filter.protocol,
        direction: filter.direction,
        spare: spare.to_vec(),
    })
}

async fn end(end: Option<&Endpoint>) -> Result<Option<ResolvedEndpoint>, String> {
    let Some(end) = end else {
        return Ok(None);
    };
    let mut networks = Vec::new();
    for host in &end.hosts {
        match host {
            Host::Network(network) => networks.push(*network),
            Host::Name(name) => networks.extend(lookup(name).await?),
        }
    }
    networks.sort_unstable();
    networks.dedup();
    Ok(Some(ResolvedEndpoint {
        none: networks.is_empty() && !end.hosts.is_empty(),
        networks,
        ports: end.ports.clone(),
    }))
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

    #[tokio::test]
    async fn names_become_addresses_and_the_rest_stays() {
        let filter: Filter = serde_json::from_str(
            r#"{"to": {"hosts": ["localhost", "10.0.0.0/8"], "ports": ["80"]}, "direction": "egress"}"#,
        )
        .unwrap();
        assert!(has_names(&filter));
        let resolved = resolve(&filter, &[]).await.unwrap();
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
        let filter: Filter =
            serde_json::from_str(r#"{"to": {"hosts": ["no-such-host.invalid"]}}"#).unwrap();
        assert!(
            resolve(&filter, &[])
                .await
                .unwrap_err()
                .contains("no-such-host.invalid")
        );
    }
}
