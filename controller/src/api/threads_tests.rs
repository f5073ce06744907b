//! While nothing is answered at all, agents are spoken to and runs are driven.

use super::threads::workers;
use super::world::{World, hear};
use crate::run::desk::ENVIRONMENT;
use crate::stage::fixture::FILE;
use axum::http::{Method, StatusCode};
use rustix::process::getpriority_process;
use serde_json::json;
use squall_experiments::wire::{FromController, Stop};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

/// Keeps one of the API's threads busy until it is dropped; it has done `first` there.
struct Busy(#[expect(dead_code, reason = "held, not used")] Sender<()>);

impl Busy {
    /// As many as there are threads.
    async fn all(world: &World) -> Vec<Self> {
        Self::but(world, 0).await
    }

    /// As many but so many.
    async fn but(world: &World, free: usize) -> Vec<Self> {
        let mut busy = Vec::new();
        for _ in free..workers() {
            busy.push(Self::with(world, async {}).await);
        }
        busy
    }

    async fn with(world: &World, first: impl Future<Output = ()> + Send + 'static) -> Self {
        let (go_on, wait) = channel();
        let (say, begun) = oneshot::channel();
        world.threads.handle().spawn(async move {
            first.await;
            say.send(()).unwrap();
            // On purpose: as a long answer would.
            let _dropped: Result<(), _> = wait.recv();
        });
        // Not waited for with the test's own thread: what `first` asks of it, such as a connection given back, would never be done.
        let begun = timeout(Duration::from_secs(60), begun).await;
        begun.expect("a thread of the API").expect("done at first");
        Self(go_on)
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
    let busy = Busy::all(&world).await;
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
    let (told, asked_on) = channel();
    world.desk.set_gate(Arc::new(move |_| {
        told.send(thread::current().id()).unwrap();
        Box::pin(async { Ok(()) })
    }));
    let mut busy = Busy::but(&world, 1).await;
    let wanted = json!({ "file": FILE, "environment": ENVIRONMENT });
    let answer = world.answer(world.says(Method::POST, "/api/v1/runs", Some(wanted)));
    let last = Busy::with(&world, async move {
        assert_eq!(answer.await, StatusCode::CREATED);
    });
    busy.push(last.await);
    assert_eq!(asked_on.try_recv(), Ok(thread::current().id()));
    // There is no agent: it ends as soon as it is driven.
    world
        .until("ended", |w| w.desk.under_way().is_empty())
        .await;
    drop(busy);
}

#[tokio::test]
async fn who_hangs_up_leaves_nothing_half_done_and_asks_again_for_what_was_done() {
    let world = World::new().await;
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says, waits) = (Arc::clone(&reached), Arc::clone(&go_on));
    world.desk.set_gate(Arc::new(move |_| {
        let (says, waits) = (Arc::clone(&says), Arc::clone(&waits));
        Box::pin(async move {
            says.notify_one();
            waits.notified().await;
            Ok(())
        })
    }));
    let wanted = json!({ "file": FILE, "environment": ENVIRONMENT });
    let asked = || {
        let mut request = world.says(Method::POST, "/api/v1/runs", Some(wanted.clone()));
        let key = "4711".parse().unwrap();
        request.headers_mut().insert("idempotency-key", key);
        request
    };
    tokio::select! {
        status = world.answer(asked()) => panic!("{status}"),
        () = reached.notified() => {}
    }
    go_on.notify_one();
    let mut last = String::new();
    for _ in 0..500 {
        let (_, log) = world.call(Method::GET, "/api/v1/audit", None).await;
        last = String::from_utf8_lossy(&log).into_owned();
        if last.contains("\"POST /runs\"") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(
        last.contains("\"POST /runs\""),
        "it is not in the log: {last}"
    );
    // Done again, it would wait at the gate.
    let again = timeout(Duration::from_secs(10), world.answer(asked())).await;
    assert_eq!(again, Ok(StatusCode::CREATED));
    let (_, runs) = world.call(Method::GET, "/api/v1/runs", None).await;
    let runs = String::from_utf8_lossy(&runs).into_owned();
    assert_eq!(runs.matches("\"createdUs\"").count(), 1, "{runs}");
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
