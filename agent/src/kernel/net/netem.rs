//! netem's wire format (`include/uapi/linux/pkt_sched.h`, `net/sched/sch_netem.c`), both ways.

use std::time::Duration;

use super::attr::{self, Body};
use super::shape::{Chance, Distribution, Loss, Shape};

const TCA_NETEM_CORR: u16 = 1;
const TCA_NETEM_DELAY_DIST: u16 = 2;
const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_LOSS: u16 = 5;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
/// Since Linux 6.6; older kernels skip it.
const TCA_NETEM_PRNG_SEED: u16 = 13;
const NETEM_LOSS_GE: u16 = 2;
/// `struct tc_netem_qopt`: latency, limit, loss, gap, duplicate, jitter, each u32.
const QOPT_BYTES: usize = 24;
/// A scheduler tick of `/proc/net/psched`, in ns (`PSCHED_SHIFT` 6).
const TICK_NS: u128 = 64;

/// A probability as netem's fraction of `u32::MAX`.
fn fraction(probability: f64) -> u32 {
    (probability.clamp(0.0, 1.0) * f64::from(u32::MAX)).round() as u32
}

fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_nanos() / TICK_NS).unwrap_or(u32::MAX)
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_ne_bytes()).collect()
}

/// The value of `TCA_OPTIONS` for a *new* netem. Every attribute is sent, zero or not: a kernel that changes an existing
/// netem keeps what is left out (seen on 6.1 and 6.12).
#[must_use]
pub(crate) fn options(shape: &Shape) -> Vec<u8> {
    let (loss, loss_correlation) = match shape.loss {
        Some(Loss::Random {
            probability,
            correlation,
        }) => (probability, correlation),
        _ => (0.0, 0.0),
    };
    // Without a gap of at least 1 netem ignores a reorder probability.
    let gap = if shape.reorder.probability > 0.0 {
        shape.reorder_gap.max(1)
    } else {
        0
    };
    let header = words(&[
        ticks(shape.delay),
        shape.packets_max,
        fraction(loss),
        gap,
        fraction(shape.duplicate.probability),
        ticks(shape.jitter),
    ]);
    let mut body = Body::with_header(&header);
    let correlations = [
        shape.delay_correlation,
        loss_correlation,
        shape.duplicate.correlation,
    ];
    body.put(TCA_NETEM_CORR, &words(&correlations.map(fraction)));
    let pair = |c: Chance| words(&[fraction(c.probability), fraction(c.correlation)]);
    body.put(TCA_NETEM_REORDER, &pair(shape.reorder));
    body.put(TCA_NETEM_CORRUPT, &pair(shape.corrupt));
    if let Some(Loss::Gilbert {
        to_bad,
        to_good,
        bad_loss,
        good_loss,
    }) = shape.loss
    {
        // The wire has h, the chance to get through in the bad state, and k1, the loss in the good one.
        let model = words(&[to_bad, to_good, 1.0 - bad_loss, good_loss].map(fraction));
        body.nest(TCA_NETEM_LOSS, |n| {
            n.put(NETEM_LOSS_GE, &model);
        });
    }
    if shape.rate_bytes_per_s >= u64::from(u32::MAX) {
        body.put(TCA_NETEM_RATE64, &shape.rate_bytes_per_s.to_ne_bytes());
    }
    let rate = u32::try_from(shape.rate_bytes_per_s).unwrap_or(u32::MAX);
    body.put(TCA_NETEM_RATE, &words(&[rate, 0, 0, 0]));
    body.put(TCA_NETEM_LATENCY64, &nanoseconds(shape.delay));
    body.put(TCA_NETEM_JITTER64, &nanoseconds(shape.jitter));
    if let Some(table) = shape
        .distribution
        .table()
        .filter(|_| shape.jitter > Duration::ZERO)
    {
        let bytes: Vec<u8> = table.iter().flat_map(|v| v.to_ne_bytes()).collect();
        body.put(TCA_NETEM_DELAY_DIST, &bytes);
    }
    body.put(TCA_NETEM_PRNG_SEED, &shape.seed.to_ne_bytes());
    body.into_bytes()
}

