//! What the YAML scanner objects to, in words that say how to mend it.

use super::diagnostic::{Draft, Severity};
use super::source::{At, Source};
use saphyr_parser::ScanError;

/// A part of the scanner's message, what is wrong, and how to mend it. The first that fits is taken.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "tab",
        "a tab stands where YAML wants blanks",
        "indent with blanks; set the editor to expand tabs",
    ),
    (
        "mapping values are not allowed",
        "a `:` stands where no key can be",
        "if the text contains `: `, quote it; if this is a new field, indent it like its neighbours",
    ),
    (
        "illegal placement of ':'",
        "a `:` stands where no key can be",
        "look for a `[`, a `{` or a quote above that is never closed",
    ),
    (
        "recursion limit",
        "brackets are nested too deep",
        "close the brackets that are open",
    ),
    (
        "unknown anchor",
        "this alias stands for nothing",
        "define it first with `&name`, or quote the text if it only starts with `*`",
    ),
    (
        "quoted scalar",
        "a quote is never closed",
        "close it with the same quote on the same line",
    ),
    (
        "',' or ']'",
        "a `]` or a `,` is missing",
        "close the list with `]`, or put a `,` between its values",
    ),
    (
        "',' or '}'",
        "a `}` or a `,` is missing",
        "close the mapping with `}`, or put a `,` between its fields",
    ),
    (
        "did not find expected key",
        "this line is neither a field of the mapping above nor the end of it",
        "give it the same indentation as the fields beside it",
    ),
    (
        "did not find expected '-'",
        "this line is neither an item of the list above nor the end of it",
        "start it with `- `, or give it the indentation of what it belongs to",
    ),
    (
        "simple key",
        "a key stands where none can be",
        "put the field on a line of its own, followed by `:` and a blank",
    ),
    (
        "block scalar",
        "`|` or `>` starts a text of several lines, and this is not one",
        "quote the text if it only starts with that sign",
    ),
    (
        "cannot start any token",
        "no value can start with this sign",
        "quote the text",
    ),
    (
        "invalid indentation",
        "the indentation does not fit",
        "give the line the same indentation as the fields beside it, and look for a `[` or `{` above that is never closed",
    ),
];

/// The scanner's error as a diagnostic.
pub(crate) fn explain(error: &ScanError, source: &Source<'_>) -> Draft {
    let start = source.byte(error.marker().index()).min(source.text.len());
    // The scanner may stop at the end of the text or of a line: the last letter before is what to look at.
    let rest = source.text.get(start..).unwrap_or_default();
    let at = if rest.trim_start_matches([' ', '\r', '\n']).is_empty() {
        let end = source.text.trim_end().len();
        let last = source.text.get(..end).and_then(|t| t.char_indices().last());
        At::new(last.map_or(0, |(at, _)| at), end)
    } else {
        let letter = rest.chars().next().map_or(0, char::len_utf8);
        At::new(start, start + letter)
    };
    let info = error.info();
    let known = KNOWN.iter().find(|(part, ..)| info.contains(part));
    let mut draft = match known {
        Some((_, problem, mend)) => {
            let mut draft = Draft::new(Severity::Error, at, *problem);
            draft.mend(*mend);
            draft
        }
        None => Draft::new(Severity::Error, at, format!("this is not YAML: {info}")),
    };
    draft.label("reading stops here");
    draft
}
