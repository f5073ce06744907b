//! Which queries are hit, and what is said to them: pure but for the draw.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use squall_experiments::dose::DnsDose;
use squall_experiments::fault::{Dns, DnsEffect};

use super::message::{self, Answer, Question, TYPE_A, TYPE_AAAA};

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on: not a query, or not one that is hit.
    Pass,
    /// It is gone, and this is its answer.
    Answered(Vec<u8>),
    /// It is gone.
    Dropped,
    /// It goes on, so much later.
    Late(Duration),
}

/// The rule, with its count; shared by both transports.
pub(super) struct Rule {
    fault: Dns,
    types: Vec<u16>,
    chance: Mutex<StdRng>,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    seen: AtomicU64,
    answered: AtomicU64,
    dropped: AtomicU64,
    delayed: AtomicU64,
    forwarded: AtomicU64,
    overflowed: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Rule {
    pub(super) fn new(fault: &Dns, seed: u64) -> Self {
        Self {
            types: fault.types.iter().map(|kind| kind.number()).collect(),
            fault: fault.clone(),
            chance: Mutex::new(StdRng::seed_from_u64(seed)),
            tally: Tally::default(),
        }
    }

    /// What becomes of a message, counted.
    pub(super) fn judge(&self, message: &[u8]) -> Fate {
        let Some(question) = message::question(message) else {
            return Fate::Pass;
        };
        let tally = &self.tally;
        add(&tally.seen);
        if !self.hits(&question) {
            add(&tally.forwarded);
            return Fate::Pass;
        }
        let say = |said| {
            add(&tally.answered);
            Fate::Answered(message::answer(message, &question, said))
        };
        match &self.fault.effect {
            DnsEffect::Nxdomain => say(Answer::Nxdomain),
            DnsEffect::Servfail => say(Answer::Servfail),
            DnsEffect::Address(addresses) => say(Answer::Addresses(addresses)),
            DnsEffect::Timeout => {
                add(&tally.dropped);
                Fate::Dropped
            }
            DnsEffect::Delay(time) => {
                add(&tally.delayed);
                Fate::Late(time.duration())
            }
        }
    }

    /// A query that was to be late was not, because too many were.
    pub(super) fn overflowed(&self) {
        self.tally.delayed.fetch_sub(1, Ordering::Relaxed);
        add(&self.tally.overflowed);
    }

    fn hits(&self, question: &Question) -> bool {
        let fault = &self.fault;
        // An address is no answer to a question for anything else.
        let fits = !matches!(fault.effect, DnsEffect::Address(_))
            || matches!(question.kind, TYPE_A | TYPE_AAAA);
        let named = fault.names.is_empty()
            || fault
                .names
                .iter()
                .any(|name| name.matches_name(&question.name));
        let typed = self.types.is_empty() || self.types.contains(&question.kind);
        fits && named && typed && self.drawn()
    }

    fn drawn(&self) -> bool {
        let share = self.fault.share.fraction();
        share >= 1.0
            || self
                .chance
                .lock()
                .is_ok_and(|mut chance| chance.random::<f64>() < share)
    }

    /// What was done so far.
    pub(super) fn dose(&self) -> DnsDose {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tally = &self.tally;
        let (answered, dropped, delayed) = (
            read(&tally.answered),
            read(&tally.dropped),
            read(&tally.delayed),
        );
        DnsDose {
            seen: read(&tally.seen),
            matched: answered + dropped + delayed,
            answered,
            dropped,
            delayed,
            forwarded: read(&tally.forwarded),
            overflowed: read(&tally.overflowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::query;
    use super::*;

    fn rule(fault: &str) -> Rule {
        Rule::new(&serde_json::from_str(fault).unwrap(), 7)
    }

    #[test]
    fn only_the_named_names_and_types_are_hit() {
        let rule = rule(r#"{"effect": "timeout", "names": ["*.payment.svc"], "types": ["A"]}"#);
        assert_eq!(rule.judge(&query("db.payment.SVC", TYPE_A)), Fate::Dropped);
        assert_eq!(rule.judge(&query("db.payment.svc", TYPE_AAAA)), Fate::Pass);
        assert_eq!(rule.judge(&query("db.orders.svc", TYPE_A)), Fate::Pass);
        assert_eq!(rule.judge(b"not a query"), Fate::Pass);
        let dose = rule.dose();
        assert_eq!((dose.seen, dose.matched, dose.forwarded), (3, 1, 2));
    }

    #[test]
    fn an_address_answers_questions_for_addresses_only() {
        const MX: u16 = 15;
        let rule = rule(r#"{"effect": {"address": ["10.0.0.9"]}}"#);
        assert!(matches!(
            rule.judge(&query("a.b", TYPE_A)),
            Fate::Answered(_)
        ));
        assert_eq!(rule.judge(&query("a.b", MX)), Fate::Pass);
    }

    #[test]
    fn a_share_is_drawn_for_each_query() {
        let rule = rule(r#"{"effect": "servfail", "share": "30%"}"#);
        let message = query("a.b", TYPE_A);
        let hit = (0..1_000)
            .filter(|_| rule.judge(&message) != Fate::Pass)
            .count();
        // Four standard deviations of 1,000 draws.
        assert!((242..=358).contains(&hit), "{hit}");
    }
}
