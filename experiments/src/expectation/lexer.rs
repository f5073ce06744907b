//! The words and values of an expectation, one after another, each with its place.

use super::ExpectationError;

/// Reads a text from left to right.
pub(super) struct Lexer<'t> {
    pub(super) text: &'t str,
    pub(super) at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// What is not read yet, blanks skipped.
    pub(super) fn rest(&mut self) -> &'t str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    pub(super) fn is_done(&mut self) -> bool {
        self.rest().is_empty()
    }

    /// Takes a sign such as `>=` if it comes next.
    pub(super) fn sign(&mut self, sign: &str) -> bool {
        let comes = self.rest().starts_with(sign);
        if comes {
            self.at += sign.len();
        }
        comes
    }

    /// Takes words such as `at least` if they come next, whatever their capitals and the blanks between.
    pub(super) fn words(&mut self, words: &str) -> bool {
        let before = self.at;
        for word in words.split(' ') {
            let rest = self.rest();
            let found = rest
                .get(..word.len())
                .is_some_and(|w| w.eq_ignore_ascii_case(word));
            let whole = !rest
                .get(word.len()..)
                .and_then(|r| r.chars().next())
                .is_some_and(|c| c.is_alphanumeric() || c == '_');
            if !(found && whole) {
                self.at = before;
                return false;
            }
            self.at += word.len();
        }
        true
    }

    /// The next word for a message, without taking it: up to a blank.
    pub(super) fn peek(&mut self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// Takes what is quoted, if a quote comes next.
    pub(super) fn quoted(&mut self) -> Result<Option<String>, ExpectationError> {
        let rest = self.rest();
        let Some(quote @ ('"' | '\'')) = rest.chars().next() else {
            return Ok(None);
        };
        let start = self.at;
        let mut text = String::new();
        let mut letters = rest.char_indices().skip(1);
        while let Some((offset, letter)) = letters.next() {
            match letter {
                '\\' if quote == '"' => {
                    let escaped = escape(&mut letters).ok_or_else(|| ExpectationError {
                        at: start + offset,
                        end: start + offset + 1,
                        problem: "this is not an escape".to_owned(),
                        mend: Some(r#"inside "…" write `\\` for a backslash, or use '…' where backslashes are only themselves"#.to_owned()),
                    })?;
                    text.push(escaped);
                }
                letter if letter == quote => {
                    self.at = start + offset + 1;
                    return Ok(Some(text));
                }
                letter => text.push(letter),
            }
        }
        Err(ExpectationError {
            at: start,
            end: self.text.len(),
            problem: "this quote is never closed".to_owned(),
            mend: Some(format!("close it with {quote}")),
        })
    }

    /// Takes a JSON path: up to a blank that is not inside brackets or quotes.
    pub(super) fn path(&mut self) -> &'t str {
        let rest = self.rest();
        let mut depth = 0_u32;
        let mut quote = None;
        let mut end = rest.len();
        let mut escaped = false;
        for (offset, letter) in rest.char_indices() {
            match (quote, letter) {
                (Some(_), _) if escaped => escaped = false,
                (Some(_), '\\') => escaped = true,
                (Some(open), letter) if letter == open => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') if depth > 0 => quote = Some(letter),
                (None, '[' | '(') => depth += 1,
                (None, ']' | ')') => depth = depth.saturating_sub(1),
                (None, letter)
                    if depth == 0 && (letter.is_whitespace() || "<>=!".contains(letter)) =>
                {
                    end = offset;
                    break;
                }
                (None, _) => {}
            }
        }
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    /// Takes a value that is not quoted: up to a blank, a comma or a closing bracket; a unit after one blank is
    /// taken with it (`300 ms`).
    pub(super) fn value(&mut self) -> &'t str {
        let rest = self.rest();
        let stop = |c: char| c.is_whitespace() || matches!(c, ',' | ']' | '[');
        let mut end = rest.find(stop).unwrap_or(rest.len());
        let number = rest.get(..end).unwrap_or_default();
        if number.parse::<f64>().is_ok() {
            let after = rest.get(end..).unwrap_or_default();
            let unit = after.strip_prefix(' ').unwrap_or_default();
            let unit = unit
                .get(..unit.find(stop).unwrap_or(unit.len()))
                .unwrap_or_default();
            if UNITS.contains(&unit) {
                end += 1 + unit.len();
            }
        }
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    /// An error at a stretch.
    pub(super) fn error(
        &self,
        at: usize,
        problem: impl Into<String>,
        mend: impl Into<String>,
    ) -> ExpectationError {
        let end = self.at.max(at);
        ExpectationError {
            at,
            end,
            problem: problem.into(),
            mend: Some(mend.into()),
        }
    }
}

/// Units that may stand apart from their number.
const UNITS: &[&str] = &[
    "ns", "us", "µs", "ms", "s", "sec", "m", "min", "h", "%", "/s", "/min", "/h",
];

/// The character that an escape stands for: those that Rust writes, so that what is shown can be read back.
fn escape(letters: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    match letters.next()?.1 {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        '0' => Some('\0'),
        '\\' => Some('\\'),
        '"' => Some('"'),
        '\'' => Some('\''),
        'u' => {
            if letters.next()?.1 != '{' {
                return None;
            }
            let mut code = 0_u32;
            for (_, letter) in letters.by_ref().take(7) {
                if letter == '}' {
                    return char::from_u32(code);
                }
                code = code.checked_mul(16)?.checked_add(letter.to_digit(16)?)?;
            }
            None
        }
        _ => None,
    }
}
