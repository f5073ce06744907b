//! Text to a tree whose every node knows where it was written. Bounded: a file can be hostile.

use super::diagnostic::{Draft, Severity};
use super::source::{At, Source};
use super::suggest::quoted;
use super::syntax;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as ScanSpan, Tag};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Lists and mappings inside one another. An experiment needs 8.
const DEPTH_MAX: usize = 32;
/// Values in a file, with every alias counted as all that it stands for. An experiment has about 50.
const NODES_MAX: usize = 20_000;
/// Bytes of text in them, counted the same way.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// A value, and where it was written.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
    weight: Weight,
}

#[derive(Debug)]
pub(crate) enum Value {
    Scalar {
        text: String,
        /// Without quotes, so that `null` is nothing and `3` a number.
        plain: bool,
    },
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// One key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: At,
    pub(crate) node: Rc<Node>,
}

impl Node {
    /// Another value, as if it were written here.
    pub(crate) const fn with(&self, value: Value) -> Self {
        Self {
            at: self.at,
            value,
            weight: self.weight,
        }
    }

    /// What to point at when the whole is meant: the first key of a mapping, the first item of a list.
    pub(crate) fn head(&self) -> At {
        match &self.value {
            Value::Map(entries) => entries.first().map_or(self.at, |e| e.key_at),
            Value::List(items) => items.first().map_or(self.at, |i| i.head()),
            Value::Scalar { .. } => self.at,
        }
    }

    /// The value as JSON, plain scalars typed by YAML's core schema (YAML 1.2.2, section 10.3.2).
    pub(crate) fn json(&self) -> Json {
        match &self.value {
            Value::List(items) => Json::Array(items.iter().map(|i| i.json()).collect()),
            Value::Map(entries) => Json::Object(
                entries
                    .iter()
                    .map(|e| (e.key.clone(), e.node.json()))
                    .collect(),
            ),
            Value::Scalar { .. } if self.is_null() => Json::Null,
            Value::Scalar { text, plain: true } => match text.as_str() {
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                text => text
                    .parse::<i64>()
                    .map(Json::from)
                    .or_else(|_| text.parse::<f64>().map(Json::from))
                    .unwrap_or_else(|_| Json::from(text)),
            },
            Value::Scalar { text, .. } => Json::from(text.as_str()),
        }
    }

    /// Whether nothing is written: `key:`, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain } => {
                *plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }
}

/// What a subtree costs, aliases counted as what they stand for.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    text: usize,
}

impl Weight {
    const fn plus(self, other: Self) -> Self {
        Self {
            nodes: self.nodes.saturating_add(other.nodes),
            text: self.text.saturating_add(other.text),
        }
    }
}

/// What could be read of a file.
pub(crate) struct Grown {
    pub(crate) root: Option<Rc<Node>>,
    pub(crate) drafts: Vec<Draft>,
    /// Where reading ended early, if it did: what comes before is as it was written, though perhaps not all of it.
    pub(crate) broken_at: Option<usize>,
}

/// A list or mapping whose end has not been read yet.
struct Open {
    start: At,
    anchor: usize,
    value: OpenValue,
    weight: Weight,
}

enum OpenValue {
    List(Vec<Rc<Node>>),
    Map {
        entries: Vec<Entry>,
        /// A key whose value comes next.
        key: Option<(String, At)>,
        /// What `<<` brought, weaker than what is written.
        merged: BTreeMap<String, Entry>,
        seen: BTreeMap<String, At>,
    },
}

struct Grower<'s, 't> {
    source: &'s Source<'t>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Rc<Node>>,
    drafts: Vec<Draft>,
    root: Option<Rc<Node>>,
    documents: usize,
    /// Reading has ended early, and what was open is only being closed.
    cut: bool,
}

/// Reading cannot go on; the reason has been reported.
struct Broken(At);

/// Reads a text into a tree.
pub(crate) fn grow(source: &Source<'_>) -> Grown {
    let mut grower = Grower {
        source,
        open: Vec::new(),
        anchors: BTreeMap::new(),
        drafts: Vec::new(),
        root: None,
        documents: 0,
        cut: false,
    };
    let mut broken_at = None;
    for event in Parser::new_from_str(source.text) {
        let taken = match event {
            Ok((event, span)) => grower.take(event, span),
            Err(error) => Err(grower.syntax(&error)),
        };
        if let Err(Broken(at)) = taken {
            broken_at = Some(at.start);
            grower.cut = true;
            break;
        }
    }
    while broken_at.is_some() && !grower.open.is_empty() {
        grower.close(At::default()).ok();
    }
    Grown {
        root: grower.root,
        drafts: grower.drafts,
        broken_at,
    }
}

