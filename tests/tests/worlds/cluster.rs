//! Ends of conversations that a Kubernetes cluster names, with real packets. There is no cluster here: neither Debian nor a registry has an
//! API server. A small one answers in its place, over TLS, to who has its token, page by page; what it says is held against Kubernetes'
//! own schemas by the tests of probes. The peer is the node of the service: it translates the service's own address.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::world::agent::{Agent, written};
use lab::world::cluster::{Api, Pod, Shop};
use lab::world::volley::quantile;
use lab::world::wire::{Ip, Wire, named, neighbour};
use lab::world::{Result, answer, until, victim as process};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use squall_experiments::fault::FaultKind;
use squall_experiments::filter::Found;
use squall_experiments::ids::RunId;
use squall_experiments::wire::{FromController, Moved};
use tempfile::TempDir;

use crate::dose::{self, LEASE};
use crate::{as_root, library, node};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        as_root("cluster::a_service_is_hit_where_it_is_and_goes", moves),
        as_root("cluster::a_move_while_it_is_armed_reaches_it", while_armed),
        as_root("cluster::what_is_nowhere_is_refused", nowhere),
    ]
}

/// A hang limit: the controller asks every second; the agent and the kernel take milliseconds.
const FOLLOWED: Duration = Duration::from_secs(90);

/// The service's own address, which its node translates.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));

/// Who of the wire is late, in this order.
const PLACES: [(&str, IpAddr); 5] = [
    ("the service's own address", OWN),
    ("10.77.0.2", named(Ip::V4)),
    ("10.77.0.3", neighbour(Ip::V4)),
    ("fd77::2", named(Ip::V6)),
    ("fd77::3", neighbour(Ip::V6)),
];

fn slow(wire: &Wire, at: IpAddr) -> bool {
    node::look(wire, at).is_ok_and(|v| quantile(&v.times(), 0.5) > Duration::from_millis(200))
}

/// Waits until these places are late and no others.
fn alone(wire: &Wire, what: &str, late: [bool; 5]) -> Result<()> {
    let mut seen = [false; 5];
    let waited = until(what, FOLLOWED, || {
        seen = PLACES.map(|(_, at)| slow(wire, at));
        (seen == late).then_some(())
    });
    waited.map_err(|error| {
        let names = PLACES.map(|(name, _)| name);
        format!("{error}: of {names:?} late are {seen:?}").into()
    })
}

/// Conversations with the service's own address are led to the first of the peer's.
fn translate(wire: &Wire) -> Result<()> {
    let route = format!("route add {OWN} via {} dev eth0\n", named(Ip::V4));
    answer(
        Command::new("ip").args(["-n", wire.victim.name(), "-batch", "-"]),
        &route,
    )?;
    let rules = format!(
        "table ip kube {{\n chain services {{\n type nat hook prerouting priority -100;\n ip daddr {OWN} dnat to {}\n }}\n}}\n",
        named(Ip::V4)
    );
    let mut nft = Command::new("nft");
    wire.peer
        .enter(|| answer(nft.args(["-f", "-"]), &rules))
        .map(drop)
}

