//! A controller: everything of the real one between its database and its agents' links, put together as `squall serve` does.

use super::wire::End;
use super::{ENVIRONMENT, Truth, experiment};
use crate::clock::{Clock, kept_us};
use crate::fleet::registry::Registry;
use crate::judge::{Outcome, Trial};
use crate::leader::{Candidate, Leadership};
use crate::probe::{Probes, Report, Trials};
use crate::run::budget::{Bounded, Limits};
use crate::run::desk::{Desk, Rules};
use crate::run::{Reach, StandStill};
use crate::store::Store;
use crate::store::simulated::Session;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// So long attempts of the probe are apart.
const ATTEMPT_EVERY: Duration = Duration::from_millis(50);

/// What others have of one that serves.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) desk: Desk,
    pub(super) leadership: Leadership,
}

/// Where it is found once it serves.
pub(super) type Place = Arc<Mutex<Option<Serving>>>;

/// Serves until it is told to end.
pub(super) async fn serve(
    session: Session,
    address: String,
    mut links: mpsc::UnboundedReceiver<(String, End)>,
    place: Place,
    truth: Truth,
    told_to_end: oneshot::Receiver<()>,
) {
    let store = Store::simulated(session);
    let nowhere = Path::new("/nonexistent/squall-simulation");
    // Whoever starts it starts it again where it ends at once.
    let still = loop {
        match StandStill::open(store.clone(), nowhere).await {
            Ok(still) => break still,
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    };
    let (candidate, leadership) = Candidate::new(store.clone(), address);
    let registry = Registry::new(leadership.term());
    let desk = Desk::new(store.clone(), registry.clone(), rules(), still.clone());
    desk.set_observe(Arc::new(move |_, clock, trials| {
        let mut tasks = JoinSet::new();
        tasks.spawn(observe(clock, trials.clone(), truth.clone()));
        Ok(Probes::of(tasks))
    }));
    let serving = Serving {
        desk: desk.clone(),
        leadership: leadership.clone(),
    };
    *place.lock().unwrap() = Some(serving);
    let over = async {
        if told_to_end.await.is_err() {
            std::future::pending::<()>().await;
        }
        desk.end(Duration::from_secs(5)).await;
    };
    let end = || {
        desk.depose();
        registry.hang_up_all();
    };
    let begin = async || store.interrupt_runs(kept_us()).await.map(drop);
    let accept = async {
        while let Some((node, end)) = links.recv().await {
            // Who stands by refuses them.
            if leadership.leads() {
                let registry = registry.clone();
                let address = SocketAddr::from(([10, 0, 0, 1], 1));
                tokio::spawn(async move { registry.serve(node, address, end).await });
            }
        }
    };
    tokio::select! {
        biased;
        () = accept => {}
        () = still.watch(|| desk.stop_all()) => {}
        () = candidate.stand(begin, end, over) => {}
    }
}

fn rules() -> Rules {
    let budget = Limits {
        targets: Some(experiment::TARGETS_MAX),
        ..Limits::default()
    };
    let bounded = Bounded {
        nodes: Default::default(),
        budget,
    };
    Rules {
        environments: [(ENVIRONMENT.to_owned(), bounded)].into(),
        reach: Reach::default(),
    }
}

/// A probe of the service that is hit: it fails while a fault is in force, where it is one that does.
async fn observe(clock: Clock, trials: Trials, truth: Truth) {
    let began = Instant::now();
    for number in 1_u32.. {
        // What stood still makes up for what it left out, as the real ones do (`probe/pace.rs`).
        let due = began + ATTEMPT_EVERY * number;
        sleep_until(due).await;
        let due_us = clock.at_us(due.into_std());
        let outcome = if truth.fails_now() {
            Outcome::Failed("status 503".into())
        } else {
            Outcome::Success
        };
        let trial = Trial {
            due_us,
            ended_us: clock.now_us() + 5_000,
            outcome,
            status: Some(200),
            value: None,
            exit: None,
            bodies: Vec::new(),
        };
        for report in [Report::Begun(due_us), Report::Ended(Box::new(trial))] {
            if trials.send((0, report)).await.is_err() {
                return;
            }
        }
    }
}
