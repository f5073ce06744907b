//! Colours, or none; and text that cannot command a terminal.

use std::borrow::Cow;

/// Wraps text in the terminal's colours, or leaves it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    colours: bool,
}

impl Paint {
    pub(super) const fn new(colours: bool) -> Self {
        Self { colours }
    }

    /// ECMA-48, "Select Graphic Rendition": the code, the text, and back to normal.
    fn wrap(self, code: &str, text: &str) -> String {
        if self.colours {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }
    pub(super) fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }
    pub(super) fn good(self, text: &str) -> String {
        self.wrap("1;32", text)
    }
    pub(super) fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }
    pub(super) fn unsure(self, text: &str) -> String {
        self.wrap("1;33", text)
    }
    pub(super) fn line(self, text: &str) -> String {
        self.wrap("36", text)
    }
}

/// Text from a file, a node or a service, without what would move the cursor or set a title.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(
            text.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
        )
    } else {
        Cow::Borrowed(text)
    }
}
