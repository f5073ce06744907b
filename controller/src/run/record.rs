//! What happened, kept: in memory for the outcome and whoever comes late, in the store, and for whoever watches.

use super::FEED_EVENTS_MAX;
use crate::clock::Clock;
use crate::store::{KeptEvents, Store, Writer, interrupted};
use squall_experiments::event::{Event, Finished, Happening};
use squall_experiments::ids::RunId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// So many events are read at once: a run that has something to say waits meanwhile, and so does its stop.
const AT_ONCE_MAX: usize = 64;

/// The events of one run as they happen. Cloning it is another handle to the same.
#[derive(Debug, Clone)]
pub struct Feed {
    events: Arc<Mutex<Vec<Event>>>,
    news: broadcast::Sender<Event>,
}

impl Feed {
    /// One without events.
    #[must_use]
    pub fn new() -> Self {
        Self::through(broadcast::channel(FEED_EVENTS_MAX).0)
    }

    /// One whose events go to `news` as well.
    #[must_use]
    pub fn through(news: broadcast::Sender<Event>) -> Self {
        let events = Arc::default();
        Self { events, news }
    }

    /// The events from the n-th on, counted from 0, and those that will come; nothing is missing between the two. Who reads slowly misses
    /// some of the latter, is told so, and asks again from where it was.
    #[must_use]
    pub fn from(&self, n: usize) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let (until, news) = {
            let events = self.lock();
            (events.len(), self.news.subscribe())
        };
        (self.some(n, until), news)
    }

    /// Those from one to another. Nothing is ever taken out, so that between two looks nothing is lost.
    fn some(&self, from: usize, until: usize) -> Vec<Event> {
        let mut found = Vec::new();
        for first in (from..until).step_by(AT_ONCE_MAX) {
            let end = until.min(first + AT_ONCE_MAX);
            let events = self.lock();
            found.extend_from_slice(events.get(first..end).unwrap_or_default());
        }
        found
    }

    /// The verdict, once there is one.
    #[must_use]
    pub fn finished(&self) -> Option<Finished> {
        match self.lock().last() {
            Some(Event {
                what: Happening::Finished(finished),
                ..
            }) => Some(finished.clone()),
            _ => None,
        }
    }

    fn say(&self, event: Event) {
        let mut events = self.lock();
        events.push(event.clone());
        // Nobody needs to watch.
        let _watchers = self.news.send(event);
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        let until = self.lock().len();
        self.some(0, until)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}

/// The events of one run.
pub(super) struct Record {
    clock: Clock,
    feed: Feed,
    writer: Option<Writer>,
    /// The last one: told once it is kept, so that nobody hears a verdict that is not in the record.
    end: Option<Event>,
}

impl Record {
    /// Of a run whose first event is kept already, where there is one.
    pub(super) fn new(
        run: &RunId,
        clock: Clock,
        feed: Feed,
        store: Option<&Store>,
        first: Option<Event>,
    ) -> Self {
        let after = i64::from(first.is_some());
        first.into_iter().for_each(|first| feed.say(first));
        Self {
            clock,
            feed,
            writer: store.map(|store| store.writer(run, after)),
            end: None,
        }
    }

    pub(super) fn say(&mut self, what: Happening) {
        let event = Event {
            at_us: self.clock.now_us(),
            what,
        };
        if let Some(writer) = &mut self.writer {
            writer.append(&event);
        }
        if matches!(event.what, Happening::Finished(_)) {
            self.end = Some(event);
        } else {
            self.feed.say(event);
        }
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Why the store does not keep the events any more, if it does not.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.writer.as_ref()?.trouble()?;
        Some(crate::words::chain(trouble))
    }

    /// Everything, once the store has it; and how it ended, if it did.
    pub(super) async fn close(self) -> (Vec<Event>, Option<Finished>) {
        let kept = match self.writer {
            Some(writer) => writer.close().await,
            None => KeptEvents::All,
        };
        let end = self.end.map(|end| match kept {
            KeptEvents::All | KeptEvents::NotAll => end,
            // The next leader's word counts, and is this.
            KeptEvents::Superseded => Event {
                what: Happening::Finished(interrupted()),
                ..end
            },
        });
        end.into_iter().for_each(|end| self.feed.say(end));
        (self.feed.all(), self.feed.finished())
    }
}