fn nanoseconds(time: Duration) -> [u8; 8] {
    i64::try_from(time.as_nanos())
        .unwrap_or(i64::MAX)
        .to_ne_bytes()
}

/// What a netem of the kernel's is set to. The kernel never tells its distribution table or (before 6.6) its seed.
#[must_use]
pub(crate) fn parse(options: &[u8]) -> Option<Shape> {
    let word = |at: usize| attr::u32_ne(options.get(at * 4..)?);
    let attributes = options.get(QOPT_BYTES..)?;
    let unit = |v: u32| f64::from(v) / f64::from(u32::MAX);
    let values = |kind: u16| -> Vec<u32> {
        let value = attr::find(attributes, kind).unwrap_or_default();
        value.chunks_exact(4).filter_map(attr::u32_ne).collect()
    };
    let at = |v: &[u32], i: usize| unit(v.get(i).copied().unwrap_or(0));
    let chance = |v: Vec<u32>| Chance {
        probability: at(&v, 0),
        correlation: at(&v, 1),
    };
    let long = |kind: u16, short: u32| {
        let ns = attr::find(attributes, kind)
            .and_then(|v| v.first_chunk().map(|b| i64::from_ne_bytes(*b)));
        Duration::from_nanos(
            ns.and_then(|n| u64::try_from(n).ok())
                .unwrap_or(u64::from(short) * TICK_NS as u64),
        )
    };
    let correlations = values(TCA_NETEM_CORR);
    let gilbert = attr::find(attributes, TCA_NETEM_LOSS)
        .and_then(|nest| attr::find(nest, NETEM_LOSS_GE))
        .map(|v| {
            let v: Vec<u32> = v.chunks_exact(4).filter_map(attr::u32_ne).collect();
            Loss::Gilbert {
                to_bad: at(&v, 0),
                to_good: at(&v, 1),
                bad_loss: 1.0 - at(&v, 2),
                good_loss: at(&v, 3),
            }
        });
    let random = Loss::Random {
        probability: unit(word(2)?),
        correlation: at(&correlations, 1),
    };
    let rate64 = attr::find(attributes, TCA_NETEM_RATE64)
        .and_then(|v| v.first_chunk().map(|b| u64::from_ne_bytes(*b)));
    Some(Shape {
        delay: long(TCA_NETEM_LATENCY64, word(0)?),
        jitter: long(TCA_NETEM_JITTER64, word(5)?),
        delay_correlation: at(&correlations, 0),
        distribution: Distribution::Uniform,
        loss: gilbert.or((word(2)? > 0).then_some(random)),
        duplicate: Chance {
            probability: unit(word(4)?),
            correlation: at(&correlations, 2),
        },
        corrupt: chance(values(TCA_NETEM_CORRUPT)),
        reorder: chance(values(TCA_NETEM_REORDER)),
        reorder_gap: word(3)?,
        rate_bytes_per_s: rate64
            .unwrap_or_else(|| u64::from(values(TCA_NETEM_RATE).first().copied().unwrap_or(0))),
        packets_max: word(1)?,
        seed: 0,
    })
}

