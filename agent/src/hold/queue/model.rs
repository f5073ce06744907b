//! netem's arithmetic in user space, pure: a packet's arrival and length in, its fate out.
//!
//! The decisions and their order are those of `netem_enqueue` (net/sched/sch_netem.c), so that both means agree on what
//! a number in a file does: duplication first, then loss, corruption, reordering, delay, rate; 32-bit draws, netem's
//! correlation formula and its distribution tables. Times are nanoseconds since any fixed moment.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::kernel::net::shape::{Chance, Loss, Shape, TABLE_SCALE};

/// What becomes of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is lost.
    Lost,
    /// It goes on at `due_ns`.
    Sent {
        /// When.
        due_ns: u64,
        /// One of its bits is flipped: a draw by which to choose which.
        corrupt: Option<u64>,
        /// It was let past those that wait.
        overtakes: bool,
    },
}

/// A packet's fate, and that of its copy where it is duplicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fates {
    /// The packet's own.
    pub(crate) own: Fate,
    /// Its copy's.
    pub(crate) copy: Option<Fate>,
}

/// One random decision with memory: `get_crandom` of netem.
#[derive(Debug, Clone, Copy)]
struct Draw {
    threshold: u32,
    correlation: u32,
    last: u32,
}

impl Draw {
    fn new(probability: f64, correlation: f64) -> Self {
        let fraction = |v: f64| (v.clamp(0.0, 1.0) * f64::from(u32::MAX)).round() as u32;
        Self {
            threshold: fraction(probability),
            correlation: fraction(correlation),
            last: 0,
        }
    }

    fn of(chance: Chance) -> Self {
        Self::new(chance.probability, chance.correlation)
    }

    fn value(&mut self, rng: &mut StdRng) -> u32 {
        let fresh: u32 = rng.random();
        if self.correlation == 0 {
            return fresh;
        }
        let weight = u64::from(self.correlation) + 1;
        // Both products are below 2^64: the weights add up to 2^32.
        let mixed = u64::from(fresh) * ((1 << 32) - weight) + u64::from(self.last) * weight;
        self.last = (mixed >> 32) as u32;
        self.last
    }

    fn hits(&mut self, rng: &mut StdRng) -> bool {
        self.threshold > 0 && self.threshold >= self.value(rng)
    }
}

#[derive(Debug)]
enum Losing {
    Never,
    Random(Draw),
    /// Thresholds as netem has them, and whether the state is bad.
    Gilbert {
        to_bad: u32,
        to_good: u32,
        bad_loss: u32,
        good_loss: u32,
        bad: bool,
    },
}

impl Losing {
    fn of(loss: Option<Loss>) -> Self {
        let fraction = |v: f64| Draw::new(v, 0.0).threshold;
        match loss {
            None => Self::Never,
            Some(Loss::Random {
                probability,
                correlation,
            }) => Self::Random(Draw::new(probability, correlation)),
            Some(Loss::Gilbert {
                to_bad,
                to_good,
                bad_loss,
                good_loss,
            }) => Self::Gilbert {
                to_bad: fraction(to_bad),
                to_good: fraction(to_good),
                bad_loss: fraction(bad_loss),
                good_loss: fraction(good_loss),
                bad: false,
            },
        }
    }

    fn hits(&mut self, rng: &mut StdRng) -> bool {
        match self {
            Self::Never => false,
            Self::Random(draw) => draw.hits(rng),
            Self::Gilbert {
                to_bad,
                to_good,
                bad_loss,
                good_loss,
                bad,
            } => {
                // `loss_gilb_ell`: the state changes for the next packet, the loss is by the state before.
                let (change, loss) = if *bad {
                    (*to_good, *bad_loss)
                } else {
                    (*to_bad, *good_loss)
                };
                if rng.random::<u32>() < change {
                    *bad = !*bad;
                }
                // `<` would never reach certainty: 100 % is u32::MAX.
                loss > 0 && rng.random::<u32>() <= loss
            }
        }
    }
}

/// The state of one shaper.
#[derive(Debug)]
pub(crate) struct Model {
    delay_ns: i64,
    jitter_ns: i64,
    table: Option<Vec<i16>>,
    spread: Draw,
    losing: Losing,
    duplicate: Draw,
    corrupt: Draw,
    reorder: Draw,
    reorder_gap: u32,
    rate_bytes_per_s: u64,
    rng: StdRng,
    /// Packets since the last that overtook.
    since_overtaking: u32,
    /// The latest moment given to any packet: with a rate, the next one queues up behind it.
    last_due_ns: u64,
}

