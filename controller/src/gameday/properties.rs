//! Whatever people, runs and controllers say in whatever order: what a day lets happen is held against its own record, read from the beginning.

use super::event::{Action, Note, Over, Stopped};
use super::fixture::{at, began, controller, decision, ended, go, handed, opened};
use super::{Day, DayEvent, No, NotBegun, Phase, What};
use proptest::prelude::*;
use squall_experiments::verdict::Verdict;

/// Everybody of the fixture, and a stranger.
const PEOPLE: [&str; 6] = ["ann", "bob", "eve", "sue", "tom", "mallory"];
const VERDICTS: [Option<Verdict>; 6] = [
    Some(Verdict::Held),
    Some(Verdict::Broken),
    Some(Verdict::Halted),
    Some(Verdict::Inconclusive),
    Some(Verdict::Refused),
    None,
];

fn somebody() -> impl Strategy<Value = &'static str> {
    // Who may say most is drawn most.
    prop_oneof![3 => Just("ann"), 2 => Just("bob"), 2 => (0..PEOPLE.len()).prop_map(|n| PEOPLE[n])]
}

/// What may be said; a run's name is drawn from three, and `now` makes it the one that is under way.
fn what() -> impl Strategy<Value = (What, bool)> {
    let step = || 1..5_u32;
    let run = || (0..3_u32).prop_map(|n| format!("run-{n}"));
    let what = prop_oneof![
        5 => (step(), somebody(), run()).prop_map(|(step, by, run)| go(step, by, &run)),
        4 => (step(), run()).prop_map(|(step, run)| began(step, &run)),
        2 => (step(), run()).prop_map(|(step, run)| What::Refused(NotBegun { step, run: run.as_str().into(), reasons: Vec::new() })),
        5 => (step(), run(), 0..VERDICTS.len()).prop_map(|(step, run, n)| ended(step, &run, VERDICTS[n])),
        1 => (step(), somebody()).prop_map(|(step, by)| What::NoGo(decision(step, by))),
        1 => (step(), somebody()).prop_map(|(step, by)| What::Skipped(decision(step, by))),
        2 => (step(), run(), somebody()).prop_map(|(step, run, by)| What::Stopped(Stopped {
            step, run: run.as_str().into(), by: by.into(), because: String::new()
        })),
        2 => (somebody(), somebody()).prop_map(|(by, to)| handed(by, to)),
        1 => somebody().prop_map(|by| What::Noted(Note { by: by.into(), text: "x".into() })),
        1 => somebody().prop_map(|by| What::Action(Action { by: by.into(), text: "x".into(), owner: "y".into(), due: None })),
        1 => (1..4_i64).prop_map(|term| What::TakenUp(controller(term))),
        1 => somebody().prop_map(|by| What::Over(Over { by: by.into(), because: String::new() })),
        1 => Just(opened()),
    ];
    (what, prop::bool::weighted(0.8))
}

/// Makes what is said fit the day, so that more of it happens.
fn fitted(day: &Day, what: What) -> What {
    let (step, run) = match &day.phase {
        Phase::Waiting { step } => (*step, None),
        Phase::Starting { step, run, .. } | Phase::Running { step, run, .. } => {
            (*step, Some(run.clone()))
        }
        Phase::Through | Phase::Over => return what,
    };
    let mut what = what;
    match &mut what {
        What::Go(go) => go.step = step,
        What::NoGo(said) | What::Skipped(said) => said.step = step,
        What::Refused(said) => (said.step, said.run) = (step, run.unwrap_or(said.run.clone())),
        What::Began(said) => (said.step, said.run) = (step, run.unwrap_or(said.run.clone())),
        What::Ended(said) => (said.step, said.run) = (step, run.unwrap_or(said.run.clone())),
        What::Stopped(said) => (said.step, said.run) = (step, run.unwrap_or(said.run.clone())),
        _ => {}
    }
    what
}

/// What the record itself says, without the machine: who leads, what is under way, which steps are done with.
#[derive(Default)]
struct Read {
    lead: &'static str,
    under_way: Option<(u32, String, bool)>,
    done: Vec<u32>,
    is_over: bool,
}

