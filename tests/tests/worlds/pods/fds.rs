//! nginx in a pod that may open nothing more: it takes no connection, and serves those that waited when the fault is over.

use std::fs;
use std::thread;
use std::time::Duration;

use lab::world::agent::{Agent, written};
use lab::world::pods::Node;
use lab::world::{Result, victim};
use serde_json::json;
use squall_experiments::dose::Dose;
use squall_experiments::fault::Fault;
use squall_experiments::target::Target;
use tempfile::TempDir;

use super::{GET, NGINX, Scene, pod_named, shell};
use crate::dose::LEASE;

/// So long a client waits while the fault lasts.
const SHORT: Duration = Duration::from_secs(2);

/// Every process of the container is short; the pod beside it serves on.
pub(super) fn of_a_pod(scene: &mut Scene) -> Result<()> {
    let home = TempDir::new()?;
    let mut agent = agent(scene, &home)?;
    // All of its processes are root's: other users' limits take a capability that the machine of the test may lack.
    let server = shell(&NGINX.replace("user nobody nogroup", "user root root"));
    let (pod, container) = scene.pod_with("short", &server)?;
    let at = Node::at(&pod, 80)?;
    scene.answers(at, GET)?;
    let (other, _, beside) = scene.nginx("roomy")?;
    let before = victim::open_files(container.pid)?;
    let (target, fault): (Target, Fault) =
        (written(pod_named("short")), written(json!({ "fds": {} })));
    let armed = agent.inject(&target, &fault, written(json!(LEASE)), None)?;
    let (took, ended) = thread::scope(|scope| {
        let asked = scope.spawn(|| scene.ask(at, GET).map_err(|error| error.to_string()));
        let spared = scene.ask(beside, GET);
        thread::sleep(SHORT);
        let ended = agent.stop(&armed.id)?;
        let took = asked.join().map_err(|_| "the client panicked")??;
        spared.map(|_| (took, ended))
    })?;
    if took < SHORT {
        return Err(format!("answered after {took:?}, while nginx could open nothing").into());
    }
    let after = victim::open_files(container.pid)?;
    if after != before {
        return Err(format!("its limit was {before}, and is {after}").into());
    }
    // A master and two workers.
    match &ended.dose {
        Some(Dose::Fds(dose)) if dose.processes >= 3 => {}
        dose => return Err(format!("three processes were to be short, not {dose:?}").into()),
    }
    scene.node.remove_pod(&pod)?;
    scene.node.remove_pod(&other)
}

/// One that may take descriptors, which the policy of the node's own does not allow.
fn agent(scene: &Scene, home: &TempDir) -> Result<Agent> {
    let (policy, journal) = (home.path().join("policy.yaml"), home.path().join("journal"));
    let text = format!("allow: [ fds ]\njournal: {}\n", journal.display());
    fs::write(&policy, text)?;
    let (socket, policy) = (scene.node.socket(), policy.display().to_string());
    Agent::start_with(&[
        "--cri-socket",
        &socket.display().to_string(),
        "--policy",
        &policy,
    ])
}
