//! The agents: a process of its own, as they are on machines of their own. It has the controller's priority: what an agent does is part of
//! each stop that is measured, with the load and without.

use std::path::Path;

use lab::world::Result;
use tokio::sync::mpsc;

use super::child::{Lines, say};
use super::stops::{AGENTS, SLOTS};
use crate::fleet::{Told, join, start};

/// Says when all of them are there, and ends when nobody has a word for it any more.
pub(super) async fn serve(directory: &Path, mut words: Lines) -> Result<()> {
    let (told, mut tell) = mpsc::unbounded_channel();
    let all = AGENTS * SLOTS;
    start(join(directory, all).await?, &told);
    let mut linked = 0;
    while linked < all {
        let word = tell.recv().await.ok_or("no agents")?;
        linked += usize::from(matches!(word, Told::Linked));
    }
    say("there")?;
    loop {
        tokio::select! {
            word = words.recv() => if word.is_none() { return Ok(()) },
            // What else they tell is counted in the runs' reports.
            _ = tell.recv() => {}
        }
    }
}
