//! What holds of every text: reading never panics, and what a file means does not depend on how it is written.
#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use squall_experiments::experiment::Experiment;
use squall_experiments::language::{
    Colour, DIAGNOSTICS_MAX, FILE_BYTES_MAX, Severity, read, read_bytes,
};
use squall_experiments::units::{BitRate, ByteSize, Delay, Percent};
use std::fs;
use std::path::Path;

fn goldens() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests/goldens/ok", "tests/goldens/err", "library"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yaml") {
                files.push((
                    path.display().to_string(),
                    fs::read_to_string(&path).unwrap(),
                ));
            }
        }
    }
    files.sort();
    files
}

/// Everything that must be true of any reading.
fn sound(text: &str) {
    let reading = read("any.yaml", text);
    let errors = reading
        .diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .count();
    assert_eq!(reading.experiment.is_some(), errors == 0);
    assert_eq!(reading.experiment.is_some(), reading.digest.is_some());
    assert!(reading.diagnostics.len() <= DIAGNOSTICS_MAX + 1);
    let shown = text.strip_prefix('\u{feff}').unwrap_or(text);
    for diagnostic in &reading.diagnostics {
        let span = diagnostic.span;
        assert!(
            span.start <= span.end && span.end <= shown.len(),
            "{diagnostic:?}"
        );
        assert!(
            shown.is_char_boundary(span.start) && shown.is_char_boundary(span.end),
            "{diagnostic:?}"
        );
        assert!(span.line >= 1 && span.column >= 1);
        assert!(!diagnostic.message.is_empty());
        // Alone it is drawn from the whole text each time: only where that is short.
        if text.len() < 10_000 {
            let rendered = diagnostic.render(text, Colour::Never);
            assert!(rendered.contains("any.yaml"), "{rendered}");
        }
    }
    let rendered = reading.render(text, Colour::Never);
    assert_eq!(
        rendered.matches("any.yaml:").count(),
        reading.diagnostics.len()
    );
    if let Some(experiment) = reading.experiment {
        // What is kept in the store and sent to agents is the same experiment.
        let kept: Experiment =
            serde_json::from_str(&serde_json::to_string(&experiment).unwrap()).unwrap();
        assert_eq!(kept, experiment);
        assert_eq!(Some(kept.digest()), reading.digest);
    }
}

#[test]
fn goldens_are_sound() {
    for (_, text) in goldens() {
        sound(&text);
        sound(&format!("\u{feff}{text}"));
        sound(&text.replace('\n', "\r\n"));
    }
}

#[test]
fn a_file_cut_anywhere_is_explained() {
    let (_, text) = goldens()
        .into_iter()
        .find(|(n, _)| n.ends_with("ok/everything.yaml"))
        .unwrap();
    for end in (0..text.len())
        .filter(|end| text.is_char_boundary(*end))
        .step_by(7)
    {
        sound(&text[..end]);
    }
}

#[test]
fn a_file_of_ten_megabytes_is_refused_at_once() {
    for line in ["- x\n", "a: &a [ *a, *a ]\n", "x", "[", "\n", "ä"] {
        let text = line.repeat(10_000_000 / line.len());
        let before = std::time::Instant::now();
        let reading = read("large.yaml", &text);
        let rendered = reading.render(&text, Colour::Never);
        // Half a second on a machine of its own; minutes would mean that something is quadratic.
        assert!(before.elapsed().as_secs() < 30, "{:?}", before.elapsed());
        assert!(
            reading.experiment.is_none() && rendered.contains("at most 1048576"),
            "{rendered}"
        );
        assert!(rendered.len() < 1_000);
    }
    let almost = format!("# {}", "x".repeat(FILE_BYTES_MAX - 2));
    assert!(
        read("almost.yaml", &almost).diagnostics[0]
            .message
            .contains("empty")
    );
}

#[test]
fn a_megabyte_of_anything_is_read_in_time() {
    for line in [
        "- x\n",
        "a",
        "[",
        "{a: ",
        "k: v\n",
        "- - ",
        "? ",
        "\"",
        "'x' ",
        "!!str ",
        "&a ",
        "a: &b c\n",
        ": ",
        "|\n",
        "- [x]\n",
        "#\n",
    ] {
        let text = line.repeat(FILE_BYTES_MAX / line.len());
        let before = std::time::Instant::now();
        sound(&text);
        assert!(
            before.elapsed().as_secs() < 60,
            "{line:?} took {:?}",
            before.elapsed()
        );
    }
}

#[test]
fn thousands_of_mistakes_are_cut_short() {
    let text: String = (0..5_000).map(|n| format!("field{n}: 1\n")).collect();
    let reading = read("many.yaml", &text);
    assert_eq!(reading.diagnostics.len(), DIAGNOSTICS_MAX + 1);
    let last = reading.diagnostics.last().unwrap();
    assert!(
        last.message.contains("more are not shown"),
        "{}",
        last.message
    );
    assert!(reading.experiment.is_none());
}

