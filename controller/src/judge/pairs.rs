//! The attempts of two groups, pair by pair.
//!
//! Pairs are judged in the order in which they were due, and not in that in which they end: a slow failure of one group must not be overtaken
//! by quick ones of the other, or the quick ones would count alone for as long as it takes. One that does not end thus holds up those
//! behind it for at most the probe's timeout, and for a latency no longer than until it is known to be late.

use super::JudgeSettings;
use super::compare::{Counts, Difference};
use super::trial::Trial;
use squall_experiments::enough::Hypothesis;
use squall_experiments::expectation::{Bound, Check, Comparison, Expectation, Measure, Scalar};
use squall_experiments::proof::Proof;
use std::collections::VecDeque;

/// An attempt is called late this long after its limit: what ended in time may wait for the run's task to read it.
const GRACE_US: u64 = 50_000;

/// A threshold is taken from at most so many of the control's latest answers: beyond it the sorting costs more than the question is worth.
const HISTORY_MAX: usize = 10_000;

/// It is taken from so many times the answers that the quantile needs at least: recent enough to follow the weather, and enough not to jump.
const HISTORY_TIMES: usize = 20;

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
    /// That the group is worse by less than it may be.
    pub(super) proof: Proof,
    /// What was judged since the window began that is shown, and since that which is judged.
    windows: [Counts; 2],
    open: VecDeque<Pair>,
    /// Only pairs due from here on are still to be judged: those before belong to an earlier phase, or have been.
    from_us: u64,
    /// The threshold of the latest pair, for words.
    limit_us: Option<f64>,
}

impl Pairs {
    /// None for what is not judged by pairs: gauges, and what is not held against a control.
    pub(super) fn new(expectation: &Expectation, settings: JudgeSettings) -> Option<Self> {
        let of = Hypothesis::of(expectation)?;
        Some(Self {
            worse: worse(expectation)?,
            test: Difference::new(of, settings.alpha),
            proof: Proof::of_difference(of.margin(), settings.confidence),
            windows: Default::default(),
            open: VecDeque::new(),
            from_us: 0,
            limit_us: None,
        })
    }

    /// A new phase, of what is due from `since_us` on. What the control's answers are like is known from before.
    pub(super) fn begin(&mut self, since_us: u64) {
        self.from_us = self.from_us.max(since_us);
        self.test.begin();
        self.proof = self.proof.again();
        self.windows = Default::default();
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

    /// The control's attempt that was due then is missing. It is not known to have been as bad as the group's, and excuses nothing.
    pub(super) fn lost_of_control(&mut self, due_us: u64) {
        if let Some(pair) = self.pair(due_us) {
            pair.worse[Side::Control as usize].get_or_insert(false);
        }
        self.judge();
    }

    /// Of which only one half ever came, though nobody announced the other, are no pairs: the probe may leave attempts out.
    pub(super) fn expire(&mut self, before_us: u64) {
        let before = self.open.len();
        self.open.retain(|pair| {
            let is_whole = pair.worse.iter().all(Option::is_some);
            pair.due_us >= before_us || is_whole
        });
        if self.open.len() != before {
            self.judge();
        }
    }

    /// The pairs of the window that is shown, which begins anew.
    pub(super) fn close(&mut self) -> Counts {
        std::mem::take(&mut self.windows[0])
    }

    /// The same of the window that is judged.
    pub(super) fn close_judged(&mut self) -> Counts {
        std::mem::take(&mut self.windows[1])
    }

    /// The control's quantile so far, in microseconds.
    pub(super) const fn limit_us(&self) -> Option<f64> {
        self.limit_us
    }

    /// The pair due then, made where it is new; none where it is not to be judged any more.
    fn pair(&mut self, due_us: u64) -> Option<&mut Pair> {
        if due_us < self.from_us {
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
                let [worse, beside] = [group, control].map(|is| f64::from(u8::from(is)));
                let weight = self.test.hypothesis().weight;
                self.proof.take(worse - weight * beside, 1);
                for window in &mut self.windows {
                    window.take(group, control);
                }
            }
            self.from_us = pair.due_us + 1;
            self.open.pop_front();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "minutes in microseconds")]
fn exceeds(us: u64, limit_us: f64) -> bool {
    us == u64::MAX || us as f64 > limit_us
}

/// What of an attempt counts.
fn worse(expectation: &Expectation) -> Option<Worse> {
    use Comparison as C;
    match (&expectation.measure, &expectation.check) {
        (Measure::Success, _) => Some(Worse::Failed),
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
            Some(Worse::Slower {
                history: History::new(*q),
                factor,
                more_us,
            })
        }
        _ => None,
    }
}

