//! The JSON Schema against the goldens: an editor must accept what is right and underline what is wrong in itself.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read its own files should say so and stop"
)]

use squall_experiments::{language, schema};
use std::fs;
use std::path::{Path, PathBuf};

/// Wrong only in what its parts mean together, or in a way that a schema cannot say: an editor lets these pass.
const ONLY_MEANING: &[&str] = &[
    "compare-itself",
    "compare-no-control",
    "compare-unused",
    "compare-wrong-inside",
    "correlation-all",
    "cpu-on-netns",
    "cpu-quota-of-host",
    "cpu-quota",
    "delay-jitter",
    "delay-without-jitter",
    "delay-zero",
    "dns-address-list",
    "dns-address-type",
    "dns-delay-zero",
    "dns-icmp",
    "dns-name",
    "dns-share",
    "exhaust-cache-of-host",
    "exhaust-pids-of-host",
    "expect-baseline",
    "expect-between",
    "expect-body-of-tcp",
    "expect-body-of-webhook",
    "expect-burn",
    "expect-comparison",
    "expect-control",
    "expect-exit-of-http",
    "expect-left-over",
    "expect-quantile",
    "expect-range",
    "expect-status-of-log",
    "expect-text",
    "expect-time-of-command",
    "expect-time-of-kubernetes",
    "expect-time-of-prometheus",
    "expect-unit",
    "fault-out-of-range",
    "fds-on-host",
    "fds-on-netns",
    "fill-nothing",
    "fill-on-netns",
    "fill-path-upwards",
    "filter-cidr",
    "filter-families",
    "filter-host",
    "filter-icmp-port",
    "filter-short-port",
    "follow-nothing",
    "follow-of-kill",
    "freeze-on-host",
    "freeze-on-process",
    "gemodel-swapped",
    "gemodel-zero",
    "http-host-without-port",
    "http-path-query",
    "http-path",
    "http-replace-framing",
    "http-replace-nothing",
    "http-udp",
    "io-block-of-file",
    "io-block",
    "io-file",
    "keep-what",
    "kill-on-host",
    "kill-on-netns",
    "loss-over",
    "loss-zero",
    "memory-of-host",
    "memory-zero",
    "network-on-cgroup",
    "network-on-process",
    "network-on-unit",
    "pause-on-host",
    "pause-on-netns",
    "pod-network-container",
    "probe-auth-header",
    "probe-auth-twice",
    "probe-auth-user",
    "probe-command-shell",
    "probe-dns-status",
    "probe-grpc-value",
    "probe-header-lines",
    "probe-header",
    "probe-load-hole-open",
    "probe-load-hole",
    "probe-load-no-csv",
    "probe-load-think-long",
    "probe-load-think",
    "probe-log-everything",
    "probe-log-folder",
    "probe-log-glob",
    "probe-log-pattern",
    "probe-log-unit-glob",
    "probe-log-unit",
    "probe-postgres-steers",
    "probe-postgres-writes",
    "probe-prometheus-api",
    "probe-prometheus-brackets",
    "probe-prometheus-range",
    "probe-secret-dollar",
    "probe-timeout",
    "probe-tls-inline",
    "probe-tls-plain",
    "probe-tls-server-name",
    "probe-url-ipv6",
    "probe-url-port",
    "product-name",
    "product-path",
    "product-query",
    "product-url",
    "pulse-of-kill",
    "rate-too-small",
    "reboot-several",
    "steady-block-short",
    "steady-same-name",
    "step-ramp-shrinks",
    "step-same-fault-twice",
    "target-cgroup-dots",
    "target-cgroup-path",
    "target-cgroup-root",
    "target-netns-path",
    "target-netns-slash",
    "target-process-itself",
    "target-process-path",
    "target-regex-everything",
    "target-regex",
    "tcp-close-zero",
    "tcp-stall-share",
    "tcp-udp",
    "top-confidence-all",
    "top-confidence-low",
    "top-false-stop",
    "top-out-of-range",
    "yaml-duplicate-key",
    "yaml-merge-of-text",
    "yaml-tag",
];

