//! The fault on names: some DNS queries get a false answer, a late one or none.

use crate::filter::Filter;
use crate::pattern::Pattern;
use crate::units::{Delay, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// DNS queries over UDP and TCP are answered falsely, late or not at all; all others go to the resolver they were
/// meant for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    /// What happens to a query.
    pub effect: DnsEffect,
    /// The names asked for, without regard to case or a last dot; all where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Pattern>,
    /// The record types asked for; all where nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<RecordType>,
    /// The share of these queries that is hit, each drawn on its own.
    #[serde(default = "all")]
    pub share: Percent,
    /// Which packets: those to port 53 where no other is named.
    #[serde(default)]
    pub filter: Filter,
}

pub(super) const fn all() -> Percent {
    Percent::ALL
}

/// What happens to a DNS query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DnsEffect {
    /// There is no such name.
    Nxdomain,
    /// The resolver has failed.
    Servfail,
    /// No answer comes.
    Timeout,
    /// The query goes on, late.
    Delay(Delay),
    /// These addresses; queries for other types than A and AAAA are let through.
    Address(Vec<IpAddr>),
}

/// The types of records that a fault can be limited to.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "RFC 1035, 3596, 2782 and 9460 name them")]
pub enum RecordType {
    A,
    Ns,
    Cname,
    Soa,
    Ptr,
    Mx,
    Txt,
    Aaaa,
    Srv,
    Https,
}

impl RecordType {
    /// All, with their words and their numbers on the wire.
    pub const ALL: [(&'static str, Self, u16); 10] = [
        ("A", Self::A, 1),
        ("NS", Self::Ns, 2),
        ("CNAME", Self::Cname, 5),
        ("SOA", Self::Soa, 6),
        ("PTR", Self::Ptr, 12),
        ("MX", Self::Mx, 15),
        ("TXT", Self::Txt, 16),
        ("AAAA", Self::Aaaa, 28),
        ("SRV", Self::Srv, 33),
        ("HTTPS", Self::Https, 65),
    ];

    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        Self::ALL
            .iter()
            .find(|(_, kind, _)| *kind == self)
            .map_or(0, |(_, _, number)| *number)
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind, _)| *kind == self)
            .map_or("", |(word, _, _)| word)
    }
}

impl fmt::Display for DnsEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nxdomain => f.write_str("nxdomain"),
            Self::Servfail => f.write_str("servfail"),
            Self::Timeout => f.write_str("timeout"),
            Self::Delay(time) => write!(f, "delay {time}"),
            Self::Address(addresses) => list(f, addresses.iter()),
        }
    }
}

/// `dns nxdomain for *.payment.svc (A, AAAA) 50%`; the filter is said by whoever shows the fault.
impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dns {}", self.effect)?;
        if !self.names.is_empty() {
            f.write_str(" for ")?;
            list(f, self.names.iter())?;
        }
        if !self.types.is_empty() {
            f.write_str(" (")?;
            list(f, self.types.iter().map(|kind| kind.word()))?;
            f.write_str(")")?;
        }
        share(f, self.share)
    }
}

pub(super) fn list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = T>,
) -> fmt::Result {
    for (index, item) in items.enumerate() {
        f.write_str(if index == 0 { "" } else { ", " })?;
        item.fmt(f)?;
    }
    Ok(())
}

pub(super) fn share(f: &mut fmt::Formatter<'_>, share: Percent) -> fmt::Result {
    if share == Percent::ALL {
        Ok(())
    } else {
        write!(f, " {share}")
    }
}
