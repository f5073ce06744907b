//! The next leader counts what runs of the last one may still hit, for as long as that may be.

use super::StandStill;
use super::desk::Desk;
use super::fixture;
use crate::fleet::registry::Registry;
use crate::store::tests::created;
use crate::store::{Started, Store};
use squall_experiments::event::{Event, Happening};
use std::time::{Duration, Instant};

const FILE: &str = r#"
apiVersion: squall/v1
kind: Experiment
metadata: { name: orders }
hypothesis: Orders keep succeeding.
steadyState:
  - name: order success
    probe: { load: { url: "http://127.0.0.1:1/", rate: 50/s } }
    expect: [ success >= 99% ]
method:
  - fault: { delay: { time: 300ms } }
    on: { host: {} }
    hold: 10s
lease: 200ms
"#;

#[tokio::test]
async fn the_next_leader_counts_what_the_last_one_left_until_its_leases_are_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let run = fixture::run();
    let started = Started {
        run: run.clone(),
        environment: "prod".into(),
        by: "ann".into(),
        at_us: 1,
    };
    let Happening::Created(mut first) = created(&run) else {
        panic!("not created");
    };
    first.file_text = FILE.into();
    let at = |at_us, what| Event { at_us, what };
    let begun = at(1, Happening::Created(first));
    assert!(store.start_run(&started, &begun).await.unwrap());
    let mut writer = store.writer(&run, 1);
    let plan = fixture::planned(&fixture::experiment());
    writer.append(&at(2, Happening::Planned(plan)));
    writer.close().await;

    let interrupted = store.interrupt_runs(3).await.unwrap();
    assert_eq!(interrupted, std::slice::from_ref(&run));
    let still = StandStill::open(store.clone(), folder.path()).await;
    let registry = Registry::default();
    let desk = Desk::new(store, registry, Default::default(), still.unwrap());
    let began = Instant::now();
    desk.inherit(interrupted).await;
    let taken = || desk.with_budget(|budget| budget.taken().count());
    assert_eq!(taken(), 2);
    while taken() > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "never given back"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        began.elapsed() >= Duration::from_millis(200),
        "given back while it acts"
    );
}
