//! Telling others what happened: webhooks, signed as Standard Webhooks 1.0 has it, and messages for Slack and what speaks like it.
//!
//! ```text
//!   say(notice) ──▶ one bounded queue for each receiver ──▶ its task: send, wait longer each time, give up
//! ```
//!
//! Who says something never waits: a receiver that is slow or gone holds up no run. What does not fit into its queue is counted, and the
//! count is logged. A notice may come twice (its answer was lost): its id is the same.

mod deliver;
mod message;

pub use deliver::{BadReceiver, Receiver};
pub use message::{Event, Format, Notice, signature};

use deliver::deliver;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// So many notices may wait for one receiver: hours of a bad day.
const WAITING_MAX: usize = 1_000;

/// Says things to all receivers. Cloning it is another handle to the same.
#[derive(Debug, Clone, Default)]
pub struct Notices {
    queues: Arc<Vec<Queue>>,
}

#[derive(Debug)]
struct Queue {
    name: String,
    events: Vec<Event>,
    waiting: mpsc::Sender<Notice>,
}

/// The tasks that send. Dropping it ends them, and what waits is lost.
#[derive(Debug, Default)]
pub struct Senders(JoinSet<()>);

impl Notices {
    /// Starts one task for each receiver.
    ///
    /// # Errors
    /// A receiver's address or secret cannot be used.
    pub fn start(receivers: &[Receiver]) -> Result<(Self, Senders), BadReceiver> {
        let mut senders = JoinSet::new();
        let mut queues = Vec::new();
        for receiver in receivers {
            let sender = deliver::Sender::new(receiver)?;
            let (waiting, notices) = mpsc::channel(WAITING_MAX);
            senders.spawn(deliver(sender, notices));
            queues.push(Queue {
                name: receiver.name.clone(),
                events: receiver.events.clone(),
                waiting,
            });
        }
        Ok((
            Self {
                queues: Arc::new(queues),
            },
            Senders(senders),
        ))
    }

    /// Tells everybody who wants to know. It never waits.
    pub fn say(&self, notice: Notice) {
        for queue in self.queues.iter() {
            if !queue.events.is_empty() && !queue.events.contains(&notice.event) {
                continue;
            }
            if queue.waiting.try_send(notice.clone()).is_err() {
                tracing::error!(
                    receiver = queue.name,
                    notice = notice.id,
                    "a notice is lost: too many wait for this receiver"
                );
            }
        }
    }
}

impl Senders {
    /// Waits until everything that waits is sent, or given up. Every [`Notices`] must be gone.
    pub async fn finish(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
