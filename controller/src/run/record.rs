//! What happened, kept: in memory for the outcome, in the store, and for whoever watches.

use crate::clock::Clock;
use crate::store::{Store, Writer};
use squall_experiments::event::{Event, Finished, Happening};
use squall_experiments::ids::RunId;
use tokio::sync::broadcast;

/// The events of one run.
pub(super) struct Record {
    clock: Clock,
    feed: broadcast::Sender<Event>,
    writer: Option<Writer>,
    events: Vec<Event>,
    finished: Option<Finished>,
}

impl Record {
    pub(super) fn new(
        run: &RunId,
        clock: Clock,
        feed: broadcast::Sender<Event>,
        store: Option<&Store>,
    ) -> Self {
        Self {
            clock,
            feed,
            writer: store.map(|store| store.writer(run)),
            events: Vec::new(),
            finished: None,
        }
    }

    pub(super) fn say(&mut self, what: Happening) {
        let event = Event {
            at_us: self.clock.now_us(),
            what,
        };
        if let Happening::Finished(finished) = &event.what {
            self.finished = Some(finished.clone());
        }
        // Nobody needs to watch.
        let _watchers = self.feed.send(event.clone());
        if let Some(writer) = &mut self.writer {
            writer.append(&event);
        }
        self.events.push(event);
    }

    pub(super) const fn finished(&self) -> Option<&Finished> {
        self.finished.as_ref()
    }

    /// Everything, once the store has it.
    pub(super) async fn close(self) -> Vec<Event> {
        if let Some(writer) = self.writer {
            writer.close().await;
        }
        self.events
    }
}
