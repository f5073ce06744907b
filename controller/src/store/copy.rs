//! Backups: everything that is kept, in one SQLite file, whichever database it came from; and back, into an empty database of either kind.

use super::{Dialect, Store, StoreError, failed};
use futures_util::TryStreamExt;
use sqlx::any::{AnyArguments, AnyRow, AnyTypeInfoKind};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Column, Executor, Row, query};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Who leads is not a thing to keep: each database has its own.
const LEFT_OUT: &str = "leader";

impl Store {
    /// Writes all that is kept into an SQLite file that is not there yet, as it is at one moment; how many rows that are. An `authority` (certificate
    /// and key, in PEM) that is not in the database is put in as well.
    ///
    /// # Errors
    /// The file is there, or cannot be written; or the database cannot be read.
    pub async fn back_up(
        &self,
        file: &Path,
        authority: Option<(String, String)>,
    ) -> Result<u64, StoreError> {
        make_file(file)?;
        let target = Self::open_file(file).await?;
        let copied = copy(self, &target, &target).await;
        if let (Ok(_), Some((certificate, key))) = (&copied, authority) {
            target.keep_authority(&certificate, &key).await?;
        }
        target.pool.close().await;
        copied
    }

    /// Takes all of a backup into this database, which must be empty; how many rows that were.
    ///
    /// # Errors
    /// It is not empty; or the file cannot be read.
    pub async fn restore(&self, file: &Path) -> Result<u64, StoreError> {
        // A backup of an older version is brought up to date first, and stays what it was: in a copy.
        let draft = file.with_extension("restoring");
        let copied = std::fs::copy(file, &draft);
        copied.map_err(|source| StoreError::File {
            path: file.to_owned(),
            source,
        })?;
        let restored = async {
            let source = Self::open_file(&draft).await?;
            let copied = copy(&source, self, &source).await;
            source.pool.close().await;
            copied
        };
        let restored = restored.await;
        let _gone = std::fs::remove_file(&draft);
        restored
    }
}

/// For its owner alone: it holds what lets agents and people in.
fn make_file(path: &Path) -> Result<(), StoreError> {
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    made.map(drop).map_err(|source| StoreError::File {
        path: path.to_owned(),
        source,
    })
}

/// Copies table by table, all or nothing; `file`, which is one of the two, knows the tables.
async fn copy(from: &Store, to: &Store, file: &Store) -> Result<u64, StoreError> {
    let wrong = |source| failed("not everything could be copied; nothing was", source);
    let tables = tables(file).await.map_err(wrong)?;
    let mut read = from.pool.begin().await.map_err(wrong)?;
    if from.dialect == Dialect::Postgres {
        let one_moment = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
        read.execute(one_moment).await.map_err(wrong)?;
    }
    let mut write = to.pool.begin().await.map_err(wrong)?;
    let mut rows = 0;
    for table in tables {
        rows += one_table(&mut read, &mut write, &table).await?;
    }
    write.commit().await.map_err(wrong)?;
    Ok(rows)
}

/// A table, and its columns.
struct Table {
    name: String,
    columns: Vec<String>,
}

/// The tables, each after those that it refers to.
async fn tables(file: &Store) -> sqlx::Result<Vec<Table>> {
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE '_sqlx%' ORDER BY name";
    let mut waiting = Vec::new();
    for row in query(names).fetch_all(&file.pool).await? {
        let name: String = row.get(0);
        let columns = query("SELECT name FROM pragma_table_info($1)").bind(&name);
        let columns = strings(&columns.fetch_all(&file.pool).await?);
        let before = query("SELECT \"table\" FROM pragma_foreign_key_list($1)").bind(&name);
        let before = strings(&before.fetch_all(&file.pool).await?);
        if name != LEFT_OUT {
            waiting.push((Table { name, columns }, before));
        }
    }
    let mut sorted: Vec<Table> = Vec::new();
    while !waiting.is_empty() {
        let known = |name: &String| sorted.iter().any(|table| table.name == *name);
        // A circle would be taken as it comes, and refused by the database.
        let next = waiting
            .iter()
            .position(|(table, before)| before.iter().all(|b| *b == table.name || known(b)));
        sorted.push(waiting.remove(next.unwrap_or(0)).0);
    }
    Ok(sorted)
}

