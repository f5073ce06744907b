//! What the decoders share: reporting, fields of a mapping, scalars, quantities.

use super::diagnostic::{Draft, Severity};
use super::source::{At, Source};
use super::suggest::{all, closest, either, quoted};
use super::tree::{Entry, Node, Value};
use crate::units::UnitError;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::str::FromStr;

/// Where decoders report. A decoder that returns `None` has reported why.
pub(crate) struct Cx<'s, 't> {
    pub(crate) source: &'s Source<'t>,
    pub(crate) drafts: Vec<Draft>,
}

/// Items in one list. A file of 100 probes with 100 expectations each is already more than a run could judge.
const LIST_MOST: usize = 100;

impl Cx<'_, '_> {
    pub(crate) fn error(&mut self, at: At, message: impl Into<String>) -> &mut Draft {
        self.push(Severity::Error, at, message.into())
    }

    pub(crate) fn warning(&mut self, at: At, message: impl Into<String>) -> &mut Draft {
        self.push(Severity::Warning, at, message.into())
    }

    fn push(&mut self, severity: Severity, at: At, message: String) -> &mut Draft {
        let last = self.drafts.len();
        // A mapping or a list that goes over many lines is pointed at by its first.
        let at = self.source.first_line(at);
        self.drafts.push(Draft::new(severity, at, message));
        &mut self.drafts[last]
    }

    /// A scalar's text; reports a list, a mapping or nothing. `what` has its article: `a time`.
    pub(crate) fn text<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        example: &str,
    ) -> Option<&'n str> {
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => Some(text),
            Value::Scalar { .. } => {
                self.nothing(node.at, what, example);
                None
            }
            Value::List(_) | Value::Map(_) => {
                let is = kind(node);
                self.error(node.at, format!("{what} belongs here, not {is}"))
                    .label(format!("this is {is}"))
                    .mend(format!("write {example}"));
                None
            }
        }
    }

    fn nothing(&mut self, at: At, what: &str, example: &str) {
        self.error(at, format!("{what} belongs here, and nothing is written"))
            .mend(format!("write {example}"))
            .missing();
    }

    /// A scalar that is not empty or blank.
    pub(crate) fn words(&mut self, node: &Node, what: &str, example: &str) -> Option<String> {
        let text = self.text(node, what, example)?;
        if text.trim().is_empty() {
            self.nothing(node.at, what, example);
            return None;
        }
        Some(text.trim().to_owned())
    }

    /// A quantity with its unit.
    pub(crate) fn quantity<T: FromStr<Err = UnitError>>(
        &mut self,
        node: &Node,
        what: &str,
        example: &str,
    ) -> Option<T> {
        let text = self.text(node, what, &format!("`{example}`"))?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.unit_error(node.at, text, &error, example);
                None
            }
        }
    }

    /// What is wrong with a quantity.
    pub(crate) fn unit_error(&mut self, at: At, text: &str, error: &UnitError, example: &str) {
        let (message, label, mend) = super::unit_words::explain(text, error, example);
        self.error(at, message).label(label).mend(mend);
    }

    /// A whole number within limits.
    pub(crate) fn whole(
        &mut self,
        node: &Node,
        what: &str,
        limits: RangeInclusive<u32>,
    ) -> Option<u32> {
        let example = format!("a whole number from {} to {}", limits.start(), limits.end());
        let text = self.text(node, what, &example)?;
        match text.parse() {
            Ok(number) if limits.contains(&number) => Some(number),
            _ => {
                self.error(node.at, format!("{} is not {what}", quoted(text)))
                    .mend(format!("write {example}"));
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(
        &mut self,
        node: &Node,
        what: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let known: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
        let text = self.text(node, what, &either(&known))?;
        let found = words.iter().find(|(w, _)| *w == text);
        if found.is_none() {
            let near = closest(text, &known);
            let draft = self.error(node.at, format!("{} is not {what}", quoted(text)));
            match near {
                Some(near) => draft
                    .label(format!("did you mean `{near}`?"))
                    .mend(format!("write {}", either(&known))),
                None => draft.mend(format!("write {}", either(&known))),
            };
        }
        found.map(|(_, value)| *value)
    }

    /// A list with something in it.
    pub(crate) fn list<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        example: &str,
    ) -> Option<&'n [Rc<Node>]> {
        match &node.value {
            Value::List(items) if items.is_empty() => {
                self.error(
                    node.at,
                    format!("{what} belongs here, and this list is empty"),
                )
                .mend(format!("write {example}"))
                .missing();
                None
            }
            Value::List(items) if items.len() > LIST_MOST => {
                let count = items.len();
                self.error(
                    node.at,
                    format!("{count} items are too many: {LIST_MOST} at most"),
                )
                .mend("split it into several experiments");
                None
            }
            Value::List(items) => Some(items),
            _ if node.is_null() => {
                self.nothing(node.at, what, example);
                None
            }
            _ => {
                let is = kind(node);
                self.error(node.at, format!("{what} belongs here, not {is}"))
                    .label(format!("this is {is}"))
                    .mend(format!("write {example}"));
                None
            }
        }
    }

    /// The stretch of the file that is `text[from..to]` of a scalar; the whole scalar where escapes or folded
    /// lines keep the two from matching.
    pub(crate) fn inside(&self, node: &Node, text: &str, from: usize, to: usize) -> At {
        let written = self.source.slice(node.at);
        let shift = if written == text {
            0
        } else if written.len() == text.len() + 2 && written.get(1..=text.len()) == Some(text) {
            1
        } else {
            return node.at;
        };
        let start = node.at.start + shift + from.min(text.len());
        let end = node.at.start + shift + to.clamp(from, text.len().max(from));
        At::new(
            start.min(node.at.end),
            end.clamp(start.min(node.at.end), node.at.end),
        )
    }
}

