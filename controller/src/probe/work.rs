//! One probe's task: makes each attempt when it is due, and says what became of it.

use super::stage::{self, Late};
use super::{Attempt, Report, Seen};
use crate::clock::Clock;
use crate::judge::Outcome;
use squall_experiments::probe::{OnError, Probe};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// So many attempts of one probe may be under way; more are due than that only when nothing answers.
const IN_FLIGHT_MAX: usize = 10_000;

/// How often attempts are made, and how patiently.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) every: Duration,
    /// For all tries of one attempt together.
    pub(super) timeout: Duration,
    pub(super) tries: u32,
    /// What no try got through to is no sample.
    pub(super) ignores: bool,
    pub(super) in_flight_max: usize,
}

impl Pace {
    pub(super) fn of(probe: &Probe) -> Self {
        let cadence = probe.cadence();
        Self {
            every: cadence.every,
            timeout: cadence.timeout,
            tries: cadence.trouble.retries + 1,
            ignores: cadence.trouble.on_error == OnError::Ignore,
            in_flight_max: IN_FLIGHT_MAX,
        }
    }
}

/// Starts each attempt when it is due, until nobody listens any more.
pub(super) async fn work(
    place: usize,
    attempt: Attempt,
    pace: Pace,
    mut due: mpsc::Receiver<Instant>,
    clock: Clock,
    trials: mpsc::Sender<(usize, Report)>,
) {
    let mut under_way = JoinSet::new();
    while let Some(at) = due.recv().await {
        while under_way.try_join_next().is_some() {}
        let due_us = clock.at_us(at);
        if under_way.len() >= pace.in_flight_max {
            if pace.ignores {
                continue;
            }
            let begun = trials.send((place, Report::Begun(due_us))).await;
            if begun.is_err() {
                return;
            }
            let reason = format!("{} attempts were already waiting", pace.in_flight_max);
            let seen = Seen::only(Outcome::Unanswered(reason));
            let trial = Box::new(seen.trial(due_us, clock.now_us()));
            if trials.send((place, Report::Ended(trial))).await.is_err() {
                return;
            }
            continue;
        }
        // What may turn out to be no sample is not announced: the judge would wait for its end.
        if !pace.ignores && trials.send((place, Report::Begun(due_us))).await.is_err() {
            return;
        }
        let (attempt, trials) = (attempt.clone(), trials.clone());
        under_way.spawn(async move {
            let seen = tries(&attempt, pace, at).await;
            if pace.ignores && matches!(seen.outcome, Outcome::Unanswered(_)) {
                return;
            }
            // The run is over when nobody listens.
            let trial = Box::new(seen.trial(due_us, clock.now_us()));
            let _over = trials.send((place, Report::Ended(trial))).await;
        });
    }
}

/// All tries of one attempt, each in its share of the time; the first answer, or the last reason for none.
async fn tries(attempt: &Attempt, pace: Pace, due: Instant) -> Seen {
    let mut number = 1;
    loop {
        let late = tokio::time::Instant::from_std(due + pace.timeout * number / pace.tries);
        let seen = stage::until(late, attempt.make()).await;
        let seen = seen.unwrap_or_else(|late| Seen::only(unanswered(pace, late)));
        if number >= pace.tries || !matches!(seen.outcome, Outcome::Unanswered(_)) {
            return seen;
        }
        // What is refused at once is not asked again at once: its share of the time is its pause.
        tokio::time::sleep_until(late).await;
        number += 1;
    }
}

fn unanswered(pace: Pace, late: Late) -> Outcome {
    let tries = match pace.tries {
        1 => String::new(),
        tries => format!(", tried {tries} times"),
    };
    let place = if late.shakes_hands {
        ", in the TLS handshake: does the other side speak TLS?"
    } else {
        ""
    };
    Outcome::Unanswered(format!("no answer within {:?}{tries}{place}", pace.timeout))
}
