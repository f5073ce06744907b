//! What is told of a game day to those who are not there: webhooks, and messages for Slack.

use super::event::{Opened, What};
use super::words::Teller;
use crate::notify::{Event, Notice};

/// What there is to tell of something that happened on a day; nothing of what only those need who are there.
pub(super) fn notice(opened: &Opened, what: &What) -> Option<Notice> {
    let (event, run) = match what {
        What::Opened(_) => (Event::GameDayOpened, None),
        What::Go(go) => (Event::GameDayGo, Some(&go.run)),
        What::Refused(_) | What::NoGo(_) | What::Skipped(_) => (Event::GameDayNoGo, None),
        What::Stopped(stop) => (Event::GameDayStopped, Some(&stop.run)),
        What::HandedOver(_) => (Event::GameDayHandedOver, None),
        What::Over(_) => (Event::GameDayOver, None),
        What::Began(_) | What::Ended(_) | What::Noted(_) | What::Action(_) | What::TakenUp(_) => {
            return None;
        }
    };
    let name = &opened.game_day.metadata.name;
    let mut teller = Teller::default();
    // It knows the steps by their names only then.
    teller.tell(&What::Opened(Box::new(opened.clone())));
    let line = teller.tell(what);
    let who = line.who.map_or_else(String::new, |who| format!("{who} "));
    let text = format!("Game day `{name}`: {who}{}.", line.what);
    Some(Notice::new(event, text).about(name, run))
}