/// The first setting in which what was read differs from what was asked, in words; `None` when all agree.
#[must_use]
pub(crate) fn difference(asked: &Shape, read: &Shape) -> Option<String> {
    // A fraction of u32::MAX comes back exactly; the slack is a double's rounding.
    let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
    let same_chance = |a: Chance, b: Chance| {
        near(a.probability, b.probability) && near(a.correlation, b.correlation)
    };
    let same_loss = match (asked.loss, read.loss) {
        (None, None) => true,
        (Some(Loss::Random { probability, .. }), None) => probability == 0.0,
        (
            Some(Loss::Random {
                probability: a,
                correlation: b,
            }),
            Some(Loss::Random {
                probability: c,
                correlation: d,
            }),
        ) => near(a, c) && near(b, d),
        (Some(Loss::Gilbert { .. }), Some(Loss::Gilbert { .. })) => {
            format!("{:.5?}", asked.loss) == format!("{:.5?}", read.loss)
        }
        _ => false,
    };
    let checks = [
        ("delay", asked.delay == read.delay),
        ("jitter", asked.jitter == read.jitter),
        (
            "delay correlation",
            near(asked.delay_correlation, read.delay_correlation),
        ),
        ("loss", same_loss),
        ("duplicate", same_chance(asked.duplicate, read.duplicate)),
        ("corrupt", same_chance(asked.corrupt, read.corrupt)),
        ("reorder", same_chance(asked.reorder, read.reorder)),
        ("rate", asked.rate_bytes_per_s == read.rate_bytes_per_s),
        ("limit", asked.packets_max == read.packets_max),
    ];
    let wrong = checks.into_iter().find(|(_, same)| !same)?.0;
    Some(format!(
        "{wrong} differs: asked {asked:?}, the kernel has {read:?}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Shape {
        Shape {
            delay: Duration::from_millis(100),
            jitter: Duration::from_micros(10_500),
            delay_correlation: 0.25,
            distribution: Distribution::Normal,
            loss: Some(Loss::Gilbert {
                to_bad: 0.01,
                to_good: 0.3,
                bad_loss: 0.9,
                good_loss: 0.001,
            }),
            duplicate: Chance {
                probability: 0.01,
                correlation: 0.5,
            },
            corrupt: Chance {
                probability: 0.002,
                correlation: 0.0,
            },
            reorder: Chance {
                probability: 0.25,
                correlation: 0.5,
            },
            reorder_gap: 1,
            rate_bytes_per_s: 125_000,
            packets_max: 12_345,
            seed: 7,
        }
    }

    #[test]
    fn the_header_is_what_iproute2_sends() {
        // `tc qdisc add dev x root netem delay 100ms 10ms duplicate 1%`, captured from iproute2 6.1.
        let shape = Shape {
            delay: Duration::from_millis(100),
            jitter: Duration::from_millis(10),
            duplicate: Chance {
                probability: 0.01,
                correlation: 0.0,
            },
            packets_max: 1000,
            ..Shape::default()
        };
        let bytes = options(&shape);
        let words: Vec<u32> = bytes[..QOPT_BYTES]
            .chunks_exact(4)
            .filter_map(attr::u32_ne)
            .collect();
        assert_eq!(words, [1_562_500, 1000, 0, 0, 42_949_673, 156_250]);
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let read = parse(&options(&full())).expect("a netem");
        assert_eq!(difference(&full(), &read), None);
        let plain = Shape {
            packets_max: 1,
            ..Shape::default()
        };
        assert_eq!(
            difference(&plain, &parse(&options(&plain)).expect("a netem")),
            None
        );
    }

    #[test]
    fn every_setting_that_differs_is_noticed() {
        let read = parse(&options(&full())).expect("a netem");
        let wrong = [
            Shape {
                delay: Duration::from_millis(99),
                ..full()
            },
            Shape {
                jitter: Duration::ZERO,
                ..full()
            },
            Shape {
                loss: None,
                ..full()
            },
            Shape {
                loss: Some(Loss::Random {
                    probability: 0.1,
                    correlation: 0.0,
                }),
                ..full()
            },
            Shape {
                duplicate: Chance::default(),
                ..full()
            },
            Shape {
                corrupt: Chance::default(),
                ..full()
            },
            Shape {
                reorder: Chance::default(),
                ..full()
            },
            Shape {
                rate_bytes_per_s: 1,
                ..full()
            },
        ];
        for asked in wrong {
            assert!(difference(&asked, &read).is_some(), "{asked:?}");
        }
    }

    #[test]
    fn a_rate_beyond_32_bits_keeps_its_value() {
        let shape = Shape {
            rate_bytes_per_s: 12_500_000_000,
            packets_max: 1,
            ..Shape::default()
        };
        assert_eq!(
            parse(&options(&shape)).map(|s| s.rate_bytes_per_s),
            Some(12_500_000_000)
        );
    }
}
