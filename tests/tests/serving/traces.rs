//! Runs as traces, at a receiver that decodes them with the protocol's own package.

use crate::controller::{Controller, LIMIT, join_as};
use crate::shop::{ENVIRONMENTS, Shop, root};
use lab::verify::python_package;
use lab::world::service::{Service, folder, free, needing};
use lab::world::{Result, until};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use squall_experiments::ids::{FaultId, RunId};
use squall_experiments::trace::{Part, trace_id};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPT: &str = include_str!("receiver.py");

pub(crate) fn trials() -> Vec<Trial> {
    vec![needing(
        python_package("opentelemetry").filter(|_| root().is_some()),
        "the Python package opentelemetry-proto, which `cargo verify` installs, and root",
        "traces::a_run_is_one_trace_through_controller_and_agents_and_no_receiver_holds_it_up",
        one_trace,
    )]
}

/// A receiver of traces.
struct Receiver {
    spans: PathBuf,
    _serving: Service,
}

impl Receiver {
    fn start(packages: &Path, address: SocketAddr) -> Result<Self> {
        let folder = folder()?;
        let (script, spans) = (
            folder.path().join("receiver.py"),
            folder.path().join("spans"),
        );
        fs::write(&script, SCRIPT)?;
        let mut python = Command::new("python3");
        python
            .arg(script)
            .arg(address.port().to_string())
            .arg(&spans);
        python.env("PYTHONPATH", packages);
        Ok(Self {
            spans,
            _serving: Service::start(python, Signal::SIGKILL, folder, &[address])?,
        })
    }

