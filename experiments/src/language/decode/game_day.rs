//! A game day's file.

use super::experiment::{constant, metadata};
use super::schedule::{beside, time_zone};
use crate::game_day::{GameDay, Person, Role, Round};
use crate::language::reader::{Cx, Fields};
use crate::language::source::At;
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node, Value};
use jiff::civil::Date;

const FIELDS: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "date",
    "timeZone",
    "objectives",
    "people",
    "experiments",
];

const PEOPLE: &str = "people: [ { name: ann, role: leader }, { name: bob, role: deputy } ]";

/// Reads the whole file.
pub(crate) fn game_day(cx: &mut Cx<'_, '_>, root: &Node) -> Option<GameDay> {
    let fields = Fields::open(cx, root.head(), root, "a game day", FIELDS)?;
    let version = constant(cx, &fields, "apiVersion", "squall/v1");
    let kind = constant(cx, &fields, "kind", "GameDay");
    let meta = fields
        .need(cx, "metadata", "metadata: { name: payment-day }")
        .and_then(|e| metadata(cx, e));
    let date = fields
        .need(cx, "date", "date: 2026-12-03")
        .and_then(|e| date(cx, &e.node));
    let zone = fields
        .need(cx, "timeZone", "timeZone: Europe/Berlin")
        .and_then(|e| time_zone(cx, &e.node));
    let objectives = fields.need(
        cx,
        "objectives",
        "objectives: [ orders survive a slow payment service ]",
    );
    let objectives = objectives.and_then(|e| sentences(cx, e, "what is to be learnt"));
    let people = fields
        .need(cx, "people", PEOPLE)
        .and_then(|e| people(cx, e));
    let rounds = fields.need(
        cx,
        "experiments",
        "experiments: [ { file: orders-survive-slow-payment.yaml } ]",
    );
    let rounds = rounds.and_then(|e| rounds_of(cx, e));
    (version? && kind?).then_some(())?;
    Some(GameDay {
        metadata: meta?,
        date: date?,
        time_zone: zone?,
        objectives: objectives?,
        people: people?,
        experiments: rounds?,
    })
}

fn date(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Date> {
    let text = cx.words(node, "a date", "`2026-12-03`")?;
    text.parse()
        .map_err(|_| {
            cx.error(node.at, format!("{} is not a date", quoted(&text)))
                .mend("write year, month and day: `2026-12-03`");
        })
        .ok()
}

/// A list of sentences, or a single one.
fn sentences(cx: &mut Cx<'_, '_>, entry: &Entry, what: &str) -> Option<Vec<String>> {
    if let Value::Scalar { .. } = entry.node.value
        && !entry.node.is_null()
    {
        return cx
            .words(&entry.node, what, "a sentence")
            .map(|one| vec![one]);
    }
    let items = cx.list(&entry.node, what, "`- a sentence`")?;
    let read: Vec<Option<String>> = items
        .iter()
        .map(|item| cx.words(item, "a sentence", "one"))
        .collect();
    read.into_iter().collect()
}

fn people(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<Person>> {
    let items = cx.list(
        &entry.node,
        "who takes part",
        "`- { name: ann, role: leader }`",
    )?;
    let read: Vec<Option<(Person, At)>> = items.iter().map(|item| person(cx, item)).collect();
    let read: Option<Vec<(Person, At)>> = read.into_iter().collect();
    let read = read?;
    let mut is_good = true;
    for (number, (person, at)) in read.iter().enumerate() {
        let before = read
            .iter()
            .take(number)
            .find(|(other, _)| other.name == person.name);
        if let Some((_, first)) = before {
            cx.error(*at, format!("{} takes part twice", quoted(&person.name)))
                .related(*first, "the first time")
                .mend("give everybody one role");
            is_good = false;
        }
    }
    let leaders: Vec<At> = read
        .iter()
        .filter(|(p, _)| p.role == Role::Leader)
        .map(|(_, at)| *at)
        .collect();
    match leaders.as_slice() {
        [_] => {}
        [] => {
            cx.error(entry.key_at, "nobody leads")
                .label("a game day has one leader")
                .mend("give one of them `role: leader`");
            is_good = false;
        }
        [first, second, ..] => {
            cx.error(*second, "two lead")
                .related(*first, "the first")
                .mend("give one of them `role: deputy`");
            is_good = false;
        }
    }
    if is_good && !read.iter().any(|(p, _)| p.role == Role::Deputy) {
        cx.warning(entry.key_at, "nobody can take over")
            .label("when the leader drops out, nobody may say go")
            .mend("give one of them `role: deputy`");
    }
    is_good.then(|| read.into_iter().map(|(person, _)| person).collect())
}

fn person(cx: &mut Cx<'_, '_>, node: &Node) -> Option<(Person, At)> {
    let fields = Fields::open(cx, node.head(), node, "somebody", &["name", "role"])?;
    let name = fields
        .need(cx, "name", "name: ann")
        .and_then(|e| Some((cx.words(&e.node, "a name", "`ann`")?, e.node.at)));
    let words = [
        Role::Leader,
        Role::Deputy,
        Role::Operator,
        Role::Scribe,
        Role::Observer,
    ]
    .map(|role| (role.word(), role));
    let role = fields
        .need(cx, "role", "role: operator")
        .and_then(|e| cx.word(&e.node, "a role", &words));
    let (name, at) = name?;
    Some((Person { name, role: role? }, at))
}

fn rounds_of(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<Round>> {
    let items = cx.list(
        &entry.node,
        "experiments",
        "`- { file: orders-survive-slow-payment.yaml }`",
    )?;
    let read: Vec<Option<Round>> = items.iter().map(|item| round(cx, item)).collect();
    read.into_iter().collect()
}

fn round(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Round> {
    let example = "`orders-survive-slow-payment.yaml`";
    if let Value::Scalar { .. } = node.value
        && !node.is_null()
    {
        let file = beside(cx, node, "an experiment's file", example)?;
        return Some(Round {
            file,
            environment: None,
            before: Vec::new(),
        });
    }
    let fields = Fields::open(
        cx,
        node.head(),
        node,
        "an experiment of the day",
        &["file", "environment", "before"],
    )?;
    let file = fields.need(cx, "file", "file: orders-survive-slow-payment.yaml");
    let file = file.and_then(|e| beside(cx, &e.node, "an experiment's file", example));
    let environment = fields.option("environment", |e| {
        cx.words(&e.node, "an environment's name", "`prod`")
    });
    let before = fields.or("before", Vec::new(), |e| {
        sentences(cx, e, "what to make sure of before")
    });
    Some(Round {
        file: file?,
        environment: environment?,
        before: before?,
    })
}
