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
        fields.push(
            "baseline: 20s\nrecovery: 1min\nlease: 10000ms\nfalseStop: 0.10%\nconfidence: 95.0%"
                .to_owned(),
        );
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
        ("expect:", "clear: 2\n    expect:"),
        (
            "expect: [ ",
            "compare: \"http://b:1/\"\n    expect: [ success >= control, ",
        ),
        (
            "expect: [ ",
            "compare: \"http://c:1/\"\n    expect: [ success >= control, ",
        ),
        ("method:", "baseline: 21s\nmethod:"),
        ("method:", "recovery: 61s\nmethod:"),
        ("method:", "lease: 11s\nmethod:"),
        ("method:", "falseStop: 0.2%\nmethod:"),
        ("method:", "confidence: 96%\nmethod:"),
        ("expect:", "block: 5s\n    expect:"),
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
        "5b05cef2f392ce04eba9dbbff9b337fe1b8c7d894e2d4024a4d30bfffd2396ba"
    );
}

fn of_probe(probe: &str) -> String {
    let load = "{ load: { url: \"http://a:1/\", rate: 50/s } }";
    let mut file = PLAIN.replacen(load, probe, 1);
    assert_ne!(file, PLAIN);
    if probe.starts_with("{ log") {
        // A log has no latency.
        file = file.replacen(", p99 <= 400ms", "", 1);
    }
    digest(&file)
}

#[test]
fn which_log_is_followed_changes_it() {
    let file = "{ log: { file: /a, pattern: E } }";
    let written_out = "{ log: { pattern: E, file: /a, every: 1000ms, onError: violation } }";
    assert_eq!(of_probe(file), of_probe(written_out));
    let logs = [
        file,
        "{ log: { file: /b, pattern: E } }",
        "{ log: { file: /a, pattern: F } }",
        "{ log: { journal: a.service, pattern: E } }",
        "{ log: { journal: b.service, pattern: E } }",
        "{ log: { journal: a.service, folder: /a, pattern: E } }",
    ];
    let digests: BTreeSet<String> = logs.into_iter().map(of_probe).collect();
    assert_eq!(digests.len(), logs.len());
}

/// Probes of services: what is written out as it would be anyway changes nothing, and what is said does.
#[test]
fn a_probes_defaults_do_not_change_it() {
    let same = [
        (
            "{ dns: a.shop }",
            "{ dns: { name: a.shop., type: A, transport: udp, timeout: 5s, every: 1000ms } }",
        ),
        (
            "{ dns: { name: a.shop, server: 10.0.0.53 } }",
            "{ dns: { name: a.shop, server: \"10.0.0.53:53\" } }",
        ),
        (
            "{ grpc: \"a:1\" }",
            "{ grpc: { address: \"a:1\", retries: 0, onError: violation } }",
        ),
        (
            "{ postgres: { address: a, user: u } }",
            "{ postgres: { address: \"a:5432\", user: u, database: u, query: select 1, connection: kept } }",
        ),
        (
            "{ redis: a }",
            "{ redis: { address: \"a:6379\", db: 0, command: [ PING ], connection: kept } }",
        ),
    ];
    let mut seen = BTreeSet::new();
    for (short, long) in same {
        assert_eq!(of_probe(short), of_probe(long), "{short}");
        assert!(seen.insert(of_probe(short)), "{short}");
    }
    for other in [
        "{ dns: { name: a.shop, type: AAAA } }",
        "{ dns: { name: a.shop, transport: tcp } }",
        "{ grpc: { address: \"a:1\", service: s } }",
        "{ grpc: { address: \"a:1\", tls: {} } }",
        "{ grpc: { address: \"a:1\", auth: { bearer: { env: T } } } }",
        "{ grpc: { address: \"a:1\", headers: { a: b } } }",
        "{ grpc: { address: \"a:1\", onError: ignore } }",
        "{ postgres: { address: a, user: u, database: d } }",
        "{ postgres: { address: a, user: u, connection: new } }",
        "{ postgres: { address: a, user: u, password: { env: P } } }",
        "{ redis: { address: a, db: 1 } }",
        "{ redis: { address: a, command: DBSIZE } }",
    ] {
        assert!(seen.insert(of_probe(other)), "{other} changed nothing");
    }
}
