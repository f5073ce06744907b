//! How fast an error budget burns, over two windows at once.
//!
//! Both windows are taken to be full from the first moment on: what was not seen yet counts as healthy. A window over what there is would be the more
//! trigger-happy the less there is; one failure in the first second would burn a hundred times as fast as it does in a minute. This way
//! a window that is not full stops nothing that a full one with a healthy past would not stop, and a real outage still fills it: at an
//! objective of 99.9 % a minute burns at 14.4 after 0.9 s of nothing but failures.
//!
//! An attempt belongs to the moment at which it was due. When one is known to have failed, every window that it lies in is looked at again, so
//! that a failure that is known late, or an attempt that is given up, counts for as much as one that is known at once.

use squall_experiments::expectation::Burn;
use std::collections::VecDeque;

/// The short window is made of so many buckets: it is known to a twentieth.
const BUCKETS_PER_SHORT: u64 = 20;

/// No more buckets than this in the long window: hours over a short window of a tenth of a second.
const BUCKETS_MAX: u64 = 20_000;

/// Attempts that were due in the same fraction of a second.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    attempts: u64,
    failures: u64,
}

/// One of the two windows.
#[derive(Debug, Clone, Copy)]
struct Span {
    buckets: u64,
    /// How many attempts a full one has at the probe's own pace.
    attempts_when_full: f64,
}

/// Both windows, as attempts go by. Times are microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct Burning {
    budget: f64,
    factor: f64,
    bucket_us: u64,
    /// The number of the oldest bucket that is kept.
    first: u64,
    /// One after another; the last is the newest.
    kept: VecDeque<Bucket>,
    spans: [Span; 2],
    /// How fast both burnt when it was first too fast.
    exceeded: Option<[f64; 2]>,
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
            attempts_when_full: (float(us) / float(every_us.max(1))).max(1.0),
        };
        Self {
            budget: burn.budget(),
            factor,
            bucket_us,
            first: 0,
            kept: VecDeque::new(),
            spans: [span(long_us), span(short_us)],
            exceeded: None,
        }
    }

    /// A new phase: nothing that was due before `since_us` counts any more.
    pub fn begin(&mut self, since_us: u64) {
        let since = since_us / self.bucket_us;
        while self.first < since && self.kept.pop_front().is_some() {
            self.first += 1;
        }
        self.exceeded = None;
    }

    /// It is known how an attempt ended that was due then.
    pub fn take(&mut self, due_us: u64, failed: bool) {
        let number = self.place(due_us / self.bucket_us);
        let place = number - self.first;
        if let Some(bucket) = at(&mut self.kept, place) {
            bucket.attempts += 1;
            bucket.failures += u64::from(failed);
        }
        if failed && self.exceeded.is_none() {
            self.look(number);
        }
    }

    /// Makes room for a bucket. What is older than all that is kept belongs to the oldest that is.
    fn place(&mut self, number: u64) -> u64 {
        if self.kept.is_empty() {
            self.first = number;
        }
        let long = self.spans[0].buckets;
        // A long silence leaves nothing behind.
        if number >= self.newest() + 2 * long {
            self.kept.clear();
            self.first = number;
        }
        while self.first + (self.kept.len() as u64) <= number {
            self.kept.push_back(Bucket::default());
        }
        // What is known late can still be in the long window of a long window ago.
        while self.kept.len() as u64 > 2 * long {
            self.kept.pop_front();
            self.first += 1;
        }
        number.max(self.first)
    }

    fn newest(&self) -> u64 {
        (self.first + self.kept.len() as u64).saturating_sub(1)
    }

    /// Looks at all windows that end between a bucket and now.
    fn look(&mut self, from: u64) {
        let newest = self.newest();
        let mut failures = self.spans.map(|span| self.ending_at(newest, span).failures);
        for last in (from..=newest).rev() {
            let rates = self.burn(failures);
            if rates.iter().all(|rate| *rate > self.factor) {
                self.exceeded = Some(rates);
                return;
            }
            for (failures, span) in failures.iter_mut().zip(self.spans) {
                *failures -= self.bucket(last).failures;
                let enters = last.checked_sub(span.buckets);
                *failures += enters.map_or(0, |number| self.bucket(number).failures);
            }
        }
    }

    fn bucket(&self, number: u64) -> Bucket {
        let place = number.checked_sub(self.first);
        let place = place.and_then(|place| usize::try_from(place).ok());
        place
            .and_then(|place| self.kept.get(place).copied())
            .unwrap_or_default()
    }

    fn ending_at(&self, last: u64, span: Span) -> Bucket {
        let first = (last + 1).saturating_sub(span.buckets).max(self.first);
        let mut all = Bucket::default();
        for number in first..=last {
            let bucket = self.bucket(number);
            all.attempts += bucket.attempts;
            all.failures += bucket.failures;
        }
        all
    }

    fn burn(&self, failures: [u64; 2]) -> [f64; 2] {
        let rate = |number: usize| {
            float(failures[number]) / self.spans[number].attempts_when_full / self.budget
        };
        [rate(0), rate(1)]
    }

    /// How fast the long and the short window burn as of the newest attempt.
    #[must_use]
    pub fn rates(&self) -> [f64; 2] {
        let newest = self.newest();
        self.burn(self.spans.map(|span| self.ending_at(newest, span).failures))
    }

    /// How fast both burnt when it was first too fast in this phase, where it was.
    #[must_use]
    pub const fn exceeded(&self) -> Option<[f64; 2]> {
        self.exceeded
    }

    /// What the long window saw: attempts, and how many of them failed.
    #[must_use]
    pub fn seen(&self) -> (u64, u64) {
        let long = self.ending_at(self.newest(), self.spans[0]);
        (long.attempts, long.failures)
    }

    /// How many failures it takes at least: a phase with fewer attempts shows nothing.
    #[must_use]
    pub fn failures_needed(&self) -> u64 {
        ceil(self.spans[0].attempts_when_full * self.budget * self.factor)
    }
}

