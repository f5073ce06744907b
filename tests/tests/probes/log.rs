//! The `log` probe on a file that somebody writes.

use crate::ask::{attempts, unanswered};
use crate::test;
use lab::world::Result;
use libtest_mimic::Trial;
use squall_controller::judge::Outcome;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        test("log::matching_lines_are_counted_per_second", counted),
        test("log::a_missing_file_is_told", missing),
    ]
}

fn counted() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("orders.log");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    file.write_all(b"ERROR from before\n")?;
    let probe = format!(
        "{{ log: {{ file: {}, pattern: \"ERROR|panic\", every: 100ms }} }}",
        path.display()
    );
    let quiet = attempts(&probe, 3)?;
    let silent = |trial: &squall_controller::judge::Trial| {
        trial.outcome == Outcome::Success && trial.value == Some(0.0)
    };
    if !quiet.iter().all(silent) {
        return Err(format!("{quiet:?}").into());
    }
    let over = Arc::<AtomicBool>::default();
    let until = Arc::clone(&over);
    let writer = std::thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            if file.write_all(b"fine\nERROR 17\n").is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let loud = attempts(&probe, 8);
    over.store(true, Ordering::Relaxed);
    let _ended = writer.join();
    let loud = loud?;
    let last = loud.last().ok_or("no attempts")?;
    // One line in five milliseconds at most; a busy machine writes fewer.
    let rate = last.value.unwrap_or_default();
    let said = matches!(&last.outcome, Outcome::Failed(why) if why.contains("ERROR 17"));
    if said && rate > 1.0 && rate < 250.0 {
        Ok(())
    } else {
        Err(format!("{loud:?}").into())
    }
}

fn missing() -> Result<()> {
    let probe = "{ log: { file: /no/such.log, pattern: ERROR, every: 100ms } }";
    unanswered(probe, &["/no/such.log", "No such file"])?;
    unanswered(
        "{ log: { file: /proc, pattern: ERROR, every: 100ms } }",
        &["not a regular file"],
    )
}
