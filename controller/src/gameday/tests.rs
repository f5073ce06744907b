//! Game days over a store and a desk: what becomes of a step, whoever dies; and how a day is told.

use super::event::{Action, Note, Over, Stopped};
use super::fixture::{
    at, began, controller, decision, ended, files, game_day, go, handed, opened, planned,
};
use super::report::{DayReport, Outcome, html, markdown};
use super::{Day, DayEvent, DayId, Days, DaysError, NotBegun, Phase, What};
use crate::fleet::registry::Registry;
use crate::notify::Notices;
use crate::report::sample;
use crate::run::StandStill;
use crate::run::desk::{Desk, Refused};
use crate::store::both::{Place, on_both};
use crate::store::{Origin, Store};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A controller that was started: its game days and its desk, which knows no agent.
async fn days(store: &Store, folder: &std::path::Path) -> (Days, Desk) {
    let still = StandStill::open(store.clone(), folder).await.unwrap();
    let desk = Desk::new(
        store.clone(),
        Registry::default(),
        Default::default(),
        still,
    );
    let notices = Notices::default();
    (Days::new(store.clone(), desk.clone(), notices), desk)
}

async fn world(place: &Place) -> (tempfile::TempDir, Store, Days, Desk, DayId) {
    let folder = tempfile::tempdir().unwrap();
    let store = place.open().await;
    let (days, desk) = days(&store, folder.path()).await;
    let id = days
        .open(game_day(), planned(), &files(), Origin::Person("ann"))
        .await;
    (folder, store, days, desk, id.unwrap())
}

/// Waits until the day is where it should be, while its record is kept.
async fn until(days: &Days, id: &DayId, there: impl Fn(&Day) -> bool) -> Day {
    let keeping = tokio::spawn({
        let days = days.clone();
        async move { days.keep().await }
    });
    let waiting = async {
        loop {
            let mut changes = days.changes();
            changes.mark_unchanged();
            let day = days.now(id).await.unwrap().day;
            if there(&day) {
                return day;
            }
            changes.changed().await.unwrap();
        }
    };
    let day = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    keeping.abort();
    day.expect("it comes to that")
}

#[tokio::test]
async fn go_is_a_run_at_the_desk_and_its_end_is_kept() {
    on_both(async |place| {
        let (_folder, store, days, _desk, id) = world(place).await;
        let run = days.go(&id, 1, "ann", String::new()).await.unwrap();
        let started = store.started(&run).await.unwrap().unwrap();
        assert_eq!(
            (started.by.as_str(), started.environment.as_str()),
            ("ann", "default")
        );
        // Without an agent nothing is shown, and the step waits for another decision.
        until(&days, &id, |day| day.phase == Phase::Waiting { step: 1 }).await;
        let events = store.game_day_events(&id, 0).await.unwrap();
        let last = events.last().unwrap();
        let What::Ended(ended) = &last.what else {
            panic!("{last:?}");
        };
        assert_eq!(ended.run, run);
        let shown = [Verdict::Held, Verdict::Broken, Verdict::Halted];
        assert!(!shown.contains(&ended.verdict.unwrap()), "{ended:?}");
        assert!(!ended.because.is_empty());
    })
    .await;
}