impl Grower<'_, '_> {
    fn error(&mut self, at: At, message: impl Into<String>) -> &mut Draft {
        let last = self.drafts.len();
        self.drafts.push(Draft::new(Severity::Error, at, message));
        &mut self.drafts[last]
    }

    fn syntax(&mut self, error: &ScanError) -> Broken {
        let draft = syntax::explain(error, self.source);
        let at = draft.at;
        self.drafts.push(draft);
        Broken(at)
    }

    fn at(&self, span: ScanSpan) -> At {
        At::new(
            self.source.byte(span.start.index()),
            self.source.byte(span.end.index()),
        )
    }

    fn take(&mut self, event: Event<'_>, span: ScanSpan) -> Result<(), Broken> {
        let at = self.at(span);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents == 1 {
                    return Ok(());
                }
                self.error(at, "a second document starts here")
                    .label("everything from here on would be ignored")
                    .mend("put each experiment into its own file");
                Err(Broken(at))
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.tag(tag.as_deref(), at);
                let at = self.scalar_at(at, style);
                let weight = Weight {
                    nodes: 1,
                    text: text.len(),
                };
                let value = Value::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                };
                self.finish(Node { at, value, weight }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_deref(), at);
                self.descend(at, anchor, OpenValue::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_deref(), at);
                let value = OpenValue::Map {
                    entries: Vec::new(),
                    key: None,
                    merged: BTreeMap::new(),
                    seen: BTreeMap::new(),
                };
                self.descend(at, anchor, value)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.place(node, at),
                None => {
                    self.error(at, "this alias stands for something that contains it")
                        .label("it would never end")
                        .mend("write the value out");
                    Err(Broken(at))
                }
            },
        }
    }

    /// A plain scalar's stretch ends with its last letter; the scanner may count blanks behind it.
    fn scalar_at(&self, at: At, style: ScalarStyle) -> At {
        match style {
            ScalarStyle::Literal | ScalarStyle::Folded => self.source.first_line(at),
            _ => At::new(at.start, at.start + self.source.slice(at).trim_end().len()),
        }
    }

    /// Types follow from the fields; a tag that says otherwise would be ignored, and so is refused.
    fn tag(&mut self, tag: Option<&Tag>, at: At) {
        if let Some(tag) = tag
            && !tag.is_yaml_core_schema()
        {
            let name = quoted(&tag.to_string());
            self.error(
                self.source.first_line(at),
                format!("the tag {name} means nothing here"),
            )
            .mend("remove the tag");
        }
    }

    fn descend(&mut self, at: At, anchor: usize, value: OpenValue) -> Result<(), Broken> {
        if self.open.len() >= DEPTH_MAX {
            self.error(
                At::new(at.start, at.start + 1),
                format!("lists and mappings are nested more than {DEPTH_MAX} deep"),
            )
            .label("too deep")
            .mend("an experiment needs no more than 8 levels: look for a bracket that is never closed");
            return Err(Broken(at));
        }
        self.open.push(Open {
            start: at,
            anchor,
            value,
            weight: Weight { nodes: 1, text: 0 },
        });
        Ok(())
    }

    fn close(&mut self, end: At) -> Result<(), Broken> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let (value, last) = match open.value {
            OpenValue::List(items) => {
                let last = items.last().map(|n| n.at);
                (Value::List(items), last)
            }
            OpenValue::Map {
                mut entries,
                merged,
                seen,
                ..
            } => {
                let last = entries.last().map(|e| e.key_at.to(e.node.at));
                entries.extend(merged.into_values().filter(|e| !seen.contains_key(&e.key)));
                (Value::Map(entries), last)
            }
        };
        // A block's end has no text of its own; a bracket has.
        let closed = self.source.slice(end);
        let at = if closed.starts_with([']', '}']) {
            open.start.to(At::new(end.start, end.start + 1))
        } else {
            last.map_or(open.start, |last| open.start.to(last))
        };
        let node = Node {
            at,
            value,
            weight: open.weight,
        };
        self.finish(node, open.anchor)
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Broken> {
        let at = node.at;
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node, at)
    }

    /// Puts a finished value where it belongs; `at` is where it is written, or where its alias is.
    fn place(&mut self, node: Rc<Node>, at: At) -> Result<(), Broken> {
        let weight = node.weight;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight = open.weight.plus(weight);
        if !self.cut && (open.weight.nodes > NODES_MAX || open.weight.text > TEXT_BYTES_MAX) {
            self.error(at, "the file stands for more than an experiment can hold")
                .label(format!("past {NODES_MAX} values or {} MiB of text here, aliases counted as what they stand for", TEXT_BYTES_MAX >> 20))
                .mend("write fewer aliases of aliases");
            return Err(Broken(at));
        }
        match &mut open.value {
            OpenValue::List(items) => items.push(node),
            OpenValue::Map { key, .. } => match key.take() {
                None => self.key(&node, at),
                Some((word, key_at)) if word == "<<" => self.merge(&node, key_at.to(at)),
                Some((word, key_at)) => self.entry(word, key_at, node),
            },
        }
        Ok(())
    }

    /// A key has been read; its value comes next.
    fn key(&mut self, node: &Node, at: At) {
        let text = match &node.value {
            Value::Scalar { text, .. } if !text.is_empty() => text.clone(),
            Value::Scalar { .. } => {
                self.error(at, "a key must be a word")
                    .label("this is nothing")
                    .mend("write the field's name before the `:`");
                String::new()
            }
            Value::List(_) | Value::Map(_) => {
                let at = self.source.first_line(at);
                self.error(at, "a key must be a word")
                    .label("this is a list or a mapping")
                    .mend("`{{ … }}` is a template's: write the value itself, or quote it");
                String::new()
            }
        };
        if let Some(OpenValue::Map { key, .. }) = self.open.last_mut().map(|o| &mut o.value) {
            *key = Some((text, at));
        }
    }

    fn merge(&mut self, node: &Node, at: At) {
        let Some(more) = merge(node) else {
            self.error(at, "`<<` takes a mapping, or a list of mappings")
                .mend("write `<<: *name` with the name of a mapping's anchor");
            return;
        };
        if let Some(OpenValue::Map { merged, .. }) = self.open.last_mut().map(|o| &mut o.value) {
            for entry in more {
                merged.entry(entry.key.clone()).or_insert(entry);
            }
        }
    }

    fn entry(&mut self, key: String, key_at: At, node: Rc<Node>) {
        let Some(OpenValue::Map { entries, seen, .. }) = self.open.last_mut().map(|o| &mut o.value)
        else {
            return;
        };
        if let Some(first) = seen.get(&key).copied() {
            // A key that is not a word has been reported as that.
            if !key.is_empty() {
                self.error(key_at, format!("{} is said twice", quoted(&key)))
                    .label("again here")
                    .related(first, "first here")
                    .mend("keep one of them");
            }
            return;
        }
        seen.insert(key.clone(), key_at);
        entries.push(Entry { key, key_at, node });
    }
}

