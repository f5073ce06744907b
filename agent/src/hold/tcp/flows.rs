//! The connections that a fault has met: which of them are hit, each counted once. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;

use squall_experiments::units::Percent;

/// Connections that are remembered; beyond it those not heard of for [`FORGOTTEN_NS`] go, and then new ones are not
/// remembered, so that their packets are judged alike but counted again.
const FLOWS_MAX: usize = 65_536;
/// A closed connection's ports may be used again after a minute (tcp(7), TIME_WAIT).
const FORGOTTEN_NS: u64 = 60_000_000_000;

/// The two ends of a connection, the lower first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Flow(SocketAddr, SocketAddr);

impl Flow {
    /// The same whichever end is named first.
    pub(super) fn of(one: SocketAddr, other: SocketAddr) -> Self {
        Self(one.min(other), one.max(other))
    }
}

/// The connections met.
#[derive(Debug)]
pub(super) struct Flows {
    share: Percent,
    seed: u64,
    seen: HashMap<Flow, Life>,
    /// Connections met, and those of them that were hit.
    pub(super) met: u64,
    pub(super) hit: u64,
}

#[derive(Debug)]
struct Life {
    hit: bool,
    last_ns: u64,
}

impl Flows {
    pub(super) fn new(share: Percent, seed: u64) -> Self {
        Self {
            share,
            seed,
            seen: HashMap::new(),
            met: 0,
            hit: 0,
        }
    }

    /// Whether a connection is one of the share: the same answer for all of its packets.
    pub(super) fn draws(&self, flow: Flow) -> bool {
        if self.share == Percent::ALL {
            return true;
        }
        const MILLION: u64 = 1_000_000;
        mixed(self.seed, flow) % MILLION < self.share.get()
    }

    /// The same, of a connection that is met now, and counted if it is new.
    pub(super) fn meet(&mut self, flow: Flow, now_ns: u64) -> bool {
        if let Some(life) = self.seen.get_mut(&flow) {
            life.last_ns = now_ns;
            return life.hit;
        }
        if self.seen.len() >= FLOWS_MAX {
            self.seen
                .retain(|_, life| now_ns.saturating_sub(life.last_ns) < FORGOTTEN_NS);
        }
        let hit = self.draws(flow);
        self.met += 1;
        self.hit += u64::from(hit);
        if self.seen.len() < FLOWS_MAX {
            let last_ns = now_ns;
            self.seen.insert(flow, Life { hit, last_ns });
        }
        hit
    }
}

/// A number that looks like chance, but is the same for one seed and connection (FNV-1a, then splitmix64's end).
fn mixed(seed: u64, flow: Flow) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let mut sum = 0xcbf2_9ce4_8422_2325 ^ seed;
    let mut add = |byte: u8| sum = (sum ^ u64::from(byte)).wrapping_mul(PRIME);
    for end in [flow.0, flow.1] {
        match end.ip() {
            std::net::IpAddr::V4(v4) => v4.octets().into_iter().for_each(&mut add),
            std::net::IpAddr::V6(v6) => v6.octets().into_iter().for_each(&mut add),
        }
        end.port().to_be_bytes().into_iter().for_each(&mut add);
    }
    sum = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    sum = (sum ^ (sum >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    sum ^ (sum >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        let end = |text: &str, port| SocketAddr::new(text.parse().expect("an address"), port);
        Flow::of(end("10.0.0.1", port), end("10.0.0.2", 80))
    }

    #[test]
    fn a_share_of_the_connections_is_hit_and_each_stays_what_it_is() {
        let share: Percent = "30%".parse().expect("a share");
        let mut flows = Flows::new(share, 7);
        for port in 1..=10_000 {
            let first = flows.meet(flow(port), 0);
            assert_eq!(flows.meet(flow(port), 1), first);
        }
        assert_eq!(flows.met, 10_000, "each is counted once");
        // Six standard deviations (46) of a fair draw.
        assert!((2_724..=3_276).contains(&flows.hit), "{}", flows.hit);
        let others = Flows::new(share, 8);
        let differ =
            (1..=10_000).filter(|port| others.draws(flow(*port)) != flows.draws(flow(*port)));
        assert!(differ.count() > 1_000, "another seed, others");
    }

    #[test]
    fn old_connections_make_room() {
        let mut flows = Flows::new(Percent::ALL, 1);
        for number in 0..=FLOWS_MAX as u64 {
            let port = |n: u64| u16::try_from(n % 60_000).expect("below") + 1;
            let host = |n: u64| {
                std::net::Ipv4Addr::from(0x0a00_0000 + u32::try_from(n / 60_000).expect("below"))
            };
            let other = SocketAddr::new(host(number).into(), port(number));
            flows.meet(
                Flow::of(other, "10.9.9.9:80".parse().expect("an address")),
                number,
            );
        }
        assert!(flows.seen.len() <= FLOWS_MAX);
        flows.meet(flow(1), FORGOTTEN_NS + FLOWS_MAX as u64 + 1);
        assert_eq!(flows.seen.len(), 1);
    }
}
