//! A controller whose disk is full: a file system of its own, with SQLite on it, and not a byte left.

use crate::controller::{Controller, LIMIT, join};
use crate::in_flight::InFlight;
use crate::shop::root;
use lab::world::disk::{apart, fill_up, in_memory};
use lab::world::service::needing;
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// Enough for what a start writes, and for no more than seconds of a run when the rest is gone.
const DISK_BYTES: u64 = 8 << 20;

pub(crate) fn trials() -> Vec<Trial> {
    vec![needing(
        root(),
        "root",
        "full_disk::it_stops_what_it_cannot_record_and_goes_on_when_there_is_room",
        |_| {
            // It goes where nothing is mounted in it.
            let around = TempDir::new()?;
            apart(|| it_stops_what_it_cannot_record_and_goes_on_when_there_is_room(around.path()))
        },
    )]
}

fn it_stops_what_it_cannot_record_and_goes_on_when_there_is_room(around: &Path) -> Result<()> {
    let home = TempDir::new_in(around)?;
    let data = home.path().join("data");
    fs::create_dir(&data)?;
    in_memory(data.to_str().ok_or("a path that is no text")?, DISK_BYTES)?;
    let mut controller = Controller::start_in(home, &[])?;
    let _agent = join(&[&controller])?;
    let mut run = InFlight::start(&controller)?;

    let full = data.join("full");
    fill_up(&full)?;
    // Long before its two minutes are over, and without anybody's word.
    run.let_go()?;
    // It goes on to answer. What it refuses to write differs: SQLite finds room now and then in a log that it has copied already.
    controller.squalls(&["runs", "--controller", &controller.url()])?;

    fs::remove_file(&full)?;
    let ended = || run.end(&controller, &controller.url());
    let (verdict, because) = until("the run's end in the record", LIMIT, ended)?;
    assert_eq!(verdict, "inconclusive", "{because}");
    assert!(because.contains("cannot be kept"), "{because}");
    assert_eq!(run.watched()?.code(), Some(3));
    controller.squalls(&["token", "create"])?;
    // All of it is there, in order, for who starts on it anew.
    controller.end(Signal::SIGTERM)?;
    controller.serve()?;
    let report = controller.squalls(&["report", &run.run, "--controller", &controller.url()])?;
    assert!(report.contains("in-flight"), "{report}");
    Ok(())
}
