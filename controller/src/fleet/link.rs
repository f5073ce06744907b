//! The wire to one agent: JSON messages in WebSocket text frames, over any stream.

use crate::leader::Term;
use futures_util::{SinkExt, StreamExt};
use squall_experiments::wire::skew::{self, Noticed, Unread};
use squall_experiments::wire::{FromAgent, FromController, MESSAGE_BYTES_MAX, Stop};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// So many messages may wait to be written: one per fault of the largest plan. An agent that reads none of so many is lost.
const WAITING_MAX: usize = 16_384;

/// So many messages of the agent may wait to be read; then it waits.
const HEARD_MAX: usize = 16_384;

/// Buffers of the framing; the library's defaults cost 256 KiB for each agent.
const BUFFER_BYTES: usize = 16 << 10;

/// What came from an agent.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A message.
    Message(Box<FromAgent>),
    /// The link is gone, and why. The last that is heard.
    Lost(String),
}

/// Says things to an agent. Stops go first, whatever else waits.
#[derive(Debug, Clone)]
pub struct Sayer {
    urgent: mpsc::Sender<FromController>,
    other: mpsc::Sender<FromController>,
}

impl Sayer {
    /// Queues a message without waiting; `false` when the agent is lost or reads nothing.
    #[must_use]
    pub fn say(&self, message: FromController) -> bool {
        let queue = match message {
            // The first word stays the first.
            FromController::Stop(_) | FromController::Welcome(_) => &self.urgent,
            _ => &self.other,
        };
        queue.try_send(message).is_ok()
    }

    /// Whether as much waits to be written as may.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.urgent.capacity() == 0 || self.other.capacity() == 0
    }
}

/// Stops that have overtaken what was said before them: a fault that waits to be asked for is then not asked for any more.
#[derive(Debug, Default)]
struct Overtaken {
    stops: Vec<Stop>,
    /// How many of the messages that wait were overtaken.
    waiting: usize,
}

impl Overtaken {
    /// Whether a message, the next to be written while so many others wait, is not to be.
    fn is_void(&mut self, message: &FromController, waiting: usize) -> bool {
        if let FromController::Stop(stop) = message {
            self.waiting = waiting;
            self.stops.push(stop.clone());
            return false;
        }
        let was_before = self.waiting > 0;
        self.waiting = self.waiting.saturating_sub(1);
        if !was_before {
            self.stops.clear();
            return false;
        }
        let FromController::Arm(arm) = message else {
            return false;
        };
        self.stops.iter().any(|stop| match stop {
            Stop::Faults(faults) => faults.contains(&arm.id),
            Stop::Run(run) => *run == arm.run,
            Stop::All => true,
            Stop::Others(runs) => !runs.contains(&arm.run),
        })
    }
}

/// How the framing is to be set on either side.
#[must_use]
pub(crate) fn framing() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
}

/// Takes over an accepted WebSocket. The link closes when the sayer and the receiver are dropped. After `term` nothing but
/// stops is written, also of what waited.
pub(super) fn open<S>(socket: WebSocketStream<S>, term: Term) -> (Sayer, mpsc::Receiver<Heard>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut write, mut read) = socket.split();
    let (urgent, mut urgent_out) = mpsc::channel(WAITING_MAX);
    let (other, mut other_out) = mpsc::channel(WAITING_MAX);
    let (tell, heard) = mpsc::channel(HEARD_MAX);
    tokio::spawn(async move {
        let mut overtaken = Overtaken::default();
        loop {
            let message: Option<FromController> = tokio::select! {
                biased;
                message = urgent_out.recv() => message,
                message = other_out.recv() => message,
            };
            let Some(message) = message else {
                break;
            };
            let over = !term.holds() && !matches!(message, FromController::Stop(_));
            if overtaken.is_void(&message, other_out.len()) || over {
                continue;
            }
            let text = match serde_json::to_string(&message) {
                Ok(text) => text,
                Err(error) => {
                    tracing::error!(%error, ?message, "a message cannot be written as JSON");
                    continue;
                }
            };
            // The reading side sees a broken link, and says so.
            if write.send(Message::text(text)).await.is_err() {
                break;
            }
        }
        let _closed = write.close().await;
    });
    tokio::spawn(async move {
        let mut noticed = Noticed::default();
        let lost = loop {
            let message = match read.next().await {
                None => break "it closed the link".to_owned(),
                Some(Err(error)) => break error.to_string(),
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Close(_))) => break "it closed the link".to_owned(),
                Some(Ok(_)) => continue,
            };
            match understood(&message, &mut noticed) {
                Ok(Some(message)) => {
                    if tell.send(Heard::Message(message)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => break error.to_string(),
            }
        };
        let _nobody_listens = tell.send(Heard::Lost(lost)).await;
    });
    (Sayer { urgent, other }, heard)
}

/// What an agent says; none where it is of a kind that this controller does not know, which is said once of each.
fn understood(text: &str, noticed: &mut Noticed) -> Result<Option<Box<FromAgent>>, Unread> {
    match skew::of_agent(text) {
        Ok(message) => Ok(Some(Box::new(message))),
        Err(Unread::Kind(kind)) => {
            if noticed.is_first(&kind) {
                tracing::warn!(
                    kind,
                    "an agent is newer, and says what this controller does not know: it is passed over"
                );
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::fixture;
    use squall_experiments::ids::{FaultId, RunId};
    use squall_experiments::wire::Arm;

    fn arm(run: &str) -> FromController {
        let mut experiment = fixture::experiment();
        FromController::Arm(Arm {
            id: FaultId(format!("{run}/0.0.0")),
            run: RunId::from(run),
            fault: experiment.method.remove(0).faults.remove(0),
            target: "host".into(),
            lease: experiment.lease,
            seed: 1,
            means: None,
            pulse: None,
            found: Vec::new(),
        })
    }

    #[test]
    fn what_a_stop_overtook_is_not_asked_for_any_more() {
        let stops = [
            Stop::Run(RunId::from("r")),
            Stop::Faults(vec![FaultId::from("r/0.0.0")]),
            Stop::Others(vec![RunId::from("s")]),
        ];
        for stop in stops {
            let mut overtaken = Overtaken::default();
            assert!(!overtaken.is_void(&arm("r"), 2));
            assert!(!overtaken.is_void(&FromController::Stop(stop), 2));
            assert!(overtaken.is_void(&arm("r"), 1));
            assert!(!overtaken.is_void(&arm("s"), 0));
            // What is said after it is another matter.
            assert!(!overtaken.is_void(&arm("r"), 0));
        }
    }
}