#[tokio::test]
async fn who_stopped_a_run_is_kept_though_it_ends_at_once() {
    on_both(async |place| {
        let (_folder, store, days, desk, id) = world(place).await;
        let run = days.go(&id, 1, "ann", String::new()).await.unwrap();
        let telling = days.stop_now(&id);
        let over = async {
            while desk.subscribe(&run).is_some() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let over = tokio::time::timeout(Duration::from_secs(60), over).await;
        over.expect("without an agent it ends at once");
        assert_eq!(days.look().await.unwrap(), []);
        days.stop(&id, "eve", "x".into()).await.unwrap();
        drop(telling);
        until(&days, &id, |day| {
            !matches!(day.phase, Phase::Running { .. })
        })
        .await;
        let events = store.game_day_events(&id, 0).await.unwrap();
        let [.., stopped, ended] = &events[..] else {
            panic!("{events:?}");
        };
        assert!(matches!(&stopped.what, What::Stopped(one) if one.by == "eve"));
        assert!(matches!(ended.what, What::Ended(_)), "{ended:?}");
    })
    .await;
}

#[tokio::test]
async fn who_leads_no_more_opens_no_day_and_says_nothing_on_one() {
    on_both(async |place| {
        let (_folder, old, days, _desk, id) = world(place).await;
        let new = place.open().await;
        let hour = Duration::from_secs(3600);
        let token = old.take_lead("https://a", hour, false).await.unwrap();
        old.write_as(token.unwrap());
        let over = || {
            What::Over(Over {
                by: "ann".into(),
                because: String::new(),
            })
        };
        new.take_lead("https://b", hour, true).await.unwrap();
        let stands_by = |error: DaysError| matches!(error, DaysError::Run(Refused::StandsBy));
        assert!(stands_by(days.say(&id, over()).await.unwrap_err()));
        let again = days
            .open(game_day(), planned(), &files(), Origin::Person("ann"))
            .await;
        assert!(stands_by(again.unwrap_err()));
        assert_eq!(new.game_days(None, 10).await.unwrap().len(), 1);
        assert_eq!(new.game_day_events(&id, 0).await.unwrap().len(), 1);
        assert_eq!(new.open_game_days().await.unwrap(), [id]);
    })
    .await;
}

#[tokio::test]
async fn what_a_gate_says_is_kept_and_nothing_begins() {
    on_both(async |place| {
        let (_folder, store, days, desk, id) = world(place).await;
        desk.set_gate(Arc::new(|_| {
            Box::pin(async { Err(vec!["no approval".to_owned(), "no evidence".to_owned()]) })
        }));
        let refused = days.go(&id, 1, "ann", String::new()).await.unwrap_err();
        assert!(matches!(refused, DaysError::Run(_)), "{refused:?}");
        let events = store.game_day_events(&id, 0).await.unwrap();
        let What::Refused(NotBegun { run, reasons, .. }) = &events[2].what else {
            panic!("{events:?}");
        };
        assert_eq!(reasons, &["no approval", "no evidence"]);
        assert!(store.started(run).await.unwrap().is_none());
        assert!(desk.under_way().is_empty());
        let day = days.now(&id).await.unwrap().day;
        assert_eq!(day.phase, Phase::Waiting { step: 1 });
    })
    .await;
}

#[tokio::test]
async fn of_many_who_say_go_at_once_one_begins() {
    on_both(async |place| {
        let (_folder, store, days, desk, id) = world(place).await;
        // The gate opens when all have said it.
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let opens = Arc::clone(&gate);
        desk.set_gate(Arc::new(move |_| {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                Ok(())
            })
        }));
        let all = (0..8).map(|_| {
            let (days, id) = (days.clone(), id.clone());
            tokio::spawn(async move { days.go(&id, 1, "ann", String::new()).await })
        });
        let all: Vec<_> = all.collect();
        until(&days, &id, |day| day.run().is_some()).await;
        opens.add_permits(8);
        let mut begun = 0;
        for one in all {
            begun += u32::from(one.await.unwrap().is_ok());
        }
        assert_eq!(begun, 1);
        assert_eq!(store.runs(10).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn another_controller_goes_on_with_the_day() {
    on_both(async |place| {
        let (folder, store, first, _desk, id) = world(place).await;
        // The first dies between go and the run.
        first.say(&id, go(1, "ann", "lost")).await.unwrap();
        store
            .take_lead("https://b.example", Duration::from_secs(60), true)
            .await
            .unwrap();
        let (second, _desk) = days(&store, folder.path()).await;
        second.look().await.unwrap();
        let day = second.now(&id).await.unwrap().day;
        assert_eq!(day.phase, Phase::Waiting { step: 1 });
        assert_eq!(day.controller.address, "https://b.example");
        let events = store.game_day_events(&id, 0).await.unwrap();
        assert!(matches!(&events[2].what, What::TakenUp(_)), "{events:?}");
        let What::Refused(not) = &events[3].what else {
            panic!("{events:?}");
        };
        assert!(not.reasons[0].contains("controller ended"), "{not:?}");
        // It says so once.
        second.look().await.unwrap();
        assert_eq!(store.game_day_events(&id, 0).await.unwrap().len(), 4);
        // The next dies with the run under way: its record has no end.
        second.say(&id, go(1, "ann", "torn")).await.unwrap();
        second.say(&id, began(1, "torn")).await.unwrap();
        let (third, _desk) = days(&store, folder.path()).await;
        third.look().await.unwrap();
        let events = store.game_day_events(&id, 0).await.unwrap();
        let last = &events.last().unwrap().what;
        assert!(
            matches!(last, What::Ended(ended) if ended.verdict.is_none()),
            "{last:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn days_are_listed_and_found_by_what_their_names_begin_with() {
    on_both(async |place| {
        let (_folder, store, days, _desk, first) = world(place).await;
        let second = days
            .open(game_day(), planned(), &files(), Origin::Person("bob"))
            .await
            .unwrap();
        let (early, late) = if first < second {
            (first, second)
        } else {
            (second, first)
        };
        let all = store.game_days(None, 10).await.unwrap();
        assert_eq!(
            all.iter().map(|day| &day.id).collect::<Vec<_>>(),
            [&late, &early]
        );
        let older = store.game_days(Some(&late.0), 10).await.unwrap();
        assert_eq!(older.len(), 1);
        let last = store.find_game_day("last").await.unwrap().unwrap();
        assert_eq!(last.id, late);
        assert_eq!(
            store.find_game_day(&early.0).await.unwrap().unwrap().id,
            early
        );
        assert!(
            store.find_game_day("2").await.unwrap().is_none(),
            "two begin so"
        );
        assert!(store.find_game_day("x").await.unwrap().is_none());
        assert_eq!(store.game_day_files(&early).await.unwrap(), files());
        days.say(
            &early,
            What::Over(Over {
                by: "ann".into(),
                because: String::new(),
            }),
        )
        .await
        .unwrap();
        assert_eq!(store.open_game_days().await.unwrap(), [late]);
    })
    .await;
}

/// Says on which day a whole one was held: a no-go, one that broke, one that was stopped, one left out.
fn whole() -> (
    Vec<DayEvent>,
    BTreeMap<RunId, Vec<squall_experiments::event::Event>>,
) {
    let note = |by: &str, text: &str| {
        What::Noted(Note {
            by: by.into(),
            text: text.into(),
        })
    };
    let stopped = What::Stopped(Stopped {
        step: 2,
        run: "halted".into(),
        by: "eve".into(),
        because: "the dashboard is red".into(),
    });
    let action = What::Action(Action {
        by: "sue".into(),
        text: "give payment a deadline".into(),
        owner: "team-orders".into(),
        due: Some(jiff::civil::date(2026, 12, 15)),
    });
    let over = What::Over(Over {
        by: "bob".into(),
        because: "We know now.".into(),
    });
    let said = [
        (0, opened()),
        (10, What::NoGo(decision(1, "ann"))),
        (50, note("sue", "everybody is <here> | *now*")),
        (55, go(1, "ann", "run-1")),
        (58, began(1, "run-1")),
        (78, ended(1, "run-1", Some(Verdict::Broken))),
        (80, handed("bob", "bob")),
        (85, go(2, "bob", "halted")),
        (86, began(2, "halted")),
        (90, stopped),
        (95, ended(2, "halted", Some(Verdict::Halted))),
        (97, What::TakenUp(controller(2))),
        (100, What::Skipped(decision(3, "bob"))),
        (110, over),
        (3_600, action),
    ];
    let events = said.map(|(second, what)| at(second, what));
    (
        events.into(),
        [(RunId::from("run-1"), sample::broken())].into(),
    )
}

#[test]
fn a_day_is_told_from_its_events_and_what_is_unknown_is_said() {
    let (events, runs) = whole();
    let day = DayReport::of(&DayId("d".into()), &events, &runs);
    let outcomes: Vec<Outcome> = day.steps.iter().map(|step| step.outcome()).collect();
    let ended = |verdict| Outcome::Ended(Some(verdict));
    assert_eq!(
        outcomes,
        [
            ended(Verdict::Broken),
            ended(Verdict::Halted),
            Outcome::Skipped
        ]
    );
    assert_eq!(day.outcomes(), "1 broken, 1 halted, 1 left out");
    assert_eq!(day.worst(), Verdict::Broken);
    assert_eq!(
        (day.lead.as_str(), day.hand_overs[0].from.as_str()),
        ("bob", "ann")
    );
    let [broken, halted] = [&day.steps[0].runs[0], &day.steps[1].runs[0]];
    assert_eq!(broken.broke.as_ref().unwrap().expectation, "p99 <= 400ms");
    let (fault_in, gone) = (broken.fault_in_us.unwrap(), broken.fault_gone_us.unwrap());
    assert!(fault_in < gone);
    let telling = crate::report::Summary::of(&sample::broken());
    let armed = telling
        .faults
        .iter()
        .filter_map(|f| f.armed_at_ms)
        .min_by(f64::total_cmp);
    assert_eq!(
        broken.detect_ms,
        Some(telling.stop_at_ms.unwrap() - armed.unwrap())
    );
    assert_eq!(broken.recover_ms, telling.timings.recover_ms);
    // Of the run that left no record.
    assert_eq!((halted.detect_ms, halted.recover_ms), (None, None));
    assert_eq!(halted.stopped_by.as_deref(), Some("eve"));
    let times: Vec<u64> = day.timeline.iter().map(|moment| moment.at_us).collect();
    assert!(times.is_sorted());
    let text = markdown(&day);
    for needle in [
        "| unknown | unknown |",
        "stopped by eve",
        "&lt;here&gt; \\| \\*now\\*",
        "the on-call engineer is at lunch",
        "give payment a deadline (**team-orders**, until 2026-12-15)",
        "(Europe/Berlin)",
        "12:59 to 13:00",
    ] {
        assert!(text.contains(needle), "{needle}: {text}");
    }
}

#[test]
fn the_page_is_one_file_that_no_text_can_break_out_of() {
    let (mut events, runs) = whole();
    let hostile = "<script>alert(1)</script>";
    let note = Note {
        by: "sue".into(),
        text: hostile.into(),
    };
    events.push(at(3_700, What::Noted(note)));
    let day = DayReport::of(&DayId("d".into()), &events, &runs);
    let page = html(&day).unwrap();
    assert!(!page.contains("<script") && page.contains("alert(1)"));
    for outside in ["src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    for needle in [
        "A weakness was found",
        "p99 &lt;= 400ms",
        "stopped by eve",
        "left out",
    ] {
        let escaped = needle.replace("&lt;", "&#60;");
        assert!(page.contains(needle) || page.contains(&escaped), "{needle}");
    }
}

#[test]
fn a_record_that_is_torn_off_anywhere_is_told_too() {
    let (events, runs) = whole();
    for end in 0..=events.len() {
        let day = DayReport::of(&DayId("d".into()), &events[..end], &runs);
        assert!(!html(&day).unwrap().is_empty() && !markdown(&day).is_empty());
        let json = serde_json::to_string(&day).unwrap();
        assert_eq!(serde_json::from_str::<DayReport>(&json).unwrap(), day);
    }
}
