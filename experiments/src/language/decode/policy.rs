//! A policy file's outermost fields: the environments and whom they trust.

mod limits;

use super::experiment::{constant, name};
use crate::language::reader::{Cx, Fields};
use crate::language::suggest::quoted;
use crate::language::tree::{Entry, Node};
use crate::policy::{Approvals, Environment, Limits, Needs, Policy, Stage, Trusted};
use crate::units::Age;
use std::collections::BTreeMap;
use std::rc::Rc;

const STAGES: &[(&str, Stage)] = &[
    ("1", Stage::NonProduction),
    ("2", Stage::Limited),
    ("3", Stage::Automated),
];
const ENVIRONMENT: &[&str] = &[
    "name",
    "stage",
    "nodes",
    "from",
    "needs",
    "automated",
    "approvals",
    "checklist",
    "limits",
    "hours",
];
const NEEDS: &str = "needs: { held: 3, within: 14d }";
/// So many runs or people nobody waits for.
const COUNT_MAX: u32 = 1000;
/// Letters of 32 bytes in base64, with what fills them up.
const KEY_LETTERS: usize = 44;

/// Reads the whole file. `zone` says whether a time zone is known.
pub(crate) fn policy(
    cx: &mut Cx<'_, '_>,
    root: &Node,
    zone: &dyn Fn(&str) -> bool,
) -> Option<Policy> {
    let known = ["apiVersion", "kind", "metadata", "environments", "trust"];
    let fields = Fields::open(cx, root.head(), root, "a policy", &known)?;
    let version = constant(cx, &fields, "apiVersion", "squall/v1");
    let kind = constant(cx, &fields, "kind", "Policy");
    let example = "environments: [ { name: staging, stage: 1 } ]";
    let environments = fields
        .need(cx, "environments", example)
        .and_then(|e| environments(cx, e, zone));
    let trust = fields.or("trust", Vec::new(), |e| trust(cx, e));
    (version? && kind?).then_some(())?;
    let (environments, trust) = (environments?, trust?);
    Some(Policy {
        environments,
        trust,
    })
}

/// Every item by `one`; nothing where one of them is wrong.
fn each<T>(
    cx: &mut Cx<'_, '_>,
    items: &[Rc<Node>],
    mut one: impl FnMut(&mut Cx<'_, '_>, &Node) -> Option<T>,
) -> Option<Vec<T>> {
    let read: Vec<Option<T>> = items.iter().map(|item| one(cx, item)).collect();
    read.into_iter().collect()
}

fn environments(
    cx: &mut Cx<'_, '_>,
    entry: &Entry,
    zone: &dyn Fn(&str) -> bool,
) -> Option<Vec<Environment>> {
    let items = cx.list(&entry.node, "a list of environments", "`- name: staging`")?;
    let all = each(cx, items, |cx, item| environment(cx, item, zone))?;
    let mut good = true;
    for (at, one) in all.iter().enumerate() {
        if all[..at].iter().any(|other| other.name == one.name) {
            let says = format!("two environments are called `{}`", one.name);
            cx.error(items[at].at, says).mend("rename one of them");
            good = false;
        }
        for from in &one.from {
            let known = all.iter().find(|other| other.name == *from);
            let why = match known {
                None => "which is not in this file",
                Some(_) if *from == one.name => "which is itself",
                Some(_) => continue,
            };
            let says = format!("`{}` takes evidence from `{from}`, {why}", one.name);
            cx.error(items[at].at, says)
                .mend("name another environment of this file below `from`");
            good = false;
        }
    }
    good.then_some(all)
}

fn environment(
    cx: &mut Cx<'_, '_>,
    node: &Node,
    zone: &dyn Fn(&str) -> bool,
) -> Option<Environment> {
    let fields = Fields::open(cx, node.head(), node, "an environment", ENVIRONMENT)?;
    let name = fields
        .need(cx, "name", "name: staging")
        .and_then(|e| name(cx, e));
    let stage = fields.need(cx, "stage", "stage: 1");
    let stage = stage.and_then(|e| cx.word(&e.node, "a stage", STAGES));
    let nodes = fields.or("nodes", BTreeMap::new(), |e| {
        super::experiment::texts(cx, &e.node, "nodes")
    });
    let from = fields.or("from", Vec::new(), |e| names(cx, e, "`from: [ staging ]`"));
    let wanted = fields.or("needs", Needs::default(), |e| needs(cx, e));
    let automated = fields.option("automated", |e| needs(cx, e));
    let approvals = fields.or("approvals", Approvals::default(), |e| approvals(cx, e));
    let checklist = fields.or("checklist", Environment::checklist_default(), |e| {
        age(cx, e)
    });
    let limits = fields.or("limits", Limits::default(), |e| limits::limits(cx, e));
    let hours = fields.option("hours", |e| limits::hours(cx, e, zone));
    let good = stage.is_none_or(|stage| fits(cx, &fields, stage));
    let environment = Environment {
        name: name?,
        stage: stage?,
        nodes: nodes?,
        from: from?,
        needs: wanted?,
        automated: automated?,
        approvals: approvals?,
        checklist: checklist?,
        limits: limits?,
        hours: hours?,
    };
    good.then_some(environment)
}