fn strings(rows: &[AnyRow]) -> Vec<String> {
    rows.iter().map(|row| row.get(0)).collect()
}

async fn one_table(
    read: &mut AnyConnection,
    write: &mut AnyConnection,
    table: &Table,
) -> Result<u64, StoreError> {
    let name = &table.name;
    let wrong = |source| failed(&format!("the table {name} cannot be copied"), source);
    let there = format!("SELECT count(*) FROM {name}");
    let there = write.fetch_one(AssertSqlSafe(there)).await.map_err(wrong)?;
    if there.get::<i64, _>(0) != 0 {
        return Err(StoreError::NotEmpty(name.clone()));
    }
    let columns = table.columns.join(", ");
    let places: Vec<String> = (1..=table.columns.len()).map(|n| format!("${n}")).collect();
    let insert = format!(
        "INSERT INTO {name} ({columns}) VALUES ({})",
        places.join(", ")
    );
    let select = format!("SELECT {columns} FROM {name}");
    let mut rows = query(AssertSqlSafe(select)).fetch(&mut *read);
    let mut count = 0;
    while let Some(row) = rows.try_next().await.map_err(wrong)? {
        let put = (0..table.columns.len()).fold(query(AssertSqlSafe(insert.clone())), |put, n| {
            bind(put, &row, n)
        });
        put.execute(&mut *write).await.map_err(wrong)?;
        count += 1;
    }
    Ok(count)
}

/// The n-th value, as its column's type is: PostgreSQL takes no nothing of another type.
fn bind<'q>(
    put: Query<'q, Any, AnyArguments>,
    row: &AnyRow,
    n: usize,
) -> Query<'q, Any, AnyArguments> {
    let kind = row.column(n).type_info().kind();
    if kind.is_integer() {
        put.bind(row.get::<Option<i64>, _>(n))
    } else if kind == AnyTypeInfoKind::Blob {
        put.bind(row.get::<Option<Vec<u8>>, _>(n))
    } else {
        put.bind(row.get::<Option<String>, _>(n))
    }
}

#[cfg(test)]
mod tests {
    use super::super::both::on_both;
    use super::super::tests::{created, finished, keep};
    use super::*;
    use squall_experiments::ids::RunId;
    use squall_experiments::join::Fingerprint;

    #[tokio::test]
    async fn a_backup_of_either_database_is_all_of_it_and_goes_back_into_either() {
        on_both(async |place| {
            let store = place.open().await;
            let run = RunId::from("2026-a");
            let written = keep(&store, "2026-a", vec![created(&run), finished()], 1).await;
            keep(&store, "2026-b", vec![created(&RunId::from("2026-b"))], 2).await;
            let secret = Fingerprint([1; 32]);
            let added = store.add_api_token("a", secret, "ann", 10, None);
            added.await.unwrap();
            store.keep_authority("certificate", "key").await.unwrap();
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("backup");
            let rows = store.back_up(&file, None).await.unwrap();
            assert_eq!(rows, 2 + 3 + 1 + 1);
            assert!(store.back_up(&file, None).await.is_err(), "it was there");
            on_both(async |place| {
                let store = place.open().await;
                assert_eq!(store.restore(&file).await.unwrap(), rows);
                assert_eq!(store.events(&run).await.unwrap(), written);
                assert_eq!(store.runs(10).await.unwrap()[0].verdict, None);
                let caller = store.caller("a", secret, 20).await.unwrap();
                assert_eq!(caller.map(|caller| caller.name).as_deref(), Some("ann"));
                let again = store.restore(&file).await;
                assert!(matches!(again, Err(StoreError::NotEmpty(_))), "{again:?}");
            })
            .await;
        })
        .await;
    }
}
