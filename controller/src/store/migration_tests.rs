//! What was released stays as it is, and databases of any release come up to date.

use super::both::{Place, on_both};
use super::database::Dialect;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use squall_experiments::ids::RunId;

/// The first bytes of each released migration's checksum (SHA-384 of its text): SQLite's, and PostgreSQL's. A line is
/// added with each release, and none is ever changed: a database that has it would not open any more.
const RELEASED: [(i64, &str, &str); 6] = [
    (1, "6f9868d6b653ba09", "3b3661743ee048d4"),
    (2, "86e55e2546db16b4", "cf1f565e389ce28c"),
    (3, "89d2eecc7c1b4f26", "4e3c4ed5f015494c"),
    (4, "f65a2c84d3b42096", "fdcddc361b345f14"),
    (5, "c6ddb2f87932e221", "cf8af28914b00ffd"),
    (6, "2b94f6dbd2f77fe1", "c59990f24539abf0"),
];

#[test]
fn released_migrations_are_frozen_and_the_same_in_both() {
    let of = |dialect: Dialect| {
        let all = dialect.migrations().iter();
        all.map(|migration| {
            let start = migration.checksum.iter().take(8);
            let hex: String = start.map(|byte| format!("{byte:02x}")).collect();
            (migration.version, migration.description.to_string(), hex)
        })
        .collect::<Vec<_>>()
    };
    let (sqlite, postgres) = (of(Dialect::Sqlite), of(Dialect::Postgres));
    let names = |all: &[(i64, String, String)]| -> Vec<(i64, String)> {
        all.iter().map(|(n, name, _)| (*n, name.clone())).collect()
    };
    assert_eq!(names(&sqlite), names(&postgres));
    for (number, file, server) in RELEASED {
        for (all, released) in [(&sqlite, file), (&postgres, server)] {
            let (_, name, now) = all.iter().find(|(n, ..)| *n == number).unwrap();
            assert_eq!(now, released, "{number} {name}: released, and so frozen");
        }
    }
}

/// What a database of a release had in it, in its own words: statements that both databases understand.
const FILLED: [(i64, &str); 6] = [
    (
        1,
        "INSERT INTO runs (id, name, digest, created_us, verdict, because) VALUES ('2026-a', 'orders', 'd', 5, 'held', 'it stood'); \
         INSERT INTO events (run, sequence, at_us, what) VALUES ('2026-a', 0, 5, '\"recovered\"')",
    ),
    (
        2,
        "INSERT INTO agents (node, key, joined_us) VALUES ('node-7', CAST('k' AS BLOB), 6); \
         INSERT INTO api_tokens (id, secret, name, created_us) VALUES ('t1', CAST('s' AS BLOB), 'admin', 6)",
    ),
    (
        3,
        "INSERT INTO audit (sequence, at_us, who, token, action, status, detail, hash) \
         VALUES (1, 7, 'ann', 't1', 'POST /api/v1/runs', 201, '{}', CAST('h' AS BLOB)); \
         INSERT INTO approvals (id, digest, experiment, environment, requested_by, because, requested_us) \
         VALUES ('a1', 'd', 'orders', 'prod', 'ann', 'because', 7); \
         INSERT INTO votes (approval, voter, agree, because, at_us, seen) VALUES ('a1', 'bob', 1, 'yes', 8, 0)",
    ),
    (
        4,
        "INSERT INTO schedules (name, files, source, added_us, settled_us) VALUES ('nightly', '{}', NULL, 8, 8); \
         INSERT INTO schedule_starts (schedule, due_us, state, run, holder, claimed_us) \
         VALUES ('nightly', 9, 'ended', '2026-a', 'a', 9)",
    ),
    (
        5,
        "INSERT INTO runs (id, name, digest, created_us) VALUES ('2025-b', 'orders', 'd', 4); \
         INSERT INTO started_runs (run, environment, started_by, at_us) VALUES ('2025-b', 'prod', 'ann', 4); \
         INSERT INTO halts (id, said_by, because, at_us) VALUES ('h1', 'ann', 'enough', 9)",
    ),
    (
        6,
        "UPDATE leader SET token = 3, address = 'https://a', until_us = 1; UPDATE runs SET term = 3 WHERE id = '2025-b'",
    ),
];

#[tokio::test]
async fn a_database_of_any_release_comes_up_to_date_with_all_that_was_in_it() {
    for (release, _) in FILLED {
        on_both(async |place| {
            as_released(place, release).await;
            let store = place.open().await;
            let run = RunId::from("2026-a");
            assert_eq!(store.find("2026").await.unwrap(), run);
            assert_eq!(store.events(&run).await.unwrap().len(), 1);
            let members = store.members().await.unwrap().len();
            assert_eq!(members, usize::from(release >= 2), "release {release}");
            // Tokens from before there were roles may do everything.
            let tokens = store.api_tokens((i64::MAX, ""), 10).await.unwrap();
            assert!(tokens.iter().all(|token| token.name == "admin"));
            assert_eq!(tokens.len(), usize::from(release >= 2));
            let entries = store.audit_entries(0, 10).await.unwrap().len();
            assert_eq!(entries, usize::from(release >= 3));
            let halted = store.halted().await.unwrap();
            assert_eq!(halted.is_some(), release >= 5);
            // The next leader ends what an earlier one left.
            let hour = std::time::Duration::from_secs(3600);
            let token = store.take_lead("https://b", hour, false).await.unwrap();
            let before = if release >= 6 { 3 } else { 0 };
            assert_eq!(token, Some(before + 1));
            store.write_as(before + 1);
            let ended = store.interrupt_runs(10).await.unwrap();
            assert_eq!(ended.len(), usize::from(release >= 5));
        })
        .await;
    }
}

/// Makes the database as the release made it, and fills it.
async fn as_released(place: &Place, release: i64) {
    sqlx::any::install_default_drivers();
    let (url, dialect) = place.url();
    let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
    let all = dialect.migrations().iter();
    let then = all
        .filter(|migration| migration.version <= release)
        .cloned();
    let migrator = sqlx::migrate::Migrator::with_migrations(then.collect());
    migrator.run(&mut connection).await.unwrap();
    for (_, fill) in FILLED.iter().filter(|(number, _)| *number <= release) {
        let fill = match dialect {
            Dialect::Sqlite => (*fill).to_owned(),
            Dialect::Postgres => fill.replace("BLOB", "BYTEA"),
        };
        connection.execute(AssertSqlSafe(fill)).await.unwrap();
    }
    let row = connection.fetch_one("SELECT count(*) FROM runs").await;
    let runs = if release >= 5 { 2 } else { 1 };
    assert_eq!(row.unwrap().get::<i64, _>(0), runs);
    connection.close().await.unwrap();
}
