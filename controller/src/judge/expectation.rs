//! One expectation of one probe, judged through one phase after another.

mod beside;
mod evidence;
mod windows;
mod words;

use super::JudgeSettings;
use super::baseline::Course;
use super::burn::Burning;
use super::check::{self, Ready};
use super::pairs::{Pairs, Side};
use super::reasons::Reasons;
use super::shares::Shares;
use super::tally::Tally;
use super::trial::Trial;
use squall_experiments::event::ExpectationRef;
use squall_experiments::expectation::{Bound, Check, Comparison, Expectation, Measure};
use std::collections::{BTreeMap, BTreeSet};

/// A baseline in which this much evidence stands against an expectation (five healthy ones in a hundred) is not fit to
/// start from. Far weaker than what stops a run: starting from a broken system shows nothing.
const UNFIT_EVIDENCE: f64 = 20.0;

/// The rule of three: with no violation in n trials, the rate is below 3/n with 95 % confidence. A share
/// measured in the baseline is not known better than that.
const RULE_OF_THREE: f64 = 3.0;

/// What the baseline said of one expectation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// What was measured over the whole of it, in the measure's own unit.
    pub measured: f64,
    /// Over how many attempts.
    pub attempts: u64,
}

/// What a violation is, in words, with what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub(super) measured: String,
    pub(super) samples: u64,
    pub(super) no_data: bool,
}

/// How the probe asks, and how patient the file is with what it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// What one attempt is called.
    pub(super) noun: &'static str,
    /// How far apart attempts are, in microseconds.
    pub(super) every_us: u64,
    pub(super) confirm: u32,
    pub(super) clear: u32,
    /// So long are the blocks that are its trials, where attempts are not, in microseconds.
    pub(super) block_us: Option<u64>,
    /// So long are its windows, in microseconds.
    pub(super) window_us: u64,
    /// When the first phase begins, in microseconds since the Unix epoch.
    pub(super) since_us: u64,
}

/// When one trial violates.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Violates {
    Failing,
    Succeeding,
    /// No answer, or one later than so many microseconds (or as late, when `or_at`).
    Slower {
        us: f64,
        or_at: bool,
    },
    /// An answer earlier than so many microseconds (or as early, when `or_at`).
    Faster {
        us: f64,
        or_at: bool,
    },
}

impl Violates {
    #[expect(clippy::cast_precision_loss, reason = "minutes in microseconds")]
    #[expect(clippy::float_cmp, reason = "`<` and `<=` differ exactly there")]
    fn by(self, trial: &Trial) -> bool {
        let latency = trial.latency_us() as f64;
        match self {
            Self::Failing => !trial.succeeded(),
            Self::Succeeding => trial.succeeded(),
            Self::Slower { us, or_at } => {
                !trial.answered() || latency > us || (or_at && latency == us)
            }
            Self::Faster { us, or_at } => latency < us || (or_at && latency == us),
        }
    }
}

#[derive(Debug, Clone)]
enum Rule {
    Samples {
        test: Shares,
        violates: Violates,
    },
    /// Beside the control's attempts, one by one.
    Pairs(Pairs),
    Burn(Burning),
    Answers,
    Windows,
    /// It is against the baseline, which is not known yet.
    NotYet,
}

/// Counts since some moment.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    trials: u64,
    violating: u64,
    /// Of the violating ones, those that are missing.
    missing: u64,
    numbers: u64,
    sum: f64,
}

impl Seen {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn mean(&self) -> Option<f64> {
        (self.numbers > 0).then(|| self.sum / self.numbers as f64)
    }
}

