//! The file language: text to a checked [`Experiment`], with every mistake of the file at once.
//!
//! ```text
//!  text ──▶ tree with places ──▶ decoders ──▶ Experiment
//!             │ budgets, aliases    │ fields, units, contradictions
//!             └──────── diagnostics ┴──────▶ all of them, in the order of the file
//! ```
//!
//! Reading never fails and never panics; what comes back is what could be understood and everything that
//! could not. The same text gives the same reading, on any machine.

mod decode;
mod diagnostic;
mod reader;
mod source;
mod suggest;
mod syntax;
mod tree;
mod unit_words;

pub use diagnostic::{Colour, Diagnostic, Related, Severity, Span};

pub(crate) use suggest::{closest, quoted};
pub(crate) use unit_words::trimmed;

use crate::experiment::Experiment;
use crate::game_day::GameDay;
use crate::policy::Policy;
use crate::schedule::Schedule;
use diagnostic::Draft;
use reader::Cx;
use source::{At, Source};
use tree::Node;

/// The most bytes a file may have: a thousand times what a long experiment needs.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The most diagnostics that are given for one file; more than this nobody reads, and a hostile file would
/// make them by the thousand.
pub const DIAGNOSTICS_MAX: usize = 100;

/// What a file says, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The experiment; there if and only if there is no error among the diagnostics.
    pub experiment: Option<Experiment>,
    /// Errors and warnings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
    /// What the experiment does, as a number: see [`Experiment::digest`].
    pub digest: Option<String>,
}

impl Reading {
    /// Whether the file cannot be used.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.experiment.is_none()
    }

    /// All diagnostics as a person reads them, one after another with a blank line between. `text` is what was
    /// read.
    #[must_use]
    pub fn render(&self, text: &str, colour: Colour) -> String {
        rendered(&self.diagnostics, text, colour)
    }
}

fn rendered(diagnostics: &[Diagnostic], text: &str, colour: Colour) -> String {
    let source = Source::new("", shown(text));
    let rendered: Vec<String> = diagnostics
        .iter()
        .map(|d| d.render_in(&source, colour))
        .collect();
    rendered.join("\n\n")
}

/// What a file of another kind says, and what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Read<T> {
    /// What it says; there if and only if there is no error among the diagnostics.
    pub value: Option<T>,
    /// Errors and warnings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl<T> Read<T> {
    /// All diagnostics as a person reads them; see [`Reading::render`].
    #[must_use]
    pub fn render(&self, text: &str, colour: Colour) -> String {
        rendered(&self.diagnostics, text, colour)
    }
}

/// Reads an experiment file. `path` is only repeated in the diagnostics.
#[must_use]
pub fn read(path: &str, text: &str) -> Reading {
    let (experiment, diagnostics) = document(path, text, decode::experiment);
    let digest = experiment.as_ref().map(Experiment::digest);
    Reading {
        experiment,
        diagnostics,
        digest,
    }
}

/// Reads a schedule's file.
#[must_use]
pub fn read_schedule(path: &str, text: &str) -> Read<Schedule> {
    let (value, diagnostics) = document(path, text, decode::schedule);
    Read { value, diagnostics }
}

/// Reads a game day's file.
#[must_use]
pub fn read_game_day(path: &str, text: &str) -> Read<GameDay> {
    let (value, diagnostics) = document(path, text, decode::game_day);
    Read { value, diagnostics }
}

/// Reads a policy's file. `zone` says whether a time zone of that name is known where the policy is to be in force.
#[must_use]
pub fn read_policy(path: &str, text: &str, zone: &dyn Fn(&str) -> bool) -> Read<Policy> {
    let (value, diagnostics) = document(path, text, |cx, root| decode::policy(cx, root, zone));
    Read { value, diagnostics }
}

/// The `kind` that a file says it is, where it says one.
#[must_use]
pub fn kind(text: &str) -> Option<String> {
    let text = without_mark(text);
    if text.len() > FILE_BYTES_MAX {
        return None;
    }
    let root = tree::grow(&Source::new("", text)).root?;
    match root.json().get("kind")? {
        serde_json::Value::String(kind) => Some(kind.clone()),
        _ => None,
    }
}

/// Reads a file by the decoder of its kind.
fn document<T>(
    path: &str,
    text: &str,
    decode: impl FnOnce(&mut Cx<'_, '_>, &Node) -> Option<T>,
) -> (Option<T>, Vec<Diagnostic>) {
    let text = without_mark(text);
    if text.len() > FILE_BYTES_MAX {
        return (None, too_large(path, text).diagnostics);
    }
    let source = Source::new(path, text);
    let grown = tree::grow(&source);
    let mut drafts = grown.drafts;
    let mut value = None;
    match &grown.root {
        Some(root) => {
            let mut cx = Cx {
                source: &source,
                drafts: Vec::new(),
            };
            value = decode(&mut cx, root);
            // Of a file that could only be read in part, what is missing may be in the other part.
            let sure = |d: &Draft| match grown.broken_at {
                Some(end) => !d.missing && source.line(d.at.start) < source.line(end),
                None => true,
            };
            drafts.extend(cx.drafts.into_iter().filter(sure));
        }
        None if drafts.is_empty() => {
            let mut draft = Draft::new(Severity::Error, At::default(), "the file is empty");
            draft.mend("`squall new` writes an experiment to start from");
            drafts.push(draft);
        }
        None => {}
    }
    if drafts.iter().any(|d| d.severity == Severity::Error) {
        value = None;
    }
    (value, placed(&source, drafts, grown.root.as_deref()))
}

