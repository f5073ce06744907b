//! Patterns with `*` for names, paths and headers: `*.payment.svc`, `/orders/*`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A text in which `*` stands for any run of characters, also none. It matches the whole of what it is held against.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing matches it.
    #[error("a pattern of no letters matches nothing")]
    Empty,
    /// Nobody writes such a long one on purpose.
    #[error("a pattern has at most {} letters", Pattern::BYTES_MAX)]
    TooLong,
    /// It could never match.
    #[error("a pattern stands on one line and has no control characters")]
    Control,
}

impl Pattern {
    /// The longest DNS name has 253 bytes; paths worth a pattern are no longer.
    pub const BYTES_MAX: usize = 255;

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Whether it matches all of `text`, letter by letter.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.run(text.as_bytes(), u8::eq)
    }

    /// Whether it matches all of `text`, where small and capital ASCII letters are the same, as in names.
    #[must_use]
    pub fn matches_name(&self, text: &str) -> bool {
        self.run(text.as_bytes(), u8::eq_ignore_ascii_case)
    }

    /// Goes back to the last `*` alone, so at most |pattern| x |text| steps.
    fn run(&self, text: &[u8], same: fn(&u8, &u8) -> bool) -> bool {
        let pattern = self.0.as_bytes();
        let (mut at, mut from) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while from < text.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, from));
                    at += 1;
                }
                Some(letter) if same(letter, &text[from]) => {
                    at += 1;
                    from += 1;
                }
                _ => {
                    let Some((last, taken)) = star else {
                        return false;
                    };
                    star = Some((last, taken + 1));
                    at = last + 1;
                    from = taken + 1;
                }
            }
        }
        pattern[at..].iter().all(|letter| *letter == b'*')
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        if text.is_empty() {
            Err(PatternError::Empty)
        } else if text.len() > Self::BYTES_MAX {
            Err(PatternError::TooLong)
        } else if text.contains(char::is_control) {
            Err(PatternError::Control)
        } else {
            Ok(Self(text))
        }
    }
}

impl std::str::FromStr for Pattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        text.to_owned().try_into()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": Self::BYTES_MAX,
            "description": "A text in which * stands for any run of characters",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_stands_for_any_run_and_the_rest_for_itself() {
        for (written, text, expected) in [
            ("*.payment.svc", "a.b.payment.svc", true),
            ("*.payment.svc", "payment.svc", false),
            ("*.payment.svc", "a.payment.svc.cluster", false),
            ("/orders/*", "/orders/", true),
            ("/orders/*/items", "/orders/1/2/items", true),
            ("/orders/*/items", "/orders/1/item", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "ab ab a", false),
            ("a", "A", false),
        ] {
            assert_eq!(pattern(written).matches(text), expected, "{written} {text}");
        }
        assert!(pattern("*.Shop").matches_name("DB.shop"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert_eq!("".parse::<Pattern>(), Err(PatternError::Empty));
        assert_eq!("a\nb".parse::<Pattern>(), Err(PatternError::Control));
        let long = "a".repeat(Pattern::BYTES_MAX + 1);
        assert_eq!(long.parse::<Pattern>(), Err(PatternError::TooLong));
    }

    /// Slow and plainly right.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| model(rest, &text[n..])),
            Some((letter, rest)) => text.first() == Some(letter) && model(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_definition(written in "[ab*]{1,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(pattern(&written).matches(&text), model(written.as_bytes(), text.as_bytes()));
        }
    }
}