/// One expectation, judged.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) reference: ExpectationRef,
    expectation: Expectation,
    ready: Ready,
    /// What one attempt is called.
    noun: &'static str,
    /// Which of a trial's bodies it looks at.
    body: Option<usize>,
    settings: JudgeSettings,
    /// So long are the blocks that are its trials, where attempts are not.
    block_us: Option<u64>,
    confirm: u64,
    /// So many good windows in a row make the count of violating ones start again.
    clear: u64,
    baseline: Option<Taken>,
    /// Of a latency quantile in the baseline: the least and the most that it may really be.
    known_between: Option<(f64, Option<f64>)>,
    /// What the control measured in the window that ended last.
    control: Option<f64>,
    rule: Rule,
    in_phase: Seen,
    in_window: Seen,
    /// The windows that are judged: each holds the attempts that were due in it. Those that are not over, by their numbers.
    ahead: BTreeMap<u64, Seen>,
    since_us: u64,
    window_us: u64,
    /// The first window that is not over.
    next_window: u64,
    /// Why attempts violated, where they said so.
    reasons: Reasons,
    windows: u64,
    /// Violating ones, not interrupted by `clear` good ones.
    windows_in_row: u64,
    good_in_row: u64,
    /// Of the violating ones, those in which there was no value at all.
    empty_in_row: u64,
    /// Attempts, by when they were due, that were later than the bound before they ended: taken already.
    late: BTreeSet<u64>,
    /// What its windows said, for the fitness of a baseline.
    course: Course,
}

impl Judged {
    pub(super) fn new(
        expectation: &Expectation,
        reference: ExpectationRef,
        asked: Asked,
        body: Option<usize>,
        settings: JudgeSettings,
    ) -> Self {
        let Asked {
            noun,
            every_us,
            confirm,
            clear,
            block_us,
            window_us,
            since_us,
        } = asked;
        let mut judged = Self {
            reference,
            expectation: expectation.clone(),
            ready: Ready::new(&expectation.check),
            noun,
            body,
            settings,
            block_us,
            confirm: u64::from(confirm.max(1)),
            clear: u64::from(clear.max(1)),
            baseline: None,
            known_between: None,
            control: None,
            rule: Rule::NotYet,
            in_phase: Seen::default(),
            in_window: Seen::default(),
            ahead: BTreeMap::new(),
            since_us: 0,
            window_us: window_us.max(1),
            next_window: 0,
            reasons: Reasons::default(),
            windows: 0,
            windows_in_row: 0,
            good_in_row: 0,
            empty_in_row: 0,
            late: BTreeSet::new(),
            course: Course::default(),
        };
        judged.rule = judged.lasting(every_us).unwrap_or(Rule::NotYet);
        judged.begin(since_us);
        judged
    }

    /// A new phase, of what is due from `since_us` on: what was seen before says nothing about it.
    pub(super) fn begin(&mut self, since_us: u64) {
        match &mut self.rule {
            Rule::Pairs(pairs) => pairs.begin(since_us),
            Rule::Burn(burning) => burning.begin(since_us),
            _ => self.rule = self.rule(),
        }
        self.in_phase = Seen::default();
        self.in_window = Seen::default();
        self.ahead.clear();
        self.since_us = since_us;
        self.next_window = 0;
        self.reasons.clear();
        self.windows = 0;
        self.windows_in_row = 0;
        self.good_in_row = 0;
        self.empty_in_row = 0;
        self.late.clear();
        self.course.clear();
    }

    fn rule(&self) -> Rule {
        if check::against_baseline(&self.expectation.check) && self.baseline.is_none() {
            return Rule::NotYet;
        }
        match self.share() {
            Some((violates, tolerated)) => Rule::Samples {
                test: Shares::new(tolerated, self.settings, self.block_us),
                violates,
            },
            None if matches!(self.expectation.measure, Measure::Status | Measure::Body(_)) => {
                Rule::Answers
            }
            None => Rule::Windows,
        }
    }