/// The experiment, whose steady state is that the cluster's own port answers.
fn file(wire: &Wire, api: &Api, cluster: &str, end: &str) -> String {
    let (at, victim) = (api.at, wire.victim.name());
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: ends }}
hypothesis: What moves is hit where it is.
cluster: {cluster}
steadyState:
  - {{ name: users, probe: {{ tcp: {{ address: \"{at}\", every: 100ms }} }}, expect: success >= 2% }}
method:
  - fault: {{ delay: {{ time: 300ms, to: {{ {end} }}, direction: egress }} }}
    on: {{ netns: {{ name: {victim} }} }}
    hold: 10min
baseline: 5s
recovery: 5s
"
    )
}

const SERVICE: &str = "service: { namespace: shop, name: payment }";
const POD: &str = "pod: { namespace: shop, name: first }";
const PODS: &str = "pod: { namespace: shop, labels: { app: payment } }";

/// Before anything is done: what is not there, what has no pods, what has its node's address alone, and what has ended.
fn nowhere() -> Result<()> {
    let wire = Wire::new()?;
    let at = SocketAddr::new(named(Ip::V4), 6443);
    let api = Api::start(&wire.peer, at, Shop::default())?;
    let node = Pod {
        host_network: true,
        ..Pod::at("node", &[named(Ip::V4)])
    };
    let over = Pod {
        over: true,
        ..Pod::at("over", &[named(Ip::V4)])
    };
    let other = Pod::at("other", &[named(Ip::V4)]);
    let headless = |pods: &[&Pod]| Shop {
        service: Vec::new(),
        pods: pods.iter().map(|pod| (*pod).clone()).collect(),
        is_there: true,
    };
    let kubeconfig = format!("{{ kubeconfig: {} }}", api.kubeconfig()?.display());
    for (end, name, shop) in [
        (SERVICE, "service/shop/payment", Shop::default()),
        (SERVICE, "service/shop/payment", headless(&[&node])),
        (PODS, "pods/shop/app=payment", headless(&[&node, &over])),
        (POD, "pods/shop/metadata.name=first", headless(&[&other])),
    ] {
        api.is(shop);
        let home = TempDir::new()?;
        let path = home.path().join("experiment.yaml");
        fs::write(&path, file(&wire, &api, &kubeconfig, end))?;
        let told = library::squall(&wire, home.path(), &path)?;
        let because = told["because"].to_string();
        if told["verdict"] != "refused" || !because.contains(&format!("{name} has no address")) {
            return Err(format!("{end}: {} because {because}", told["verdict"]).into());
        }
    }
    Ok(())
}

/// A run under way; killed where the test ends earlier, and its faults with it.
struct Running(Option<Child>);

impl Running {
    /// Ctrl-C, and the report.
    fn report(mut self) -> Result<Value> {
        let child = self.0.take().ok_or("it is not there")?;
        process::signal(child.id(), Signal::SIGINT)?;
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {said}").into())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The service, and what stands behind it.
fn shop(pods: Vec<Pod>) -> Shop {
    Shop {
        service: vec![OWN],
        pods,
        is_there: true,
    }
}

/// From where it was to everywhere it goes.
fn go(wire: &Wire, api: &Api, node: Pod) -> Result<()> {
    alone(wire, "where it is", [true, true, false, true, false])?;
    api.grant("second")?;
    let second = Pod::at("second", &[neighbour(Ip::V4)]);
    api.is(shop(vec![second, node]));
    alone(wire, "where it went", [true, false, true, false, false])?;
    api.is(Shop::default());
    alone(wire, "nowhere", [false; 5])?;
    api.is(Shop {
        service: Vec::new(),
        ..shop(vec![Pod::at("third", &[named(Ip::V4)])])
    });
    alone(wire, "back", [false, true, false, false, false])?;
    // The one that was named comes again elsewhere, as a replica with a name of its own does, and without a service.
    api.is(Shop {
        pods: vec![Pod::at("first", &[neighbour(Ip::V4)])],
        ..Shop::default()
    });
    let by_name = [false, false, true, false, false];
    alone(wire, "the pod by its name", by_name)
}

fn moves() -> Result<()> {
    let wire = Wire::new()?;
    translate(&wire)?;
    let node = Pod {
        host_network: true,
        ..Pod::at("node", &[neighbour(Ip::V6)])
    };
    let at = SocketAddr::new(named(Ip::V4), 6443);
    let first = Pod::at("first", &[named(Ip::V4), named(Ip::V6)]);
    let api = Api::start(&wire.peer, at, shop(vec![first, node.clone()]))?;
    let home = TempDir::new()?;
    let path = home.path().join("experiment.yaml");
    let ends = format!("{SERVICE}, {POD}");
    fs::write(&path, file(&wire, &api, &api.named(), &ends))?;
    let mut command = library::quiet(home.path())?;
    command.args(["run", "--json", "--seed", "1"]).arg(&path);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = Running(Some(wire.peer.enter(|| Ok(command.spawn()?))?));

    let went = go(&wire, &api, node);
    let told = running.report()?;
    went.map_err(|error| format!("{error}\n{}\n{:#}", told["because"], told["timeline"]))?;
    let notes = told["notes"].to_string();
    let all = [
        format!(
            "service/shop/payment is at {}, {OWN}, {}",
            named(Ip::V4),
            named(Ip::V6)
        ),
        format!("service/shop/payment is at {}, {OWN}", neighbour(Ip::V4)),
        "service/shop/payment has no address now".to_owned(),
        format!("pods/shop/metadata.name=first is at {}", neighbour(Ip::V4)),
    ];
    match all.iter().find(|note| !notes.contains(note.as_str())) {
        Some(missing) => Err(format!("`{missing}` is not among {notes}").into()),
        None if told["verdict"] == "halted" => Ok(()),
        None => Err(format!("{}: {}", told["verdict"], told["because"]).into()),
    }
}

/// Both are said in one breath: the second is heard before the holder of the first can be in force.
fn while_armed() -> Result<()> {
    let wire = Wire::new()?;
    let mut agent = Agent::start()?;
    let filter = json!({ "to": { "hosts": ["service/shop/payment"] }, "direction": "egress" });
    let fault = dose::fault(FaultKind::Delay, json!({ "time": "300ms" }), filter);
    let target = agent.resolve(&dose::netns(&wire), &fault)?;
    let target = target.first().ok_or("no candidate")?.id.clone();
    agent.say_arm(target, &fault, written(json!(LEASE)), None, None)?;
    let found = |at: IpAddr| -> Vec<Found> {
        written(json!([{ "host": "service/shop/payment", "networks": [at] }]))
    };
    let run = RunId::from("test");
    for at in [named(Ip::V4), neighbour(Ip::V4)] {
        let (run, found) = (run.clone(), found(at));
        agent.say(&FromController::Moved(Moved { run, found }))?;
    }
    alone_of_two(&wire)
}

fn alone_of_two(wire: &Wire) -> Result<()> {
    until("where it went while it was armed", FOLLOWED, || {
        (slow(wire, neighbour(Ip::V4)) && !slow(wire, named(Ip::V4))).then_some(())
    })
}
