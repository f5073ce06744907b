//! Which of the controllers that an agent hears is the leader of now, as far as the agent can tell. Pure.

use std::time::Duration;

/// For so long the highest term that was heard counts. What an earlier leader had on its way is lost well before: a link that is silent for
/// half of this is given up. And a controller whose database was taken back from a backup, where terms may be lower, is followed after it.
const COUNTS: Duration = Duration::from_secs(60);

/// The terms in which controllers have said welcome.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// The highest, and when something was heard from its controller last.
    highest: Option<(u64, Duration)>,
    /// That of the link which stands.
    present: Option<u64>,
}

/// A controller says welcome that leads no more: whatever it asks for, a later leader may know nothing of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the controller leads in term {theirs}, and one that leads in term {highest} was heard within the last minute: it is not followed"
)]
pub struct Superseded {
    /// The controller's.
    pub theirs: u64,
    /// The highest that was heard.
    pub highest: u64,
}

impl Terms {
    /// A controller says welcome; `now` is time by any clock that does not go back. One that names no term is followed: it is the only one
    /// there is, or of a version that has none.
    ///
    /// # Errors
    /// A later leader was heard a moment ago: the link is to be closed, and nothing on it but stops is to be heeded.
    pub fn welcomed(&mut self, term: Option<u64>, now: Duration) -> Result<(), Superseded> {
        self.present = None;
        let Some(theirs) = term else { return Ok(()) };
        if let Some((highest, heard)) = self.highest
            && theirs < highest
            && now.saturating_sub(heard) < COUNTS
        {
            return Err(Superseded { theirs, highest });
        }
        self.present = term;
        self.highest = Some((theirs, now));
        Ok(())
    }

    /// Something was heard on the link that stands, or the link was lost just now.
    pub fn heard(&mut self, now: Duration) {
        if let (Some(present), Some((highest, heard))) = (self.present, &mut self.highest)
            && present == *highest
        {
            *heard = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_earlier_leader_is_not_followed_while_a_later_one_counts() {
        let mut terms = Terms::default();
        assert_eq!(terms.welcomed(Some(3), at(0)), Ok(()));
        assert_eq!(terms.welcomed(Some(4), at(1)), Ok(()));
        let refused = Superseded {
            theirs: 3,
            highest: 4,
        };
        assert_eq!(terms.welcomed(Some(3), at(2)), Err(refused));
        // Whose link was refused has no say in how long that counts.
        terms.heard(at(50));
        assert_eq!(terms.welcomed(Some(3), at(60)), Err(refused));
        assert_eq!(terms.welcomed(Some(4), at(60)), Ok(()));
        terms.heard(at(100));
        assert_eq!(terms.welcomed(Some(3), at(159)), Err(refused));
        // A database that was taken back from a backup.
        assert_eq!(terms.welcomed(Some(3), at(160)), Ok(()));
        assert_eq!(
            terms.welcomed(Some(2), at(161)),
            Err(Superseded {
                theirs: 2,
                highest: 3
            })
        );
    }

    #[test]
    fn a_controller_without_a_term_is_followed_and_changes_nothing() {
        let mut terms = Terms::default();
        assert_eq!(terms.welcomed(Some(4), at(0)), Ok(()));
        assert_eq!(terms.welcomed(None, at(1)), Ok(()));
        terms.heard(at(50));
        let known = Superseded {
            theirs: 3,
            highest: 4,
        };
        assert_eq!(terms.welcomed(Some(3), at(59)), Err(known));
        assert_eq!(terms.welcomed(Some(3), at(60)), Ok(()));
    }
}