impl Model {
    /// A model that starts from the shape's seed: the same packets meet the same fates.
    pub(crate) fn new(shape: &Shape) -> Self {
        let ns = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        Self {
            delay_ns: ns(shape.delay),
            jitter_ns: ns(shape.jitter),
            table: shape.distribution.table(),
            spread: Draw::new(0.0, shape.delay_correlation),
            losing: Losing::of(shape.loss),
            duplicate: Draw::of(shape.duplicate),
            corrupt: Draw::of(shape.corrupt),
            reorder: Draw::of(shape.reorder),
            reorder_gap: shape.reorder_gap.max(1),
            rate_bytes_per_s: shape.rate_bytes_per_s,
            rng: StdRng::seed_from_u64(shape.seed),
            since_overtaking: 0,
            last_due_ns: 0,
        }
    }

    /// Decides a packet that has arrived.
    pub(crate) fn take(&mut self, now_ns: u64, length: u32) -> Fates {
        let twice = self.duplicate.hits(&mut self.rng);
        let lost = self.losing.hits(&mut self.rng);
        match (twice, lost) {
            (false, true) => Fates {
                own: Fate::Lost,
                copy: None,
            },
            // A lost duplicate leaves one packet, as in netem.
            (true, true) | (false, false) => Fates {
                own: self.send(now_ns, length),
                copy: None,
            },
            (true, false) => {
                // netem enqueues the copy first, and may lose it by a draw of its own.
                let copy = if self.losing.hits(&mut self.rng) {
                    Fate::Lost
                } else {
                    self.send(now_ns, length)
                };
                Fates {
                    own: self.send(now_ns, length),
                    copy: Some(copy),
                }
            }
        }
    }

    fn send(&mut self, now_ns: u64, length: u32) -> Fate {
        let corrupt = self.corrupt.hits(&mut self.rng).then(|| self.rng.random());
        if self.overtakes() {
            return Fate::Sent {
                due_ns: now_ns,
                corrupt,
                overtakes: true,
            };
        }
        let mut delay_ns = self.delay();
        let mut from_ns = now_ns;
        if self.rate_bytes_per_s > 0 {
            if self.last_due_ns > now_ns {
                // Those before it are still waiting: its delay runs while it queues behind them.
                let queued = i64::try_from(self.last_due_ns - now_ns).unwrap_or(i64::MAX);
                delay_ns = delay_ns.saturating_sub(queued).max(0);
                from_ns = self.last_due_ns;
            }
            let on_wire = u128::from(length) * 1_000_000_000 / u128::from(self.rate_bytes_per_s);
            delay_ns = delay_ns.saturating_add(i64::try_from(on_wire).unwrap_or(i64::MAX));
        }
        let due_ns = from_ns.saturating_add_signed(delay_ns).max(now_ns);
        self.last_due_ns = self.last_due_ns.max(due_ns);
        Fate::Sent {
            due_ns,
            corrupt,
            overtakes: false,
        }
    }

    fn overtakes(&mut self) -> bool {
        if self.reorder.threshold == 0 {
            return false;
        }
        if self.since_overtaking >= self.reorder_gap - 1 && self.reorder.hits(&mut self.rng) {
            self.since_overtaking = 0;
            return true;
        }
        self.since_overtaking = self.since_overtaking.saturating_add(1);
        false
    }

