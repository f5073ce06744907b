//! No sequence of runs, edits, approvals, imports and clock changes lets a digest into a stage without its evidence.
//!
//! The model keeps what happened in the order in which it happened, and counts from that alone; the gates have clocks
//! that may be wrong, statements of others, and votes.

use super::fixture::{
    DAY_US, FILE, NOW_US, POLICY, answers, ask, experiment, policy, readable, run,
};
use super::{Approval, Decision, Evidence, Facts, Together, Trigger, Vote, decide, is_same_person};
use proptest::prelude::*;
use squall_experiments::experiment::Experiment;
use squall_experiments::policy::{Policy, Stage};
use squall_experiments::verdict::Verdict;

const PEOPLE: [&str; 4] = ["ann", "bob", "Ann", "eve"];
const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
/// How often the edit may be taken back to a text that was there before.
const TEXTS: u8 = 3;

#[derive(Debug, Clone)]
enum Op {
    Run {
        production: bool,
        trigger: Trigger,
        starter: usize,
        held: bool,
    },
    /// What the file does becomes one of a few.
    Edit(u8),
    /// A comment, the order of keys and a title become others.
    Dress,
    Ask {
        by: usize,
    },
    Vote {
        by: usize,
        agree: bool,
    },
    Import {
        trusted: bool,
        production: bool,
        held: bool,
        age_days: i64,
    },
    Clock {
        hours: i64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let trigger = prop_oneof![3 => Just(Trigger::Hand), 2 => Just(Trigger::Automated)];
    let held = prop::bool::weighted(0.85);
    prop_oneof![
        10 => (any::<bool>(), trigger, 0..4_usize, held)
            .prop_map(|(production, trigger, starter, held)| Op::Run { production, trigger, starter, held }),
        1 => (0..TEXTS).prop_map(Op::Edit),
        1 => Just(Op::Dress),
        2 => (0..4_usize).prop_map(|by| Op::Ask { by }),
        4 => (0..4_usize, prop::bool::weighted(0.9)).prop_map(|(by, agree)| Op::Vote { by, agree }),
        2 => (any::<bool>(), any::<bool>(), held, -2..25_i64)
            .prop_map(|(trusted, production, held, age_days)| Op::Import { trusted, production, held, age_days }),
        2 => (-72..72_i64).prop_map(|hours| Op::Clock { hours }),
    ]
}

/// What really happened, in order.
#[derive(Debug, Clone, PartialEq)]
enum Fact {
    Ran {
        digest: String,
        production: bool,
        by_itself: bool,
        held: bool,
        ended_us: i64,
    },
    Agreed {
        digest: String,
        by: String,
        requester: String,
    },
}

struct World {
    policy: Policy,
    experiment: Experiment,
    digest: String,
    text: u8,
    dress: u32,
    now_us: i64,
    evidence: Vec<Evidence>,
    approvals: Vec<Approval>,
    truth: Vec<Fact>,
    order: i64,
}

fn text(which: u8, dress: u32) -> String {
    let text = FILE.replace("hold: 30s", &format!("hold: {}s", 30 + u32::from(which)));
    let text = text.replace(
        "hypothesis: Orders succeed.",
        &format!("hypothesis: Orders succeed, {dress}."),
    );
    match dress % 2 {
        0 => format!("# {dress}\n{text}"),
        _ => {
            let kind = "kind: Experiment\n";
            format!("{kind}{}", text.replace(kind, ""))
        }
    }
}

impl World {
    fn new() -> Self {
        let trust =
            format!("trust: [ {{ name: other, key: \"{KEY}\", environments: [ staging ] }} ]\n");
        let (experiment, digest) = experiment(FILE);
        Self {
            policy: policy(&format!("{POLICY}{trust}")),
            experiment,
            digest,
            text: 0,
            dress: 0,
            now_us: NOW_US,
            evidence: Vec::new(),
            approvals: Vec::new(),
            truth: Vec::new(),
            order: 0,
        }
    }

    fn decide(&self, production: bool, trigger: Trigger, starter: &str) -> Decision {
        let environment = if production { "production" } else { "staging" };
        let mut ask = ask(
            &self.policy,
            environment,
            &self.experiment,
            &self.digest,
            trigger,
        );
        ask.starter = starter;
        let (answers, runbook) = (answers(&self.digest, self.now_us), readable());
        let facts = Facts {
            now_us: self.now_us,
            policy: &self.policy,
            evidence: &self.evidence,
            approvals: &self.approvals,
            answers: &answers,
            runbook: Some(&runbook),
            together: Together::default(),
            blackout: None,
        };
        decide(&ask, &facts)
    }

    fn keep(
        &mut self,
        production: bool,
        stage: Stage,
        held: bool,
        ended_us: i64,
        key: Option<&str>,
    ) {
        self.order += 1;
        let verdict = if held { Verdict::Held } else { Verdict::Broken };
        let environment = if production { "production" } else { "staging" };
        let mut one = run(
            &self.digest,
            (environment, stage),
            verdict,
            ended_us,
            self.order,
        );
        one.signed_by = key.map(str::to_owned);
        self.evidence.push(one);
    }

    fn read(&mut self) {
        let (experiment, digest) = experiment(&text(self.text, self.dress));
        (self.experiment, self.digest) = (experiment, digest);
    }

