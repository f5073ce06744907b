//! The terminal: a few lines that are drawn over, or plain lines one after another.

use super::Output;
use console::{Term, truncate_str};

/// Where lines go. On a terminal the cursor is hidden while it draws, and shown again whatever happens.
#[derive(Debug)]
pub(super) struct Screen {
    term: Term,
    redraws: bool,
    drawn: usize,
}

impl Screen {
    pub(super) fn new(output: Output) -> Self {
        let term = match output {
            Output::Stdout => Term::buffered_stdout(),
            Output::Stderr => Term::buffered_stderr(),
        };
        let redraws = term.is_term() && !console::is_dumb();
        if redraws {
            let _ = term.hide_cursor();
        }
        Self {
            redraws,
            drawn: 0,
            term,
        }
    }

    /// Whether the view is drawn over itself.
    pub(super) const fn redraws(&self) -> bool {
        self.redraws
    }

    pub(super) fn colours(&self) -> bool {
        // https://no-color.org: set and not empty.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        self.redraws && !unwanted && self.term.features().colors_supported()
    }

    /// A line that stays. A reader that is gone is no reason to end a run: what cannot be written is not.
    pub(super) fn line(&mut self, line: &str) {
        let _ = self.term.write_line(line);
        let _ = self.term.flush();
    }

    /// Draws over what was drawn last.
    pub(super) fn draw(&mut self, lines: &[String]) {
        let (rows, columns) = self.term.size();
        // A line that wraps, or one more than the window has, would leave the cursor where it is not expected.
        let rows = usize::from(rows.max(2)) - 1;
        let columns = usize::from(columns.max(20)) - 1;
        let _ = self.term.move_cursor_up(self.drawn);
        for line in lines.iter().take(rows) {
            let _ = self.term.clear_line();
            let _ = self.term.write_line(&truncate_str(line, columns, "…"));
        }
        let _ = self.term.clear_to_end_of_screen();
        let _ = self.term.flush();
        self.drawn = lines.len().min(rows);
    }

    /// What is drawn stays; lines follow it.
    pub(super) fn settle(&mut self) {
        self.drawn = 0;
        if self.redraws {
            let _ = self.term.show_cursor();
            let _ = self.term.flush();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.settle();
    }
}
