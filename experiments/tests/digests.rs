//! A digest is over what a file does: how it is written does not change it, and what it does always does.
#![allow(clippy::unwrap_used, reason = "a test")]

use proptest::prelude::*;
use squall_experiments::language::read;
use std::collections::BTreeSet;

fn digest(text: &str) -> String {
    let reading = read("digest.yaml", text);
    reading
        .digest
        .unwrap_or_else(|| panic!("{text}\n{:?}", reading.diagnostics))
}

/// A file's outermost fields, to be put in any order.
fn fields(spelling: &Spelling) -> Vec<String> {
    let Spelling {
        delay,
        jitter,
        rate,
        share,
        hold,
        port,
        comment,
        spelt_out,
        name,
    } = spelling;
    let defaults = if *spelt_out { ", direction: both" } else { "" };
    let mut fields = vec![
        "apiVersion: squall/v1".to_owned(),
        "kind: Experiment".to_owned(),
        format!("metadata: {{ name: {name}, owner: {name} }} # {comment}"),
        format!("hypothesis: \"{comment}\""),
        format!(
            "steadyState:\n  - expect: [ success >= 99%, \"p99   <= 400ms\" ]\n    name: {name}\n    probe: {{ load: {{ rate: {rate}, url: \"http://a:1/\" }} }}"
        ),
        format!(
            "method:\n  - hold: {hold}\n    # {comment}\n    on: {{ netns: shop }}\n    fault: {{ delay: {{ jitter: {jitter}, time: {delay}, to: {port}{defaults} }} }}\n    {share}"
        ),
    ];
    if *spelt_out {
        fields.push("baseline: 20s\nrecovery: 1min\nlease: 10000ms\nfalseStop: 0.10%".to_owned());
    }
    fields
}

#[derive(Debug, Clone)]
struct Spelling {
    delay: &'static str,
    jitter: &'static str,
    rate: &'static str,
    share: &'static str,
    hold: &'static str,
    port: &'static str,
    comment: String,
    spelt_out: bool,
    name: String,
}

fn spelling() -> impl Strategy<Value = Spelling> {
    let pick = |of: &[&'static str]| prop::sample::select(of.to_vec());
    (
        pick(&[
            "300ms",
            "0.3s",
            "300 ms",
            "300_000us",
            "\"300ms\"",
            "300000000ns",
        ]),
        pick(&["30ms", "0.03s", "30000us"]),
        pick(&["50/s", "3000/min", "50.0/s", "180000/h"]),
        pick(&["ramp: [ all ]", "share: all", "ramp: all", "name: other"]),
        pick(&["90s", "1.5min", "1.5m", "90sec", "90000ms"]),
        pick(&[
            "{ port: 9090 }",
            "{ ports: [ 9090 ] }",
            "\":9090\"",
            "{ ports: [ 9090, 9090-9090 ] }",
        ]),
        "[a-z ]{1,20}",
        any::<bool>(),
        "[a-z]{1,8}",
    )
        .prop_map(
            |(delay, jitter, rate, share, hold, port, comment, spelt_out, name)| Spelling {
                delay,
                jitter,
                rate,
                share,
                hold,
                port,
                comment: format!("x{comment}"),
                spelt_out,
                name: format!("n{name}"),
            },
        )
}

const PLAIN: &str = "apiVersion: squall/v1
kind: Experiment
metadata: { name: plain }
hypothesis: plain
steadyState:
  - name: plain
    probe: { load: { url: \"http://a:1/\", rate: 50/s } }
    expect: [ success >= 99%, p99 <= 400ms ]
method:
  - fault: { delay: { time: 300ms, jitter: 30ms, to: { port: 9090 } } }
    on: { netns: shop }
    hold: 90s
";

proptest! {
    #[test]
    fn spelling_does_not_change_it((spelling, order) in (spelling(), Just(()).prop_perturb(|(), mut rng| {
        (0..7).map(|_| rng.next_u32()).collect::<Vec<_>>()
    }))) {
        let mut fields = fields(&spelling);
        for (at, by) in order.iter().enumerate().take(fields.len()) {
            let other = (*by as usize) % fields.len();
            fields.swap(at, other);
        }
        prop_assert_eq!(digest(&fields.join("\n")), digest(PLAIN));
    }
}

#[test]
fn what_it_does_changes_it() {
    let changes = [
        ("300ms", "301ms"),
        ("jitter: 30ms", "jitter: 30ms, distribution: normal"),
        ("jitter: 30ms", "jitter: 30ms, correlation: 1%"),
        ("port: 9090", "port: 9091"),
        ("to: {", "from: {"),
        ("{ port: 9090 }", "{ port: 9090 }, protocol: tcp"),
        ("{ port: 9090 }", "{ port: 9090 }, direction: egress"),
        ("netns: shop", "netns: shop2"),
        ("netns: shop", "netns: { process: { name: shop } }"),
        ("hold: 90s", "hold: 91s"),
        ("hold: 90s", "hold: 90s\n    share: 50%"),
        ("hold: 90s", "hold: 90s\n    ramp: [ 1, all ]"),
        ("rate: 50/s", "rate: 51/s"),
        ("http://a:1/", "http://a:1/x"),
        ("rate: 50/s", "rate: 50/s, method: POST"),
        ("rate: 50/s", "rate: 50/s, timeout: 1s"),
        ("rate: 50/s", "rate: 50/s, headers: { a: b }"),
        ("rate: 50/s", "rate: 50/s, headers: { a: { env: b } }"),
        ("rate: 50/s", "rate: 50/s, auth: { bearer: { env: b } }"),
        ("rate: 50/s", "rate: 50/s, auth: { bearer: { file: b } }"),
        ("rate: 50/s", "rate: 50/s, sessions: 100"),
        ("rate: 50/s", "rate: 50/s, think: 2s"),
        ("rate: 50/s", "rate: 50/s, http2: true"),
        ("success >= 99%", "success > 99%"),
        ("success >= 99%", "success >= 98%"),
        (", p99 <= 400ms", ""),
        ("p99 <=", "p95 <="),
        ("expect:", "confirm: 4\n    expect:"),
        ("method:", "baseline: 21s\nmethod:"),
        ("method:", "recovery: 61s\nmethod:"),
        ("method:", "lease: 11s\nmethod:"),
        ("method:", "falseStop: 0.2%\nmethod:"),
    ];
    let mut seen = BTreeSet::from([digest(PLAIN)]);
    for (old, new) in changes {
        let changed = PLAIN.replacen(old, new, 1);
        assert_ne!(changed, PLAIN, "{old}");
        assert!(
            seen.insert(digest(&changed)),
            "`{old}` to `{new}` changed nothing"
        );
    }
}

/// The digest is kept in stores and in evidence: a new version of Squall must find the same one, or raise the
/// version inside it.
#[test]
fn it_stays_what_it_was() {
    assert_eq!(
        digest(PLAIN),
        "0fc62bbbb0629b67b20fea2bec19333fb0f507669a35c565af2d5bfabcd5521b"
    );
}
