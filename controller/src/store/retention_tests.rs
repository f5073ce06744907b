//! What is old goes, with all of it and nothing else, on both databases.

use super::both::on_both;
use super::tests::{created, finished, keep};
use super::{Floors, Store};
use crate::retention::{self, Removed};
use crate::stage::fixture;
use sqlx::{AssertSqlSafe, Row, query};
use squall_experiments::event::{Finished, Happening};
use squall_experiments::ids::RunId;
use squall_experiments::policy::Stage;
use squall_experiments::verdict::Verdict;
use std::time::Duration;

/// Before 1000 everything is old; of what has evidence, before 500.
const FLOORS: Floors = Floors {
    runs_us: 1000,
    evidence_us: 500,
    game_days_us: 1000,
};

/// A run of three events, with all that is kept of its start.
async fn run(store: &Store, name: &str, at_us: u64, verdict: Option<Verdict>) {
    let id = RunId::from(name);
    let mut happenings = vec![created(&id), Happening::Recovered];
    if let (Some(verdict), Happening::Finished(end)) = (verdict, finished()) {
        happenings.push(Happening::Finished(Finished { verdict, ..end }));
    }
    keep(store, name, happenings, at_us).await;
    for sql in [
        "INSERT INTO started_runs (run, environment, started_by, at_us) VALUES ($1, 'default', 'ann', 1)",
        "INSERT INTO preflights (run, decision) VALUES ($1, '{}')",
    ] {
        query(sql).bind(name).execute(&store.pool).await.unwrap();
    }
}

async fn evidence(store: &Store, name: &str, verdict: Verdict, ended_us: i64) {
    let staging = ("staging", Stage::NonProduction);
    let shown = fixture::run("d", staging, verdict, ended_us, 0);
    let shown = crate::stage::Evidence {
        run: RunId::from(name),
        ..shown
    };
    assert!(store.add_evidence(&shown).await.unwrap());
}

async fn say(store: &Store, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    query(sql).execute(&store.pool).await.unwrap();
}

