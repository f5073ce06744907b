//! Sets of addresses, and of transports, that belong to one rule each (nft's anonymous sets): made in its transaction, gone with it.
//!
//! The kernel keeps single addresses in a hash table (net/netfilter/nft_set_hash.c), where a packet costs one look however many they
//! are, and the bounds of ranges in a tree (nft_set_rbtree.c), where it costs the logarithm of their number. A rule for each would cost
//! their number.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::matching::Net;
use crate::kernel::net::attr::Body;

/// The kernel puts a number of its own in the place of `%d`.
pub(super) const ANY_NAME: &str = "__set%d";
/// Elements of one message: an attribute has at most 64 KiB, and one of IPv6 takes 40 bytes.
const ELEMENTS_PER_MESSAGE: usize = 1_024;
/// `NFT_SET_ANONYMOUS`, `NFT_SET_CONSTANT`.
const FLAGS: u32 = 0x1 | 0x2;
/// `NFT_SET_INTERVAL`.
const INTERVALS: u32 = 0x4;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;

/// Addresses of one IP version, or transports.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    /// By which the rule of the same transaction finds it.
    id: u32,
    has_ranges: bool,
    /// In order: what is in it one by one, or where ranges begin and where they are over (true).
    bounds: Vec<(Vec<u8>, bool)>,
}

impl Set {
    /// All addresses of some networks, which are of one IP version.
    #[must_use]
    pub(crate) fn of(nets: &[Net]) -> Self {
        let is_v4 = nets.iter().all(|net| net.address.is_ipv4());
        if nets.iter().any(|net| net.prefix < net.whole()) {
            Self::new(bounds(nets, is_v4), true)
        } else {
            Self::new(singles(nets, is_v4), false)
        }
    }

    /// The transports of these numbers, each told once.
    #[must_use]
    pub(crate) fn of_transports(numbers: &[u8]) -> Self {
        let one = |number: &u8| (vec![*number], false);
        Self::new(numbers.iter().map(one).collect(), false)
    }

    fn new(bounds: Vec<(Vec<u8>, bool)>, has_ranges: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            has_ranges,
            bounds,
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn len(&self) -> usize {
        self.bounds.len()
    }

    /// What makes it, of a table of that name (the value of `NFT_MSG_NEWSET`).
    pub(super) fn put(&self, body: &mut Body, table: &str) {
        const OF_IPV4: u32 = 7;
        const OF_IPV6: u32 = 8;
        const OF_TRANSPORTS: u32 = 12;
        let key_bytes = self.bounds.first().map_or(4, |(key, _)| key.len());
        // What nft shows it as.
        let shown = match key_bytes {
            1 => OF_TRANSPORTS,
            4 => OF_IPV4,
            _ => OF_IPV6,
        };
        body.put_str(1, table)
            .put_str(2, ANY_NAME)
            .put_be32(3, FLAGS | if self.has_ranges { INTERVALS } else { 0 })
            .put_be32(4, shown)
            .put_be32(5, key_bytes as u32)
            // Of a known size the kernel makes a hash table that never grows, which is the fastest it has.
            .nest(9, |size| {
                size.put_be32(1, self.bounds.len() as u32);
            })
            .put_be32(10, self.id);
    }

    /// What fills it, in as many messages as that takes (the values of `NFT_MSG_NEWSETELEM`).
    pub(super) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let parts = self.bounds.chunks(ELEMENTS_PER_MESSAGE);
        parts.map(|bounds| Part {
            id: self.id,
            bounds,
        })
    }
}

/// As much of a set as one message fills it with.
pub(super) struct Part<'a> {
    id: u32,
    bounds: &'a [(Vec<u8>, bool)],
}

impl Part<'_> {
    pub(super) fn put(&self, body: &mut Body, table: &str) {
        body.put_str(1, table)
            .put_str(2, ANY_NAME)
            .put_be32(4, self.id)
            .nest(3, |list| {
                self.bounds.iter().for_each(|bound| put_bound(list, bound))
            });
    }
}

fn put_bound(list: &mut Body, (key, is_end): &(Vec<u8>, bool)) {
    list.nest(1, |element| {
        element.nest(1, |data| {
            data.put(1, key);
        });
        if *is_end {
            element.put_be32(3, INTERVAL_END);
        }
    });
}

fn singles(nets: &[Net], is_v4: bool) -> Vec<(Vec<u8>, bool)> {
    let all: BTreeSet<u128> = nets.iter().map(|net| range(net).0).collect();
    all.into_iter().map(|n| (key(n, is_v4), false)).collect()
}

