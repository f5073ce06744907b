//! A game day of three experiments and five people.

use super::event::{Controller, Opened, Planned};
use super::{Began, DayEvent, Declined, Go, HandedOver, StepEnded, What};
use crate::store::{GameDayFiles, NamedText};
use squall_experiments::game_day::GameDay;
use squall_experiments::ids::RunId;
use squall_experiments::language;
use squall_experiments::verdict::Verdict;

pub(crate) const FILE: &str = "
apiVersion: squall/v1
kind: GameDay
metadata: { name: payment-day, owner: team-orders, runbook: \"https://wiki.example/game-day\" }
date: 2026-11-22
timeZone: Europe/Berlin
objectives: [ orders survive a slow payment service ]
people:
  - { name: ann, role: leader }
  - { name: bob, role: deputy }
  - { name: eve, role: operator }
  - { name: sue, role: scribe }
  - { name: tom, role: observer }
experiments:
  - one.yaml
  - { file: two.yaml, before: [ the on-call engineer knows ] }
  - three.yaml
";

const EXPERIMENT: &str = "
apiVersion: squall/v1
kind: Experiment
metadata: { name: orders }
hypothesis: Orders succeed.
steadyState:
  - name: success
    probe: { load: { url: \"http://127.0.0.1:1/\", rate: 50/s } }
    expect: [ success >= 90% ]
method:
  - fault: kill
    on: { process: { name: payment } }
    hold: 30s
";

pub(crate) fn game_day() -> GameDay {
    let read = language::read_game_day("day.yaml", FILE);
    let said = read.render(FILE, language::Colour::Never);
    read.value.unwrap_or_else(|| panic!("{said}"))
}

pub(crate) fn files() -> GameDayFiles {
    let named = |name: &str, text: &str| NamedText {
        name: name.into(),
        text: text.into(),
    };
    let experiments = ["one.yaml", "two.yaml", "three.yaml"];
    GameDayFiles {
        game_day: named("day.yaml", FILE),
        experiments: experiments.map(|name| named(name, EXPERIMENT)).into(),
    }
}

pub(crate) fn planned() -> Vec<Planned> {
    let planned = |name: &str| Planned {
        name: name.into(),
        hypothesis: "Orders succeed.".into(),
        digest: "d".into(),
        environment: "default".into(),
    };
    ["one", "two", "three"].map(planned).into()
}

pub(super) fn opened() -> What {
    What::Opened(Box::new(Opened {
        by: "ann".into(),
        game_day: game_day(),
        experiments: planned(),
        controller: controller(1),
        source: None,
    }))
}

pub(super) fn controller(term: i64) -> Controller {
    Controller {
        term,
        address: "https://a.example:7410".into(),
    }
}

/// 2026-11-22 11:59 UTC: a minute before the runs made by hand.
const START_US: u64 = 1_795_348_740_000_000;

pub(super) fn at(second: u64, what: What) -> DayEvent {
    DayEvent {
        at_us: START_US + second * 1_000_000,
        what,
    }
}

pub(super) fn go(step: u32, by: &str, run: &str) -> What {
    What::Go(Go {
        step,
        by: by.into(),
        run: run.into(),
        because: String::new(),
    })
}

pub(super) fn began(step: u32, run: &str) -> What {
    What::Began(Began {
        step,
        run: run.into(),
    })
}

pub(super) fn ended(step: u32, run: &str, verdict: Option<Verdict>) -> What {
    What::Ended(StepEnded {
        step,
        run: RunId::from(run),
        verdict,
        because: "it came to that".into(),
    })
}

pub(super) fn decision(step: u32, by: &str) -> Declined {
    Declined {
        step,
        by: by.into(),
        because: "the on-call engineer is at lunch".into(),
    }
}

pub(super) fn handed(by: &str, to: &str) -> What {
    What::HandedOver(HandedOver {
        to: to.into(),
        by: by.into(),
        because: "the train".into(),
    })
}