    fn take(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Run {
                production,
                trigger,
                starter,
                held,
            } => self.run(production, trigger, PEOPLE[starter], held)?,
            Op::Edit(which) => {
                let before = self.digest.clone();
                let changes = self.text != which;
                self.text = which;
                self.read();
                prop_assert_eq!(changes, self.digest != before);
            }
            Op::Dress => {
                let before = self.decide(true, Trigger::Hand, "ann");
                self.dress += 1;
                self.read();
                // Not a word of the decision is another.
                prop_assert_eq!(before, self.decide(true, Trigger::Hand, "ann"));
            }
            Op::Ask { by } => {
                let mut asked = super::fixture::approval(&self.digest, "", self.now_us, 0);
                asked.requested_by = PEOPLE[by].to_owned();
                asked.votes.clear();
                self.approvals.push(asked);
            }
            Op::Vote { by, agree } => self.vote(PEOPLE[by], agree)?,
            Op::Import {
                trusted,
                production,
                held,
                age_days,
            } => self.import(trusted, production, held, self.now_us - age_days * DAY_US),
            Op::Clock { hours } => self.now_us += hours * DAY_US / 24,
        }
        Ok(())
    }

    fn run(
        &mut self,
        production: bool,
        trigger: Trigger,
        starter: &str,
        held: bool,
    ) -> Result<(), TestCaseError> {
        let decision = self.decide(production, trigger, starter);
        if !decision.allowed {
            return Ok(());
        }
        self.is_earned(production, trigger, starter)?;
        self.truth.push(Fact::Ran {
            digest: self.digest.clone(),
            production,
            by_itself: production && trigger == Trigger::Automated,
            held,
            ended_us: self.now_us,
        });
        self.keep(production, decision.stage, held, self.now_us, None);
        Ok(())
    }

    fn import(&mut self, trusted: bool, production: bool, held: bool, ended_us: i64) {
        let key = if trusted { KEY } else { "x" };
        self.keep(production, Stage::NonProduction, held, ended_us, Some(key));
        // What another says of production is nobody's word: its key speaks for staging.
        if trusted && !production {
            self.truth.push(Fact::Ran {
                digest: self.digest.clone(),
                production,
                by_itself: false,
                held,
                ended_us,
            });
        }
    }

    fn vote(&mut self, by: &str, agree: bool) -> Result<(), TestCaseError> {
        let rule = self.policy.environment("production").unwrap().approvals;
        let Some(approval) = self.approvals.last_mut() else {
            return Ok(());
        };
        if approval.may_vote(by, rule, self.now_us).is_err() {
            return Ok(());
        }
        prop_assert!(!is_same_person(by, &approval.requested_by));
        let vote = Vote {
            by: by.to_owned(),
            agree,
            because: String::new(),
            at_us: self.now_us,
            seen: self.order,
        };
        approval.votes.push(vote);
        if agree {
            let (digest, requester) = (approval.digest.clone(), approval.requested_by.clone());
            self.truth.push(Fact::Agreed {
                digest,
                by: by.to_owned(),
                requester,
            });
        }
        Ok(())
    }

    /// Counts from what really happened.
    fn is_earned(
        &self,
        in_production: bool,
        trigger: Trigger,
        starter: &str,
    ) -> Result<(), TestCaseError> {
        if !in_production {
            prop_assert!(
                trigger == Trigger::Hand,
                "nothing starts by itself in staging"
            );
            return Ok(());
        }
        let by_hand = trigger == Trigger::Hand;
        let (mut held, mut agreed) = (0, false);
        for fact in &self.truth {
            match fact {
                Fact::Ran { digest, .. } if *digest != self.digest => {}
                Fact::Ran {
                    held: false,
                    by_itself,
                    ..
                } => {
                    // Broken by itself costs stage 3 alone; but nobody agreed knowing of it.
                    agreed = false;
                    if !(by_hand && *by_itself) {
                        held = 0;
                    }
                }
                Fact::Ran {
                    production,
                    ended_us,
                    ..
                } => {
                    let days = if by_hand { 10 } else { 20 };
                    let young = (self.now_us - days * DAY_US..=self.now_us).contains(ended_us);
                    held += usize::from(*production != by_hand && young);
                }
                Fact::Agreed {
                    digest,
                    by,
                    requester,
                } => {
                    let apart = !is_same_person(by, requester) && !is_same_person(by, starter);
                    agreed |= apart && *digest == self.digest;
                }
            }
        }
        prop_assert!(held >= 2, "{held} held, {trigger:?}\n{:#?}", self.truth);
        prop_assert!(agreed || !by_hand, "nobody agreed\n{:#?}", self.truth);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_gets_into_a_stage_without_its_evidence(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        for op in ops {
            world.take(op)?;
        }
    }

    /// An edit that changes what the file does starts at stage 1, whatever was earned; taking it back finds what was earned again.
    #[test]
    fn an_edit_that_changes_meaning_always_resets(ops in prop::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in ops {
            world.take(op)?;
        }
        world.text = TEXTS;
        world.read();
        for trigger in [Trigger::Hand, Trigger::Automated] {
            let decision = world.decide(true, trigger, "ann");
            prop_assert_eq!(decision.standing.stage, Stage::NonProduction);
            prop_assert!(!decision.allowed);
        }
    }
}
