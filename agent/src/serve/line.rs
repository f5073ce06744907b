//! The line to the controller: a link that is there, or one that is being dialled again.
//!
//! A lost link ends no fault by itself: the leases do, unless the link is back before.

use crate::hold::held::chain;
use crate::link::dial::{Address, DialError};
use crate::link::{self, Inbox, Link, LinkError};
use rand::RngExt;
use squall_experiments::wire::skew::Unread;
use squall_experiments::wire::{FromAgent, FromController};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The first pause before dialling again; each is twice the one before, up to the most, and each is drawn between its half
/// and its whole, so that thousands of agents do not come back at one moment.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// What was still to be said when the agent ends has so long.
const FLUSH_MAX: Duration = Duration::from_millis(200);

/// How the controller is reached.
pub(crate) enum Way {
    /// By a socket that is there from the start; without it there is no controller.
    Inherited(OwnedFd),
    /// By dialling, again and again.
    Dialled(Address),
}

/// What the line brings.
pub(super) enum News {
    /// A link stands: say hello.
    Opened(Opened),
    /// The controller said something.
    Said(Box<FromController>),
    /// It said something of which not all is understood.
    NotUnderstood(Unread),
    /// The link is gone; there will be another.
    Lost,
    /// There will be none any more.
    Over,
    /// There can be none, and waiting does not help.
    Failed(LineError),
}

/// A link that stands.
pub(super) struct Opened {
    /// Where the agent's words go.
    pub(super) outbox: mpsc::Sender<FromAgent>,
    /// Where the controller is, if it is reached over a network.
    pub(super) peer: Option<SocketAddr>,
}

/// Why a link is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nobody reads at its other end.
    Broken,
    /// Who is there leads no more: it is another controller's turn.
    Superseded,
}

/// Why the agent cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// The inherited socket.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The controller.
    #[error(transparent)]
    Dial(#[from] DialError),
}

enum State {
    Opening(JoinHandle<Result<Link, LineError>>),
    Open(Inbox),
    Over,
}

/// The line.
pub(super) struct Line {
    address: Option<Address>,
    state: State,
    writer: Option<JoinHandle<()>>,
    failures: u32,
}

impl Line {
    /// Begins to open it.
    pub(super) fn begin(way: Way) -> Self {
        let (address, opening) = match way {
            Way::Inherited(socket) => {
                let open = async { Ok(link::open(socket).await?) };
                (None, tokio::spawn(open))
            }
            Way::Dialled(address) => (Some(address.clone()), dial(address, Duration::ZERO)),
        };
        Self {
            address,
            state: State::Opening(opening),
            writer: None,
            failures: 0,
        }
    }

    /// What comes next. May be dropped while it waits, and asked again.
    pub(super) async fn next(&mut self) -> News {
        loop {
            match &mut self.state {
                State::Open(inbox) => match inbox.next().await {
                    Some(Ok(message)) => return News::Said(Box::new(message)),
                    Some(Err(unread)) => return News::NotUnderstood(unread),
                    None => return self.lose(),
                },
                State::Opening(opening) => {
                    let opened = opening.await;
                    if let Some(news) = self.opened(opened) {
                        return news;
                    }
                }
                State::Over => std::future::pending().await,
            }
        }
    }

    fn opened(
        &mut self,
        opened: Result<Result<Link, LineError>, tokio::task::JoinError>,
    ) -> Option<News> {
        match opened {
            Ok(Ok(link)) => {
                self.failures = 0;
                self.state = State::Open(link.inbox);
                self.writer = Some(link.writer);
                Some(News::Opened(Opened {
                    outbox: link.outbox,
                    peer: link.peer,
                }))
            }
            Ok(Err(LineError::Dial(error))) if error.may_pass() => {
                let pause = self.next_controller();
                tracing::warn!(error = chain(&error), ?pause, "no link; dialling again");
                self.again(pause);
                None
            }
            Ok(Err(error)) => {
                self.state = State::Over;
                Some(News::Failed(error))
            }
            Err(error) => {
                tracing::error!(%error, "dialling failed");
                self.again(PAUSE_MOST);
                matches!(self.state, State::Over).then_some(News::Over)
            }
        }
    }

    /// Another controller's turn, and after which pause: it grows once all have had theirs.
    fn next_controller(&mut self) -> Duration {
        let Some(address) = &mut self.address else {
            return PAUSE_FIRST;
        };
        address.turn();
        self.failures = self.failures.saturating_add(1);
        pause(self.failures.div_ceil(address.count()))
    }

    /// Gives the link up; there will be another.
    pub(super) fn give_up(&mut self, lost: Lost) -> News {
        if let (Lost::Superseded, Some(address)) = (lost, &mut self.address) {
            address.turn();
        }
        self.lose()
    }

    /// The link counts as gone.
    fn lose(&mut self) -> News {
        self.writer = None;
        self.again(pause(1));
        match self.state {
            State::Over => News::Over,
            _ => News::Lost,
        }
    }

    fn again(&mut self, pause: Duration) {
        self.state = match &self.address {
            Some(address) => State::Opening(dial(address.clone(), pause)),
            None => State::Over,
        };
    }

    /// Waits a moment for what was still to be said; the outbox must have been dropped.
    pub(super) async fn flush(self) {
        if let State::Opening(opening) = self.state {
            opening.abort();
        }
        if let Some(writer) = self.writer {
            let _slow = tokio::time::timeout(FLUSH_MAX, writer).await;
        }
    }
}

fn dial(address: Address, pause: Duration) -> JoinHandle<Result<Link, LineError>> {
    tokio::spawn(async move {
        tokio::time::sleep(pause).await;
        Ok(address.dial().await?)
    })
}

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    let doubled = PAUSE_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled
        .min(PAUSE_MOST)
        .mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_most_and_differ() {
        for failures in [1, 2, 5, 40, u32::MAX] {
            let whole = PAUSE_FIRST.saturating_mul(1 << (failures - 1).min(16));
            let whole = whole.min(PAUSE_MOST);
            for _ in 0..100 {
                let pause = pause(failures);
                assert!(
                    pause <= whole && pause >= whole / 2,
                    "{failures}: {pause:?}"
                );
            }
        }
        assert_ne!(pause(20), pause(20));
    }
}