fn at(kept: &mut VecDeque<Bucket>, place: u64) -> Option<&mut Bucket> {
    kept.get_mut(usize::try_from(place).ok()?)
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
            test.exceeded().map(|_| number * EVERY_US)
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
        assert!(test.exceeded().is_none());
        for number in 0..20 * 50 {
            test.take(1_001 * SECOND_US + number * EVERY_US, number % 250 == 249);
        }
        let [long, short] = test.rates();
        assert!(long > 14.4 && short < 14.4, "{long} {short}");
        assert!(test.exceeded().is_none());
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
        assert!(test.kept.len() <= 480, "{}", test.kept.len());
    }

    #[test]
    fn what_is_known_late_counts_as_if_it_had_been_known_in_time() {
        let failing = 100..144;
        let mut in_time = burning();
        let mut late = burning();
        for number in 0..3_000 {
            let at = 1_000 * SECOND_US + number * EVERY_US;
            in_time.take(at, failing.contains(&number));
            if number != 110 {
                late.take(at, failing.contains(&number));
            }
        }
        assert!(in_time.exceeded().is_some() && late.exceeded().is_none());
        late.take(1_000 * SECOND_US + 110 * EVERY_US, true);
        assert!(late.exceeded().is_some());
        assert_eq!(late.seen(), in_time.seen());
    }

    #[test]
    fn a_phase_begins_with_what_belongs_to_it() {
        let mut test = burning();
        for number in 0..100 {
            test.take(1_000 * SECOND_US + number * EVERY_US, true);
        }
        test.begin(1_001 * SECOND_US);
        assert_eq!(test.seen(), (50, 50));
        assert!(test.exceeded().is_none());
        test.begin(1_003 * SECOND_US);
        assert_eq!(test.seen(), (0, 0));
    }
}