    /// What a trial must do to violate, and which share of trials may; none for what is not a share of trials.
    fn share(&self) -> Option<(Violates, f64)> {
        use Comparison as C;
        let Check::Compare(comparison, bound) = &self.expectation.check else {
            return None;
        };
        let value = self.ready.bound(self.against())?;
        let or_at = matches!(comparison, C::Less | C::Greater);
        match (&self.expectation.measure, comparison) {
            (Measure::Success, C::AtLeast | C::Greater) => {
                Some((Violates::Failing, 1.0 - value + self.slack(bound)))
            }
            (Measure::Success, C::AtMost | C::Less) => {
                Some((Violates::Succeeding, value + self.slack(bound)))
            }
            (Measure::Quantile(q), C::AtMost | C::Less) => Some((
                Violates::Slower { us: value, or_at },
                1.0 - f64::from(*q) / 1e6,
            )),
            (Measure::Quantile(q), C::AtLeast | C::Greater) => {
                Some((Violates::Faster { us: value, or_at }, f64::from(*q) / 1e6))
            }
            _ => None,
        }
    }

    /// How much less than measured a share in the baseline may really be.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn slack(&self, bound: &Bound) -> f64 {
        match (bound, self.baseline) {
            (Bound::Baseline { factor }, Some(taken)) => {
                factor * RULE_OF_THREE / taken.attempts.max(1) as f64
            }
            _ => 0.0,
        }
    }

    /// What it is held against: what the baseline measured, or what the control does.
    fn against(&self) -> Option<f64> {
        if check::against_control(&self.expectation.check) {
            self.control
        } else {
            self.baseline.map(|baseline| baseline.measured)
        }
    }

    /// Takes one attempt; the first that confirms a violation says so.
    pub(super) fn take(&mut self, trial: &Trial) -> Option<Finding> {
        if self.late.remove(&trial.due_us) {
            return None;
        }
        self.reasons.take(trial);
        match &mut self.rule {
            Rule::Pairs(_) => return self.paired(|pairs| pairs.take(Side::Group, trial)),
            Rule::Burn(_) => return self.take_of_budget(trial),
            _ => {}
        }
        let (violates, number) = self.violates(trial);
        self.count(trial.due_us, violates, number)
    }

    /// An attempt is missing. It violates, whatever is expected of it: it is not known to have been well.
    pub(super) fn lost(&mut self, trial: &Trial) -> Option<Finding> {
        let window = self.window_of(trial.due_us);
        self.ahead.entry(window).or_default().missing += 1;
        if matches!(self.rule, Rule::Pairs(_) | Rule::Burn(_)) {
            return self.take(trial);
        }
        if self.late.remove(&trial.due_us) {
            return None;
        }
        self.reasons.take(trial);
        self.count(trial.due_us, true, None)
    }

    /// Looks at attempts that are still under way, oldest first: one that is later than the bound violates it now,
    /// whenever it ends. Waiting for its end would cost the timeout where nothing answers any more.
    pub(super) fn overdue(
        &mut self,
        open: &BTreeSet<u64>,
        since_us: u64,
        now_us: u64,
    ) -> Option<Finding> {
        let us = match &self.rule {
            Rule::Samples {
                violates: Violates::Slower { us, .. },
                ..
            } => us,
            Rule::Pairs(_) => return self.paired(|pairs| pairs.overdue(now_us)),
            _ => return None,
        };
        #[expect(clippy::cast_precision_loss, reason = "minutes in microseconds")]
        let is_late = |due_us: u64| now_us.saturating_sub(due_us) as f64 > *us;
        let late = open.range(since_us..).take_while(|due| is_late(**due));
        let late: Vec<u64> = late
            .filter(|due| !self.late.contains(due))
            .copied()
            .collect();
        let mut found = None;
        for due_us in late {
            self.late.insert(due_us);
            found = found.or(self.count(due_us, true, None));
        }
        found
    }

    fn count(&mut self, due_us: u64, violates: bool, number: Option<f64>) -> Option<Finding> {
        let was = self.confirmed();
        self.see(due_us, violates, number);
        if let Rule::Samples { test, .. } = &mut self.rule {
            test.take(due_us, violates);
        }
        (!was && self.confirmed()).then(|| self.finding())
    }

    fn violates(&self, trial: &Trial) -> (bool, Option<f64>) {
        let baseline = self.against();
        if let Rule::Samples { violates, .. } = &self.rule {
            return (violates.by(trial), None);
        }
        let number = |n: Option<f64>| (!n.is_some_and(|n| self.ready.number(n, baseline)), n);
        match &self.expectation.measure {
            Measure::Status => number(trial.status.map(f64::from)),
            Measure::Exit => number(trial.exit.map(f64::from)),
            Measure::Value => number(trial.value),
            Measure::Body(_) => {
                let found = self.body.and_then(|at| trial.bodies.get(at)?.as_ref());
                let satisfied = found.is_some_and(|found| self.ready.json(found, baseline));
                // What is not a number is drawn as satisfied or not.
                let drawn = |found: &serde_json::Value| {
                    found.as_f64().unwrap_or(f64::from(u8::from(satisfied)))
                };
                (!satisfied, found.map(drawn))
            }
            Measure::Burn(_) => (!trial.succeeded(), None),
            Measure::Success | Measure::Quantile(_) | Measure::Max | Measure::Rate => (false, None),
        }
    }

    fn confirmed(&self) -> bool {
        match &self.rule {
            Rule::Samples { test, .. } => test.confirmed(),
            Rule::Pairs(pairs) => pairs.test.confirmed(),
            Rule::Burn(burning) => burning.exceeded().is_some(),
            Rule::Answers => self.in_phase.violating >= self.confirm,
            Rule::Windows => self.windows_in_row >= self.confirm,
            Rule::NotYet => false,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn evidence(&self) -> f64 {
        match &self.rule {
            Rule::Samples { test, .. } => test.evidence(),
            Rule::Pairs(pairs) => pairs.test.evidence(),
            Rule::Burn(burning) => f64::from(u8::from(burning.exceeded().is_some())),
            Rule::Answers => self.in_phase.violating as f64,
            Rule::Windows => self.windows_in_row as f64,
            Rule::NotYet => 0.0,
        }
    }

    /// What the whole baseline measured, which is from now on what expectations against it are compared with.
    pub(super) fn take_baseline(&mut self, tally: &Tally, length_us: u64) -> Option<f64> {
        let measured = match &self.expectation.measure {
            Measure::Body(_) | Measure::Status | Measure::Exit | Measure::Value => {
                self.in_phase.mean()
            }
            measure => tally.measure(measure, length_us),
        };
        self.baseline = measured.map(|measured| Taken {
            measured,
            attempts: tally.attempts,
        });
        self.known_between = match self.expectation.measure {
            Measure::Quantile(millionths) => tally.between(f64::from(millionths) / 1e6),
            _ => None,
        };
        measured
    }

    /// Why the phase that was just seen is not one in which the expectation holds, where it is not.
    pub(super) fn unfit(&self) -> Option<String> {
        let unfit = match &self.rule {
            Rule::Samples { test, .. } => test.evidence() >= UNFIT_EVIDENCE,
            Rule::Pairs(pairs) => pairs.test.evidence() >= UNFIT_EVIDENCE,
            Rule::Burn(burning) => burning.exceeded().is_some(),
            Rule::Answers => self.in_phase.violating > 0,
            Rule::Windows => self.windows_in_row > 0,
            Rule::NotYet => self.baseline.is_none(),
        };
        if !unfit {
            return self.unsteady();
        }
        Some(match self.rule {
            Rule::NotYet => format!("{} measured nothing", self.expectation),
            Rule::Windows => self.window_words(None, None),
            _ => self.finding().measured,
        })
    }

    /// How many samples the phase gave, and how many it takes before silence says anything, where no share of them is judged.
    fn samples(&self) -> (u64, u64) {
        match &self.rule {
            Rule::Samples { test, .. } => (test.proof().trials(), 1),
            // What they show is a question of its own.
            Rule::Pairs(pairs) => (pairs.test.seen().pairs, 1),
            Rule::Burn(burning) => (burning.seen().0, burning.failures_needed()),
            Rule::Answers => (self.in_phase.trials, self.confirm),
            Rule::Windows => (self.windows, self.confirm),
            Rule::NotYet => (0, 1),
        }
    }
}