fn bounds(nets: &[Net], is_v4: bool) -> Vec<(Vec<u8>, bool)> {
    let highest = if is_v4 { u32::MAX.into() } else { u128::MAX };
    let mut bounds = Vec::new();
    for (first, last) in ranges(nets) {
        bounds.push((key(first, is_v4), false));
        // One that ends with the highest address is never over.
        if last < highest {
            bounds.push((key(last + 1, is_v4), true));
        }
    }
    bounds
}

fn key(number: u128, is_v4: bool) -> Vec<u8> {
    number.to_be_bytes()[if is_v4 { 12 } else { 0 }..].to_vec()
}

/// The first and the last address of each range, in order and apart: the kernel refuses ranges that overlap.
fn ranges(nets: &[Net]) -> Vec<(u128, u128)> {
    let mut all: Vec<(u128, u128)> = nets.iter().map(range).collect();
    all.sort_unstable();
    let mut apart: Vec<(u128, u128)> = Vec::new();
    for (first, last) in all {
        match apart.last_mut() {
            Some((_, before)) if first <= before.saturating_add(1) => *before = last.max(*before),
            _ => apart.push((first, last)),
        }
    }
    apart
}

fn range(net: &Net) -> (u128, u128) {
    let address: u128 = match net.address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    };
    let free = u32::from(net.whole() - net.prefix.min(net.whole()));
    // All bits that the prefix leaves.
    let span = u128::MAX.checked_shr(128 - free).unwrap_or(0);
    (address & !span, address | span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(all: &[&str]) -> Vec<Net> {
        let net = |text: &&str| {
            let (address, prefix) = text.split_once('/').unwrap();
            Net {
                address: address.parse().unwrap(),
                prefix: prefix.parse().unwrap(),
            }
        };
        all.iter().map(net).collect()
    }

    fn bounds(all: &[&str]) -> Vec<(String, bool)> {
        let shown = |key: &Vec<u8>| match <[u8; 4]>::try_from(key.as_slice()) {
            Ok(v4) => IpAddr::from(v4).to_string(),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(key.as_slice()).unwrap()).to_string(),
        };
        let set = Set::of(&nets(all));
        set.bounds
            .iter()
            .map(|(key, end)| (shown(key), *end))
            .collect()
    }

    #[test]
    fn networks_become_ranges_that_neither_overlap_nor_touch() {
        let begin = |text: &str| (text.to_owned(), false);
        let over = |text: &str| (text.to_owned(), true);
        assert_eq!(
            bounds(&[
                "10.0.0.9/32",
                "10.0.0.2/31",
                "10.0.0.4/32",
                "10.0.0.8/29",
                "10.0.0.2/32"
            ]),
            [
                begin("10.0.0.2"),
                over("10.0.0.5"),
                begin("10.0.0.8"),
                over("10.0.0.16")
            ]
        );
        assert_eq!(
            bounds(&["10.7.0.1/8", "255.255.255.255/32"]),
            [
                begin("10.0.0.0"),
                over("11.0.0.0"),
                begin("255.255.255.255")
            ]
        );
        assert_eq!(
            bounds(&["fd00::1/128", "fd00:1::/32", "::/0"]),
            [begin("::")]
        );
        assert_eq!(
            bounds(&["fd00::1/128", "fd00::3/127"]),
            [begin("fd00::1"), over("fd00::4")]
        );
    }

    #[test]
    fn single_addresses_are_told_once_each() {
        let one = |text: &str| (text.to_owned(), false);
        assert_eq!(
            bounds(&[
                "10.0.0.3/32",
                "10.0.0.2/32",
                "10.0.0.3/32",
                "255.255.255.255/40"
            ]),
            [one("10.0.0.2"), one("10.0.0.3"), one("255.255.255.255")]
        );
        assert_eq!(
            bounds(&["fd00::3/200", "fd00::1/128"]),
            [one("fd00::1"), one("fd00::3")]
        );
    }

    #[test]
    fn many_are_told_in_several_messages() {
        let all: Vec<String> = (0..1_500)
            .map(|n| format!("fd00:{:x}::/32", n * 2))
            .collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let set = Set::of(&nets(&all));
        let bytes = |part: Part<'_>| {
            let mut body = Body::default();
            part.put(&mut body, "t");
            body.bytes().len()
        };
        let told: Vec<usize> = set.parts().map(bytes).collect();
        assert_eq!((set.len(), told.len()), (3_000, 3));
        assert!(told.iter().all(|bytes| *bytes < 1 << 16), "{told:?}");
    }
}