    /// `tabledist`: the delay with its spread; below zero counts as none.
    fn delay(&mut self) -> i64 {
        if self.jitter_ns == 0 {
            return self.delay_ns;
        }
        let draw = self.spread.value(&mut self.rng);
        let spread = match &self.table {
            None => {
                // Even over [-jitter, +jitter), at the 32 bits of the draw.
                let wide = i128::from(draw) * 2 * i128::from(self.jitter_ns) / (1 << 32);
                i64::try_from(wide).unwrap_or(i64::MAX) - self.jitter_ns
            }
            Some(table) => {
                let entry = table.get(draw as usize % table.len()).copied().unwrap_or(0);
                let scaled =
                    i128::from(entry) * i128::from(self.jitter_ns) / i128::from(TABLE_SCALE);
                i64::try_from(scaled).unwrap_or(i64::MAX)
            }
        };
        self.delay_ns.saturating_add(spread).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::net::shape::Distribution;

    const PACKETS: u64 = 10_000;
    const MS: u64 = 1_000_000;

    fn dues(shape: &Shape, gap_ns: u64) -> Vec<Option<u64>> {
        let mut model = Model::new(shape);
        let due = |fates: Fates, now| match fates.own {
            Fate::Lost => None,
            Fate::Sent { due_ns, .. } => Some(due_ns - now),
        };
        (0..PACKETS)
            .map(|i| due(model.take(i * gap_ns, 100), i * gap_ns))
            .collect()
    }

    fn moments(values: &[Option<u64>]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().flatten().map(|v| *v as f64).sum::<f64>() / n;
        let variance = values
            .iter()
            .flatten()
            .map(|v| (*v as f64 - mean).powi(2))
            .sum::<f64>()
            / n;
        (mean / MS as f64, variance.sqrt() / MS as f64)
    }

    fn jittered(distribution: Distribution) -> Shape {
        Shape {
            delay: Duration::from_millis(100),
            jitter: Duration::from_millis(10),
            distribution,
            seed: 1,
            ..Shape::default()
        }
    }

    fn lossy(loss: Loss) -> f64 {
        let shape = Shape {
            loss: Some(loss),
            seed: 2,
            ..Shape::default()
        };
        dues(&shape, MS).iter().filter(|d| d.is_none()).count() as f64 / PACKETS as f64
    }

    #[test]
    fn without_jitter_every_packet_is_exactly_as_late_as_asked() {
        let shape = Shape {
            delay: Duration::from_millis(100),
            ..Shape::default()
        };
        assert!(dues(&shape, 10).iter().all(|d| *d == Some(100 * MS)));
    }

    #[test]
    fn jitter_has_the_asked_mean_and_spread() {
        let (mean, deviation) = moments(&dues(&jittered(Distribution::Normal), MS));
        assert!(
            (mean - 100.0).abs() < 0.5 && (deviation - 10.0).abs() < 0.5,
            "{mean} {deviation}"
        );
        let uniform = dues(&jittered(Distribution::Uniform), MS);
        let (mean, deviation) = moments(&uniform);
        // An even spread over ±j deviates by j / sqrt 3.
        assert!(
            (mean - 100.0).abs() < 0.3 && (deviation - 5.77).abs() < 0.3,
            "{mean} {deviation}"
        );
        assert!(
            uniform
                .iter()
                .flatten()
                .all(|d| (90 * MS..=110 * MS).contains(d))
        );
        let pareto = dues(&jittered(Distribution::Pareto), MS);
        assert!(
            pareto.iter().flatten().any(|d| *d > 130 * MS),
            "a long tail"
        );
        assert!(
            pareto.iter().flatten().all(|d| *d > 90 * MS),
            "to the late side only"
        );
    }

    #[test]
    fn a_jitter_wider_than_the_delay_never_sends_before_it_arrives() {
        let shape = Shape {
            delay: Duration::from_millis(1),
            ..jittered(Distribution::Normal)
        };
        let mut model = Model::new(&shape);
        for i in 0..PACKETS {
            let Fate::Sent { due_ns, .. } = model.take(i, 1).own else {
                panic!("no loss was asked")
            };
            assert!(due_ns >= i);
        }
    }

    #[test]
    fn correlation_keeps_neighbours_alike() {
        let alike = |correlation| {
            let d = dues(
                &Shape {
                    delay_correlation: correlation,
                    ..jittered(Distribution::Uniform)
                },
                MS,
            );
            let d: Vec<f64> = d.into_iter().flatten().map(|v| v as f64).collect();
            let mean = d.iter().sum::<f64>() / d.len() as f64;
            let both: f64 = d.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum();
            both / d.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        };
        assert!(alike(0.0).abs() < 0.05, "{}", alike(0.0));
        assert!((alike(0.75) - 0.75).abs() < 0.05, "{}", alike(0.75));
    }

    #[test]
    fn loss_is_within_a_point_of_what_was_asked() {
        for probability in [0.0, 0.01, 0.3, 1.0] {
            let share = lossy(Loss::Random {
                probability,
                correlation: 0.0,
            });
            assert!((share - probability).abs() < 0.01, "{probability}: {share}");
        }
    }

    #[test]
    fn gilbert_elliott_loses_its_stationary_share_in_bursts() {
        let loss = Loss::Gilbert {
            to_bad: 0.02,
            to_good: 0.2,
            bad_loss: 1.0,
            good_loss: 0.0,
        };
        let share = lossy(loss);
        assert!((share - 0.02 / 0.22).abs() < 0.015, "{share}");
        let lost: Vec<bool> = dues(
            &Shape {
                loss: Some(loss),
                seed: 2,
                ..Shape::default()
            },
            MS,
        )
        .iter()
        .map(Option::is_none)
        .collect();
        let bursts = lost.windows(2).filter(|w| !w[0] && w[1]).count();
        let mean_burst = lost.iter().filter(|l| **l).count() as f64 / bursts as f64;
        assert!(
            (mean_burst - 5.0).abs() < 0.7,
            "a burst lasts 1/r = 5 packets: {mean_burst}"
        );
        assert!(
            lossy(Loss::Gilbert {
                to_bad: 0.0,
                to_good: 1.0,
                bad_loss: 1.0,
                good_loss: 0.25
            }) > 0.23
        );
    }

    #[test]
    fn duplicates_corruptions_and_overtakings_happen_as_often_as_asked() {
        let chance = Chance {
            probability: 0.1,
            correlation: 0.0,
        };
        let shape = Shape {
            delay: Duration::from_millis(5),
            duplicate: chance,
            corrupt: chance,
            reorder: Chance {
                probability: 0.25,
                correlation: 0.0,
            },
            reorder_gap: 1,
            seed: 3,
            ..Shape::default()
        };
        let mut model = Model::new(&shape);
        let (mut copies, mut corrupted, mut past) = (0, 0, 0);
        for i in 0..PACKETS {
            let fates = model.take(i * MS, 1);
            copies += u64::from(fates.copy.is_some());
            if let Fate::Sent {
                corrupt,
                overtakes,
                due_ns,
            } = fates.own
            {
                corrupted += u64::from(corrupt.is_some());
                past += u64::from(overtakes);
                assert_eq!(due_ns - i * MS, if overtakes { 0 } else { 5 * MS });
            }
        }
        let near = |n: u64, p: f64| (n as f64 / PACKETS as f64 - p).abs() < 0.015;
        assert!(
            near(copies, 0.1) && near(corrupted, 0.1) && near(past, 0.25),
            "{copies} {corrupted} {past}"
        );
    }

    #[test]
    fn a_gap_lets_at_most_every_nth_packet_overtake() {
        let reorder = Chance {
            probability: 1.0,
            correlation: 0.0,
        };
        let shape = Shape {
            delay: Duration::from_millis(5),
            reorder,
            reorder_gap: 5,
            ..Shape::default()
        };
        let mut model = Model::new(&shape);
        let past = (0..100).filter(|i| {
            matches!(
                model.take(*i, 1).own,
                Fate::Sent {
                    overtakes: true,
                    ..
                }
            )
        });
        assert_eq!(past.count(), 20);
    }

    #[test]
    fn a_rate_spaces_packets_by_their_length() {
        let shape = Shape {
            rate_bytes_per_s: 1_000_000,
            ..Shape::default()
        };
        let mut model = Model::new(&shape);
        let mut due = |now, length| match model.take(now, length).own {
            Fate::Sent { due_ns, .. } => due_ns,
            Fate::Lost => panic!("no loss was asked"),
        };
        assert_eq!(due(0, 1000), MS);
        assert_eq!(due(0, 1000), 2 * MS, "behind the first");
        assert_eq!(due(0, 500), 2_500_000);
        assert_eq!(due(10 * MS, 1000), 11 * MS, "an idle link owes nothing");
    }

    #[test]
    fn the_same_seed_gives_the_same_fates() {
        let shape = Shape {
            loss: Some(Loss::Random {
                probability: 0.5,
                correlation: 0.0,
            }),
            ..jittered(Distribution::Normal)
        };
        assert_eq!(dues(&shape, MS), dues(&shape, MS));
        assert_ne!(dues(&shape, MS), dues(&Shape { seed: 9, ..shape }, MS));
    }
}
