//! Which packets: addresses, ports and protocols, as nft expressions.

use std::fmt;
use std::net::IpAddr;

use super::Family;
use super::expr::{Base, Expressions, Meta, Verdict};
use super::sets::Set;

/// An address with a prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Net {
    /// The address; bits beyond the prefix are ignored.
    pub(crate) address: IpAddr,
    /// Its length, at most 32 or 128; more is taken as that.
    pub(crate) prefix: u8,
}

/// The port numbers from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ports {
    /// The lowest.
    pub(crate) first: u16,
    /// The highest.
    pub(crate) last: u16,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
}

/// One end of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct End {
    /// Its addresses; none for any.
    pub(crate) nets: Vec<Net>,
    /// Its ports (TCP and UDP); `None` for any.
    pub(crate) ports: Option<Ports>,
}

/// Packets that have all of these. The default is every IPv4 and IPv6 packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Match {
    /// Where they come from.
    pub(crate) source: End,
    /// Where they go.
    pub(crate) destination: End,
    /// Their transport; `None` for any (or, where a port is named, TCP and UDP).
    pub(crate) transport: Option<Transport>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

const ICMPV6: u8 = 58;

impl Match {
    /// Packets *to* an end.
    #[must_use]
    pub(crate) fn to(destination: End) -> Self {
        Self {
            destination,
            ..Self::default()
        }
    }

    /// The rules' matching parts: one list of expressions for each IP version that it can mean. Empty where
    /// source and destination are of different IP versions: no packet is like that.
    #[must_use]
    pub(crate) fn expressions(&self, family: Family) -> Vec<Expressions> {
        if self.has_ports() && self.source.nets.is_empty() && self.destination.nets.is_empty() {
            // A port is where it is in both IP versions, and most packets differ there.
            let numbers = self.protocols(Version::V4);
            let rule = |numbers| transport(self.ports(Expressions::default()), numbers);
            return numbers.map(rule).into_iter().collect();
        }
        let mut lists = Vec::new();
        for version in [Version::V4, Version::V6] {
            if self.source.excludes(version) || self.destination.excludes(version) {
                continue;
            }
            if let Some(numbers) = self.protocols(version) {
                // Most packets differ in an address: they are done after the first comparison. Of the other IP version, other bytes are
                // compared, and those that happen to be equal fail at the version.
                let mut list = Expressions::default();
                for (end, is_destination) in [(&self.destination, true), (&self.source, false)] {
                    list = end.address(list, version, is_destination);
                }
                list = transport(ip_version(list, family, version), numbers);
                lists.push(self.ports(list));
            }
        }
        lists
    }

    fn has_ports(&self) -> bool {
        self.source.ports.is_some() || self.destination.ports.is_some()
    }

    fn ports(&self, list: Expressions) -> Expressions {
        self.source.port(self.destination.port(list, true), false)
    }

    /// The numbers of the transports it can be; empty for any, `None` where no packet is like that.
    fn protocols(&self, version: Version) -> Option<&'static [u8]> {
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        const ICMP: u8 = 1;
        match (self.transport, self.has_ports()) {
            (Some(Transport::Tcp), _) => Some(&[TCP]),
            (Some(Transport::Udp), _) => Some(&[UDP]),
            // ICMP has no ports: such a match meets nothing.
            (Some(Transport::Icmp), true) => None,
            (Some(Transport::Icmp), false) if version == Version::V4 => Some(&[ICMP]),
            (Some(Transport::Icmp), false) => Some(&[ICMPV6]),
            (None, true) => Some(&[TCP, UDP]),
            (None, false) => Some(&[]),
        }
    }
}

impl End {
    fn excludes(&self, version: Version) -> bool {
        !self.nets.is_empty() && self.nets_of(version).is_empty()
    }

    fn nets_of(&self, version: Version) -> Vec<Net> {
        let is_of = |net: &&Net| net.address.is_ipv4() == (version == Version::V4);
        self.nets.iter().filter(is_of).copied().collect()
    }

    fn address(&self, list: Expressions, version: Version, is_destination: bool) -> Expressions {
        // struct iphdr: saddr at 12, daddr at 16; struct ipv6hdr: saddr at 8, daddr at 24.
        let offset = match (version, is_destination) {
            (Version::V4, false) => 12,
            (Version::V4, true) => 16,
            (Version::V6, false) => 8,
            (Version::V6, true) => 24,
        };
        match self.nets_of(version).as_slice() {
            [] => list,
            [net] => net.expressions(list, offset),
            nets => {
                let bytes = if version == Version::V4 { 4 } else { 16 };
                list.payload(Base::Network, offset, bytes)
                    .among(Set::of(nets))
            }
        }
    }

