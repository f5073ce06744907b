//! Who reads and who watches: a process of its own, which gives way to whatever else wants a processor.
//!
//! Reads are due at a rate, whatever became of those before, and their time counts from when they were due: one that waits for its turn is
//! slow too.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lab::world::Result;
use rustix::process::setpriority_process;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::child::{Lines, say};
use super::door::Door;
use super::kept::{KEPT, name};

/// Reads a second.
pub(super) const RATE: u32 = 500;
/// Connections that reads are made on.
const READERS: usize = 32;
/// Who watches a run.
pub(super) const WATCHERS: usize = 200;
/// How often it is looked whether a run is under way.
const LOOK: Duration = Duration::from_millis(100);
/// As nice as the threads that answer it: the load is on other machines, and is not to take the processors from what drives runs; were it nicer,
/// its own waiting for a processor would count as the controller's.
const NICE: i32 = 5;

/// What became of a load.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Done {
    /// What each read took.
    pub(super) ms: Vec<f64>,
    pub(super) failed: usize,
    pub(super) seconds: f64,
    /// Runs that were watched.
    pub(super) runs: usize,
    /// Watchers that were told a verdict.
    pub(super) told: usize,
    /// Events that they were told together.
    pub(super) events: usize,
}

impl Done {
    pub(super) fn take(&mut self, other: Self) {
        self.ms.extend(other.ms);
        self.failed += other.failed;
        self.seconds += other.seconds;
        self.runs += other.runs;
        self.told += other.told;
        self.events += other.events;
    }
}

/// Begins and ends a load as often as it is told to.
pub(super) async fn serve(directory: &Path, mut words: Lines) -> Result<()> {
    setpriority_process(None, NICE)?;
    let door = Arc::new(Door::open(directory)?);
    while words.recv().await.is_some() {
        let load = Load::begin(&door).await?;
        say("begun")?;
        words.recv().await;
        say(&serde_json::to_string(&load.end().await?)?)?;
    }
    Ok(())
}

/// What is read, in turn.
fn asked(number: usize) -> String {
    let run = name(number.wrapping_mul(7919) % KEPT);
    match number % 10 {
        0..=2 => "/runs?limit=50".into(),
        3 | 4 => format!("/runs/{run}"),
        5 => format!("/runs/{run}/report"),
        6 => format!("/runs/{run}/events"),
        7 => "/agents".into(),
        8 => "/whoami".into(),
        _ => "/policy".into(),
    }
}

/// Reads at a rate and watches what runs, until it is ended.
struct Load {
    over: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    ms: Arc<Mutex<Vec<f64>>>,
    begun: Instant,
    tasks: Vec<JoinHandle<()>>,
    watching: JoinHandle<Result<Done>>,
}

impl Load {
    async fn begin(door: &Arc<Door>) -> Result<Self> {
        let (say, hear) = mpsc::unbounded_channel::<(Instant, usize)>();
        let hear = Arc::new(tokio::sync::Mutex::new(hear));
        let over: Arc<AtomicBool> = Arc::default();
        let watching = tokio::spawn(watch(Arc::clone(door), Arc::clone(&over)));
        let mut load = Self {
            over,
            failed: Arc::default(),
            ms: Arc::default(),
            begun: Instant::now(),
            tasks: Vec::new(),
            watching,
        };
        for _ in 0..READERS {
            let mut connection = door.connect().await?;
            let (door, hear) = (Arc::clone(door), Arc::clone(&hear));
            let (failed, ms) = (Arc::clone(&load.failed), Arc::clone(&load.ms));
            let over = Arc::clone(&load.over);
            load.tasks.push(tokio::spawn(async move {
                loop {
                    let next = hear.lock().await.recv().await;
                    let Some((due, number)) = next else { return };
                    // What waits then was not answered in time: that shows in how many were.
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    if door.read(&mut connection, &asked(number)).await.is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let took = due.elapsed().as_secs_f64() * 1e3;
                    ms.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                }
            }));
        }
        load.begun = Instant::now();
        load.tasks
            .push(tokio::spawn(pace(load.begun, Arc::clone(&load.over), say)));
        Ok(load)
    }

    async fn end(self) -> Result<Done> {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            // A task that panicked has shown up as missing answers.
            let _ = task.await;
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        let ms = self
            .ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(Done {
            ms,
            failed: self.failed.load(Ordering::Relaxed),
            seconds,
            ..self.watching.await??
        })
    }
}

/// Says when each read is due.
async fn pace(begun: Instant, over: Arc<AtomicBool>, say: mpsc::UnboundedSender<(Instant, usize)>) {
    for number in 0.. {
        let due = begun + Duration::from_secs(1) * u32::try_from(number).unwrap_or(u32::MAX) / RATE;
        tokio::time::sleep_until(due.into()).await;
        if over.load(Ordering::Relaxed) || say.send((due, number)).is_err() {
            return;
        }
    }
}

/// Watches one run after the other, each by all watchers, who connect anew for it.
async fn watch(door: Arc<Door>, over: Arc<AtomicBool>) -> Result<Done> {
    let mut done = Done::default();
    while let Some(run) = under_way(&door, &over).await? {
        let path = format!("/runs/{run}/events");
        let watchers = (0..WATCHERS).map(|_| {
            let (door, path) = (Arc::clone(&door), path.clone());
            tokio::spawn(async move {
                let mut connection = door.connect().await.ok()?;
                let told = door.read(&mut connection, &path).await.ok()?;
                let told = String::from_utf8_lossy(&told);
                let events = told.lines().filter(|line| line.starts_with("data:"));
                told.contains("\"finished\"").then(|| events.count())
            })
        });
        done.runs += 1;
        for watcher in watchers.collect::<Vec<_>>() {
            if let Ok(Some(count)) = watcher.await {
                done.told += 1;
                done.events += count;
            }
        }
    }
    Ok(done)
}

/// The newest run, once it is under way; none once the load is over.
async fn under_way(door: &Door, over: &AtomicBool) -> Result<Option<String>> {
    let mut connection = door.connect().await?;
    while !over.load(Ordering::Relaxed) {
        let page = door.json(&mut connection, "/runs?limit=1").await?;
        let newest = &page["items"][0];
        if newest["underWay"] == true
            && let Some(run) = newest["run"].as_str()
        {
            return Ok(Some(run.to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(None)
}
