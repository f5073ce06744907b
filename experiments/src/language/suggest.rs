//! What somebody probably meant.

/// Words of other tools, and what they are called here.
const SYNONYMS: &[(&str, &str)] = &[
    ("latency", "delay"),
    ("lag", "delay"),
    ("slow", "delay"),
    ("drop", "loss"),
    ("packetloss", "loss"),
    ("blackhole", "partition"),
    ("isolate", "partition"),
    ("bandwidth", "rate"),
    ("throttle", "rate"),
    ("stress", "cpu"),
    ("ram", "memory"),
    ("mem", "memory"),
    ("duration", "hold"),
    ("target", "on"),
    ("selector", "on"),
    ("percent", "probability"),
    ("chance", "probability"),
    ("interval", "every"),
    ("period", "every"),
    ("url", "address"),
    ("args", "argv"),
    ("cmd", "command"),
    ("exec", "command"),
    ("assert", "expect"),
    ("expectations", "expect"),
    ("steps", "method"),
    ("actions", "method"),
    ("faults", "fault"),
    ("description", "hypothesis"),
    ("title", "name"),
    ("namespace", "netns"),
    ("service", "unit"),
    ("ip", "host"),
    ("address", "host"),
    ("amount", "size"),
    ("bytes", "size"),
    ("rps", "rate"),
    ("qps", "rate"),
    ("duplication", "duplicate"),
    ("corruption", "corrupt"),
    ("ms", "time"),
    ("delay", "time"),
    ("duration", "time"),
    ("percentage", "probability"),
    ("percentage", "share"),
    ("ports", "port"),
    ("hosts", "host"),
    ("blackhole", "drop"),
    ("refuse", "reject"),
    ("reset", "reject"),
    ("rst", "reject"),
    ("rst", "reset"),
    ("reject", "refuse"),
    ("zerowindow", "stall"),
    ("hang", "stall"),
    ("connection", "tcp"),
    ("connections", "tcp"),
    ("gaussian", "normal"),
    ("gauss", "normal"),
    ("outgoing", "egress"),
    ("outbound", "egress"),
    ("out", "egress"),
    ("incoming", "ingress"),
    ("inbound", "ingress"),
    ("in", "ingress"),
    ("suspend", "pause"),
    ("sigstop", "pause"),
    ("disk", "fill"),
    ("diskfill", "fill"),
    ("iostress", "io"),
    ("folder", "path"),
    ("directory", "path"),
    ("mount", "path"),
    ("fsync", "sync"),
];

/// The known word that was probably meant, if one is near enough.
pub(crate) fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = fold(word);
    if let Some(same) = known.iter().find(|k| fold(k) == plain) {
        return Some(same);
    }
    let meant = SYNONYMS
        .iter()
        .filter(|(other, _)| *other == plain)
        .find_map(|(_, ours)| known.iter().find(|k| *k == ours));
    if let Some(meant) = meant {
        return Some(meant);
    }
    // One slip in three letters: `jiter` is jitter, `to` is not `on`.
    let most = plain.chars().count() / 3;
    known
        .iter()
        .map(|k| (distance(&plain, &fold(k)), *k))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

/// Without what people disagree about: capitals, hyphens and underscores.
fn fold(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '-' | '_' | ' '))
        .take(WORD_CHARACTERS_MAX)
        .flat_map(char::to_lowercase)
        .collect()
}

/// No word of the language is half as long; what is longer is not compared letter by letter.
const WORD_CHARACTERS_MAX: usize = 40;

/// Optimal string alignment: insertions, deletions, replacements and swapped neighbours.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i * width + j] = if i == 0 {
                j
            } else if j == 0 {
                i
            } else {
                let replaced = table[(i - 1) * width + j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let dropped = table[(i - 1) * width + j] + 1;
                let added = table[i * width + j - 1] + 1;
                let mut least = replaced.min(dropped).min(added);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(table[(i - 2) * width + j - 2] + 1);
                }
                least
            };
        }
    }
    table[a.len() * width + b.len()]
}

/// `a, b or c`, each in back quotes.
pub(crate) fn either(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

/// `a, b and c`, each in back quotes.
pub(crate) fn all(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

/// What was written, short enough to be quoted in a sentence, and on one line.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARACTERS_MAX: usize = 60;
    let shown: String = text
        .chars()
        .take(SHOWN_CHARACTERS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        format!("`{shown}…`")
    } else {
        format!("`{shown}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_other_words_are_not() {
        let known = ["time", "jitter", "steadyState", "on"];
        assert_eq!(closest("jiter", &known), Some("jitter"));
        assert_eq!(closest("tiem", &known), Some("time"));
        assert_eq!(closest("steady_state", &known), Some("steadyState"));
        assert_eq!(closest("to", &known), None);
        assert_eq!(closest("correlation", &known), None);
        assert_eq!(closest("latency", &["delay", "loss"]), Some("delay"));
        assert_eq!(closest(&"x".repeat(1 << 20), &known), None);
    }
}