    fn port(&self, list: Expressions, is_destination: bool) -> Expressions {
        let Some(Ports { first, last }) = self.ports else {
            return list;
        };
        let list = list.payload(Base::Transport, if is_destination { 2 } else { 0 }, 2);
        if first == last {
            list.equals(&first.to_be_bytes())
        } else {
            list.range(&first.to_be_bytes(), &last.to_be_bytes())
        }
    }
}

impl Net {
    /// How long a prefix of its IP version can be.
    pub(super) fn whole(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    fn expressions(&self, list: Expressions, offset: u32) -> Expressions {
        let bytes = match self.address {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        let mask = mask(bytes.len(), self.prefix);
        if mask.iter().all(|b| *b == 0) {
            return list;
        }
        let loaded = list.payload(Base::Network, offset, bytes.len() as u32);
        if mask.iter().all(|b| *b == 0xff) {
            return loaded.equals(&bytes);
        }
        let masked: Vec<u8> = bytes.iter().zip(&mask).map(|(b, m)| b & m).collect();
        loaded.mask(&mask).equals(&masked)
    }
}

fn mask(bytes: usize, prefix: u8) -> Vec<u8> {
    (0..bytes)
        .map(|at| {
            let bits = usize::from(prefix).saturating_sub(at * 8).min(8);
            if bits == 0 { 0 } else { 0xffu8 << (8 - bits) }
        })
        .collect()
}

fn transport(list: Expressions, numbers: &[u8]) -> Expressions {
    match numbers {
        [] => list,
        [number] => list.meta(Meta::TransportProtocol).equals(&[*number]),
        several => list
            .meta(Meta::TransportProtocol)
            .among(Set::of_transports(several)),
    }
}

fn ip_version(list: Expressions, family: Family, version: Version) -> Expressions {
    match family {
        Family::Netdev => {
            let ether: u16 = if version == Version::V4 {
                0x0800
            } else {
                0x86dd
            };
            list.meta(Meta::Protocol).equals(&ether.to_be_bytes())
        }
        Family::Inet => {
            let number = if version == Version::V4 { 2 } else { 10 };
            list.meta(Meta::NetworkProtocol).equals(&[number])
        }
    }
}

/// The rule that spares neighbour discovery (ICMPv6 133 to 137, RFC 4861), which for IPv4 is ARP and never met: without
/// it a fault on "everything" would also unlearn the neighbours' addresses, and end later than it should.
#[must_use]
pub(crate) fn spare_neighbour_discovery(family: Family) -> Expressions {
    ip_version(Expressions::default(), family, Version::V6)
        .meta(Meta::TransportProtocol)
        .equals(&[ICMPV6])
        .payload(Base::Transport, 0, 1)
        .range(&[133], &[137])
        .verdict(&Verdict::Return)
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix >= self.whole() {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(address: &str, prefix: u8) -> Vec<Net> {
        vec![Net {
            address: address.parse().expect("an address"),
            prefix,
        }]
    }

    #[test]
    fn masks_cover_every_prefix() {
        assert_eq!(mask(4, 0), [0, 0, 0, 0]);
        assert_eq!(mask(4, 9), [255, 128, 0, 0]);
        assert_eq!(mask(4, 32), [255; 4]);
        assert_eq!(mask(4, 200), [255; 4]);
        assert_eq!(mask(16, 65)[8], 128);
    }

    #[test]
    fn a_match_becomes_a_rule_for_each_thing_it_can_mean() {
        let count = |m: Match| m.expressions(Family::Netdev).len();
        assert_eq!(count(Match::default()), 2, "IPv4 and IPv6");
        let port = Some(Ports {
            first: 80,
            last: 80,
        });
        assert_eq!(
            count(Match::to(End {
                nets: Vec::new(),
                ports: port
            })),
            1,
            "TCP and UDP, of both at once"
        );
        assert_eq!(
            count(Match::to(End {
                nets: net("10.0.0.1", 32),
                ports: port
            })),
            1
        );
        assert_eq!(
            count(Match::to(End {
                nets: net("fd00::1", 64),
                ports: None
            })),
            1
        );
        let mixed = Match {
            source: End {
                nets: net("10.0.0.1", 32),
                ports: None,
            },
            ..Match::to(End {
                nets: net("fd00::1", 128),
                ports: None,
            })
        };
        assert_eq!(count(mixed), 0, "no packet has two versions");
        let many = [net("10.0.0.1", 32), net("10.0.0.3", 32), net("fd00::1", 64)].concat();
        let many = Match::to(End {
            nets: many,
            ports: None,
        });
        let weights = many.expressions(Family::Inet);
        let weights: Vec<usize> = weights.iter().map(Expressions::weight).collect();
        assert_eq!(
            weights,
            [3, 1],
            "one rule, and a set where there are several"
        );
        let icmp_port = Match {
            transport: Some(Transport::Icmp),
            ..Match::to(End {
                nets: Vec::new(),
                ports: port,
            })
        };
        assert_eq!(count(icmp_port), 0);
    }
}
