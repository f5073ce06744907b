//! Runs, kept and read again.

use super::both::on_both;
use super::{Store, StoreError};
use squall_experiments::capability::Capabilities;
use squall_experiments::event::{Created, Event, Finished, Happening};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;

pub(super) fn created(run: &RunId) -> Happening {
    Happening::Created(Box::new(Created {
        run: run.clone(),
        name: "orders".into(),
        hypothesis: "Orders succeed.".into(),
        file_text: "…".into(),
        file_path: "orders.yaml".into(),
        digest: "d".into(),
        seed: 1,
        node: "node".into(),
        capabilities: Capabilities::default(),
        version: "0".into(),
        expectations: Vec::new(),
        environment: None,
        by: None,
    }))
}

pub(super) fn finished() -> Happening {
    Happening::Finished(Finished {
        verdict: Verdict::Held,
        because: "it stood".into(),
        detect_ms: None,
        revert_ms: Some(1.5),
        recover_ms: None,
    })
}

pub(super) async fn keep(
    store: &Store,
    run: &str,
    happenings: Vec<Happening>,
    at_us: u64,
) -> Vec<Event> {
    let mut writer = store.writer(&RunId::from(run));
    let events: Vec<Event> = happenings
        .into_iter()
        .zip(at_us..)
        .map(|(what, at_us)| Event { at_us, what })
        .collect();
    events.iter().for_each(|event| writer.append(event));
    writer.close().await;
    events
}

#[tokio::test]
async fn a_run_is_read_as_it_was_written_and_by_the_beginning_of_its_name() {
    on_both(async |place| {
        let store = place.open().await;
        let run = RunId::from("2026-a");
        let happenings = vec![created(&run), Happening::Recovered, finished()];
        let written = keep(&store, "2026-a", happenings, 10).await;
        // Opened anew, as on the next day.
        drop(store);
        let store = place.open().await;
        let found = store.find("2026").await.unwrap();
        assert_eq!(store.events(&found).await.unwrap(), written);
        let kept = &store.runs(10).await.unwrap()[0];
        assert_eq!(kept.verdict, Some(Verdict::Held));
        assert_eq!(kept.because.as_deref(), Some("it stood"));
    })
    .await;
}

#[tokio::test]
async fn a_run_without_an_end_has_no_verdict_and_names_are_not_guessed() {
    on_both(async |place| {
        let store = place.open().await;
        for (name, at_us) in [("2026-B", 1), ("2026-a", 1), ("2026-b", 2)] {
            keep(&store, name, vec![created(&RunId::from(name))], at_us).await;
        }
        let kept = store.runs(10).await.unwrap();
        // Where time does not tell, names do: by their bytes.
        let names = kept.iter().map(|kept| kept.run.0.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["2026-b", "2026-a", "2026-B"]);
        assert_eq!(kept[0].verdict, None);
        assert_eq!(store.find("last").await.unwrap().0, "2026-b");
        let several = store.find("2026").await;
        assert!(matches!(several, Err(StoreError::Ambiguous(_))));
        assert!(matches!(store.find("%").await, Err(StoreError::NoRun(_))));
    })
    .await;
}
