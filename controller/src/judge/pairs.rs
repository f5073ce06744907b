//! The attempts of two groups, pair by pair.
//!
//! Pairs are judged in the order in which they were due, and not in that in which they end: a slow failure of one group must not be overtaken
//! by quick ones of the other, or the quick ones would count alone for as long as it takes. One that does not end thus holds up those
//! behind it for at most the probe's timeout, and for a latency no longer than until it is known to be late.

use super::compare::{Counts, Difference, Hypothesis};
use super::trial::Trial;
use squall_experiments::expectation::{Bound, Check, Comparison, Expectation, Measure, Scalar};
use std::collections::VecDeque;

/// An attempt is called late this long after its limit: what ended in time may wait for the run's task to read it.
const GRACE_US: u64 = 50_000;

/// A threshold is taken from at most so many of the control's latest answers: beyond it the sorting costs more than the question is worth.
const HISTORY_MAX: usize = 10_000;

/// It is taken from so many times the answers that the quantile needs at least: recent enough to follow the weather, and enough not to jump.
const HISTORY_TIMES: f64 = 20.0;

/// Fewer than this many answers give no threshold, whatever the quantile.
const HISTORY_LEAST: usize = 20;

/// Which of the two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The group that is judged.
    Group,
    /// The one beside it.
    Control,
}

/// Two attempts that were due at the same moment.
#[derive(Debug, Clone)]
struct Pair {
    due_us: u64,
    /// Later than this is worse, in microseconds; set before anything is known of the pair, or what it showed would choose its own limit.
    limits: Option<[f64; 2]>,
    worse: [Option<bool>; 2],
}

/// When an attempt is the worse one.
#[derive(Debug, Clone)]
enum Worse {
    Failed,
    /// Slower than the control's quantile so far; the group's limit is `factor` times that and `more_us` on top.
    Slower {
        history: History,
        factor: f64,
        more_us: f64,
    },
}

/// The pairs of one expectation, and the test that they feed.
#[derive(Debug, Clone)]
pub(super) struct Pairs {
    worse: Worse,
    pub(super) test: Difference,
    window: Counts,
    open: VecDeque<Pair>,
    since_us: u64,
    /// The threshold of the latest pair, for words.
    limit_us: Option<f64>,
}

impl Pairs {
    /// None for what is not judged by pairs: gauges, and what is not held against a control.
    pub(super) fn new(expectation: &Expectation, alpha: f64) -> Option<Self> {
        let (worse, of) = question(expectation)?;
        Some(Self {
            worse,
            test: Difference::new(of, alpha),
            window: Counts::default(),
            open: VecDeque::new(),
            since_us: 0,
            limit_us: None,
        })
    }

    /// A new phase, of what is due from `since_us` on. What the control's answers are like is known from before.
    pub(super) fn begin(&mut self, since_us: u64) {
        self.since_us = since_us;
        self.test.begin();
        self.window = Counts::default();
        self.open.retain(|pair| pair.due_us >= since_us);
    }

    /// An attempt of either group, due then, is under way.
    pub(super) fn begun(&mut self, due_us: u64) {
        self.pair(due_us);
    }

    /// An attempt ended.
    pub(super) fn take(&mut self, side: Side, trial: &Trial) {
        let latency_us = if trial.answered() {
            trial.latency_us()
        } else {
            u64::MAX
        };
        let failed = !trial.succeeded();
        let slower = matches!(self.worse, Worse::Slower { .. });
        if let Some(pair) = self.pair(trial.due_us) {
            let worse = match pair.limits {
                _ if !slower => failed,
                Some(limits) => exceeds(latency_us, limits[side as usize]),
                None => false,
            };
            pair.worse[side as usize] = Some(worse);
        }
        if side == Side::Control
            && let Worse::Slower { history, .. } = &mut self.worse
        {
            history.take(latency_us);
        }
        self.judge();
    }

    /// The clock went on: which attempts are late already, whenever they end?
    pub(super) fn overdue(&mut self, now_us: u64) {
        for pair in &mut self.open {
            let waited_us = now_us.saturating_sub(pair.due_us + GRACE_US);
            let Some(limits) = pair.limits else { continue };
            for (worse, limit) in pair.worse.iter_mut().zip(limits) {
                if worse.is_none() && exceeds(waited_us, limit) {
                    *worse = Some(true);
                }
            }
        }
        self.judge();
    }

    /// The pairs of the window, which begins anew.
    pub(super) fn close(&mut self) -> Counts {
        std::mem::take(&mut self.window)
    }

    /// The control's quantile so far, in microseconds.
    pub(super) const fn limit_us(&self) -> Option<f64> {
        self.limit_us
    }

