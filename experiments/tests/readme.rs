//! What the README shows must be readable, without so much as a warning.
#![allow(clippy::unwrap_used, reason = "a test")]

use squall_experiments::language::{Colour, read};

const README: &str = include_str!("../README.md");

/// The fenced blocks of a kind.
fn blocks(kind: &str) -> Vec<&'static str> {
    README
        .split("\n```")
        .filter_map(|part| part.strip_prefix(kind)?.strip_prefix('\n'))
        .collect()
}

fn file(probe: &str, expect: &str, fault: &str, on: &str) -> String {
    format!(
        "apiVersion: squall/v1\nkind: Experiment\nmetadata: {{ name: readme }}\nhypothesis: h\nsteadyState:\n  - name: a\n    \
         probe: {probe}\n    expect:\n      - {expect}\nmethod:\n  - fault: {fault}\n    on: {on}\n    hold: 10min\n"
    )
}

fn readable(text: &str) {
    let reading = read("README.md", text);
    assert!(
        reading.diagnostics.is_empty(),
        "{text}\n{}",
        reading.render(text, Colour::Never)
    );
    let value = squall_experiments::language::as_json(text).unwrap();
    let schema = squall_experiments::schema::experiment();
    assert!(jsonschema::is_valid(&schema, &value), "{text}");
}

const LOAD: &str = "{ load: { url: \"http://a:1/\", rate: 50/s } }";

#[test]
fn whole_files_are_read() {
    let blocks = blocks("yaml");
    assert!(!blocks.is_empty());
    blocks.into_iter().for_each(readable);
}

#[test]
fn a_webhook_answers_what_is_said() {
    let shown: serde_json::Value = serde_json::from_str(blocks("json reply")[0]).unwrap();
    let schema = schemars::schema_for!(squall_experiments::probe::Reply);
    let schema = serde_json::to_value(schema).unwrap();
    assert_eq!(shown, schema, "{schema:#}");
}

#[test]
fn parts_are_read_in_their_places() {
    let mut seen = 0;
    for kind in [
        "probe", "steady", "expect", "on", "network", "process", "step",
    ] {
        for block in blocks(&format!("yaml {kind}")) {
            for line in block.lines().filter(|l| !l.trim().is_empty()) {
                seen += 1;
                readable(&match kind {
                    "probe" => file(line, "success >= 90%", "kill", "{ process: { name: a } }"),
                    "steady" => file(LOAD, "success >= 90%", "kill", "{ process: { name: a } }")
                        .replace("method:", &format!("  - {line}\nmethod:")),
                    "expect" => file(LOAD, line, "kill", "{ process: { name: a } }"),
                    "step" => {
                        file(LOAD, "success >= 90%", "", "")
                            .split("method:")
                            .next()
                            .unwrap()
                            .to_owned()
                            + &format!("method:\n  {line}\n")
                    }
                    "on" if line.contains("netns") => {
                        file(LOAD, "success >= 90%", "{ loss: 3% }", line)
                    }
                    "on" => file(LOAD, "success >= 90%", "{ cpu: 80% }", line),
                    "network" => file(LOAD, "success >= 90%", line, "{ netns: a }"),
                    _ => file(LOAD, "success >= 90%", line, "{ unit: a.service }"),
                });
            }
        }
    }
    assert!(seen > 45, "only {seen} lines were found");
}
