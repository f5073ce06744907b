//! How often a queue is looked at.
//!
//! Each look costs more than a packet: the process is woken, asks, answers, sets its timer and goes to sleep. While packets come
//! faster than the pace, and all of them have to wait for far longer, they are looked at together. What is answered at once never
//! waits for others, and neither do packets that come one by one.

use std::time::Duration;

use crate::kernel::net::shape::Shape;

/// Between two looks while a pace is kept. A packet's moment is off by half of it, as it is taken to have come in the middle.
const PACE_NS: u64 = 100_000;
/// How many times that each packet has to wait at least.
const WAIT_MIN: u64 = 10;

/// When to look again.
#[derive(Debug)]
pub(super) struct Pace {
    kept: bool,
    looked_ns: u64,
    until_ns: Option<u64>,
}

impl Pace {
    /// For packets of this shape; `apart` where they are told from others', who are not to wait at all.
    pub(super) fn of(shape: &Shape, apart: bool) -> Self {
        // As far as the widest distribution spreads (`Distribution::table`).
        let least = shape.delay.saturating_sub(shape.jitter * 4);
        let waits = least >= Duration::from_nanos(PACE_NS * WAIT_MIN);
        // A place in a line is decided when a packet is looked at.
        let in_line = shape.rate_bytes_per_s > 0 || shape.reorder.probability > 0.0;
        Self {
            kept: waits && !in_line && !apart,
            looked_ns: 0,
            until_ns: None,
        }
    }

    /// Before this moment nobody looks; none where everybody may look at any time.
    pub(super) const fn until_ns(&self) -> Option<u64> {
        self.until_ns
    }

    /// Whether to look now: so many nanoseconds before now the packets are taken to have come.
    pub(super) fn look(&self, now_ns: u64) -> Option<u64> {
        match self.until_ns {
            None => Some(0),
            Some(until) => (until <= now_ns).then_some(PACE_NS / 2),
        }
    }

    /// So many were there.
    pub(super) fn seen(&mut self, now_ns: u64, packets: u64) {
        let fast = packets.saturating_mul(PACE_NS) > now_ns.saturating_sub(self.looked_ns);
        self.until_ns = (self.kept && fast).then_some(now_ns + PACE_NS);
        self.looked_ns = now_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::net::shape::Chance;

    const SECOND_NS: u64 = 1_000_000_000;

    fn late(ms: u64) -> Shape {
        Shape {
            delay: Duration::from_millis(ms),
            ..Shape::default()
        }
    }

    /// Looks in a second in which a packet comes each so often, by whoever looks as soon as there is one and it may.
    fn looks(mut pace: Pace, each_ns: u64) -> u64 {
        let (mut looks, mut unread) = (0, 0);
        for at in (0..SECOND_NS).step_by(1_000) {
            unread += u64::from(at % each_ns == 0);
            if unread > 0 && pace.look(SECOND_NS + at).is_some() {
                pace.seen(SECOND_NS + at, unread);
                (looks, unread) = (looks + 1, 0);
            }
        }
        looks
    }

    #[test]
    fn a_flood_is_looked_at_together_and_what_comes_one_by_one_is_not() {
        let at_pace = SECOND_NS / PACE_NS;
        let flood = looks(Pace::of(&late(2), false), 20_000);
        assert!((at_pace * 9 / 10..=at_pace + 1).contains(&flood), "{flood}");
        assert_eq!(looks(Pace::of(&late(2), false), 200_000), 5_000);
    }

    #[test]
    fn the_first_and_the_next_after_a_flood_are_looked_at_as_they_come() {
        let mut pace = Pace::of(&late(2), false);
        assert_eq!(pace.look(SECOND_NS), Some(0));
        pace.seen(SECOND_NS, 1);
        assert_eq!(pace.until_ns(), None);
        pace.seen(SECOND_NS + PACE_NS, 5);
        let until = pace.until_ns().unwrap();
        assert_eq!(pace.look(until - 1), None);
        assert_eq!(pace.look(until), Some(PACE_NS / 2));
        pace.seen(until, 0);
        assert_eq!(pace.look(until + 1), Some(0));
    }

    #[test]
    fn what_may_go_at_once_or_stands_in_a_line_never_waits_for_a_look() {
        let jittery = Shape {
            jitter: Duration::from_millis(1),
            ..late(4)
        };
        let narrow = Shape {
            rate_bytes_per_s: 1,
            ..late(9)
        };
        let overtaken = Shape {
            reorder: Chance {
                probability: 0.1,
                correlation: 0.0,
            },
            ..late(9)
        };
        for shape in [late(0), jittery, narrow, overtaken] {
            assert_eq!(looks(Pace::of(&shape, false), 20_000), 50_000, "{shape:?}");
        }
        assert_eq!(looks(Pace::of(&late(9), true), 20_000), 50_000);
    }
}
