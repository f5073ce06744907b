//! What was released stays as it is, and databases of any release come up to date.

use super::both::{Place, on_both};
use super::database::Dialect;
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use squall_experiments::ids::RunId;

/// The first bytes of each released migration's checksum (SHA-384 of its text): SQLite's, and PostgreSQL's. A line is
/// added with each release, and none is ever changed: a database that has it would not open any more.
const RELEASED: [(i64, &str, &str); 2] = [
    (1, "6f9868d6b653ba09", "3b3661743ee048d4"),
    (2, "86e55e2546db16b4", "cf1f565e389ce28c"),
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
const FILLED: [(i64, &str); 2] = [
    (
        1,
        "INSERT INTO runs (id, name, digest, created_us, verdict, because) VALUES ('2026-a', 'orders', 'd', 5, 'held', 'it stood'); \
         INSERT INTO events (run, sequence, at_us, what) VALUES ('2026-a', 0, 5, '\"recovered\"')",
    ),
    (
        2,
        "INSERT INTO agents (node, key, joined_us) VALUES ('node-7', CAST('k' AS BLOB), 6)",
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
    assert_eq!(row.unwrap().get::<i64, _>(0), 1);
    connection.close().await.unwrap();
}
