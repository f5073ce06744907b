//! Trials that are blocks of attempts: whatever makes attempts fail together, within a block it is one piece of evidence.

use std::collections::BTreeMap;

/// An attempt that nobody announced may still come in so long after it was due.
const UNANNOUNCED_US: u64 = 1_000_000;

/// The attempts of blocks that are not complete yet. Blocks lie where the clock has them, whenever the phase began.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    length_us: u64,
    /// Attempts, and how many of them violate, by the block's number.
    open: BTreeMap<u64, (u64, u64)>,
    /// All blocks before this one are counted.
    from: u64,
}

impl Blocks {
    pub(super) fn new(length_us: u64) -> Self {
        Self {
            length_us: length_us.max(1),
            open: BTreeMap::new(),
            from: 0,
        }
    }

    /// An attempt belongs to the block in which it was due. One that comes when that is counted already is not lost: it
    /// counts in the next.
    pub(super) fn take(&mut self, due_us: u64, violates: bool) {
        let number = (due_us / self.length_us).max(self.from);
        let (attempts, violating) = self.open.entry(number).or_default();
        *attempts += 1;
        *violating += u64::from(violates);
    }

    /// The violating share of each block that is complete: over by now, with every attempt of it heard. `waiting_since_us` is when the
    /// oldest attempt that is still under way was due. A block without attempts is no trial.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(super) fn complete(&mut self, now_us: u64, waiting_since_us: Option<u64>) -> Vec<f64> {
        let heard_us = now_us.saturating_sub(UNANNOUNCED_US);
        let heard_us = waiting_since_us.map_or(heard_us, |since| heard_us.min(since));
        self.from = self.from.max(heard_us / self.length_us);
        let later = self.open.split_off(&self.from);
        let complete = std::mem::replace(&mut self.open, later);
        complete
            .values()
            .map(|(attempts, violating)| *violating as f64 / (*attempts).max(1) as f64)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_waits_for_its_attempts_and_loses_none() {
        let mut blocks = Blocks::new(5_000_000);
        for number in 0..10 {
            blocks.take(number * 1_000_000, number == 3);
        }
        assert!(blocks.complete(5_500_000, None).is_empty(), "one may come");
        assert!(blocks.complete(9_000_000, Some(4_900_000)).is_empty());
        assert_eq!(blocks.complete(9_000_000, Some(5_000_000)), [0.2]);
        blocks.take(4_000_000, true);
        let last = blocks.complete(11_000_000, None);
        assert_eq!(last.len(), 1);
        assert!((last[0] - 1.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn the_order_within_a_block_does_not_matter() {
        let share = |order: &[u64]| {
            let mut blocks = Blocks::new(1_000_000);
            order
                .iter()
                .for_each(|n| blocks.take(n * 100_000, n % 3 == 0));
            blocks.complete(9_000_000, None)
        };
        assert_eq!(share(&[0, 1, 2, 3, 4]), share(&[4, 3, 1, 0, 2]));
    }
}
