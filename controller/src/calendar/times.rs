//! The times of a cron expression on the wall clock of a place.
//!
//! One sentence decides every change of the clock: a time is due at the first instant at which the place's clock shows it, or a later
//! one. So a time that is skipped in spring is due when the clock has jumped, once, however many times were skipped; and one that comes
//! twice in autumn is due when it comes first.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use squall_experiments::schedule::Cron;

/// So many times of the wall clock are looked at to find one instant: where the clock goes back by a day, each minute of it comes first.
const LOOKED_AT_MAX: u32 = 2 * 24 * 60;

/// The first instant at which the clock of `zone` shows `civil`, or a later time. `None` beyond the year 9999.
pub(crate) fn instant(civil: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
            ambiguous.earlier().ok()
        }
        AmbiguousOffset::Gap { after, .. } => {
            let before = ambiguous.earlier().ok()?;
            // Some changes are of the zone's name alone.
            let mut changes = zone.following(before);
            changes
                .find(|change| change.offset() == after)
                .map(|jump| jump.timestamp())
        }
    }
}

/// When a cron expression is due in a place.
#[derive(Debug, Clone)]
pub struct Times {
    cron: croner::Cron,
    zone: TimeZone,
}

impl Times {
    /// `None` for an expression that cannot be read, which one that was checked can.
    #[must_use]
    pub fn new(cron: &Cron, zone: TimeZone) -> Option<Self> {
        let cron = cron.pattern()?;
        Some(Self { cron, zone })
    }

    /// The place.
    #[must_use]
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first instant after this one at which it is due; `None` when there is none before the year 5000.
    #[must_use]
    pub fn after(&self, at_: Timestamp) -> Option<Timestamp> {
        // Where the clock has gone back, times that it shows again were due before.
        let mut civil = self.zone.to_datetime(at_);
        for _ in 0..LOOKED_AT_MAX {
            civil = self.cron.find_next_occurrence(&civil, false).ok()?;
            let due = instant(civil, &self.zone)?;
            if due > at_ {
                return Some(due);
            }
        }
        // A clock that went back by more than a day: nothing that is written here would be right.
        None
    }
}
