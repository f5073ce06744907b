//! What shaping may be asked for, in the kernel's terms; and the tables by which jitter is distributed.

use std::fmt;
use std::time::Duration;

/// How jitter is spread about the delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Distribution {
    /// Evenly between delay - jitter and delay + jitter.
    #[default]
    Uniform,
    /// A bell curve whose standard deviation is the jitter.
    Normal,
    /// A long tail (Pareto, shape 3).
    Pareto,
    /// A quarter bell, three quarters tail.
    ParetoNormal,
}

/// How packets are lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Loss {
    /// Each packet with this probability, depending on the one before it by `correlation`. Both 0 to 1.
    Random {
        /// The probability of a loss.
        probability: f64,
        /// How much each draw repeats the last.
        correlation: f64,
    },
    /// Gilbert-Elliott: two states with their own loss. All 0 to 1, per packet.
    Gilbert {
        /// From good to bad.
        to_bad: f64,
        /// From bad to good.
        to_good: f64,
        /// The loss in the bad state (tc's 1-h).
        bad_loss: f64,
        /// The loss in the good state (tc's 1-k).
        good_loss: f64,
    },
}

/// A probability with correlation, both 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Chance {
    /// Of it happening to a packet.
    pub(crate) probability: f64,
    /// How much each draw repeats the last.
    pub(crate) correlation: f64,
}

/// Everything netem can do to a packet, and the user-space queue with it. The default does nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Shape {
    /// Added to every packet.
    pub(crate) delay: Duration,
    /// The spread of the delay.
    pub(crate) jitter: Duration,
    /// How much each delay repeats the last, 0 to 1.
    pub(crate) delay_correlation: f64,
    /// The form of the spread.
    pub(crate) distribution: Distribution,
    /// Packets lost.
    pub(crate) loss: Option<Loss>,
    /// Packets sent twice.
    pub(crate) duplicate: Chance,
    /// Packets with one bit flipped.
    pub(crate) corrupt: Chance,
    /// Packets sent at once, overtaking those that wait. Needs a delay to mean anything.
    pub(crate) reorder: Chance,
    /// Reorder only every gap-th packet; 1 means any.
    pub(crate) reorder_gap: u32,
    /// Bytes per second, 0 for no limit.
    pub(crate) rate_bytes_per_s: u64,
    /// Packets that may wait at once.
    pub(crate) packets_max: u32,
    /// Where the random draws start.
    pub(crate) seed: u64,
}

impl Shape {
    /// Whether what becomes of a packet depends on those before it: on what they drew, or on where they wait.
    #[must_use]
    pub(crate) fn has_memory(&self) -> bool {
        let repeats = match self.loss {
            Some(Loss::Random { correlation, .. }) => correlation > 0.0,
            Some(Loss::Gilbert { .. }) => true,
            None => false,
        };
        let chances = [self.duplicate, self.corrupt, self.reorder];
        repeats
            || chances.iter().any(|chance| chance.correlation > 0.0)
            || self.delay_correlation > 0.0
            || self.reorder.probability > 0.0
            || self.rate_bytes_per_s > 0
    }
}

/// As a person would say it: `delay 100ms ± 10ms (normal), loss 30%`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        let percent = |p: f64| {
            format!("{:.4}", p * 100.0)
                .trim_end_matches('0')
                .trim_end_matches('.')
                .to_owned()
                + "%"
        };
        let chance = |word: &str, c: Chance| format!("{word} {}", percent(c.probability));
        if !self.delay.is_zero() || !self.jitter.is_zero() {
            let jitter = if self.jitter.is_zero() {
                String::new()
            } else {
                format!(" ± {:?}", self.jitter)
            };
            said.push(format!("delay {:?}{jitter}", self.delay));
        }
        match self.loss {
            Some(Loss::Random { probability, .. }) => {
                said.push(format!("loss {}", percent(probability)))
            }
            Some(Loss::Gilbert {
                to_bad,
                to_good,
                bad_loss,
                good_loss,
            }) => said.push(format!(
                "loss gemodel p {} r {} 1-h {} 1-k {}",
                percent(to_bad),
                percent(to_good),
                percent(bad_loss),
                percent(good_loss)
            )),
            None => {}
        }
        let chances = [
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
            ("reorder", self.reorder),
        ];
        said.extend(
            chances
                .into_iter()
                .filter(|(_, c)| c.probability > 0.0)
                .map(|(word, c)| chance(word, c)),
        );
        if self.rate_bytes_per_s > 0 {
            said.push(format!("rate {} bytes/s", self.rate_bytes_per_s));
        }
        said.push(format!("limit {} packets", self.packets_max));
        f.write_str(&said.join(", "))
    }
}

/// The packets that may wait in a shaper: enough for 100,000 packets a second over the whole delay (about what one
/// queue carries), at least 1,000 (netem's own default), at most 100,000 (some 250 MB of ordinary packets).
#[must_use]
pub(crate) fn packets_max(delay: Duration, jitter: Duration) -> u32 {
    const PER_SECOND: f64 = 100_000.0;
    ((delay + jitter * 4).as_secs_f64() * PER_SECOND).clamp(1_000.0, 100_000.0) as u32
}

/// The table's fixed point: a value of 8192 is one jitter (`NETEM_DIST_SCALE`, net/sched/sch_netem.c).
pub(crate) const TABLE_SCALE: i32 = 8192;
/// As many entries as iproute2's own tables have.
pub(crate) const TABLE_ENTRIES: usize = 4096;