/// What is said of a file: in its order, each mistake once, and no more than anybody reads.
fn placed(source: &Source<'_>, mut drafts: Vec<Draft>, root: Option<&Node>) -> Vec<Diagnostic> {
    // By severity at one place, so that a warning never hides the error that causes it.
    drafts.sort_by_key(|d| (d.at.start, d.severity == Severity::Warning));
    // An alias is decoded wherever it stands; its mistakes are where it was written, once.
    drafts.dedup_by(|a, b| a.says_the_same(b));
    let more = drafts.len().saturating_sub(DIAGNOSTICS_MAX);
    if more > 0 {
        // Errors before warnings, so that a file that cannot be used always says why.
        drafts.sort_by_key(|d| d.severity == Severity::Warning);
        drafts.truncate(DIAGNOSTICS_MAX);
        let at = drafts.last().map_or(At::default(), |d| d.at);
        let mut draft = Draft::new(Severity::Warning, at, format!("{more} more are not shown"));
        draft.mend("mend these first");
        drafts.push(draft);
    }
    let place = |d: Draft| {
        let mut field = root.map_or_else(String::new, |root| tree::path(root, d.at));
        if d.of_parent {
            field.truncate(field.rfind('.').unwrap_or(0));
        }
        d.place(source, field)
    };
    drafts.into_iter().map(place).collect()
}

/// A file's values as JSON, the way an editor sees them when it holds a file against
/// [`schema::experiment`](crate::schema::experiment); `None` where the text is not YAML, or has no values.
#[must_use]
pub fn as_json(text: &str) -> Option<serde_json::Value> {
    let grown = tree::grow(&Source::new("", without_mark(text)));
    match grown.broken_at {
        Some(_) => None,
        None => grown.root.map(|root| root.json()),
    }
}

/// Reads an experiment file from its bytes, which may not be text at all. What is not UTF-8 is an error with
/// its place. The second value is the text that the diagnostics refer to.
#[must_use]
pub fn read_bytes(path: &str, bytes: &[u8]) -> (Reading, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (read(path, text), text.to_owned()),
        Err(error) => {
            let shown = bytes
                .get(..bytes.len().min(FILE_BYTES_MAX))
                .unwrap_or(bytes);
            let text = String::from_utf8_lossy(shown).into_owned();
            // Places are counted from after the byte order mark, here as everywhere.
            let counted = without_mark(&text);
            let mark = text.len() - counted.len();
            let at = (error.valid_up_to().saturating_sub(mark)).min(counted.len());
            let end = counted
                .get(at..)
                .and_then(|t| t.chars().next())
                .map_or(at, |c| at + c.len_utf8());
            let mut draft = Draft::new(
                Severity::Error,
                At::new(at, end),
                "the file is not UTF-8 text",
            );
            draft.label("not a character").mend("save it as UTF-8");
            let reading = alone(path, counted, draft);
            (reading, text)
        }
    }
}

fn too_large(path: &str, text: &str) -> Reading {
    let mut draft = Draft::new(
        Severity::Error,
        At::default(),
        format!(
            "the file has {} bytes; an experiment has at most {FILE_BYTES_MAX}",
            text.len()
        ),
    );
    draft.mend("check that this is the file you meant; a large request body belongs into the service, not here");
    // Only the first line is ever shown, and the file may be of any size.
    let mut end = text.len().min(200);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    alone(path, text.get(..end).unwrap_or_default(), draft)
}

fn alone(path: &str, text: &str, draft: Draft) -> Reading {
    let source = Source::new(path, text);
    Reading {
        experiment: None,
        diagnostics: vec![draft.place(&source, String::new())],
        digest: None,
    }
}

/// The part of a text that diagnostics can point into: what is longer was refused for its length. A text that is
/// not UTF-8 grows while it is made readable, by three bytes for one at most.
fn shown(text: &str) -> &str {
    let text = without_mark(text);
    let mut end = text.len().min(3 * FILE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Without the byte order mark that some editors write; every place is counted from after it.
pub(crate) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Bytes that a compiled regular expression may take: `\w` alone takes about 20 KiB, and a file may hold hundreds.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Compiles a regular expression, or says in a few words what is wrong with it.
pub(crate) fn regex(pattern: &str) -> Result<regex::Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
            // The last line is the one that names the mistake.
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                last.trim_start_matches("error: ").to_owned()
            }
        })
}
