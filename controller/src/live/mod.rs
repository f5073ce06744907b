//! A run as it happens, in a terminal or in a log.
//!
//! On a terminal a few lines are drawn again and again: the phase, each probe with its figures, each expectation with
//! its last minute, the faults in force with their measured dose, the violation, the stop. Elsewhere (a pipe, a CI
//! log, `TERM=dumb`) each change is one plain line. Colours only on a terminal, and not where `NO_COLOR` is set.
//!
//! What is shown is the same [`crate::report::Telling`] that the reports are made of. Nothing here influences a run.

mod frame;
mod paint;
mod screen;

#[cfg(test)]
mod tests;

use crate::report::Telling;
use paint::Paint;
pub(crate) use paint::clean;
use screen::Screen;
use squall_experiments::event::{Event, Happening, Window};
use squall_experiments::experiment::Experiment;
use squall_experiments::verdict::Verdict;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use tokio::sync::broadcast;

/// How often a terminal is drawn anew: smooth to the eye, and cheap on a slow link.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// On a pipe, how often each probe's figures get a line although nothing changed.
const PLAIN_EVERY_MS: f64 = 10_000.0;

/// Where the view goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error: where standard output carries the result as JSON.
    Stderr,
}

/// How long the phases without a plan last.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lengths {
    /// The baseline, in milliseconds.
    pub baseline_ms: f64,
    /// The most that recovery may take, in milliseconds.
    pub recovery_ms: f64,
}

impl Lengths {
    /// As the file says.
    #[must_use]
    pub fn of(experiment: &Experiment) -> Self {
        Self {
            baseline_ms: experiment.baseline.duration().as_secs_f64() * 1000.0,
            recovery_ms: experiment.recovery.duration().as_secs_f64() * 1000.0,
        }
    }
}

/// A view of one run.
#[derive(Debug)]
pub struct Live {
    telling: Telling,
    lengths: Lengths,
    /// The last window of each probe.
    windows: BTreeMap<String, Window>,
    screen: Screen,
    paint: Paint,
    /// Moments of the timeline already written as lines.
    told: usize,
    figures_told_ms: f64,
}

/// Shows a run until its last event, or until nobody is left to send one. The terminal is as before afterwards.
pub async fn watch(mut feed: broadcast::Receiver<Event>, lengths: Lengths, output: Output) {
    let mut live = Live::new(lengths, output);
    let mut draw = tokio::time::interval(DRAW_EVERY);
    draw.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            event = feed.recv() => match event {
                Ok(event) => {
                    live.take(&event);
                    if matches!(event.what, Happening::Finished(_)) {
                        break;
                    }
                }
                // The view alone is poorer for it: the run's own record has every event.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break,
            },
            _ = draw.tick() => live.draw(now_us()),
        }
    }
    live.close();
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
}

impl Live {
    /// A view that shows nothing yet.
    #[must_use]
    pub fn new(lengths: Lengths, output: Output) -> Self {
        let screen = Screen::new(output);
        Self {
            telling: Telling::default(),
            lengths,
            windows: BTreeMap::new(),
            paint: Paint::new(screen.colours()),
            screen,
            told: 0,
            figures_told_ms: 0.0,
        }
    }

    /// Takes the next event; on a pipe, writes what changed.
    pub fn take(&mut self, event: &Event) {
        self.telling.take(event);
        if let Happening::Observed(window) = &event.what {
            self.windows.insert(window.probe.clone(), window.clone());
        }
        if !self.screen.redraws() {
            for line in self.changes(self.telling.since_start_ms(event.at_us)) {
                self.screen.line(&line);
            }
        }
    }

    /// Draws the view anew, on a terminal.
    pub fn draw(&mut self, now_us: u64) {
        if self.screen.redraws() {
            let now_ms = self.telling.since_start_ms(now_us);
            let frame = frame::frame(
                self.telling.raw(),
                &self.windows,
                self.lengths,
                now_ms,
                &self.paint,
            );
            self.screen.draw(&frame);
        }
    }

    /// The last picture stays, with the verdict under it.
    pub fn close(mut self) {
        self.draw(now_us());
        self.screen.settle();
        let said = self.telling.raw();
        if let Some(verdict) = said.verdict {
            let word = verdict.to_string().to_uppercase();
            let word = match verdict {
                Verdict::Held => self.paint.good(&word),
                Verdict::Broken => self.paint.bad(&word),
                _ => self.paint.unsure(&word),
            };
            let because = clean(&said.because);
            self.screen.line(&format!("{word}  {because}"));
        }
    }

    /// What a pipe was not told yet, a line each.
    fn changes(&mut self, now_ms: f64) -> Vec<String> {
        let said = self.telling.raw();
        let mut lines: Vec<String> = said.timeline[self.told..]
            .iter()
            .map(|moment| frame::plain(moment.at_ms, &moment.what))
            .collect();
        self.told = said.timeline.len();
        if now_ms - self.figures_told_ms >= PLAIN_EVERY_MS {
            self.figures_told_ms = now_ms;
            let figures = self.windows.values().map(frame::figures);
            lines.extend(figures.map(|figures| frame::plain(now_ms, &figures)));
        }
        lines
    }
}
