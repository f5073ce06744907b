//! What is wrong with a file, where, and how to mend it.

use super::source::{At, Source};
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, and probably does not do what was meant.
    Warning,
}

/// A stretch of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
    /// The line of the first byte, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
}

/// A second place that explains the first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Related {
    /// Where.
    pub span: Span,
    /// What is there.
    pub label: String,
}

/// One mistake, or one thing to think about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// The file, as it was named by whoever read it.
    pub path: String,
    /// Where in the file's structure: `method[0].fault.delay.time`; empty for the file as a whole.
    pub field: String,
    /// The culprit.
    pub span: Span,
    /// What the caret says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// Another place that has to do with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<Related>,
}

/// Whether rendered text has terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// ANSI escapes.
    Always,
    /// Plain text.
    Never,
}

/// Lines longer than this together are named and not shown: nobody can read them, and drawing them takes long.
const SHOWN_BYTES_MAX: usize = 16 << 10;

impl Diagnostic {
    /// The diagnostic as a person reads it: what, `file:line:column`, the line, a caret, the mend. `text` is
    /// the file's text, as it was given to [`read`](super::read).
    #[must_use]
    pub fn render(&self, text: &str, colour: Colour) -> String {
        self.render_in(&Source::new(&self.path, super::shown(text)), colour)
    }

    pub(crate) fn render_in(&self, source: &Source<'_>, colour: Colour) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let related = self
            .related
            .as_ref()
            .map(|r| At::new(r.span.start, r.span.end));
        let here = At::new(self.span.start, self.span.end);
        // Only the lines that are shown: the renderer looks at every line it is given.
        let first = source.line(here.start.min(related.map_or(usize::MAX, |r| r.start)));
        let last = source.line(here.end.max(related.map_or(0, |r| r.end)));
        let base = source.line_start(first);
        let window = At::new(base, source.line_start(last + 1));
        let shown = source.slice(window).trim_end_matches(['\n', '\r']);
        let within = |at: At| {
            // A text that is not the one that was read must not make drawing it fail.
            let snap = |mut byte: usize| {
                while !shown.is_char_boundary(byte) {
                    byte -= 1;
                }
                byte
            };
            let start = snap(at.start.saturating_sub(base).min(shown.len()));
            start..snap(at.end.saturating_sub(base).clamp(start, shown.len()))
        };
        let renderer = match colour {
            Colour::Always => Renderer::styled(),
            Colour::Never => Renderer::plain(),
        };
        let title = level.primary_title(self.message.as_str());
        if shown.len() > SHOWN_BYTES_MAX {
            let place = Origin::path(self.path.as_str())
                .line(self.span.line)
                .char_column(self.span.column);
            let group = title.element(place);
            let group = match &self.mend {
                Some(mend) => group.element(Level::HELP.message(mend.as_str())),
                None => group,
            };
            return renderer.render(&[group]);
        }
        let mut snippet = Snippet::source(shown)
            .line_start(first + 1)
            .path(self.path.as_str())
            .annotation(
                AnnotationKind::Primary
                    .span(within(here))
                    .label(self.label.as_deref()),
            );
        if let (Some(at), Some(related)) = (related, &self.related) {
            snippet = snippet.annotation(
                AnnotationKind::Context
                    .span(within(at))
                    .label(related.label.as_str()),
            );
        }
        let mut group = title.element(snippet);
        if let Some(mend) = &self.mend {
            group = group.element(Level::HELP.message(mend.as_str()));
        }
        renderer.render(&[group])
    }
}

/// A diagnostic that does not know its file yet.
#[derive(Debug, PartialEq)]
pub(crate) struct Draft {
    pub(crate) severity: Severity,
    pub(crate) at: At,
    message: String,
    label: Option<String>,
    mend: Option<String>,
    related: Option<(At, String)>,
    /// Something is not there; not worth saying of a file that could only be read in part.
    pub(crate) missing: bool,
    /// It is about the mapping whose first key is pointed at, and not about that field.
    pub(crate) of_parent: bool,
}

impl Draft {
    pub(crate) fn new(severity: Severity, at: At, message: impl Into<String>) -> Self {
        Self {
            severity,
            at,
            message: message.into(),
            label: None,
            mend: None,
            related: None,
            missing: false,
            of_parent: false,
        }
    }

    pub(crate) fn label(&mut self, label: impl Into<String>) -> &mut Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn mend(&mut self, mend: impl Into<String>) -> &mut Self {
        self.mend = Some(mend.into());
        self
    }

    pub(crate) fn related(&mut self, at: At, label: impl Into<String>) -> &mut Self {
        self.related = Some((at, label.into()));
        self
    }

    pub(crate) fn missing(&mut self) -> &mut Self {
        self.missing = true;
        self
    }

    pub(crate) fn of_parent(&mut self, of_parent: bool) -> &mut Self {
        self.of_parent = of_parent;
        self
    }

    /// Whether two diagnostics are one, said twice.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        self.at == other.at && self.severity == other.severity && self.message == other.message
    }

    /// The diagnostic, with its places in the file.
    pub(crate) fn place(self, source: &Source<'_>, field: String) -> Diagnostic {
        let span = |at: At| {
            let (line, column) = source.place(at.start);
            Span {
                start: at.start,
                end: at.end.max(at.start),
                line,
                column,
            }
        };
        Diagnostic {
            severity: self.severity,
            message: self.message,
            path: source.path.to_owned(),
            field,
            span: span(self.at),
            label: self.label,
            mend: self.mend,
            related: self.related.map(|(at, label)| Related {
                span: span(at),
                label,
            }),
        }
    }
}