#[test]
fn bytes_that_are_no_text_are_explained() {
    let (reading, text) = read_bytes("b.yaml", b"kind: Experiment\nname: \xff\xfe\n");
    assert!(reading.experiment.is_none());
    assert_eq!(
        (
            reading.diagnostics[0].span.line,
            reading.diagnostics[0].span.column
        ),
        (2, 7)
    );
    assert!(reading.render(&text, Colour::Never).contains("UTF-8"));
    // Found by fuzzing: a byte order mark before what is no text.
    let (reading, text) = read_bytes("b.yaml", b"\xef\xbb\xbfkind: \xe4\n");
    assert_eq!(reading.diagnostics[0].span.column, 7);
    assert!(reading.render(&text, Colour::Never).contains("UTF-8"));
    // Another text than the one that was read is drawn somehow.
    assert!(
        !reading
            .render("\u{20ac}\u{20ac}\u{20ac}", Colour::Never)
            .is_empty()
    );
}

#[test]
fn diagnostics_are_json_too() {
    let reading = read("j.yaml", "kind: Experimnt\n");
    let json = serde_json::to_value(&reading.diagnostics).unwrap();
    assert_eq!(json[0]["severity"], "error");
    let kind = json
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["field"] == "kind")
        .unwrap();
    assert_eq!(kind["span"]["line"], 1);
    assert_eq!(kind["span"]["column"], 7);
    assert_eq!(kind["mend"], "write `kind: Experiment`");
}

/// One change to a text, as a slip of the hand makes it.
#[derive(Debug, Clone)]
enum Slip {
    Delete(usize, usize),
    Insert(usize, String),
    Double(usize, usize),
    Swap(usize, usize),
}

fn slip() -> impl Strategy<Value = Slip> {
    let bits = prop_oneof![
        "[\\[\\]{}:,&*#!|>'\"%@`~ \t\n-]{1,3}",
        Just("\u{0}".to_owned()),
        Just("\u{2028}".to_owned()),
        Just("🛒".to_owned()),
        Just("<<: *a".to_owned()),
        Just("\r".to_owned()),
        Just("---\n".to_owned()),
        Just("999999999999999999999".to_owned()),
    ];
    prop_oneof![
        (any::<usize>(), 0_usize..40).prop_map(|(at, n)| Slip::Delete(at, n)),
        (any::<usize>(), bits).prop_map(|(at, text)| Slip::Insert(at, text)),
        (any::<usize>(), 0_usize..80).prop_map(|(at, n)| Slip::Double(at, n)),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Slip::Swap(a, b)),
    ]
}

fn slipped(text: &str, slips: &[Slip]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for slip in slips {
        let length = letters.len();
        match slip {
            Slip::Delete(at, n) if length > 0 => {
                let at = at % length;
                letters.drain(at..(at + n).min(length));
            }
            Slip::Insert(at, text) => {
                let at = at % (length + 1);
                letters.splice(at..at, text.chars());
            }
            Slip::Double(at, n) if length > 0 => {
                let at = at % length;
                let part: Vec<char> = letters[at..(at + n).min(length)].to_vec();
                letters.splice(at..at, part);
            }
            Slip::Swap(a, b) if length > 0 => letters.swap(a % length, b % length),
            _ => {}
        }
    }
    letters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_explained(text in any::<String>()) {
        sound(&text);
    }

    #[test]
    fn any_yaml_like_text_is_explained(text in "[a-c:&*\\[\\]{}, \n\t'\"#!|>?<%-]{0,200}") {
        sound(&text);
    }

    #[test]
    fn any_slip_is_explained(which: usize, slips in prop::collection::vec(slip(), 1..6)) {
        let files = goldens();
        sound(&slipped(&files[which % files.len()].1, &slips));
    }

    #[test]
    fn any_bytes_are_explained(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let (reading, text) = read_bytes("bytes.yaml", &bytes);
        prop_assert_eq!(reading.is_bad(), !reading.render(&text, Colour::Always).is_empty());
    }

    #[test]
    fn quantities_are_read_as_they_are_written(ns in 0..=Delay::MOST, bytes in 0..=ByteSize::MOST, bits in BitRate::LEAST..=BitRate::MOST, m in 0..=Percent::MOST) {
        prop_assert_eq!(Delay::new(ns).unwrap().to_string().parse(), Ok(Delay::new(ns).unwrap()));
        prop_assert_eq!(ByteSize::new(bytes).unwrap().to_string().parse(), Ok(ByteSize::new(bytes).unwrap()));
        prop_assert_eq!(BitRate::new(bits).unwrap().to_string().parse(), Ok(BitRate::new(bits).unwrap()));
        prop_assert_eq!(Percent::new(m).unwrap().to_string().parse(), Ok(Percent::new(m).unwrap()));
    }
}
