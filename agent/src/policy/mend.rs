//! What somebody probably meant: serde says which words it knows, and one of them is near.

/// The most letters that may differ for a word to be a slip of another.
const SLIPS_MAX: usize = 2;

/// The error, and the nearest known word where one is near.
pub(super) fn with_mend(error: &str) -> String {
    let error = error.trim_end();
    if let Some(meant) = meant(error) {
        return format!("{error}\ndid you mean `{meant}`?");
    }
    let mend = SHAPES.iter().find(|(said, _)| error.contains(said));
    mend.map_or_else(|| error.to_owned(), |(_, mend)| format!("{error}\n{mend}"))
}

/// What the parser says of a value of the wrong shape, and what to write.
const SHAPES: [(&str, &str); 4] = [
    (
        "expected sequence start",
        "write a list: `[ one, another ]`",
    ),
    (
        "expected mapping start",
        "write keys and values: `{ key: value }`",
    ),
    (
        "missing field `open`",
        "write the hours: `open: [ mon-fri 09:00-17:00 ]`",
    ),
    ("duplicate mapping key", "write each key once"),
];

/// The first word in backticks is what was written, the words behind `expected` are what is known.
fn meant(error: &str) -> Option<&str> {
    let line = error.lines().next()?;
    let unknown = ["unknown field", "unknown variant"];
    let at = unknown.iter().find_map(|what| line.find(what))?;
    let (said, known) = line[at..].split_once("expected")?;
    let written = said.split('`').nth(1)?;
    let known = known.split(|c: char| !c.is_ascii_alphanumeric());
    let near = known
        .filter(|word| !["", "one", "of", "or"].contains(word))
        .map(|word| (distance(written, word), word));
    let (slips, word) = near.min_by_key(|(slips, _)| *slips)?;
    (slips <= SLIPS_MAX).then_some(word)
}

/// Levenshtein's distance, without regard to case.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_mended_and_nonsense_is_not() {
        let of =
            |word: &str| format!("unknown field `{word}`, expected one of `limits`, `protect`");
        assert_eq!(meant(&of("limts")), Some("limits"));
        assert_eq!(meant(&of("Protect")), Some("protect"));
        assert_eq!(meant(&of("banana")), None);
        assert_eq!(meant("something else"), None);
        let bare = "unknown variant `kil`, expected one of delay, kill";
        assert_eq!(meant(bare), Some("kill"));
    }
}
