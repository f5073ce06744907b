//! While nothing is answered at all, agents are spoken to and runs are driven.

use super::tests::{World, hear};
use super::threads::workers;
use crate::run::desk::{ENVIRONMENT, Trigger, Wanted};
use crate::stage::fixture::FILE;
use rustix::process::getpriority_process;
use squall_experiments::wire::{FromController, Stop};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Keeps one of the API's threads busy until it is dropped; it has done `first` there.
struct Busy(#[expect(dead_code, reason = "held, not used")] Sender<()>);

impl Busy {
    /// As many as there are threads.
    fn all(world: &World) -> Vec<Self> {
        let busy = (0..workers()).map(|_| Self::with(world, async {}));
        busy.collect()
    }

    fn with(world: &World, first: impl Future<Output = ()> + Send + 'static) -> Self {
        let (go_on, wait) = channel();
        let (say, begun) = channel();
        world.threads.handle().spawn(async move {
            first.await;
            say.send(()).unwrap();
            // On purpose: as a long answer would.
            let _dropped: Result<(), _> = wait.recv();
        });
        Self::begun(&begun);
        Self(go_on)
    }

    fn begun(begun: &Receiver<()>) {
        let limit = std::time::Duration::from_secs(60);
        begun.recv_timeout(limit).expect("a thread of the API");
    }
}

#[tokio::test]
async fn a_stop_reaches_an_agent_while_all_of_the_apis_threads_are_busy() {
    let world = World::new().await;
    let token = world.join_token(1).await;
    let card = world.join(&token, "a").await.unwrap();
    let mut link = world.link(&card, "a").await.unwrap();
    assert!(hear(&mut link).await.is_some());
    world.until("there", |w| w.registry.is_connected("a")).await;
    let busy = Busy::all(&world);
    world.desk.stop_all();
    loop {
        match hear(&mut link).await.expect("a stop") {
            FromController::Stop(Stop::All) => break,
            _ => continue,
        }
    }
    drop(busy);
}

#[tokio::test]
async fn a_run_that_the_api_started_goes_on_while_all_of_its_threads_are_busy() {
    let world = World::new().await;
    let mut busy: Vec<Busy> = (1..workers())
        .map(|_| Busy::with(&world, async {}))
        .collect();
    let desk = world.desk.clone();
    busy.push(Busy::with(&world, async move {
        let wanted = Wanted {
            run: None,
            file_text: FILE.to_owned(),
            file_path: "orders.yaml".into(),
            environment: ENVIRONMENT.into(),
            by: "ann".into(),
            trigger: Trigger::Hand,
            seed: None,
        };
        desk.start(wanted).await.unwrap();
    }));
    // There is no agent: it ends as soon as it is driven.
    world
        .until("ended", |w| w.desk.under_way().is_empty())
        .await;
    drop(busy);
}

#[tokio::test]
async fn the_apis_threads_give_way_to_the_others() {
    let world = World::new().await;
    let theirs = world
        .threads
        .handle()
        .spawn(async { getpriority_process(None) });
    let ours = getpriority_process(None).unwrap();
    assert!(theirs.await.unwrap().unwrap() > ours || ours == 19);
}