/// What a node is, with its article.
pub(crate) fn kind(node: &Node) -> &'static str {
    match &node.value {
        Value::Scalar { .. } if node.is_null() => "nothing",
        Value::Scalar { .. } => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "a mapping",
    }
}

/// The fields of one mapping, checked against those that it may have.
pub(crate) struct Fields<'n> {
    /// What the mapping describes, with its article: `a delay`.
    what: &'static str,
    /// The key or the line that introduces it.
    pub(crate) owner: At,
    /// By the name that was meant: a misspelt field is reported once and read all the same, so that what is
    /// wrong inside it is said in the same breath.
    entries: Vec<(&'n str, &'n Entry)>,
    /// Nothing introduces it, so that its own first key is the owner.
    is_headed: bool,
}

impl<'n> Fields<'n> {
    /// Reports what is not a mapping, and every field that is not known. `owner` is what is pointed at when a
    /// field is missing. Nothing at all counts as a mapping without fields.
    pub(crate) fn open(
        cx: &mut Cx<'_, '_>,
        owner: At,
        node: &'n Node,
        what: &'static str,
        known: &[&'n str],
    ) -> Option<Self> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Scalar { .. } if node.is_null() => &[],
            _ => {
                let is = kind(node);
                cx.error(node.at, format!("{what} is a mapping, not {is}"))
                    .label(format!("this is {is}"))
                    .mend(format!("its fields are {}", all(known)));
                return None;
            }
        };
        let mut meant: Vec<(&str, &Entry)> = Vec::new();
        // A key that is not a word has been reported as that.
        for entry in entries.iter().filter(|e| !e.key.is_empty()) {
            let name = if known.contains(&entry.key.as_str()) {
                Some(entry.key.as_str())
            } else {
                Self::unknown(cx, entry, what, known)
                    .filter(|near| entries.iter().all(|e| e.key != *near))
            };
            if let Some(name) = name {
                meant.push((name, entry));
            }
        }
        Some(Self {
            what,
            owner,
            entries: meant,
            is_headed: entries.first().is_some_and(|e| e.key_at == owner),
        })
    }

    fn unknown<'k>(
        cx: &mut Cx<'_, '_>,
        entry: &Entry,
        what: &str,
        known: &[&'k str],
    ) -> Option<&'k str> {
        let near = closest(&entry.key, known);
        let draft = cx.error(
            entry.key_at,
            format!("{what} has no field {}", quoted(&entry.key)),
        );
        match near {
            Some(near) => draft.label(format!("did you mean `{near}`?")),
            None => draft.label("unknown field"),
        };
        draft.mend(match (elsewhere(what, &entry.key), known) {
            (Some(mend), _) => mend.to_owned(),
            (None, []) => format!("remove it: {what} has no fields"),
            (None, _) => format!("its fields are {}", all(known)),
        });
        near
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'n Entry> {
        self.entries
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, e)| *e)
    }

    /// The field's value; reports when it is missing. `example` is the line to add.
    pub(crate) fn need(&self, cx: &mut Cx<'_, '_>, name: &str, example: &str) -> Option<&'n Entry> {
        let found = self.get(name);
        if found.is_none() {
            cx.error(self.owner, format!("{} needs `{name}`", self.what))
                .label(format!("`{name}` is missing"))
                .mend(format!("add `{example}`"))
                .missing()
                .of_parent(self.is_headed);
        }
        found
    }

    /// A field that may be left out: the default when it is, `None` when it is there and wrong.
    pub(crate) fn or<T>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(&'n Entry) -> Option<T>,
    ) -> Option<T> {
        match self.get(name) {
            None => Some(default),
            Some(entry) => read(entry),
        }
    }

    /// A field without a default: `Some(None)` when it is left out, `None` when it is there and wrong.
    pub(crate) fn option<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'n Entry) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(name) {
            None => Some(None),
            Some(entry) => read(entry).map(Some),
        }
    }
}

