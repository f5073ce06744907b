//! Which packets a network fault touches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

mod cluster;

pub use cluster::{ClusterHost, Found, POD_NAME};

/// The side of the target's interfaces on which packets are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// Leaving the target.
    Egress,
    /// Arriving at the target.
    Ingress,
    /// Either; a packet is never hit twice.
    #[default]
    Both,
}

/// The transport of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// TCP (IP protocol 6).
    Tcp,
    /// UDP (17).
    Udp,
    /// ICMP (1) over IPv4 and ICMPv6 (58) over IPv6.
    Icmp,
}

/// A port, or an inclusive range of them. Text: `8080` or `8000-8099`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// The first port, from 1.
    pub first: u16,
    /// The last port, at least `first`.
    pub last: u16,
}

/// An IP network: an address and how many of its leading bits count. Text: `10.0.0.0/8` or `10.0.0.2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// The address, with the bits past the prefix cleared.
    pub address: IpAddr,
    /// Leading bits that count: up to 32 for IPv4, 128 for IPv6.
    pub prefix: u8,
}

/// A host as a file names it: a network, or a name that the agent resolves and keeps current.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// An address or a CIDR block.
    Network(Network),
    /// A DNS name.
    Name(String),
    /// What a cluster names.
    Cluster(ClusterHost),
}

/// One end of a conversation: any of these hosts, at any of these ports. What is empty matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Addresses, CIDR blocks and host names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Host>,
    /// Ports and port ranges; they make sense for TCP and UDP only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Ports>,
}

/// Which packets a network fault touches; all of the target's where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// The packet's destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Endpoint>,
    /// The packet's source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Endpoint>,
    /// The transport; any where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Where the packets are looked at.
    #[serde(default)]
    pub direction: Direction,
}

/// A [`Filter`] with its names turned into addresses, and what must never be touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolvedFilter {
    /// The packet's destination.
    pub to: Option<ResolvedEndpoint>,
    /// The packet's source.
    pub from: Option<ResolvedEndpoint>,
    /// The transport; any where nothing is said.
    pub protocol: Option<Protocol>,
    /// Where the packets are looked at.
    pub direction: Direction,
    /// Conversations that stay as they are, whichever side they start from: the controller's link and what
    /// the node's policy protects.
    pub spare: Vec<ResolvedEndpoint>,
}

/// An [`Endpoint`] without names. Empty lists match everything, but see `none`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolvedEndpoint {
    /// Addresses and blocks.
    pub networks: Vec<Network>,
    /// Ports and ranges.
    pub ports: Vec<Ports>,
    /// Hosts were named, but none resolves just now: this end matches nothing, not everything.
    #[serde(default)]
    pub none: bool,
}

impl Filter {
    /// What of a cluster it names.
    pub fn cluster_hosts(&self) -> impl Iterator<Item = (&Host, &ClusterHost)> {
        let ends = [&self.to, &self.from].into_iter().flatten();
        ends.flat_map(|end| &end.hosts)
            .filter_map(|host| match host {
                Host::Cluster(of) => Some((host, of)),
                Host::Network(_) | Host::Name(_) => None,
            })
    }
}

impl Network {
    /// A network with the bits past the prefix cleared; `None` when the prefix is longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) => {
                let keep = u32::MAX
                    .checked_shl(32u32.checked_sub(prefix.into())?)
                    .unwrap_or(0);
                IpAddr::V4((v4.to_bits() & keep).into())
            }
            IpAddr::V6(v6) => {
                let keep = u128::MAX
                    .checked_shl(128u32.checked_sub(prefix.into())?)
                    .unwrap_or(0);
                IpAddr::V6((v6.to_bits() & keep).into())
            }
        };
        Some(Self { address, prefix })
    }

    /// Exactly one address.
    #[must_use]
    pub const fn single(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }

    const fn is_single(&self) -> bool {
        self.prefix == if self.address.is_ipv4() { 32 } else { 128 }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Cluster(host) => host.fmt(f),
        }
    }
}