/// What a stage asks for, and what means nothing in it.
fn fits(cx: &mut Cx<'_, '_>, fields: &Fields<'_>, stage: Stage) -> bool {
    let mut good = true;
    if stage == Stage::NonProduction {
        for name in ["from", "needs", "approvals"] {
            if let Some(entry) = fields.get(name) {
                cx.error(entry.key_at, format!("`{name}` means nothing in stage 1"))
                    .label("anyone with the operator role may run here")
                    .mend("remove it, or say `stage: 2`");
                good = false;
            }
        }
    } else {
        good &= fields.need(cx, "from", "from: [ staging ]").is_some();
    }
    match (stage, fields.get("automated")) {
        (Stage::Automated, None) => {
            let example = "automated: { held: 5, within: 30d }";
            good &= fields.need(cx, "automated", example).is_some();
        }
        (Stage::Limited, Some(entry)) => {
            cx.error(entry.key_at, "`automated` is stage 3")
                .label("this environment goes up to stage 2")
                .mend("say `stage: 3`, or remove it");
            good = false;
        }
        _ => {}
    }
    good
}

fn names(cx: &mut Cx<'_, '_>, entry: &Entry, example: &str) -> Option<Vec<String>> {
    let items = cx.list(&entry.node, "a list of names", example)?;
    each(cx, items, |cx, item| cx.words(item, "a name", "`staging`"))
}

fn age(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Age> {
    cx.quantity(&entry.node, "a time", "14d")
}

fn needs(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Needs> {
    let known = ["held", "within"];
    let fields = Fields::open(cx, entry.key_at, &entry.node, "what is needed", &known)?;
    let held = fields.need(cx, "held", NEEDS);
    // Without a single held run there is no evidence.
    let held = held.and_then(|e| cx.whole(&e.node, "a number of held runs", 1..=COUNT_MAX));
    let within = fields.need(cx, "within", NEEDS).and_then(|e| age(cx, e));
    Some(Needs {
        held: held?,
        within: within?,
    })
}

fn approvals(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Approvals> {
    let known = ["count", "validFor"];
    let fields = Fields::open(cx, entry.key_at, &entry.node, "`approvals`", &known)?;
    let default = Approvals::default();
    let count = fields.or("count", default.count, |e| {
        cx.whole(&e.node, "a number of people", 1..=COUNT_MAX)
    });
    let valid_for = fields.or("validFor", default.valid_for, |e| age(cx, e));
    Some(Approvals {
        count: count?,
        valid_for: valid_for?,
    })
}

fn trust(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<Vec<Trusted>> {
    let example = "`- { name: staging, key: …, environments: [ staging ] }`";
    let items = cx.list(&entry.node, "a list of keys", example)?;
    each(cx, items, trusted)
}

fn trusted(cx: &mut Cx<'_, '_>, node: &Node) -> Option<Trusted> {
    let known = ["name", "key", "environments"];
    let fields = Fields::open(cx, node.head(), node, "a trusted key", &known)?;
    let name = fields
        .need(cx, "name", "name: staging-controller")
        .and_then(|e| name(cx, e));
    let key = fields.need(cx, "key", "key: what `squall evidence key` prints there");
    let key = key.and_then(|e| public_key(cx, e));
    let environments = fields.need(cx, "environments", "environments: [ staging ]");
    let environments = environments.and_then(|e| names(cx, e, "`environments: [ staging ]`"));
    Some(Trusted {
        name: name?,
        key: key?,
        environments: environments?,
    })
}

fn public_key(cx: &mut Cx<'_, '_>, entry: &Entry) -> Option<String> {
    let text = cx.words(
        &entry.node,
        "a public key",
        "what `squall evidence key` prints",
    )?;
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    let (letters, end) = text.split_at_checked(KEY_LETTERS - 1).unwrap_or_default();
    if letters.bytes().all(letter) && end == "=" {
        return Some(text);
    }
    cx.error(
        entry.node.at,
        format!("{} is no Ed25519 public key in base64", quoted(&text)),
    )
    .mend("write what `squall evidence key` prints on the other controller: 44 letters");
    None
}
