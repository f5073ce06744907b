//! Runs, kept and read again.

use super::both::on_both;
use super::{KeptEvents, Started, Store, StoreError, Trouble};
use squall_experiments::capability::Capabilities;
use squall_experiments::event::{Created, Event, Finished, Happening};
use squall_experiments::ids::RunId;
use squall_experiments::verdict::Verdict;

pub(crate) fn created(run: &RunId) -> Happening {
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

pub(crate) async fn keep(
    store: &Store,
    run: &str,
    happenings: Vec<Happening>,
    at_us: u64,
) -> Vec<Event> {
    let mut writer = store.writer(&RunId::from(run), 0);
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

#[tokio::test]
async fn what_was_kept_without_an_answer_stands_though_another_leads() {
    on_both(async |place| {
        let (old, new) = (place.open().await, place.open().await);
        let hour = std::time::Duration::from_secs(3600);
        let term = old.take_lead("https://a", hour, false).await.unwrap();
        old.write_as(term.unwrap());
        let run = RunId::from("2026-a");
        let started = Started {
            run: run.clone(),
            environment: "default".into(),
            by: "ann".into(),
            at_us: 1,
        };
        let event = |at_us, what| Event { at_us, what };
        assert!(
            old.start_run(&started, &event(1, created(&run)))
                .await
                .unwrap()
        );
        let say = async |events: &[Event]| {
            let mut writer = old.writer(&run, 1);
            events.iter().for_each(|event| writer.append(event));
            writer.close().await
        };
        let said = [event(2, Happening::Recovered), event(3, finished())];
        assert_eq!(say(&said).await, KeptEvents::All);
        let term = new.take_lead("https://b", hour, true).await.unwrap();
        new.write_as(term.unwrap());
        assert_eq!(say(&said).await, KeptEvents::All);
        let other = [event(2, Happening::Recovered), event(4, finished())];
        assert_eq!(say(&other).await, KeptEvents::Superseded);
        assert_eq!(new.events(&run).await.unwrap().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn what_a_leader_writes_is_refused_once_another_leads() {
    on_both(async |place| {
        let (old, new) = (place.open().await, place.open().await);
        let hour = std::time::Duration::from_secs(3600);
        let term = old.take_lead("https://a", hour, false).await.unwrap();
        old.write_as(term.unwrap());
        let run = RunId::from("2026-a");
        let started = Started {
            run: run.clone(),
            environment: "default".into(),
            by: "ann".into(),
            at_us: 1,
        };
        let event = |at_us, what| Event { at_us, what };
        let first = event(1, created(&run));
        assert!(old.start_run(&started, &first).await.unwrap());
        // Not heard, and said again; but another's run of that name is another.
        assert!(old.start_run(&started, &first).await.unwrap());
        let other = event(7, created(&run));
        assert!(!old.start_run(&started, &other).await.unwrap());
        let mut writer = old.writer(&run, 1);
        // Another leads in the middle of the run.
        let term = new.take_lead("https://b", hour, true).await.unwrap();
        new.write_as(term.unwrap());
        writer.append(&event(2, Happening::Recovered));
        writer.append(&event(3, finished()));
        while writer.trouble().is_none() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(writer.trouble(), Some(Trouble::Superseded)));
        writer.close().await;
        let (late, created) = (
            RunId::from("2026-b"),
            event(4, created(&RunId::from("2026-b"))),
        );
        let started = Started {
            run: late.clone(),
            ..started
        };
        let refused = old.start_run(&started, &created).await.unwrap_err();
        assert!(crate::words::chain(&refused).contains("another controller leads"));
        assert!(new.started(&late).await.unwrap().is_none());
        assert_eq!(new.events(&run).await.unwrap().len(), 1);
        assert_eq!(new.runs(1).await.unwrap()[0].verdict, None);
        // The new leader ends it; the old one's late words change nothing.
        let ended = new.interrupt_runs(9).await.unwrap();
        assert_eq!(ended, std::slice::from_ref(&run));
        assert!(old.interrupt_runs(9).await.unwrap().is_empty());
        let kept = &new.runs(1).await.unwrap()[0];
        assert_eq!(kept.verdict, Some(Verdict::Inconclusive));
        assert!(kept.because.as_ref().unwrap().starts_with("interrupted"));
        assert_eq!(new.events(&run).await.unwrap().len(), 2);
        assert!(new.interrupt_runs(9).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_run_on_a_laptop_is_nobody_elses_to_end() {
    on_both(async |place| {
        let (laptop, controller) = (place.open().await, place.open().await);
        let run = RunId::from("2026-a");
        keep(&laptop, "2026-a", vec![created(&run)], 1).await;
        let hour = std::time::Duration::from_secs(3600);
        let term = controller.take_lead("https://a", hour, true).await.unwrap();
        controller.write_as(term.unwrap());
        assert!(controller.interrupt_runs(9).await.unwrap().is_empty());
        assert_eq!(controller.runs(1).await.unwrap()[0].verdict, None);
    })
    .await;
}

#[tokio::test]
async fn what_a_leader_changes_is_refused_once_another_leads_but_a_halt() {
    on_both(async |place| {
        let (old, new) = (place.open().await, place.open().await);
        let hour = std::time::Duration::from_secs(3600);
        let token = old.take_lead("https://a", hour, false).await.unwrap();
        old.write_as(token.unwrap());
        let hash = crate::fleet::secret::ApiSecret::new().hash();
        old.add_api_token("first", hash, "ann", 1, None)
            .await
            .unwrap();
        let token = new.take_lead("https://b", hour, true).await.unwrap();
        new.write_as(token.unwrap());
        let refused = [
            old.add_api_token("second", hash, "ann", 1, None)
                .await
                .err(),
            old.revoke_api_token("first", 2).await.err(),
            old.seen("node-7", 2).await.err(),
            old.lift_halt("ann", 2).await.err(),
        ];
        for error in refused {
            assert!(error.unwrap().is_superseded());
        }
        assert_eq!(new.api_tokens((i64::MAX, ""), 10).await.unwrap().len(), 1);
        let halted = crate::run::Halted {
            by: "ann".into(),
            because: String::new(),
            at_us: 3,
        };
        old.halt(&halted).await.unwrap();
        assert_eq!(new.halted().await.unwrap(), Some(halted));
    })
    .await;
}
