//! Keeps the record of game days true while this controller leads: that a step's run has ended, what became of one whose controller died, and
//! that another controller goes on.

use super::days::{Days, DaysError};
use super::event::{Began, DayId, NotBegun, StepEnded, What};
use super::{No, Phase};
use futures_util::future::{BoxFuture, FutureExt, select_all};
use squall_experiments::event::{Event, Happening};
use squall_experiments::ids::RunId;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Nothing is waited for longer than this: what failed for want of the database is tried again.
const LOOK_MAX: Duration = Duration::from_secs(5);

impl Days {
    /// Keeps it until it is dropped.
    pub async fn keep(&self) {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let ends = match self.look().await {
                Ok(running) => running.into_iter().map(|run| self.end_of(run)).collect(),
                Err(error) => {
                    let error = crate::words::chain(&error);
                    tracing::error!(error, "the game days cannot be kept now");
                    Vec::new()
                }
            };
            tokio::select! {
                () = first(ends) => {}
                _ = changes.changed() => {}
                () = tokio::time::sleep(LOOK_MAX) => {}
            }
        }
    }

    /// Looks at each day once; the runs that are under way.
    ///
    /// # Errors
    /// The store cannot be used.
    pub async fn look(&self) -> Result<Vec<RunId>, DaysError> {
        let mut running = Vec::new();
        for id in self.0.store.open_game_days().await? {
            running.extend(self.look_at(&id).await?);
        }
        Ok(running)
    }

    async fn look_at(&self, id: &DayId) -> Result<Option<RunId>, DaysError> {
        let mut day = self.now(id).await?.day;
        let controller = self.controller().await?;
        if day.controller != controller {
            tracing::info!(day = %id, "goes on with a game day that another leader has begun");
            day = self.say(id, What::TakenUp(controller)).await?;
        }
        let found = match day.phase {
            Phase::Starting { step, run, .. } => self.starting(id, step, run).await,
            Phase::Running { step, run, .. } => self.running(id, step, run).await,
            Phase::Waiting { .. } | Phase::Through | Phase::Over => Ok(None),
        };
        match found {
            // Somebody was faster: it is looked at again.
            Err(DaysError::No(No::AnotherRun(_) | No::NothingRuns | No::Over)) => Ok(None),
            other => other,
        }
    }

    /// Go was said: here, where what follows is awaited; or by a controller that has died since.
    async fn starting(
        &self,
        id: &DayId,
        step: u32,
        run: RunId,
    ) -> Result<Option<RunId>, DaysError> {
        if self.runs().contains_key(&run) {
            return Ok(None);
        }
        if self.0.store.end_of(&run).await?.is_some() {
            let began = What::Began(Began {
                step,
                run: run.clone(),
            });
            self.say(id, began).await?;
            return self.running(id, step, run).await;
        }
        let reasons = vec!["its controller ended before the run began".to_owned()];
        let not = NotBegun { step, run, reasons };
        self.say(id, What::Refused(not)).await?;
        Ok(None)
    }

    async fn running(&self, id: &DayId, step: u32, run: RunId) -> Result<Option<RunId>, DaysError> {
        if self.0.desk.subscribe(&run).is_some() {
            return Ok(Some(run));
        }
        // It is looked at again as soon as that is kept.
        if self.is_told_to_stop(id) {
            return Ok(None);
        }
        let events = self.0.store.events(&run).await?;
        let ended = ended(step, &run, &events);
        tracing::info!(day = %id, %run, because = ended.because, "a step of a game day has ended");
        self.say(id, What::Ended(ended)).await?;
        self.runs().remove(&run);
        Ok(None)
    }

    /// Waits until a run is not under way any more: it is in the store then, to its last event.
    fn end_of(&self, run: RunId) -> BoxFuture<'static, ()> {
        // The handle to the feed is given back at once: only the run's own keeps it open.
        let news = self.0.desk.subscribe(&run);
        let news = news.map(|feed| feed.from(usize::MAX).1);
        async move {
            let Some(mut news) = news else { return };
            while !matches!(news.recv().await, Err(RecvError::Closed)) {}
        }
        .boxed()
    }
}

/// The first of them; never, where there is none.
async fn first(ends: Vec<BoxFuture<'static, ()>>) {
    if ends.is_empty() {
        std::future::pending::<()>().await;
    }
    select_all(ends).await;
}

fn ended(step: u32, run: &RunId, events: &[Event]) -> StepEnded {
    let (verdict, because) = match events.last().map(|last| &last.what) {
        Some(Happening::Finished(finished)) => (Some(finished.verdict), finished.because.clone()),
        _ => (None, "the run's record has no end".to_owned()),
    };
    StepEnded {
        step,
        run: run.clone(),
        verdict,
        because,
    }
}
