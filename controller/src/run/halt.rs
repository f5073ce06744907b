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

    /// The first word stops, the second kills, any further changes nothing.
    pub fn say(&self) {
        self.0.send_modify(|urgency| {
            *urgency = match *urgency {
                Urgency::None => Urgency::Stop,
                Urgency::Stop | Urgency::Kill => Urgency::Kill,
            }
        });
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
