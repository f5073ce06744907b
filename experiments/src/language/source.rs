//! The text of a file, and where things are in it.

/// A stretch of a file in bytes, the end excluded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl At {
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// From the start of this one to the end of the other.
    pub(crate) const fn to(self, other: Self) -> Self {
        Self {
            start: self.start,
            end: if other.end > self.start {
                other.end
            } else {
                self.end
            },
        }
    }
}

/// A file's text with the tables that turn the scanner's characters into bytes, and bytes into lines.
#[derive(Debug)]
pub(crate) struct Source<'t> {
    pub(crate) path: &'t str,
    pub(crate) text: &'t str,
    line_starts: Vec<usize>,
    /// The byte at which each character starts; empty for plain ASCII, where they are the same.
    characters: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(path: &'t str, text: &'t str) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        let characters = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(at, _)| at).collect()
        };
        Self {
            path,
            text,
            line_starts,
            characters,
        }
    }

    /// The byte at which the scanner's n-th character starts.
    pub(crate) fn byte(&self, character: usize) -> usize {
        if self.characters.is_empty() {
            character.min(self.text.len())
        } else {
            self.characters
                .get(character)
                .copied()
                .unwrap_or(self.text.len())
        }
    }

    /// What is written there; empty where the stretch does not fall on characters.
    pub(crate) fn slice(&self, at: At) -> &'t str {
        self.text.get(at.start..at.end).unwrap_or_default()
    }

    /// The line, from 0, on which a byte is.
    pub(crate) fn line(&self, byte: usize) -> usize {
        self.line_starts
            .partition_point(|start| *start <= byte)
            .saturating_sub(1)
    }

    /// The byte at which a line, counted from 0, starts.
    pub(crate) fn line_start(&self, line: usize) -> usize {
        self.line_starts
            .get(line)
            .copied()
            .unwrap_or(self.text.len())
    }

    /// The line and the column in characters, both from 1.
    pub(crate) fn place(&self, byte: usize) -> (usize, usize) {
        let line = self.line(byte);
        let before = self
            .text
            .get(self.line_start(line)..byte)
            .unwrap_or_default();
        (line + 1, before.chars().count() + 1)
    }

    /// The stretch, cut at the end of its first line and moved off its own trailing blanks.
    pub(crate) fn first_line(&self, at: At) -> At {
        let written = self.slice(at);
        let line = written.lines().next().unwrap_or_default().trim_end();
        At::new(at.start, at.start + line.len())
    }
}