impl Read {
    fn take(&mut self, what: &What) {
        match what {
            What::Go(go) => {
                assert_eq!(go.by, self.lead, "go by somebody else");
                assert!(self.under_way.is_none(), "two at once");
                let next = self.done.last().map_or(1, |last| last + 1);
                assert_eq!(go.step, next, "out of order, or twice");
                self.under_way = Some((go.step, go.run.0.clone(), false));
            }
            What::Began(said) => {
                let own = (said.step, said.run.0.clone(), false);
                assert_eq!(self.under_way, Some(own), "begun without go, or twice");
                self.under_way = Some((said.step, said.run.0.clone(), true));
            }
            What::Refused(said) => {
                let own = (said.step, said.run.0.clone(), false);
                assert_eq!(self.under_way.take(), Some(own), "refused after it began");
            }
            What::Ended(said) => {
                let own = (said.step, said.run.0.clone(), true);
                assert_eq!(self.under_way.take(), Some(own), "ended before it began");
                let shows = [Verdict::Held, Verdict::Broken, Verdict::Halted];
                if said.verdict.is_some_and(|verdict| shows.contains(&verdict)) {
                    self.done.push(said.step);
                }
            }
            What::NoGo(said) | What::Skipped(said) => {
                assert_eq!(said.by, self.lead);
                assert!(self.under_way.is_none(), "no-go for what is under way");
                assert!(!self.done.contains(&said.step) && said.step <= 3);
                if matches!(what, What::Skipped(_)) {
                    self.done.push(said.step);
                }
            }
            What::Stopped(said) => {
                let (step, run, _) = self.under_way.clone().expect("something to stop");
                assert_eq!((said.step, &said.run.0), (step, &run));
            }
            What::HandedOver(said) => {
                assert!(said.to != "tom" && said.to != "mallory", "{}", said.to);
                let takes = said.by == said.to && ["ann", "bob"].contains(&said.by.as_str());
                assert!(said.by == self.lead || takes, "{said:?}");
                let to = PEOPLE.into_iter().find(|name| *name == said.to);
                self.lead = to.expect("one of the people");
            }
            What::Over(said) => {
                assert_eq!(said.by, self.lead);
                assert!(self.under_way.is_none(), "over while something runs");
                self.is_over = true;
            }
            What::Noted(Note { by, .. }) | What::Action(Action { by, .. }) => {
                assert_ne!(by, "mallory");
                return;
            }
            What::TakenUp(_) => {}
            What::Opened(_) => panic!("opened twice"),
        }
        let is_end = matches!(what, What::Over(_));
        assert!(!self.is_over || is_end, "after the end: {what:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_happens_that_the_record_does_not_allow(said in prop::collection::vec(what(), 1..60)) {
        let mut events = vec![at(0, opened())];
        let mut day = Day::of(&events).unwrap();
        let mut read = Read { lead: "ann", ..Read::default() };
        for (second, (what, fits)) in (1..).zip(said) {
            let what = if fits { fitted(&day, what) } else { what };
            // A stop is refused to nobody while something is under way.
            if let Some((step, run, _)) = &read.under_way {
                let stop = What::Stopped(Stopped { step: *step, run: run.as_str().into(), by: "mallory".into(), because: String::new() });
                prop_assert!(day.next(&stop).unwrap().is_stopped());
            }
            if let Ok(next) = day.next(&what) {
                let was_over = read.is_over;
                read.take(&what);
                prop_assert!(!was_over || matches!(what, What::Noted(_) | What::Action(_)), "{:?}", what);
                events.push(at(second, what));
                day = next;
            }
            prop_assert_eq!(day.run().map(|run| run.0.clone()), read.under_way.as_ref().map(|(_, run, _)| run.clone()));
            prop_assert_eq!(&day.lead, read.lead);
        }
        // What was kept is what was meant, and folds to the same day.
        let text = serde_json::to_string(&events).unwrap();
        let kept: Vec<DayEvent> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(Day::of(&kept).unwrap(), day);
    }
}

#[test]
fn a_record_that_begins_otherwise_is_none() {
    assert_eq!(Day::of(&[]), Err(No::NotOpened));
    assert_eq!(Day::of(&[at(0, began(1, "run-0"))]), Err(No::NotOpened));
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let day = Day::of(&[at(0, opened())]).unwrap();
    let no = |what: What| day.next(&what).unwrap_err().to_string();
    let mut said = no(go(1, "tom", "r"));
    assert!(said.starts_with("ann has the lead"), "{said}");
    said = no(go(1, "mallory", "r"));
    assert!(said.starts_with("mallory takes no part"), "{said}");
    said = no(go(2, "ann", "r"));
    assert_eq!(said, "step 2 is not next: step 1 waits for go or no-go");
    said = no(handed("eve", "eve"));
    assert!(said.starts_with("eve cannot take the lead"), "{said}");
    said = no(handed("ann", "tom"));
    assert!(said.starts_with("tom looks on"), "{said}");
}
