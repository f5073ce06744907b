//! Attempts, tested in the order in which they were due, whatever the order in which they end.
//!
//! The test has seen everything before the oldest attempt that is under way. From there on it looks again whenever something is known anew, and takes
//! what is under way for healthy. An attempt that is found violating afterwards can thus only strengthen what was seen, and none is waited
//! for before the others count: a path on which some trials are taken for healthy is nowhere above the one on which all are known, so that
//! whoever stops on the one would have stopped on the other, and the chance of that is at most `alpha`.
//!
//! It follows that an answer that is missing, and counts as violating once it is given up, never leaves less evidence than any answer would have.

use super::eprocess::EProcess;
use std::collections::BTreeMap;

/// With more than so many attempts behind the oldest one under way, a violation is looked at with the next tick and not at once.
const AT_ONCE_MAX: usize = 512;

/// A test over attempts by when they were due, in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Has taken everything before the oldest attempt that is under way.
    settled: EProcess,
    /// From there on: whether it violates, where that is known.
    open: BTreeMap<u64, Option<bool>>,
    /// Has taken those, too, as far as was known at the last look.
    ahead: Option<EProcess>,
    /// Something was taken since that look.
    is_new: bool,
    /// As it was when it confirmed.
    confirmed: Option<EProcess>,
}

impl Line {
    pub(super) const fn new(test: EProcess) -> Self {
        Self {
            settled: test,
            open: BTreeMap::new(),
            ahead: None,
            is_new: false,
            confirmed: None,
        }
    }

    /// An attempt is under way.
    pub(super) fn begun(&mut self, due_us: u64) {
        self.open.entry(due_us).or_insert(None);
    }

    /// It is known whether an attempt violates; one that nobody announced has its place by when it was due, as far as that is still open.
    pub(super) fn take(&mut self, due_us: u64, violates: bool) {
        if self.open.is_empty() {
            self.settle(violates);
            return;
        }
        let mut place = due_us;
        while self.open.get(&place).is_some_and(Option::is_some) {
            place += 1;
        }
        self.open.insert(place, Some(violates));
        self.is_new = true;
        while let Some(oldest) = self.open.first_entry()
            && let Some(violates) = *oldest.get()
        {
            oldest.remove();
            self.settle(violates);
        }
        if violates && self.open.len() <= AT_ONCE_MAX {
            self.look();
        }
    }

    /// Looks at what came since the last look.
    pub(super) fn look(&mut self) {
        if !std::mem::take(&mut self.is_new) {
            return;
        }
        let mut test = self.settled.clone();
        let mut healthy = 0;
        for violates in self.open.values() {
            if *violates != Some(true) {
                healthy += 1;
                continue;
            }
            test.take_healthy(std::mem::take(&mut healthy));
            test.take(1.0);
            if self.confirmed.is_none() && test.confirmed() {
                self.confirmed = Some(test.clone());
            }
        }
        test.take_healthy(healthy);
        self.ahead = Some(test);
    }

    fn settle(&mut self, violates: bool) {
        self.settled.take(f64::from(u8::from(violates)));
        if violates && self.confirmed.is_none() && self.settled.confirmed() {
            self.confirmed = Some(self.settled.clone());
        }
    }

    /// Whether the violation was confirmed at any attempt.
    pub(super) const fn is_confirmed(&self) -> bool {
        self.confirmed.is_some()
    }

    /// How strong the evidence is.
    pub(super) fn evidence(&self) -> f64 {
        match &self.ahead {
            Some(ahead) if !self.open.is_empty() => ahead.evidence(),
            _ => self.settled.evidence(),
        }
    }

    /// See [`EProcess::stretch`].
    pub(super) fn stretch(&self) -> (u64, f64) {
        self.confirmed.as_ref().unwrap_or(&self.settled).stretch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line::new(EProcess::new(0.05, 0.01))
    }

    #[test]
    fn what_is_under_way_holds_nothing_up() {
        let mut line = line();
        line.begun(0);
        let needed = (1..50).find(|due| {
            line.take(*due, true);
            line.is_confirmed()
        });
        let mut without = self::line();
        let alone = (1..50).find(|due| {
            without.take(*due, true);
            without.is_confirmed()
        });
        assert!(alone.is_some() && needed.is_some());
        assert!(
            needed.unwrap() <= alone.unwrap() + 1,
            "{needed:?} {alone:?}"
        );
    }

    #[test]
    fn the_order_in_which_attempts_end_does_not_matter() {
        let violates = |due: u64| due.is_multiple_of(7) || due > 80;
        let run = |order: &mut dyn Iterator<Item = u64>| {
            let mut line = line();
            (0..100).for_each(|due| line.begun(due));
            order.for_each(|due| line.take(due, violates(due)));
            (line.is_confirmed(), line.evidence(), line.settled.samples())
        };
        let (confirmed, evidence, samples) = run(&mut (0..100));
        let backwards = run(&mut (0..100).rev());
        assert!(confirmed && backwards.0 && samples == 100 && backwards.2 == 100);
        assert!((evidence / backwards.1 - 1.0).abs() < 1e-9);
    }

    /// A burst that is evidence enough when it comes is so, too, when one of it is known only long after.
    #[test]
    fn a_violation_that_is_known_late_is_no_less_evidence() {
        let mut needed = 0;
        let mut in_time = line();
        while !in_time.is_confirmed() {
            in_time.take(needed, true);
            needed += 1;
        }
        let mut late = line();
        (0..needed).for_each(|due| late.begun(due));
        (1..needed).for_each(|due| late.take(due, true));
        assert!(!late.is_confirmed());
        for due in needed..5_000 {
            late.begun(due);
            late.take(due, false);
        }
        late.look();
        assert!(!late.is_confirmed() && late.evidence() < 1.0);
        late.take(0, true);
        late.look();
        assert!(late.is_confirmed());
        assert_eq!(late.stretch().0, needed);
    }
}