    /// Waits until so many spans are there.
    fn spans(&self, count: usize) -> Result<Vec<Value>> {
        let there = || {
            let lines = fs::read_to_string(&self.spans).unwrap_or_default();
            let spans: Vec<Value> = lines
                .lines()
                .map_while(|l| serde_json::from_str(l).ok())
                .collect();
            (spans.len() >= count).then_some(spans)
        };
        until("the spans of a run", LIMIT, there)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A little load on one node, then payment stands still on the other: orders fail.
fn experiment(shop: &Shop) -> String {
    let (url, payment) = (shop.url(), shop.payment());
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: two-nodes, owner: team-orders, runbook: \"{url}/runbook\" }}
hypothesis: Orders are taken while payment stands still.
steadyState:
  - name: orders
    probe: {{ load: {{ url: \"{url}/orders\", rate: 50/s }} }}
    expect: success >= 90%
method:
  - {{ fault: {{ cpu: {{ load: 1% }} }}, on: {{ process: {{ name: {payment} }} }}, nodes: {{ names: [ first ] }}, hold: 2s }}
  - {{ fault: pause, on: {{ process: {{ name: {payment} }} }}, nodes: {{ names: [ second ] }}, hold: 30s }}
baseline: 3s
recovery: 20s
"
    )
}

/// Runs it; how it ended, and its name.
fn run(controller: &Controller, file: &str) -> Result<(Option<i32>, String)> {
    let url = controller.url();
    let at = ["--controller", &url, "--environment", "staging"];
    let ended = controller.squall(&[&["run", file, "--json"], &at[..]].concat())?;
    let report: Value = serde_json::from_slice(&ended.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&ended.stderr)))?;
    let run = report["run"].as_str().unwrap_or_default().to_owned();
    Ok((ended.status.code(), run))
}

/// A figure that the controller shows.
fn figure(controller: &Controller, name: &str) -> Option<u64> {
    let shown = controller.get_as_admin("/api/v1/metrics").ok()?;
    let mut lines = shown.lines();
    lines.find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn one_trace(packages: &Path) -> Result<()> {
    let shop = Shop::open()?;
    shop.need_payment();
    let (file, config) = (shop.file("two.yaml"), shop.file("config.yaml"));
    fs::write(&file, experiment(&shop))?;
    fs::write(&config, ENVIRONMENTS)?;
    let address = free()?;
    let endpoint = format!("http://{address}");
    let controller = Controller::start_with(
        &["--config", &config, "--otlp", &endpoint],
        &[("OTEL_EXPORTER_OTLP_HEADERS", "x-key=k7")],
    )?;
    let _agents = [
        join_as("first", &[&controller])?,
        join_as("second", &[&controller])?,
    ];

    // Nobody takes the trace: the run ends as it would, and what is not taken is counted.
    let (code, _) = run(&controller, &file)?;
    assert_eq!(code, Some(1));
    let count = until("the count of dropped spans", LIMIT, || {
        figure(&controller, "squall_trace_spans_dropped_total").filter(|count| *count >= 12)
    })?;
    assert_eq!(
        figure(&controller, "squall_trace_spans_sent_total"),
        Some(0)
    );

    let receiver = Receiver::start(packages, address)?;
    let (code, name) = run(&controller, &file)?;
    assert_eq!(code, Some(1));
    let spans = receiver.spans(usize::try_from(count)?)?;
    is_one_trace(&spans, &RunId(name));
    let secret = spans.iter().all(|span| span["key"] == "k7");
    assert!(
        secret,
        "the headers of the environment are not sent: {spans:?}"
    );
    let figure =
        || figure(&controller, "squall_trace_spans_sent_total").filter(|sent| *sent == count);
    until("the count of sent spans", LIMIT, figure).map(drop)
}

fn text(told: &Value, key: &str) -> String {
    told[key].as_str().unwrap_or_default().to_owned()
}

fn is_one_trace(spans: &[Value], run: &RunId) {
    let by_id: BTreeMap<String, &Value> =
        spans.iter().map(|span| (text(span, "id"), span)).collect();
    let path = |span: &Value| {
        let (mut path, mut parent) = (text(span, "name"), text(span, "parent"));
        while let Some(above) = by_id.get(&parent) {
            path = format!("{}/{path}", text(above, "name"));
            parent = text(above, "parent");
        }
        path
    };
    let mut paths: Vec<String> = spans
        .iter()
        .map(|span| format!("{} {}", text(span, "service"), path(span)))
        .collect();
    paths.sort();
    let expected = [
        "squall run",
        "squall run/baseline",
        "squall run/planning",
        "squall run/recovery",
        "squall run/stage",
        "squall run/stage",
        "squall run/stage/arm",
        "squall run/stage/arm",
        "squall run/stage/hold",
        "squall run/stage/hold",
        "squall run/stop",
        "squall-agent run/stage/arm/fault",
        "squall-agent run/stage/arm/fault",
        "squall-agent run/stage/arm/fault/arming",
        "squall-agent run/stage/arm/fault/arming",
    ];
    assert_eq!(paths, expected);
    let root = by_id[&hex(&Part::Run.span_id(run))];
    for span in spans {
        assert_eq!(text(span, "trace"), hex(&trace_id(run)), "{span}");
        let time = |span: &Value, key: &str| span[key].as_u64().unwrap_or_default();
        assert!(time(span, "from") <= time(span, "to"), "{span}");
        assert!(time(span, "from") >= time(root, "from"), "{span}");
        assert!(time(span, "to") <= time(root, "to"), "{span}");
        let agents = ["fault", "arming"].contains(&text(span, "name").as_str());
        // What an agent was told was told by then.
        if let Some(above) = by_id.get(&text(span, "parent")).filter(|_| agents) {
            assert!(time(span, "from") >= time(above, "from"), "{span} {above}");
        }
    }
    assert!(text(root, "error").contains("orders"), "{root}");
    assert_eq!(root["events"][0], "violated", "{root}");
    assert_eq!(root["attributes"]["squall.verdict"], "broken");
    told_of_faults(run, &by_id);
}

fn told_of_faults(run: &RunId, by_id: &BTreeMap<String, &Value>) {
    for (step, node, fault) in [(0, "first", "cpu"), (1, "second", "pause")] {
        let id = FaultId(format!("{run}/{step}.0.0"));
        let span = by_id[&hex(&Part::Fault(&id).span_id(run))];
        let told = &span["attributes"];
        assert_eq!(told["squall.node"], node, "{span}");
        assert!(text(told, "squall.fault").starts_with(fault), "{span}");
        assert_eq!(told["squall.held"], "kernel", "{span}");
        assert_eq!(told["squall.end"], "stopped", "{span}");
        assert!(!text(told, "squall.dose").is_empty(), "{span}");
        assert_eq!(span["error"], Value::Null, "{span}");
    }
}
