//! What was killed and started again: a container that a kubelet makes anew in its pod, and one that Docker restarts by itself.

use lab::world::agent::{Agent, written};
use lab::world::fingerprint::Fingerprint;
use lab::world::pods::PodPlan;
use lab::world::pods::docker::{Engine, missing};
use lab::world::{Result, until};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::json;
use squall_experiments::dose::Dose;
use squall_experiments::ids::FaultId;
use squall_experiments::target::Target;

use super::{LIMIT, Scene, labels, pod_named, shell};
use crate::beside_others;
use crate::dose::LEASE;

/// Two pods are selected and one is hit: what takes its container's place is hit again, and the other pod never.
pub(super) fn pod(scene: &mut Scene) -> Result<()> {
    let sleep = shell("exec sleep 100000");
    let (pod, first) = scene.pod_with("dying", &sleep)?;
    let plan = PodPlan {
        labels: labels(&[("app", "dying")]),
        ..PodPlan::default()
    };
    let beside = scene.node.pod("spared", &plan)?;
    let spared = scene.node.container(&beside, "spared", &sleep)?;
    let target: Target = written(pod_named("dying"));
    let kill = written(json!({ "kill": { "every": "500ms" } }));
    let candidates = scene.agent.resolve(&target, &kill)?;
    let hit = candidates.iter().find(|c| c.label.contains("shop/dying"));
    let hit = hit.ok_or_else(|| format!("the pod is not found: {candidates:?}"))?;
    let fault = scene
        .agent
        .arm(hit.id.clone(), &kill, written(json!(LEASE)), None)?
        .id;
    let mut last = first;
    for number in 1..=2 {
        until("the container's end", LIMIT, || {
            matches!(scene.node.runs(&last), Ok(false)).then_some(())
        })
        .map_err(|error| format!("container {number}: {error}"))?;
        scene.node.remove_container(&last)?;
        last = scene.node.container(&pod, "dying", &sleep)?;
    }
    until("the third container's end", LIMIT, || {
        matches!(scene.node.runs(&last), Ok(false)).then_some(())
    })?;
    struck(&mut scene.agent, &fault, 3)?;
    if !scene.node.runs(&spared)? {
        return Err("the pod beside it was killed too".into());
    }
    scene.node.remove_pod(&pod)?;
    scene.node.remove_pod(&beside)
}

/// Stops a crash loop that sent so many signals, or more.
fn struck(agent: &mut Agent, fault: &FaultId, least: u64) -> Result<()> {
    let ended = agent.stop(fault)?;
    match &ended.dose {
        Some(Dose::Kill(dose)) if dose.sent >= least => Ok(()),
        dose => Err(format!("{least} signals were expected, not {dose:?}").into()),
    }
}

pub(super) fn docker_trial() -> Trial {
    const NAME: &str = "pods::docker_containers_are_hit_by_name_and_label";
    if let Some(package) = missing() {
        let why = format!("needs {package}: apt-get install {package}");
        return Trial::ignorable_test(NAME, move || Ok::<_, Failed>(Completion::ignored_with(why)));
    }
    beside_others(NAME, docker)
}

fn docker() -> Result<()> {
    let before = Fingerprint::take(&[])?;
    let engine = Engine::start()?;
    engine.run("pay", "app=pay")?;
    engine.run("beside", "app=other")?;
    let (first, spared) = (engine.pid("pay")?, engine.pid("beside")?);
    let socket = engine.socket().display().to_string();
    let mut agent = Agent::start_with(&["--docker-socket", &socket, "--cri-socket", "/none"])?;
    let mut live = Vec::new();
    for (selector, fault) in [
        (
            json!({ "name": "pay", "image": "squall.lab/all" }),
            json!({ "pause": {} }),
        ),
        (
            json!({ "labels": { "app": "pay" }, "runtime": "docker" }),
            json!({ "loss": { "model": { "random": { "probability": "100%" } } } }),
        ),
    ] {
        let target: Target = written(json!({ "container": selector }));
        let fault = written(fault);
        let found = agent.resolve(&target, &fault)?;
        if found.len() != 1 || found[0].pid != Some(first) {
            return Err(format!("one container, process {first}, was expected: {found:?}").into());
        }
        live.push(
            agent
                .inject(&target, &fault, written(json!(LEASE)), None)?
                .id,
        );
    }
    let state = || std::fs::read_to_string(format!("/proc/{first}/stat"));
    if !state()?.contains(") t ") {
        return Err(format!("it does not stand still: {}", state()?).into());
    }
    for fault in live {
        agent.stop(&fault)?;
    }
    let target: Target = written(json!({ "container": { "labels": { "app": "pay" } } }));
    let kill = written(json!({ "kill": { "every": "500ms" } }));
    let fault = agent
        .inject(&target, &kill, written(json!(LEASE)), None)?
        .id;
    until("a third life", LIMIT, || {
        let count = engine
            .say(&["inspect", "--format", "{{.RestartCount}}", "pay"])
            .ok()?;
        (count.trim().parse::<u32>().ok()? >= 2).then_some(())
    })?;
    struck(&mut agent, &fault, 2)?;
    if engine.pid("beside")? != spared {
        return Err("the container beside it was killed too".into());
    }
    drop(agent);
    drop(engine);
    let mut left = before.difference(&Fingerprint::take(&[])?);
    // Other tests run beside this one; what is left of an engine bears its name.
    left.retain(|line| line.starts_with('+') && line.contains("docker"));
    if left.is_empty() {
        return Ok(());
    }
    Err(format!("the engine left:\n{}", left.join("\n")).into())
}
