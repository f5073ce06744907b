//! Texts with holes that are filled anew for every request: `{"order": {{seq}}, "customer": "{{csv.customer}}"}`.

use std::fmt;

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// The request's number, from 1.
    Seq,
    /// A random UUID.
    Uuid,
    /// A column of the data file, whose rows are taken one after another and again from the first.
    Csv(String),
}

/// What is wrong with a template, and where in it, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// The first byte.
    pub at: usize,
    /// The byte after the last one.
    pub end: usize,
    /// In a sentence without a full stop.
    pub problem: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

/// Takes a text apart.
///
/// # Errors
/// A hole that is never closed, or with something in it that is not known.
pub fn parse(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let at = text.len() - after.len() - 2;
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let Some((inside, behind)) = after.split_once("}}") else {
            return Err(TemplateError {
                at,
                end: text.len(),
                problem: "this `{{` is never closed".to_owned(),
            });
        };
        pieces.push(hole(inside.trim()).ok_or_else(|| TemplateError {
            at,
            end: at + inside.len() + 4,
            problem: format!(
                "{} is nothing that can be filled in",
                crate::language::quoted(inside.trim())
            ),
        })?);
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

fn hole(inside: &str) -> Option<Piece> {
    match inside {
        "seq" => Some(Piece::Seq),
        "uuid" => Some(Piece::Uuid),
        other => {
            let column = other.strip_prefix("csv.")?.trim();
            (!column.is_empty()).then(|| Piece::Csv(column.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_told_from_text() {
        let text = |t: &str| Piece::Text(t.to_owned());
        let pieces = parse(r#"{"a":{"n":{{seq}},"c":"{{ csv.first name }}"}}{{uuid}}"#).unwrap();
        let wanted = [
            text(r#"{"a":{"n":"#),
            Piece::Seq,
            text(r#","c":""#),
            Piece::Csv("first name".into()),
            text(r#""}}"#),
            Piece::Uuid,
        ];
        assert_eq!(pieces, wanted);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let wrong = parse("ab{{sequence}}c").unwrap_err();
        assert_eq!((wrong.at, wrong.end), (2, 14));
        let wrong = parse("ab{{seq").unwrap_err();
        assert_eq!((wrong.at, wrong.end), (2, 7));
        assert!(parse("{{csv.}}").is_err());
    }
}