/// Why an end of a conversation could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not a port or a range of ports.
    #[error("`{0}` is not a port: write a number from 1 to 65535, or a range such as `8000-8099`")]
    Ports(String),
    /// Not an address, a CIDR block or a host name.
    #[error(
        "`{0}` is not a host: write an address (`10.0.0.2`), a CIDR block (`10.0.0.0/8`) or a DNS name"
    )]
    Host(String),
}

impl std::str::FromStr for Ports {
    type Err = FilterError;
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let error = || FilterError::Ports(text.to_owned());
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |t: &str| {
            t.trim()
                .parse::<u16>()
                .ok()
                .filter(|p| *p > 0)
                .ok_or_else(error)
        };
        let (first, last) = (port(first)?, port(last)?);
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(error())
        }
    }
}

impl std::str::FromStr for Network {
    type Err = FilterError;
    fn from_str(text: &str) -> Result<Self, FilterError> {
        let error = || FilterError::Host(text.to_owned());
        match text.split_once('/') {
            None => text.parse().map(Self::single).map_err(|_| error()),
            Some((address, prefix)) => {
                let address: IpAddr = address.parse().map_err(|_| error())?;
                Self::new(address, prefix.parse().map_err(|_| error())?).ok_or_else(error)
            }
        }
    }
}

impl std::str::FromStr for Host {
    type Err = FilterError;
    fn from_str(text: &str) -> Result<Self, FilterError> {
        if let Ok(network) = text.parse() {
            return Ok(Self::Network(network));
        }
        if let Some(host) = ClusterHost::read(text) {
            return Ok(Self::Cluster(host));
        }
        // RFC 1123, section 2.1: labels of letters, digits and hyphens. A name whose last label is all digits
        // is a mistyped address.
        let labels: Vec<&str> = text.trim_end_matches('.').split('.').collect();
        let label = |l: &&str| {
            (1..=63).contains(&l.len())
                && l.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        let numeric = labels
            .last()
            .is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if text.len() <= 253 && labels.iter().all(label) && !numeric {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(FilterError::Host(text.to_owned()))
        }
    }
}

/// Serde and schema for a type that is text.
macro_rules! as_text {
    ($name:ident, $description:literal) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": ["string", "integer"], "description": $description })
            }
        }
    };
}
as_text!(
    Ports,
    "A port from 1 to 65535, or an inclusive range such as 8000-8099"
);
as_text!(Network, "An address or a CIDR block");
as_text!(Host, "An address, a CIDR block or a DNS name");

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.hosts.iter().map(ToString::to_string).collect();
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        match (hosts.is_empty(), ports.is_empty()) {
            (true, true) => f.write_str("anything"),
            (false, true) => f.write_str(&hosts.join(",")),
            (true, false) => write!(f, ":{}", ports.join(",")),
            (false, false) => write!(f, "{}:{}", hosts.join(","), ports.join(",")),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        if let Some(protocol) = self.protocol {
            said.push(format!("{protocol:?}").to_lowercase());
        }
        if let Some(to) = &self.to {
            said.push(format!("to {to}"));
        }
        if let Some(from) = &self.from {
            said.push(format!("from {from}"));
        }
        match self.direction {
            Direction::Egress => said.push("leaving".into()),
            Direction::Ingress => said.push("arriving".into()),
            Direction::Both => {}
        }
        f.write_str(&said.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_masked() {
        assert_eq!(
            "10.1.2.3/8".parse::<Network>().unwrap().to_string(),
            "10.0.0.0/8"
        );
        assert_eq!("fd00::1/0".parse::<Network>().unwrap().to_string(), "::/0");
        assert_eq!(
            "10.0.0.2/32".parse::<Network>().unwrap().to_string(),
            "10.0.0.2"
        );
        assert!("10.0.0.2/33".parse::<Network>().is_err());
    }

    #[test]
    fn a_mistyped_address_is_not_a_name() {
        assert!("10.0.0.300".parse::<Host>().is_err());
        assert!(matches!("db.shop".parse::<Host>(), Ok(Host::Name(_))));
        assert!("9000-8000".parse::<Ports>().is_err());
        assert!("0".parse::<Ports>().is_err());
    }
}