/// What to do about a field that belongs somewhere else.
fn elsewhere(what: &str, field: &str) -> Option<&'static str> {
    match (what, field) {
        ("an `http` probe", "rate") => {
            Some("a constant rate is a `load` probe: call it `load`, or say `every: 1s`")
        }
        ("a `load` probe", "every") => Some("a `load` probe has a rate: write `rate: 50/s`"),
        ("a `load` probe", "retries" | "onError") => Some(
            "each request of a load is one sample, and one that is not answered is a failed one",
        ),
        (
            "a step",
            "delay" | "loss" | "duplicate" | "corrupt" | "reorder" | "rate" | "partition" | "kill"
            | "cpu" | "memory" | "dns" | "http" | "pause" | "fill" | "io" | "exhaust" | "freeze"
            | "tcp" | "nicDown" | "reboot" | "shutdown" | "fds",
        ) => Some("a step's fault stands below `fault`: write `fault: { delay: … }`"),
        ("a step", "process" | "netns" | "host" | "unit" | "cgroup" | "pod" | "container") => {
            Some("a step's target stands below `on`: write `on: { process: … }`")
        }
        _ => None,
    }
}

/// What a field that is exactly one of several kinds says: `{ delay: … }`.
pub(crate) struct Variant<'n> {
    pub(crate) word: &'n str,
    pub(crate) at: At,
    /// Nothing for the bare word: `fault: kill`.
    pub(crate) node: Option<&'n Node>,
}

impl<'n> Variant<'n> {
    /// Reads `word: …` or the bare word; reports unknown words, none, and more than one with `several`.
    pub(crate) fn read(
        cx: &mut Cx<'_, '_>,
        owner: At,
        node: &'n Node,
        what: &str,
        known: &[&'n str],
        several: &str,
    ) -> Option<Self> {
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => {
                if known.contains(&text.as_str()) {
                    return Some(Self {
                        word: text,
                        at: node.at,
                        node: None,
                    });
                }
                Self::unknown(cx, node.at, text, what, known);
                None
            }
            Value::Map(entries) if !entries.is_empty() => {
                let mut found = None;
                for entry in entries.iter().filter(|e| !e.key.is_empty()) {
                    let key = entry.key.as_str();
                    let word = if known.contains(&key) {
                        Some(key)
                    } else {
                        // Read as what was probably meant, so that what is wrong inside is said as well.
                        Self::unknown(cx, entry.key_at, key, what, known)
                    };
                    let Some(word) = word else { continue };
                    let Some(first) = &found else {
                        found = Some(Self {
                            word,
                            at: entry.key_at,
                            node: Some(&entry.node),
                        });
                        continue;
                    };
                    let first: &Self = first;
                    cx.error(
                        entry.key_at,
                        format!("{what} is one thing; `{key}` is a second"),
                    )
                    .related(first.at, "the first")
                    .mend(several);
                }
                found
            }
            Value::List(_) => {
                cx.error(node.at, format!("{what} is one thing, not a list"))
                    .mend(several);
                None
            }
            _ => {
                cx.error(
                    owner,
                    format!("{what} belongs here, and nothing is written"),
                )
                .mend(format!("say one of {}", either(known)))
                .missing();
                None
            }
        }
    }

    fn unknown<'k>(
        cx: &mut Cx<'_, '_>,
        at: At,
        word: &str,
        what: &str,
        known: &[&'k str],
    ) -> Option<&'k str> {
        let near = closest(word, known);
        let draft = cx.error(at, format!("{} is not {what}", quoted(word)));
        match near {
            Some(near) => draft.label(format!("did you mean `{near}`?")),
            None => draft.label("unknown"),
        };
        draft.mend(format!("say one of {}", either(known)));
        near
    }
}
