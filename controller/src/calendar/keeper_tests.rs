//! Several controllers over one store, each of which may die at any point: each time is started once, or passed over, and never twice.

use super::tests::schedule;
use super::*;
use crate::notify::Notices;
use crate::store::both::on_both;
use crate::store::{NamedText, Origin, ScheduleFiles, StartState, Store};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use squall_experiments::event::{Created, Event, Finished, Happening};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const EXPERIMENT: &str = "apiVersion: squall/v1\nkind: Experiment\nmetadata: { name: e }\nhypothesis: h\nsteadyState:\n  - name: a\n    \
probe: { load: { url: \"http://a:1/\", rate: 50/s } }\n    expect: success >= 90%\nmethod:\n  - fault: kill\n    on: { process: { name: a } }\n    hold: 1min\n";

fn files(more: &str) -> ScheduleFiles {
    let head =
        "apiVersion: squall/v1\nkind: Schedule\nmetadata: { name: nightly }\nexperiment: e.yaml\n";
    let named = |name: &str, text: String| NamedText {
        name: name.into(),
        text,
    };
    ScheduleFiles {
        schedule: named("s.yaml", format!("{head}{more}\n")),
        experiment: named("e.yaml", EXPERIMENT.into()),
        blackouts: Vec::new(),
    }
}

/// Where a start goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fails {
    Nowhere,
    /// The controller dies with the claim made and the run not yet there.
    BeforeTheRun,
    /// It dies when the run is there, and the claim does not know it yet.
    AfterTheRun,
    /// There is no agent at the moment.
    Unavailable,
}

/// Keeps runs as the engine does, and counts how often each was begun in earnest.
#[derive(Debug, Clone)]
struct Engine {
    store: Store,
    begun: Arc<Mutex<BTreeMap<String, u32>>>,
    /// How often it was asked to start something, whether it was there already or not.
    asked: Arc<Mutex<u32>>,
    fails: Arc<Mutex<Fails>>,
}

