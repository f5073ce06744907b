//! How things are said.

pub(super) use crate::words::chain;
use comfy_table::{Table, presets};
use std::error::Error;
use std::fmt::Arguments;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// A line on standard output. A reader that has gone away (`| head`) is no error, and no panic.
macro_rules! out {
    ($($words:tt)*) => {
        $crate::cli::say::line(&mut std::io::stdout(), format_args!($($words)*))
    };
}
/// A line on standard error, likewise.
macro_rules! err {
    ($($words:tt)*) => {
        $crate::cli::say::line(&mut std::io::stderr(), format_args!($($words)*))
    };
}
pub(super) use {err, out};

pub(super) fn line(to: &mut dyn Write, words: Arguments<'_>) {
    let _gone = writeln!(to, "{words}");
}

/// Says what went wrong, with every cause behind it, once.
pub(super) fn failed(code: u8, error: &dyn Error) -> ExitCode {
    err!("squall: {}", chain(error));
    ExitCode::from(code)
}

/// A JSON document on standard output.
pub(super) fn json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            out!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(super::INCONCLUSIVE, &error),
    }
}

/// A table without lines: it reads well, and `awk` reads it too.
pub(super) fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !std::io::stdout().is_terminal() {
        // Cells are not folded for a reader that has no width.
        table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    } else {
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    }
    table.set_header(head);
    table
}

/// Prints a table, without the blanks behind its last column.
pub(super) fn print(table: &Table) {
    out!("{}", table.trim_fmt());
}

/// `1 fault`, `2 faults`.
pub(super) fn count(number: usize, word: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {word}{s}")
}
