//! A person's word that a run is to end.

use tokio::sync::watch;

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

/// Says that a run is to end. Dropping it says nothing.
#[derive(Debug, Clone)]
pub struct Halt(watch::Sender<Urgency>);

/// Hears it. Any number of runs may listen to one [`Halt`].
#[derive(Debug, Clone)]
pub struct Halting(watch::Receiver<Urgency>);

impl Halt {
    /// The pair of them.
    #[must_use]
    pub fn new() -> (Self, Halting) {
        let (say, hear) = watch::channel(Urgency::None);
        (Self(say), Halting(hear))
    }

    /// The first word stops, the second kills, any further changes nothing. Whether anybody hears it: a run that has its verdict does not.
    #[must_use]
    pub fn say(&self) -> bool {
        self.0.send_modify(|urgency| {
            *urgency = match *urgency {
                Urgency::None => Urgency::Stop,
                Urgency::Stop | Urgency::Kill => Urgency::Kill,
            }
        });
        self.0.receiver_count() > 0
    }
}

impl Halting {
    /// What was said so far.
    #[must_use]
    pub fn urgency(&self) -> Urgency {
        *self.0.borrow()
    }

    /// Until at least `urgency` is said; for ever when nobody is left to say it.
    pub async fn until(&mut self, urgency: Urgency) {
        if self.0.wait_for(|said| *said >= urgency).await.is_err() {
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