/// The control's latest latencies, in the order in which they came and sorted.
#[derive(Debug, Clone)]
struct History {
    millionths: usize,
    least: usize,
    most: usize,
    came: VecDeque<u64>,
    sorted: Vec<u64>,
}

/// Quantiles are written in millionths.
const ALL: usize = 1_000_000;

impl History {
    fn new(millionths: u32) -> Self {
        let millionths = usize::try_from(millionths).unwrap_or(ALL).min(ALL - 1);
        let rare = ALL - millionths;
        let least = ALL.div_ceil(rare).clamp(HISTORY_LEAST, HISTORY_MAX);
        Self {
            millionths,
            least,
            most: (HISTORY_TIMES * ALL / rare).clamp(least, HISTORY_MAX),
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
        let at = (self.millionths * self.sorted.len()).div_ceil(ALL).max(1) - 1;
        self.sorted.get(at).map(|us| *us as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Outcome;

    fn pairs(text: &str) -> Pairs {
        Pairs::new(
            &text.parse().unwrap(),
            JudgeSettings {
                alpha: 0.001,
                confidence: 0.95,
            },
        )
        .unwrap()
    }

    fn attempt(due_us: u64, latency_us: u64) -> Trial {
        Trial {
            due_us,
            ended_us: due_us + latency_us,
            outcome: Outcome::Success,
            status: None,
            value: None,
            exit: None,
            bodies: Vec::new(),
        }
    }

    fn both(pairs: &mut Pairs, due_us: u64, group_us: u64, control_us: u64) {
        pairs.take(Side::Group, &attempt(due_us, group_us));
        pairs.take(Side::Control, &attempt(due_us, control_us));
    }

    #[test]
    fn an_answer_that_was_late_before_it_came_is_judged_once() {
        let mut pairs = pairs("median <= 2x control");
        (0..20).for_each(|number| both(&mut pairs, number, 1_000, 1_000));
        assert_eq!(
            pairs.test.seen().pairs,
            0,
            "no threshold before the twentieth"
        );
        pairs.begun(100);
        pairs.take(Side::Control, &attempt(100, 1_000));
        pairs.overdue(100 + 2_000 + GRACE_US);
        assert_eq!(pairs.test.seen().pairs, 0, "not late yet");
        pairs.overdue(100 + 2_001 + GRACE_US);
        assert_eq!((pairs.test.seen().pairs, pairs.test.seen().group), (1, 1));
        pairs.take(Side::Group, &attempt(100, 90_000));
        both(&mut pairs, 200, 1_000, 1_000);
        assert_eq!((pairs.test.seen().pairs, pairs.test.seen().group), (2, 1));
        assert!(pairs.open.is_empty());
    }

    #[test]
    fn a_pair_is_judged_by_a_threshold_that_it_had_no_part_in() {
        let mut pairs = pairs("median <= 1.5x control");
        (0..20).for_each(|number| both(&mut pairs, number, 1_000, 1_000));
        // By itself the control's slow answer would excuse the group's.
        both(&mut pairs, 100, 1_600, 5_000);
        assert_eq!((pairs.test.seen().group, pairs.test.seen().control), (1, 1));
        assert_eq!(pairs.limit_us(), Some(1_000.0));
    }

    #[test]
    fn the_threshold_is_the_latest_quantile_of_the_control() {
        let mut history = History::new(900_000);
        (1..=100).for_each(|us| history.take(us));
        assert_eq!(history.quantile(), Some(90.0));
        // Two hundred answers are kept: those of an hour ago say nothing about the weather now.
        (0..200).for_each(|_| history.take(7));
        assert_eq!((history.quantile(), history.sorted.len()), (Some(7.0), 200));
        history.take(u64::MAX);
        assert_eq!(history.quantile(), Some(7.0));
    }

    #[test]
    fn a_phase_keeps_what_is_under_way_and_belongs_to_it() {
        let mut pairs = pairs("success >= control");
        pairs.take(Side::Group, &attempt(10, 1_000));
        pairs.take(Side::Group, &attempt(20, 1_000));
        pairs.begin(15);
        pairs.take(Side::Control, &attempt(10, 1_000));
        assert_eq!(pairs.test.seen().pairs, 0);
        pairs.take(Side::Control, &attempt(20, 1_000));
        assert_eq!(pairs.test.seen().pairs, 1);
    }
}
