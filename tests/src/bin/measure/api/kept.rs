//! What is kept before anything is asked: runs of the last hours.

use std::path::Path;
use std::time::{Instant, UNIX_EPOCH};

use lab::world::Result;
use squall_controller::store::{Started, Store};
use squall_experiments::capability::Capabilities;
use squall_experiments::event::{Created, Event, Finished, Happening, Window};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;

/// How many runs.
pub(super) const KEPT: usize = 10_000;
/// Seconds of each that are kept.
const WINDOWS: usize = 10;

/// Fills the store as many runs would.
pub(super) async fn keep_many(directory: &Path) -> Result<()> {
    let store = Store::open(directory).await?;
    let begun = Instant::now();
    // One a second until now: what is too old is removed while the reads go on.
    let now_us = i64::try_from(UNIX_EPOCH.elapsed()?.as_micros())?;
    let first_us = now_us - 1_000_000 * i64::try_from(KEPT)?;
    for number in 0..KEPT {
        let run = RunId(name(number));
        let at_us = first_us + 1_000_000 * i64::try_from(number)?;
        let started = Started {
            run: run.clone(),
            environment: "default".into(),
            by: "ann".into(),
            at_us,
        };
        let at_us = u64::try_from(at_us)?;
        let all = happenings(&run).into_iter();
        let mut events = all.map(|what| Event { at_us, what });
        let created = events.next().ok_or("a run begins with an event")?;
        store.start_run(&started, &created).await?;
        let mut writer = store.writer(&run, 1);
        for event in events {
            writer.append(&event);
        }
        writer.close().await;
    }
    eprintln!("measure: {KEPT} runs are kept after {:?}", begun.elapsed());
    Ok(())
}

/// What the so-manieth is called.
pub(super) fn name(number: usize) -> String {
    format!("2026-{number:05}")
}

fn happenings(run: &RunId) -> Vec<Happening> {
    let created = Happening::Created(Box::new(Created {
        run: run.clone(),
        name: "orders".into(),
        hypothesis: "Orders succeed.".into(),
        file_text: "x".repeat(1000),
        file_path: "orders.yaml".into(),
        digest: "d".into(),
        seed: 1,
        node: "node".into(),
        capabilities: Capabilities::default(),
        version: "0".into(),
        expectations: Vec::new(),
        environment: Some("default".into()),
        by: Some("ann".into()),
    }));
    let window = Happening::Observed(Window {
        probe: "orders".into(),
        length_ms: 1000,
        attempts: 50,
        successes: 50,
        p50_us: Some(1200),
        ..Window::default()
    });
    let finished = Happening::Finished(Finished {
        verdict: Verdict::Held,
        because: "it stood".into(),
        detect_ms: None,
        revert_ms: Some(1.5),
        recover_ms: Some(100.0),
    });
    let windows = std::iter::repeat_n(window, WINDOWS);
    std::iter::once(created)
        .chain(windows)
        .chain([finished])
        .collect()
}