impl Starter for Engine {
    async fn start(&self, order: Order) -> Result<(), NotStarted> {
        *self.asked.lock().unwrap() += 1;
        let fails = *self.fails.lock().unwrap();
        match fails {
            Fails::Unavailable => return Err(NotStarted::Unavailable("no agent".into())),
            Fails::BeforeTheRun => std::future::pending().await,
            Fails::Nowhere | Fails::AfterTheRun => {}
        }
        if self.store.end_of(&order.run).await.unwrap().is_none() {
            *self
                .begun
                .lock()
                .unwrap()
                .entry(order.run.0.clone())
                .or_default() += 1;
            keep(&self.store, &order.run, None).await;
        }
        if fails == Fails::AfterTheRun {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

async fn keep(store: &Store, run: &RunId, verdict: Option<Verdict>) {
    // After the run's first event, where it is its end.
    let mut writer = store.writer(run, i64::from(verdict.is_some()));
    let what = match verdict {
        None => Happening::Created(Box::new(Created {
            run: run.clone(),
            name: "e".into(),
            hypothesis: "h".into(),
            file_text: String::new(),
            file_path: "e.yaml".into(),
            digest: "d".into(),
            seed: 1,
            node: "n".into(),
            environment: None,
            by: None,
            capabilities: squall_experiments::capability::Capabilities::default(),
            version: "0".into(),
            expectations: Vec::new(),
        })),
        Some(verdict) => Happening::Finished(Finished {
            verdict,
            because: "b".into(),
            detect_ms: None,
            revert_ms: None,
            recover_ms: None,
        }),
    };
    writer.append(&Event { at_us: 1, what });
    writer.close().await;
}

struct World {
    _folder: Option<tempfile::TempDir>,
    store: Store,
    engine: Engine,
}

impl World {
    async fn new(more: &str, now: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let world = Self::of(store, more, now).await;
        Self {
            _folder: Some(folder),
            ..world
        }
    }

    async fn of(store: Store, more: &str, now: Timestamp) -> Self {
        store
            .put_schedule(
                "nightly",
                &files(more),
                Origin::Commit("abc"),
                now.as_microsecond(),
            )
            .await
            .unwrap();
        let engine = Engine {
            store: store.clone(),
            begun: Arc::default(),
            asked: Arc::default(),
            fails: Arc::new(Mutex::new(Fails::Nowhere)),
        };
        Self {
            _folder: None,
            store,
            engine,
        }
    }

    fn keeper(&self) -> Keeper<Engine> {
        Keeper::new(
            self.store.clone(),
            self.engine.clone(),
            Notices::default(),
            GitRights::default(),
        )
    }

    fn fails(&self, fails: Fails) {
        *self.engine.fails.lock().unwrap() = fails;
    }

    /// Looks, and dies where the engine hangs for ever.
    async fn look(&self, keeper: &Keeper<Engine>, now: Timestamp) {
        let limit = std::time::Duration::from_millis(match *self.engine.fails.lock().unwrap() {
            Fails::BeforeTheRun | Fails::AfterTheRun => 60,
            Fails::Nowhere | Fails::Unavailable => 60_000,
        });
        if let Ok(looked) = tokio::time::timeout(limit, keeper.look(now)).await {
            looked.unwrap();
        }
    }

    async fn states(&self) -> Vec<StartState> {
        let mut starts = self.store.starts("nightly", 1_000).await.unwrap();
        starts.reverse();
        starts.into_iter().map(|start| start.state).collect()
    }
}

fn minutes(number: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(number)
}

const HOURLY: &str = "cron: 0 * * * *\ntimeZone: Etc/UTC\nstartWithin: 30min";

#[tokio::test]
async fn two_controllers_start_each_time_once() {
    on_both(async |place| {
        // Each with connections of its own, as two programs have.
        let world = World::of(place.open().await, HOURLY, minutes(0)).await;
        let second = World {
            store: place.open().await,
            engine: world.engine.clone(),
            _folder: None,
        };
        two_controllers(&world, &second).await;
    })
    .await;
}

async fn two_controllers(world: &World, second: &World) {
    let (one, other) = (world.keeper(), second.keeper());
    for hour in 1..=5 {
        let (a, b) = tokio::join!(one.look(minutes(60 * hour)), other.look(minutes(60 * hour)));
        a.unwrap();
        b.unwrap();
        let run = RunId(run_name("nightly", minutes(60 * hour)));
        keep(&world.store, &run, Some(Verdict::Held)).await;
    }
    let begun = world.engine.begun.lock().unwrap().clone();
    assert_eq!(begun.len(), 5, "{begun:?}");
    // The claim alone keeps the other from it: nobody leans on the engine to know its runs.
    assert_eq!(*world.engine.asked.lock().unwrap(), 5);
    assert!(begun.values().all(|count| *count == 1), "{begun:?}");
}

#[tokio::test]
async fn a_schedule_starts_what_its_owner_may_start_at_that_moment() {
    let world = World::new(HOURLY, minutes(0)).await;
    let (store, keeper) = (&world.store, world.keeper());
    let put = async |origin| {
        let files = files(HOURLY);
        store
            .put_schedule("nightly", &files, origin, 0)
            .await
            .unwrap();
    };
    put(Origin::Person("ann")).await;
    world.look(&keeper, minutes(60)).await;
    let token = store.add_api_token(
        "a",
        squall_experiments::join::Fingerprint([1; 32]),
        "ann",
        0,
        None,
    );
    token.await.unwrap();
    world.look(&keeper, minutes(120)).await;
    assert!(store.revoke_api_token("a", 1).await.unwrap());
    world.look(&keeper, minutes(180)).await;
    // What Git put into force is bounded by the configuration.
    put(Origin::Commit("abc")).await;
    let elsewhere = GitRights {
        environments: Some(vec!["staging".into()]),
        namespaces: None,
    };
    let bounded = Keeper::new(
        store.clone(),
        world.engine.clone(),
        Notices::default(),
        elsewhere,
    );
    world.look(&bounded, minutes(240)).await;
    let states = world.states().await;
    // The one that was started is given up an hour later: nobody ran it.
    let [refused, started] = [StartState::Refused, StartState::Ended];
    assert_eq!(states, [refused, started, refused, refused]);
    assert_eq!(world.engine.begun.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_controller_that_died_has_left_is_found() {
    for (fails, begun_first) in [(Fails::BeforeTheRun, 0), (Fails::AfterTheRun, 1)] {
        let world = World::new(HOURLY, minutes(0)).await;
        world.fails(fails);
        world.look(&world.keeper(), minutes(60)).await;
        assert_eq!(world.engine.begun.lock().unwrap().len(), begun_first);
        assert_eq!(world.states().await, [StartState::Claimed]);
        world.fails(Fails::Nowhere);
        let next = world.keeper();
        // It may still be there: a minute is not over.
        world
            .look(&next, minutes(60) + SignedDuration::from_secs(30))
            .await;
        world.look(&next, minutes(62)).await;
        assert_eq!(world.states().await, [StartState::Started]);
        assert_eq!(
            world
                .engine
                .begun
                .lock()
                .unwrap()
                .values()
                .copied()
                .collect::<Vec<_>>(),
            [1]
        );
    }
}

#[tokio::test]
async fn what_cannot_be_started_is_tried_until_it_is_too_late() {
    let world = World::new(HOURLY, minutes(0)).await;
    world.fails(Fails::Unavailable);
    let keeper = world.keeper();
    world.look(&keeper, minutes(60)).await;
    world.look(&keeper, minutes(75)).await;
    assert_eq!(world.states().await, [StartState::Claimed]);
    world.look(&keeper, minutes(91)).await;
    assert_eq!(world.states().await, [StartState::PassedOver]);
    assert_eq!(world.engine.begun.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_broken_run_suspends_and_somebody_resumes() {
    on_both(async |place| suspends(&World::of(place.open().await, HOURLY, minutes(0)).await).await)
        .await;
}

async fn suspends(world: &World) {
    let keeper = world.keeper();
    world.look(&keeper, minutes(60)).await;
    keep(
        &world.store,
        &RunId(run_name("nightly", minutes(60))),
        Some(Verdict::Broken),
    )
    .await;
    world.look(&keeper, minutes(120)).await;
    assert_eq!(
        world.states().await,
        [StartState::Ended, StartState::PassedOver]
    );
    let kept = &world.store.schedules().await.unwrap()[0];
    assert!(
        kept.suspended_because.as_ref().unwrap().contains("broken"),
        "{kept:?}"
    );
    assert!(
        world
            .store
            .resume_schedule("nightly", minutes(190).as_microsecond())
            .await
            .unwrap()
    );
    // What was due while it was suspended is not made up for.
    world.look(&keeper, minutes(195)).await;
    world.look(&keeper, minutes(240)).await;
    assert_eq!(
        world.states().await,
        [
            StartState::Ended,
            StartState::PassedOver,
            StartState::Started
        ]
    );
}

#[tokio::test]
async fn one_run_at_once_and_one_that_never_ends_is_given_up() {
    let world = World::new(
        "cron: \"*/10 * * * *\"\ntimeZone: Etc/UTC\nstartWithin: 5min",
        minutes(0),
    )
    .await;
    let keeper = world.keeper();
    for minute in (10..=40).step_by(2) {
        world.look(&keeper, minutes(minute)).await;
    }
    use StartState as S;
    // 20 s, one minute and one for the recovery, and 15 min more: the run of ten past has no end, and that of half past begins.
    assert_eq!(world.states().await, [S::Ended, S::PassedOver, S::Started]);
}

#[test]
fn the_schedule_of_the_tests_is_read() {
    assert_eq!(schedule(HOURLY).at_most, 1);
    Prepared::new(&files(HOURLY)).unwrap();
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Look { who: usize, fails: usize },
    Wait(i64),
    Replace(usize),
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_usize, 0..6_usize).prop_map(|(who, fails)| Step::Look { who, fails }),
        3 => (1..45_i64).prop_map(Step::Wait),
        1 => (0..3_usize).prop_map(Step::Replace),
        2 => Just(Step::End),
    ];
    proptest::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Three controllers look, die and come back in any order: no run is begun twice, and no time is decided twice or left out.
    #[test]
    fn nothing_is_started_twice_whoever_dies_when(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(HOURLY, minutes(0)).await;
            let mut keepers = [world.keeper(), world.keeper(), world.keeper()];
            let mut now = minutes(0);
            for step in steps {
                match step {
                    Step::Look { who, fails } => {
                        let all = [Fails::BeforeTheRun, Fails::AfterTheRun, Fails::Unavailable];
                        world.fails(all.get(fails).copied().unwrap_or(Fails::Nowhere));
                        world.look(&keepers[who], now).await;
                    }
                    Step::Wait(pause) => now += SignedDuration::from_mins(pause),
                    Step::Replace(who) => keepers[who] = world.keeper(),
                    Step::End => {
                        for start in world.store.open_starts("nightly").await.unwrap() {
                            let run = start.run.unwrap();
                            if world.store.end_of(&run).await.unwrap() == Some(None) {
                                keep(&world.store, &run, Some(Verdict::Held)).await;
                            }
                        }
                    }
                }
            }
            // Whoever died is given up, and what is due is decided.
            world.fails(Fails::Nowhere);
            now += SignedDuration::from_mins(2);
            world.look(&keepers[0], now).await;
            let begun = world.engine.begun.lock().unwrap().clone();
            assert!(begun.values().all(|count| *count == 1), "{begun:?}");
            let starts = world.store.starts("nightly", 1_000).await.unwrap();
            for start in starts.iter().filter(|s| matches!(s.state, StartState::Started | StartState::Ended)) {
                assert!(begun.contains_key(&start.run.as_ref().unwrap().0), "{start:?}");
            }
            // All but the last, which may wait for a run to end.
            let due = (now.duration_since(minutes(0)).as_mins() / 60).max(1) - 1;
            assert!(starts.len() as i64 >= due, "{due} were due: {starts:?}");
        });
    }
}