fn files(of: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(of);
    let entries = fs::read_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    files
}

#[test]
fn what_is_right_is_accepted() {
    let experiment = jsonschema::validator_for(&schema::experiment()).unwrap();
    let game_day = jsonschema::validator_for(&schema::game_day()).unwrap();
    let mut wrong = Vec::new();
    for path in files("tests/goldens/ok")
        .into_iter()
        .chain(files("library"))
    {
        let text = fs::read_to_string(&path).unwrap();
        let validator = match language::kind(&text).as_deref() {
            Some("GameDay") => &game_day,
            _ => &experiment,
        };
        let value = language::as_json(&text).unwrap();
        for error in validator.iter_errors(&value) {
            wrong.push(format!(
                "{}: {}: {error}",
                path.display(),
                error.instance_path()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of schedules and game days, what only the reader knows: cron expressions, time zones, who leads.
const ONLY_MEANING_OF_OTHERS: &[&str] = &[
    "cron-day",
    "cron-hole",
    "cron-minute",
    "cron-never",
    "cron-nickname",
    "cron-seconds",
    "no-leader",
    "time-zone",
    "time-zone-abbreviation",
    "time-zone-city",
    "twice",
    "two-leaders",
];

#[test]
fn schedules_and_game_days_are_as_their_schemas_say() {
    let mut accepted = Vec::new();
    for (folder, schema) in [
        ("schedule", schema::schedule()),
        ("game-day", schema::game_day()),
    ] {
        let validator = jsonschema::validator_for(&schema).unwrap();
        let read = |path: &Path| language::as_json(&fs::read_to_string(path).unwrap()).unwrap();
        for path in files(&format!("tests/goldens/{folder}/ok")) {
            let value = read(&path);
            let error = validator.iter_errors(&value).next();
            assert!(error.is_none(), "{}: {error:?}", path.display());
        }
        for path in files(&format!("tests/goldens/{folder}/err")) {
            if validator.is_valid(&read(&path)) {
                accepted.push(path.file_stem().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    accepted.sort();
    assert_eq!(accepted, ONLY_MEANING_OF_OTHERS);
}

#[test]
fn what_is_wrong_in_itself_is_refused() {
    let validator = jsonschema::validator_for(&schema::experiment()).unwrap();
    let mut accepted = Vec::new();
    let mut refused = 0;
    for path in files("tests/goldens/err") {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        // What is not YAML never reaches a schema.
        let Some(value) = language::as_json(&fs::read_to_string(&path).unwrap()) else {
            continue;
        };
        if validator.is_valid(&value) {
            accepted.push(name);
        } else {
            refused += 1;
        }
    }
    assert_eq!(
        accepted, ONLY_MEANING,
        "accepted by the schema, though wrong"
    );
    assert!(refused > 60, "only {refused}");
}

#[test]
fn every_field_is_explained() {
    fn silent(at: &str, value: &serde_json::Value, found: &mut Vec<String>) {
        let Some(object) = value.as_object() else {
            return;
        };
        if let Some(properties) = object.get("properties").and_then(|p| p.as_object()) {
            for (name, schema) in properties {
                let at = format!("{at}.{name}");
                let said = schema.get("description").and_then(|d| d.as_str());
                let elsewhere = schema.get("$ref").is_some() || schema.get("const").is_some();
                if !elsewhere && said.is_none_or(str::is_empty) {
                    found.push(at.clone());
                }
            }
        }
        for (name, inner) in object {
            match inner {
                serde_json::Value::Array(items) => {
                    for item in items {
                        silent(&format!("{at}/{name}"), item, found);
                    }
                }
                inner => silent(&format!("{at}/{name}"), inner, found),
            }
        }
    }
    let mut found = Vec::new();
    silent("", &schema::experiment(), &mut found);
    assert!(found.is_empty(), "without a description: {found:?}");
}