    /// The pair due then, made where it is new; none where it belongs to an earlier phase.
    fn pair(&mut self, due_us: u64) -> Option<&mut Pair> {
        if due_us < self.since_us {
            return None;
        }
        let at = self.open.partition_point(|pair| pair.due_us < due_us);
        if self.open.get(at).is_none_or(|pair| pair.due_us != due_us) {
            let limits = match &self.worse {
                Worse::Failed => None,
                Worse::Slower {
                    history,
                    factor,
                    more_us,
                } => history
                    .quantile()
                    .map(|us| [us.mul_add(*factor, *more_us), us]),
            };
            self.limit_us = limits.map(|limits| limits[1]).or(self.limit_us);
            let worse = [None; 2];
            self.open.insert(
                at,
                Pair {
                    due_us,
                    limits,
                    worse,
                },
            );
        }
        self.open.get_mut(at)
    }

    /// Feeds the test with every pair of which all is known, up to the first of which it is not.
    fn judge(&mut self) {
        let judged_by_limit = matches!(self.worse, Worse::Slower { .. });
        while let Some(pair) = self.open.front() {
            let [Some(group), Some(control)] = pair.worse else {
                return;
            };
            // Before there is a threshold nothing can be said.
            if pair.limits.is_some() || !judged_by_limit {
                self.test.take(group, control);
                self.window.take(group, control);
            }
            self.open.pop_front();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "minutes in microseconds")]
fn exceeds(us: u64, limit_us: f64) -> bool {
    us == u64::MAX || us as f64 > limit_us
}

/// What of an attempt counts, and what is bet against.
fn question(expectation: &Expectation) -> Option<(Worse, Hypothesis)> {
    use Comparison as C;
    let one = |tolerated, usual| Hypothesis {
        weight: 1.0,
        tolerated,
        usual,
    };
    match (&expectation.measure, &expectation.check) {
        // At least F of the control's successes: 1 - group >= F (1 - control).
        (Measure::Success, Check::Compare(C::AtLeast | C::Greater, Bound::Control { factor })) => {
            let of = Hypothesis {
                weight: *factor,
                tolerated: 1.0 - factor,
                usual: 0.0,
            };
            Some((Worse::Failed, of))
        }
        // So many points below a multiple of the control's successes; better than it is as good.
        (
            Measure::Success,
            Check::Within {
                tolerance: Scalar::Percent(points),
                of: Bound::Control { factor },
            },
        ) => {
            let of = Hypothesis {
                weight: *factor,
                tolerated: (1.0 - factor + points.fraction()).clamp(0.0, 1.0),
                usual: 0.0,
            };
            Some((Worse::Failed, of))
        }
        (Measure::Quantile(q), check) => {
            let (factor, more_us) = match check {
                Check::Compare(C::AtMost | C::Less, Bound::Control { factor }) => (*factor, 0.0),
                Check::Within {
                    tolerance,
                    of: Bound::Control { factor },
                } => match tolerance {
                    Scalar::Percent(share) => (factor * (1.0 + share.fraction()), 0.0),
                    other => (*factor, super::check::number(other)?),
                },
                _ => return None,
            };
            let history = History::new(*q);
            let worse = Worse::Slower {
                history,
                factor,
                more_us,
            };
            Some((worse, one(0.0, 1.0 - f64::from(*q) / 1e6)))
        }
        _ => None,
    }
}

/// The control's latest latencies, in the order in which they came and sorted.
#[derive(Debug, Clone)]
struct History {
    share: f64,
    least: usize,
    most: usize,
    came: VecDeque<u64>,
    sorted: Vec<u64>,
}

impl History {
    fn new(millionths: u32) -> Self {
        let share = f64::from(millionths) / 1e6;
        let rare = (1.0 - share).max(1e-6);
        let least = count(1.0 / rare).clamp(HISTORY_LEAST, HISTORY_MAX);
        Self {
            share,
            least,
            most: count(HISTORY_TIMES / rare).clamp(least, HISTORY_MAX),
            came: VecDeque::new(),
            sorted: Vec::new(),
        }
    }

    fn take(&mut self, us: u64) {
        let at = self.sorted.partition_point(|other| *other < us);
        self.sorted.insert(at, us);
        self.came.push_back(us);
        if self.came.len() > self.most
            && let Some(oldest) = self.came.pop_front()
            && let Ok(at) = self.sorted.binary_search(&oldest)
        {
            self.sorted.remove(at);
        }
    }

    /// In microseconds; none before there are enough.
    #[expect(clippy::cast_precision_loss, reason = "minutes in microseconds")]
    fn quantile(&self) -> Option<f64> {
        if self.sorted.len() < self.least {
            return None;
        }
        let at = count(self.share * self.sorted.len() as f64).max(1) - 1;
        self.sorted.get(at).map(|us| *us as f64)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and at most twenty million"
)]
fn count(number: f64) -> usize {
    number.ceil() as usize
}
