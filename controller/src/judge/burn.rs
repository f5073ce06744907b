//! How fast an error budget burns, over two windows at once.
//!
//! Both windows are taken to be full from the first moment on: what was not seen yet counts as healthy. A window over what there is would be the more
//! trigger-happy the less there is; one failure in the first second would burn a hundred times as fast as it does in a minute. This way
//! a window that is not full stops nothing that a full one with a healthy past would not stop, and a real outage still fills it: at an
//! objective of 99.9 % a minute burns at 14.4 after 0.9 s of nothing but failures.

use squall_experiments::expectation::Burn;
use std::collections::VecDeque;

/// The short window is made of so many buckets: it is known to a twentieth.
const BUCKETS_PER_SHORT: u64 = 20;

/// No more buckets than this in the long window: hours over a short window of a tenth of a second.
const BUCKETS_MAX: u64 = 20_000;

/// Attempts that ended in the same fraction of a second.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    number: u64,
    attempts: u64,
    failures: u64,
}

/// One of the two windows, over the same buckets.
#[derive(Debug, Clone, Copy)]
struct Span {
    buckets: u64,
    /// How many attempts a full one has at the probe's own pace.
    attempts_when_full: f64,
    attempts: u64,
    failures: u64,
    /// How many of the kept buckets, from the newest back, it holds.
    held: usize,
}

/// Both windows, as attempts go by. Times are microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct Burning {
    budget: f64,
    factor: f64,
    bucket_us: u64,
    kept: VecDeque<Bucket>,
    spans: [Span; 2],
    newest: u64,
    exceeded: bool,
}

impl Burning {
    /// Watches `burn` of a probe that makes an attempt every `every_us`; faster than `factor` in both windows is a violation.
    #[must_use]
    pub fn new(burn: &Burn, factor: f64, every_us: u64) -> Self {
        const NS_PER_US: u64 = 1_000;
        let (long_us, short_us) = (burn.long.get() / NS_PER_US, burn.short.get() / NS_PER_US);
        let bucket_us = (short_us / BUCKETS_PER_SHORT)
            .max(long_us / BUCKETS_MAX)
            .max(1);
        let span = |us: u64| Span {
            buckets: us.div_ceil(bucket_us).max(1),
            attempts_when_full: float(us) / float(every_us.max(1)),
            attempts: 0,
            failures: 0,
            held: 0,
        };
        Self {
            budget: burn.budget(),
            factor,
            bucket_us,
            kept: VecDeque::new(),
            spans: [span(long_us), span(short_us)],
            newest: 0,
            exceeded: false,
        }
    }

    /// A new phase: nothing that ended before `since_us` counts any more.
    pub fn begin(&mut self, since_us: u64) {
        let first = since_us / self.bucket_us;
        let kept: Vec<Bucket> = self.kept.drain(..).filter(|b| b.number >= first).collect();
        for span in &mut self.spans {
            (span.attempts, span.failures, span.held) = (0, 0, 0);
        }
        self.exceeded = false;
        for bucket in kept {
            self.add(bucket);
        }
    }

    /// An attempt ended.
    pub fn take(&mut self, ended_us: u64, failed: bool) {
        self.add(Bucket {
            // An attempt that is told late belongs to the newest moment: time does not go back.
            number: (ended_us / self.bucket_us).max(self.newest),
            attempts: 1,
            failures: u64::from(failed),
        });
        self.exceeded |= self.rates().iter().all(|rate| *rate > self.factor);
    }

    /// How fast the long and the short window burn as of the newest attempt.
    #[must_use]
    pub fn rates(&self) -> [f64; 2] {
        self.spans.map(|span| {
            let attempts = float(span.attempts).max(span.attempts_when_full).max(1.0);
            float(span.failures) / attempts / self.budget
        })
    }

    /// Whether both burnt too fast at some moment of the phase.
    #[must_use]
    pub const fn exceeded(&self) -> bool {
        self.exceeded
    }

    /// What the long window saw: attempts, and how many of them failed.
    #[must_use]
    pub const fn seen(&self) -> (u64, u64) {
        (self.spans[0].attempts, self.spans[0].failures)
    }

    /// How many failures it takes at least: a phase with fewer attempts shows nothing.
    #[must_use]
    pub fn failures_needed(&self) -> u64 {
        let least = self.spans[0].attempts_when_full.max(1.0) * self.budget * self.factor;
        ceil(least)
    }