async fn names(store: &Store, sql: &'static str) -> Vec<String> {
    let rows = query(sql).fetch_all(&store.pool).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// A game day that was over at a time, or is not, and has had a run.
async fn game_day(store: &Store, name: &str, run: &str, ended_us: Option<i64>) {
    let ended = ended_us.map_or("NULL".to_owned(), |at| at.to_string());
    say(store, &format!("INSERT INTO game_days (id, name, held_on, environments, opened_us, opened_by, files, ended_us) \
        VALUES ('{name}', 'day', '2026-01-01', '[]', 1, 'ann', '{{}}', {ended})")).await;
    say(
        store,
        &format!(
            "INSERT INTO game_day_events (game_day, sequence, at_us, what) \
        VALUES ('{name}', 0, 1, '{{\"began\":{{\"step\":1,\"run\":\"{run}\"}}}}')"
        ),
    )
    .await;
}

/// A time of a schedule.
async fn start(store: &Store, schedule: &str, due_us: i64, state: &str, run: &str) {
    say(
        store,
        &format!(
            "INSERT INTO schedule_starts (schedule, due_us, state, run, holder, claimed_us) \
        VALUES ('{schedule}', {due_us}, '{state}', '{run}', 'a', 1)"
        ),
    )
    .await;
}

async fn fill(store: &Store) {
    use Verdict::{Broken, Held, Inconclusive};
    for (name, at_us, verdict) in [
        ("01-plain", 10, Some(Inconclusive)),
        ("02-no-end", 20, None),
        ("03-evidence-counts", 30, Some(Held)),
        ("04-evidence-is-over", 40, Some(Held)),
        ("05-broken-before", 50, Some(Broken)),
        ("06-broken-last", 60, Some(Broken)),
        ("07-start-is-open", 70, Some(Held)),
        ("08-start-is-noted", 80, Some(Held)),
        ("09-start-of-no-schedule", 90, Some(Held)),
        ("10-day-goes-on", 100, Some(Held)),
        ("11-day-is-kept", 110, Some(Held)),
        ("12-day-goes", 120, Some(Held)),
        ("13-young", 1000, Some(Held)),
    ] {
        run(store, name, at_us, verdict).await;
    }
    evidence(store, "03-evidence-counts", Held, 500).await;
    evidence(store, "04-evidence-is-over", Held, 499).await;
    evidence(store, "05-broken-before", Broken, 52).await;
    evidence(store, "06-broken-last", Broken, 62).await;
    say(store, "INSERT INTO schedules (name, files, added_us, settled_us) VALUES ('nightly', '{}', 1, 800)").await;
    start(store, "nightly", 70, "started", "07-start-is-open").await;
    start(store, "nightly", 80, "ended", "08-start-is-noted").await;
    start(store, "weekly", 90, "started", "09-start-of-no-schedule").await;
    start(store, "nightly", 801, "passed over", "").await;
    start(store, "nightly", 1000, "ended", "").await;
    game_day(store, "day-a", "10-day-goes-on", None).await;
    game_day(store, "day-b", "11-day-is-kept", Some(1000)).await;
    game_day(store, "day-c", "12-day-goes", Some(999)).await;
}

#[tokio::test]
async fn what_is_old_goes_with_all_of_it_and_what_is_needed_stays() {
    on_both(async |place| {
        let store = place.open().await;
        fill(&store).await;
        let old = store.old(&FLOORS).await.unwrap();
        // The run of the third game day goes once that has.
        assert_eq!((old.runs, old.events, old.needed), (5, 15, 7));
        assert_eq!((old.game_days, old.starts), (1, 2));
        let oldest = store.old_runs(&FLOORS, (i64::MIN, ""), 2).await.unwrap();
        let oldest: Vec<_> = oldest.into_iter().map(|kept| kept.run.0).collect();
        assert_eq!(oldest, ["01-plain", "04-evidence-is-over"]);

        let removed = retention::remove(&store, &FLOORS).await.unwrap();
        let all = Removed {
            runs: 6,
            game_days: 1,
            starts: 2,
        };
        assert_eq!(removed, all);
        let stay = [
            "02-no-end",
            "03-evidence-counts",
            "06-broken-last",
            "07-start-is-open",
            "10-day-goes-on",
            "11-day-is-kept",
            "13-young",
        ];
        assert_eq!(names(&store, "SELECT id FROM runs ORDER BY id").await, stay);
        for kept in [
            "SELECT DISTINCT run FROM events ORDER BY run",
            "SELECT run FROM started_runs ORDER BY run",
            "SELECT run FROM preflights ORDER BY run",
        ] {
            assert_eq!(names(&store, kept).await, stay, "{kept}");
        }
        let days = names(
            &store,
            "SELECT DISTINCT game_day FROM game_day_events ORDER BY game_day",
        );
        assert_eq!(days.await, ["day-a", "day-b"]);
        let starts = query("SELECT due_us FROM schedule_starts ORDER BY due_us");
        let starts = starts.fetch_all(&store.pool).await.unwrap();
        let starts: Vec<i64> = starts.iter().map(|row| row.get(0)).collect();
        assert_eq!(starts, [70, 801, 1000]);
        // What was shown stays, and so does who did it.
        assert_eq!(store.evidence_of("d").await.unwrap().len(), 4);
        let noted = store.audit_entries(0, 9).await.unwrap();
        assert_eq!((noted.len(), noted[0].action.as_str()), (1, "retention"));
        assert!(
            noted[0].detail.contains("\"runs\":6"),
            "{}",
            noted[0].detail
        );
        assert_eq!(store.audit_verify(None).await.unwrap().broken, None);

        // Nothing is left to go, and nothing is noted.
        assert_eq!(
            retention::remove(&store, &FLOORS).await.unwrap(),
            Removed::default()
        );
        assert_eq!(store.audit_entries(0, 9).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_an_earlier_leader_would_remove_stays() {
    on_both(async |place| {
        let (before, now) = (place.open().await, place.open().await);
        fill(&now).await;
        let hour = Duration::from_secs(3600);
        let token = before.take_lead("https://a", hour, true).await.unwrap();
        before.write_as(token.unwrap());
        let token = now.take_lead("https://b", hour, true).await.unwrap();
        now.write_as(token.unwrap());
        let old = now.old(&FLOORS).await.unwrap();
        let refused = [
            retention::remove(&before, &FLOORS).await.err(),
            before
                .remove_old_run(&FLOORS, &"01-plain".into())
                .await
                .err(),
            before.remove_old_starts(&FLOORS).await.err(),
        ];
        for error in refused {
            assert!(error.unwrap().is_superseded());
        }
        assert_eq!(now.old(&FLOORS).await.unwrap(), old);
        assert!(
            now.remove_old_run(&FLOORS, &"01-plain".into())
                .await
                .unwrap()
        );
        // What came to be needed after it was looked up stays.
        let needed = RunId::from("06-broken-last");
        assert!(!now.remove_old_run(&FLOORS, &needed).await.unwrap());
    })
    .await;
}
