//! The word that a run is to end.

use tokio::sync::watch;

/// Who wants that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A person.
    Person,
    /// The controller, which is told to end itself.
    Ending,
    /// The controller, which leads no more.
    Deposed,
}

/// How urgently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Nobody said anything.
    None,
    /// End the faults, then say what was seen.
    Stop,
    /// Kill the agent; its faults go with it.
    Kill,
}

/// What was said so far.
#[derive(Debug, Clone, Copy)]
struct Said {
    urgency: Urgency,
    /// Whose was the first word.
    by: Who,
}

/// Says that a run is to end. Dropping it says nothing.
#[derive(Debug, Clone)]
pub struct Halt(watch::Sender<Said>);

/// Hears it. Any number of runs may listen to one [`Halt`].
#[derive(Debug, Clone)]
pub struct Halting(watch::Receiver<Said>);

impl Halt {
    /// The pair of them.
    #[must_use]
    pub fn new() -> (Self, Halting) {
        let (say, hear) = watch::channel(Said {
            urgency: Urgency::None,
            by: Who::Person,
        });
        (Self(say), Halting(hear))
    }

    /// A person's word: the first stops, the second kills, any further changes nothing. Whether anybody hears it: a run that has its verdict
    /// does not.
    #[must_use]
    pub fn say(&self) -> bool {
        self.say_by(Who::Person)
    }

    /// The same word, of whoever says it.
    #[must_use]
    pub fn say_by(&self, by: Who) -> bool {
        self.0.send_modify(|said| match said.urgency {
            Urgency::None => {
                let urgency = Urgency::Stop;
                *said = Said { urgency, by };
            }
            Urgency::Stop | Urgency::Kill => said.urgency = Urgency::Kill,
        });
        self.0.receiver_count() > 0
    }
}

impl Halting {
    /// What was said so far.
    #[must_use]
    pub fn urgency(&self) -> Urgency {
        self.0.borrow().urgency
    }

    /// Whose was the first word.
    #[must_use]
    pub fn by(&self) -> Who {
        self.0.borrow().by
    }

    /// Until at least `urgency` is said; for ever when nobody is left to say it.
    pub async fn until(&mut self, urgency: Urgency) {
        if self
            .0
            .wait_for(|said| said.urgency >= urgency)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_it_too_late_is_told_so() {
        let (halt, halting) = Halt::new();
        assert!(halt.say());
        assert_eq!(halting.urgency(), Urgency::Stop);
        drop(halting);
        assert!(!halt.say());
    }
}