/// What `<<` brings.
fn merge(node: &Node) -> Option<Vec<Entry>> {
    match &node.value {
        Value::Map(entries) => Some(entries.clone()),
        Value::List(items) => {
            let mut all = Vec::new();
            for item in items {
                match &item.value {
                    Value::Map(entries) => all.extend(entries.iter().cloned()),
                    _ => return None,
                }
            }
            Some(all)
        }
        Value::Scalar { .. } => None,
    }
}

/// Where in the structure a place is: `method[0].fault.delay.time`.
pub(crate) fn path(root: &Node, at: At) -> String {
    let mut path = String::new();
    let mut node = root;
    loop {
        let holds = |a: At| a.start <= at.start && at.start < a.end.max(a.start + 1);
        match &node.value {
            Value::Map(entries) => {
                let Some(entry) = entries
                    .iter()
                    .find(|e| holds(e.key_at.to(e.node.at)) || holds(e.node.at) || holds(e.key_at))
                else {
                    return path;
                };
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&entry.key);
                node = &entry.node;
            }
            Value::List(items) => {
                let Some(index) = items.iter().position(|i| holds(i.at)) else {
                    return path;
                };
                path.push_str(&format!("[{index}]"));
                node = &items[index];
            }
            Value::Scalar { .. } => return path,
        }
    }
}