    fn add(&mut self, bucket: Bucket) {
        self.newest = bucket.number;
        match self.kept.back_mut() {
            Some(last) if last.number == bucket.number => {
                last.attempts += bucket.attempts;
                last.failures += bucket.failures;
            }
            _ => {
                self.kept.push_back(bucket);
                for span in &mut self.spans {
                    span.held += 1;
                }
            }
        }
        for span in &mut self.spans {
            span.attempts += bucket.attempts;
            span.failures += bucket.failures;
            // Buckets without an attempt are not kept, so that a window may end between two.
            while let Some(oldest) = self.kept.len().checked_sub(span.held)
                && let Some(leaves) = self.kept.get(oldest)
                && leaves.number + span.buckets <= bucket.number
            {
                span.attempts -= leaves.attempts;
                span.failures -= leaves.failures;
                span.held -= 1;
            }
        }
        let unused = self.kept.len() - self.spans.iter().map(|s| s.held).max().unwrap_or(0);
        self.kept.drain(..unused);
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of attempts, finite and positive; `as` saturates"
)]
fn ceil(number: f64) -> u64 {
    number.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_experiments::expectation::{Expectation, Measure};

    const SECOND_US: u64 = 1_000_000;
    const EVERY_US: u64 = SECOND_US / 50;

    fn burning() -> Burning {
        let text = "burn of 99.9% over 60s and 5s <= 14.4";
        let Measure::Burn(burn) = text.parse::<Expectation>().unwrap().measure else {
            panic!("{text} is no burn rate");
        };
        Burning::new(&burn, 14.4, EVERY_US)
    }

    /// Attempts from one second on, of which every n-th fails; the first moment, from there, at which it burns too fast.
    fn exceeds_after(
        test: &mut Burning,
        from_s: u64,
        seconds: u64,
        fails_each: u64,
    ) -> Option<u64> {
        (0..seconds * 50).find_map(|number| {
            let at = from_s * SECOND_US + number * EVERY_US;
            test.take(at, number % fails_each == 0);
            test.exceeded().then_some(number * EVERY_US)
        })
    }

    #[test]
    fn a_total_outage_is_found_within_a_second_even_at_the_start() {
        let after = exceeds_after(&mut burning(), 1_000, 60, 1).unwrap();
        assert!((800_000..900_000).contains(&after), "{after}");
    }

    #[test]
    fn what_is_not_full_is_no_more_trigger_happy_than_what_is() {
        // One failure in the first second would be a burn of 20 over that second.
        let mut test = burning();
        assert_eq!(exceeds_after(&mut test, 1_000, 1, 50), None);
        let [long, short] = test.rates();
        assert!(long < 0.5 && short < 4.1, "{long} {short}");
        // And a young window needs exactly the failures that a full one with a healthy past needs.
        let mut full = burning();
        assert_eq!(exceeds_after(&mut full, 1_000, 120, u64::MAX), None);
        let late = exceeds_after(&mut full, 1_120, 60, 1).unwrap();
        let early = exceeds_after(&mut burning(), 1_120, 60, 1).unwrap();
        assert!(late.abs_diff(early) <= EVERY_US, "{late} {early}");
    }

    #[test]
    fn a_burn_that_is_over_is_no_reason_to_stop() {
        // Ten failures are too few for a minute; long after them, some more make the long window burn, and the short one does not.
        let mut test = burning();
        for number in 0..40 {
            test.take(1_000 * SECOND_US + number * EVERY_US, true);
        }
        assert!(!test.exceeded());
        for number in 0..20 * 50 {
            test.take(1_001 * SECOND_US + number * EVERY_US, number % 250 == 249);
        }
        let [long, short] = test.rates();
        assert!(long > 14.4 && short < 14.4, "{long} {short}");
        assert!(!test.exceeded());
    }

    #[test]
    fn windows_forget_what_they_have_left_behind() {
        let mut test = burning();
        for number in 0..30 {
            test.take(1_000 * SECOND_US + number * EVERY_US, true);
        }
        assert_eq!(test.seen(), (30, 30));
        assert_eq!(exceeds_after(&mut test, 1_100, 70, u64::MAX), None);
        assert_eq!(test.seen().1, 0);
        assert!(test.seen().0.abs_diff(3_000) <= 15, "{:?}", test.seen());
        assert!(test.kept.len() <= 241, "{}", test.kept.len());
    }

    #[test]
    fn a_phase_begins_with_what_belongs_to_it() {
        let mut test = burning();
        for number in 0..100 {
            test.take(1_000 * SECOND_US + number * EVERY_US, true);
        }
        test.begin(1_001 * SECOND_US);
        assert_eq!(test.seen(), (50, 50));
        assert!(!test.exceeded());
        test.begin(1_003 * SECOND_US);
        assert_eq!(test.seen(), (0, 0));
    }
}
