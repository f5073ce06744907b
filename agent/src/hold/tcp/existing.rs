//! The connections that are there already: found by asking the kernel, and made to show themselves.
//!
//! An idle connection sends nothing that could be met. A SYN in the middle of it makes its end answer with the numbers
//! that it is at (the challenge of RFC 5961, section 4.2), and do nothing else: that answer is met.

use std::net::{IpAddr, SocketAddr};

use squall_experiments::filter::{Direction, Network, ResolvedEndpoint, ResolvedFilter};

use super::segment::{Made, SYN};
use crate::kernel::net::sockets::Connection;

/// Whether a filter picks a packet from one end to the other, as its rules do.
fn picks(filter: &ResolvedFilter, from: SocketAddr, to: SocketAddr) -> bool {
    let spared = |end: &ResolvedEndpoint| has(Some(end), from) || has(Some(end), to);
    !filter.spare.iter().any(spared)
        && has(filter.from.as_ref(), from)
        && has(filter.to.as_ref(), to)
}

fn has(end: Option<&ResolvedEndpoint>, at: SocketAddr) -> bool {
    let Some(end) = end else {
        return true;
    };
    let port = |p: &squall_experiments::filter::Ports| (p.first..=p.last).contains(&at.port());
    !end.none
        && (end.networks.is_empty() || end.networks.iter().any(|n| holds(n, at.ip())))
        && (end.ports.is_empty() || end.ports.iter().any(port))
}

fn holds(network: &Network, address: IpAddr) -> bool {
    network.address.is_ipv4() == address.is_ipv4()
        && Network::new(address, network.prefix).is_some_and(|n| n.address == network.address)
}

/// Whether packets that leave by a connection are picked, and whether those that arrive by it are.
pub(super) fn sides(filter: &ResolvedFilter, connection: &Connection) -> (bool, bool) {
    let Connection { local, remote, .. } = connection;
    let leaving = filter.direction != Direction::Ingress && picks(filter, *local, *remote);
    let arriving = filter.direction != Direction::Egress && picks(filter, *remote, *local);
    (leaving, arriving)
}

/// Packets that make an end of a connection send one that the filter picks; none where it picks none of it.
pub(super) fn calls(filter: &ResolvedFilter, connection: &Connection) -> Vec<Vec<u8>> {
    let (leaving, arriving) = sides(filter, connection);
    let call = |source, destination| {
        Made {
            sequence: rand::random(),
            flags: SYN,
            ..Made::between(source, destination)
        }
        .packet()
    };
    let Connection { local, remote, .. } = connection;
    let of_local = leaving.then(|| call(*remote, *local));
    let of_remote = arriving.then(|| call(*local, *remote));
    of_local.into_iter().chain(of_remote).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(networks: &[&str], ports: &[&str]) -> ResolvedEndpoint {
        ResolvedEndpoint {
            networks: networks
                .iter()
                .map(|n| n.parse().expect("a network"))
                .collect(),
            ports: ports.iter().map(|p| p.parse().expect("a port")).collect(),
            none: false,
        }
    }

    #[test]
    fn a_filter_picks_what_its_rules_pick() {
        let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let filter = ResolvedFilter {
            to: Some(endpoint(&["10.0.0.0/24", "fd00::2"], &["80-89"])),
            spare: vec![endpoint(&["10.0.0.9"], &[])],
            ..ResolvedFilter::default()
        };
        let own = at("10.1.0.1:4000");
        assert!(picks(&filter, own, at("10.0.0.2:80")));
        assert!(picks(&filter, at("[fd00::1]:4000"), at("[fd00::2]:89")));
        for other in ["10.0.1.2:80", "10.0.0.2:90", "10.0.0.9:80"] {
            assert!(!picks(&filter, own, at(other)), "{other}");
        }
        assert!(!picks(&filter, at("10.0.0.2:80"), own), "the other way");
        let none = ResolvedEndpoint {
            none: true,
            ..ResolvedEndpoint::default()
        };
        let nobody = ResolvedFilter {
            to: Some(none),
            ..ResolvedFilter::default()
        };
        assert!(!picks(&nobody, own, at("10.0.0.2:80")));
    }
}
