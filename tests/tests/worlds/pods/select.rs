//! Which pods and containers are found, and what is said of a runtime that cannot be asked.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::world::Result;
use lab::world::agent::{Agent, written};
use lab::world::pods::{ContainerPlan, PodPlan};
use serde_json::{Value, json};
use squall_experiments::target::Target;

use super::{Scene, delay, expect, labels, pod_named};

/// What the pods' processes would be hit with.
fn cpu() -> Value {
    json!({ "cpu": { "load": "1%" } })
}

pub(super) fn selected(scene: &mut Scene) -> Result<()> {
    let plain = PodPlan {
        labels: labels(&[("app", "pay"), ("version", "2")]),
        annotations: labels(&[("chaos", "allowed")]),
        ..PodPlan::default()
    };
    let host = PodPlan {
        host_network: true,
        host_pid: true,
        annotations: labels(&[("kubectl.kubernetes.io/default-container", "second")]),
        ..plain.clone()
    };
    let system = PodPlan {
        namespace: Some("kube-system".to_owned()),
        ..plain.clone()
    };
    let plans: [(&str, PodPlan, &[&str]); 3] = [
        ("pay-0", plain, &["istio-proxy", "pay", "logger"]),
        ("pay-host", host, &["first", "second"]),
        ("pay-system", system, &["pay"]),
    ];
    let mut pods = Vec::new();
    for (name, plan, containers) in plans {
        let pod = scene.node.pod(name, &plan)?;
        for name in containers {
            scene
                .node
                .container(&pod, name, &ContainerPlan::default())?;
        }
        pods.push(pod);
    }
    by_labels(scene)?;
    by_name(scene)?;
    by_container(scene)?;
    for pod in &pods {
        scene.node.remove_pod(pod)?;
    }
    let (found, _) = scene.found(pod_named("pay"), cpu())?;
    expect("when they are deleted", &found, &[])
}

fn by_labels(scene: &mut Scene) -> Result<()> {
    let by = json!({ "pod": { "namespace": "shop", "labels": { "app": "pay", "version": "2" } } });
    let (mut found, _) = scene.found(by.clone(), cpu())?;
    found.sort();
    let both = [
        "pod shop/pay-0, container pay",
        "pod shop/pay-host, container second",
    ];
    expect("by labels", &found, &both)?;
    let (found, excluded) = scene.found(by, delay())?;
    expect("for packets", &found, &["pod shop/pay-0"])?;
    let told = |e: &String| e.starts_with("pod shop/pay-host: ") && e.contains("hostNetwork");
    if !excluded.iter().any(told) {
        return Err(format!("the pod in the node's network is not told: {excluded:?}").into());
    }
    let protected = json!({ "pod": { "namespace": "kube-system" } });
    let (found, excluded) = scene.found(protected, cpu())?;
    expect("a protected namespace", &found, &[])?;
    expect(
        "protected",
        &excluded,
        &["pod kube-system/pay-system: the node's policy protects namespace kube-system"],
    )
}

fn by_name(scene: &mut Scene) -> Result<()> {
    let named = json!({ "pod": { "namespace": "shop", "name": "pay-0", "annotations": { "chaos": "allowed" }, "container": "istio-proxy" } });
    let (found, _) = scene.found(named, cpu())?;
    expect(
        "by name",
        &found,
        &["pod shop/pay-0, container istio-proxy"],
    )?;
    let absent = json!({ "pod": { "namespace": "shop", "name": "pay-0", "container": "nobody" } });
    let (found, excluded) = scene.found(absent, cpu())?;
    expect("an absent container", &found, &[])?;
    if !excluded[0].contains("those that run are istio-proxy, logger, pay") {
        return Err(format!("it is not said which there are: {excluded:?}").into());
    }
    Ok(())
}

fn by_container(scene: &mut Scene) -> Result<()> {
    let logger = ["container logger of pod shop/pay-0"];
    for selector in [
        json!({ "name": "logger" }),
        json!({ "labels": { "app": "pay", "container": "logger" }, "runtime": "containerd" }),
        json!({ "name": "logger", "image": "squall.lab/all" }),
        json!({ "name": "logger", "image": "all:1", "runtime": "containerd" }),
    ] {
        let (found, _) = scene.found(json!({ "container": selector }), cpu())?;
        expect(&selector.to_string(), &found, &logger)?;
    }
    for selector in [
        json!({ "name": "logger", "image": "nginx" }),
        json!({ "name": "logger", "runtime": "cri-o" }),
    ] {
        let (found, _) = scene.found(json!({ "container": selector }), cpu())?;
        expect(&selector.to_string(), &found, &[])?;
    }
    // Two containers of one pod share its packets, which are hit once.
    let (found, _) = scene.found(
        json!({ "container": { "labels": { "app": "pay" } } }),
        delay(),
    )?;
    if found.len() != 1 || !found[0].ends_with("of pod shop/pay-0") {
        return Err(format!("one pod's packets were expected, not {found:?}").into());
    }
    Ok(())
}

/// A runtime that takes a connection and never answers, one that is no more, and one that speaks something else.
pub(super) fn hangs() -> Result<()> {
    let folder = tempfile::TempDir::new()?;
    let socket = |name: &str| folder.path().join(name);
    let _silent = UnixListener::bind(socket("silent"))?;
    drop(UnixListener::bind(socket("gone"))?);
    let babbling = UnixListener::bind(socket("babbling"))?;
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = babbling.accept() {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    let paths: Vec<PathBuf> = ["silent", "gone", "babbling"].map(socket).to_vec();
    let said = |flag: &str| -> Result<(Vec<String>, Duration)> {
        let mut args = Vec::new();
        for path in &paths {
            args.extend([flag.to_owned(), path.display().to_string()]);
        }
        let other = if flag == "--cri-socket" {
            "--docker-socket"
        } else {
            "--cri-socket"
        };
        args.extend([other.to_owned(), socket("never").display().to_string()]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut agent = Agent::start_with(&args)?;
        let begun = Instant::now();
        let target: Target = written(json!({ "container": { "name": "any" } }));
        let excluded = agent.excluded(&target, &written(json!({ "kill": {} })))?;
        Ok((excluded, begun.elapsed()))
    };
    for flag in ["--cri-socket", "--docker-socket"] {
        let (excluded, took) = said(flag)?;
        let told = |path: &Path, word: &str| {
            let path = path.display().to_string();
            excluded
                .iter()
                .any(|e| e.contains(&path) && e.contains(word))
        };
        let all =
            told(&paths[0], "did not answer") && told(&paths[1], "refused") && told(&paths[2], "");
        if !all || took > Duration::from_secs(12) {
            return Err(format!("after {took:?}: {excluded:?}").into());
        }
    }
    Ok(())
}