impl Distribution {
    /// The inverse distribution function in fixed point, at evenly spaced probabilities; `None` for uniform, which
    /// needs no table. Mean 0 and deviation 1 (of `TABLE_SCALE`), cut at what an i16 holds: four jitters.
    #[must_use]
    pub(crate) fn table(self) -> Option<Vec<i16>> {
        let quantile: fn(f64) -> f64 = match self {
            Self::Uniform => return None,
            Self::Normal => normal_quantile,
            Self::Pareto => pareto_quantile,
            Self::ParetoNormal => |p| 0.25 * normal_quantile(p) + 0.75 * pareto_quantile(p),
        };
        let entry = |i: usize| {
            let value = quantile((i as f64 + 0.5) / TABLE_ENTRIES as f64) * f64::from(TABLE_SCALE);
            value
                .round()
                .clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
        };
        Some((0..TABLE_ENTRIES).map(entry).collect())
    }
}

/// Pareto with shape 3, shifted and scaled to mean 0 as iproute2 does (`netem/pareto.c`): (x - 3/2) * 4/3.
fn pareto_quantile(p: f64) -> f64 {
    ((1.0 - p).powf(-1.0 / 3.0) - 1.5) * 4.0 / 3.0
}

/// The normal quantile by bisection of the distribution function: 60 halvings are more than a double resolves.
fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-8.0f64, 8.0f64);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if normal_distribution(middle) < p {
            low = middle
        } else {
            high = middle
        }
    }
    f64::midpoint(low, high)
}

/// Phi(x) by its Taylor series (Marsaglia 2004, "Evaluating the Normal Distribution"), exact to double precision here.
fn normal_distribution(x: f64) -> f64 {
    let (mut sum, mut term, mut divisor) = (x, x, 1.0);
    // At |x| = 8 the terms vanish after some 150 steps.
    for _ in 0..400 {
        divisor += 2.0;
        term *= x * x / divisor;
        sum += term;
        if term.abs() < 1e-17 {
            break;
        }
    }
    0.5 + sum * (-0.5 * x * x - 0.918_938_533_204_672_7).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(d: Distribution) -> (f64, f64) {
        let table = d.table().expect("a table");
        let unit = |v: &i16| f64::from(*v) / f64::from(TABLE_SCALE);
        let n = table.len() as f64;
        let mean = table.iter().map(unit).sum::<f64>() / n;
        let variance = table.iter().map(|v| (unit(v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn the_normal_table_has_the_known_quantiles() {
        let table = Distribution::Normal.table().expect("a table");
        let at =
            |p: f64| f64::from(table[(p * TABLE_ENTRIES as f64) as usize]) / f64::from(TABLE_SCALE);
        assert!((at(0.975) - 1.96).abs() < 0.01, "{}", at(0.975));
        assert!((at(0.8413) - 1.0).abs() < 0.01, "{}", at(0.8413));
        assert!(at(0.5).abs() < 0.01);
        let (mean, deviation) = moments(Distribution::Normal);
        assert!(
            mean.abs() < 0.001 && (deviation - 1.0).abs() < 0.01,
            "{mean} {deviation}"
        );
    }

    #[test]
    fn the_tails_lean_right_and_have_no_bias() {
        for d in [Distribution::Pareto, Distribution::ParetoNormal] {
            let table = d.table().expect("a table");
            let (mean, deviation) = moments(d);
            // The cut at four jitters takes a little of the tail, and so of the mean.
            assert!(
                mean.abs() < 0.05 && deviation > 0.7 && deviation < 1.1,
                "{d:?} {mean} {deviation}"
            );
            assert!(
                table.is_sorted() && -i32::from(table[0]) < i32::from(table[TABLE_ENTRIES - 1])
            );
        }
        assert!(Distribution::Uniform.table().is_none());
    }

    #[test]
    fn packets_depend_on_each_other_by_any_correlation_a_line_or_bad_times() {
        let chance = |correlation| Chance {
            probability: 0.1,
            correlation,
        };
        let random = |correlation| {
            Some(Loss::Random {
                probability: 0.1,
                correlation,
            })
        };
        let bad_times = Some(Loss::Gilbert {
            to_bad: 0.1,
            to_good: 0.1,
            bad_loss: 1.0,
            good_loss: 0.0,
        });
        let independent = Shape {
            delay: Duration::from_millis(9),
            jitter: Duration::from_millis(1),
            loss: random(0.0),
            duplicate: chance(0.0),
            corrupt: chance(0.0),
            ..Shape::default()
        };
        assert!(!independent.has_memory());
        let each = std::array::from_fn::<_, 7, _>(|_| independent.clone());
        let [
            mut delay,
            mut rate,
            mut reorder,
            mut loss,
            mut bursty,
            mut double,
            mut corrupt,
        ] = each;
        delay.delay_correlation = 0.1;
        rate.rate_bytes_per_s = 1;
        reorder.reorder = chance(0.0);
        loss.loss = random(0.1);
        bursty.loss = bad_times;
        double.duplicate = chance(0.1);
        corrupt.corrupt = chance(0.1);
        for shape in [delay, rate, reorder, loss, bursty, double, corrupt] {
            assert!(shape.has_memory(), "{shape:?}");
        }
    }

    #[test]
    fn the_limit_grows_with_the_delay_within_its_bounds() {
        assert_eq!(packets_max(Duration::ZERO, Duration::ZERO), 1_000);
        assert_eq!(
            packets_max(Duration::from_millis(100), Duration::ZERO),
            10_000
        );
        assert_eq!(
            packets_max(Duration::from_secs(60), Duration::ZERO),
            100_000
        );
    }
}
