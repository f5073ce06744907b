//! The agent in a container of its own, which is not privileged: it has the capabilities that its README names and no others, the
//! node's process ids, a root that it cannot write to, and nothing of Kubernetes.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use lab::world::agent::{Agent, program, written};
use lab::world::pods::{Container, ContainerPlan, PodPlan};
use lab::world::victim::CALLER;
use lab::world::{Result, until};
use serde_json::json;
use tempfile::TempDir;

use super::{GET, LATE, LIMIT, Scene, delay, pod_named, states, used};
use crate::dose::LEASE;

/// The capabilities that the README's table names, without `CAP_`.
fn named() -> Result<Vec<String>> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/README.md");
    let text = fs::read_to_string(&readme).map_err(|e| format!("{}: {e}", readme.display()))?;
    let rows = text.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("| CAP_")?.split_once(' ')?;
        Some(name.to_owned())
    });
    let mut names: Vec<String> = rows.collect();
    if !may(SYS_RESOURCE)? {
        names.retain(|name| name != "SYS_RESOURCE");
    }
    if names.is_empty() {
        return Err("the agent's README names no capabilities".into());
    }
    Ok(names)
}

/// The one that a machine may lack where it is a container itself: nobody can be given it there (linux/capability.h).
const SYS_RESOURCE: u32 = 24;

/// Whether a capability can be had on this machine.
fn may(bit: u32) -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bounds = u64::from_str_radix(bounds.ok_or("no CapBnd")?.trim(), 16)?;
    Ok(bounds >> bit & 1 == 1)
}

/// The agent's container, and its link.
fn start(scene: &mut Scene, home: &Path) -> Result<(Container, Agent)> {
    let agent = program("squall-agent")?;
    let caller = std::env::current_exe()?;
    let socket = home.join("link");
    let listener = UnixListener::bind(&socket)?;
    let plan = PodPlan {
        namespace: Some("squall".to_owned()),
        on_host: true,
        ..PodPlan::default()
    };
    let pod = scene.node.pod("squall-agent", &plan)?;
    let text = |path: &Path| path.display().to_string();
    let itself = |path: &str| (path.to_owned(), path.to_owned());
    // The programs are built here, and so need this machine's libraries.
    let libraries = ["/usr/lib", "/lib", "/lib64"]
        .into_iter()
        .filter(|p| Path::new(p).exists());
    let mut mounts: Vec<(String, String)> = libraries.map(itself).collect();
    mounts.extend(["/sys/fs/cgroup", "/run/containerd"].map(itself));
    for path in [agent.as_path(), &caller, home] {
        mounts.push(itself(&text(path)));
    }
    let mut command = vec![
        text(&caller),
        CALLER.to_owned(),
        text(&socket),
        text(&agent),
    ];
    let args = ["run", "--link-fd", "0", "--state"].map(str::to_owned);
    command.extend(args.into_iter().chain([text(home)]));
    let plan = ContainerPlan {
        command,
        mounts,
        capabilities: Some(named()?),
        ..ContainerPlan::default()
    };
    let container = scene.node.container(&pod, "squall-agent", &plan)?;
    let link = accepted(&listener)?;
    Ok((container, Agent::met(link)?))
}

/// The first that calls.
fn accepted(listener: &UnixListener) -> Result<UnixStream> {
    listener.set_nonblocking(true)?;
    let link = until("the agent's call", LIMIT, || listener.accept().ok())?.0;
    link.set_nonblocking(false)?;
    Ok(link)
}

pub(super) fn confined(scene: &mut Scene) -> Result<()> {
    let (pod, victim, at) = scene.nginx("far")?;
    let before = scene.fastest(at, GET)?;
    let home = TempDir::new()?;
    let (container, agent) = start(scene, home.path())?;
    let usual = std::mem::replace(&mut scene.agent, agent);
    let done = injects(scene, &victim, before, at).and_then(|()| {
        scene.node.remove_container(&container)?;
        until("an answer that is not late", LIMIT, || {
            scene
                .fastest(at, GET)
                .ok()
                .filter(|took| *took < before + LATE)
        })?;
        let left = states(&victim)?;
        if left.contains(&'t') {
            return Err(format!("its agent was killed, and the container is in {left:?}").into());
        }
        let burnt = used(&victim)?;
        std::thread::sleep(Duration::from_millis(500));
        let after = used(&victim)? - burnt;
        if after > Duration::from_millis(150) {
            return Err(format!("its agent was killed, and {after:?} are burnt in 0.5 s").into());
        }
        Ok(())
    });
    // Dropped with its link, not with a process: the container's end is its own.
    drop(std::mem::replace(&mut scene.agent, usual));
    done?;
    scene.node.remove_pod(&pod)
}

/// On packets, by pressure, by tracing: each needs other rights.
fn injects(
    scene: &mut Scene,
    victim: &Container,
    before: Duration,
    at: std::net::SocketAddr,
) -> Result<()> {
    let privileged = fs::read_to_string(format!("/proc/{}/status", scene.agent.pid()))?;
    if !privileged.contains("NoNewPrivs:\t1") {
        return Err("the agent may gain privileges".into());
    }
    scene.inject(pod_named("far"), delay())?;
    let late = scene.fastest(at, GET)?;
    if late < before + LATE {
        return Err(format!("an answer took {late:?} with the delay, {before:?} without").into());
    }
    let quota = used(victim)?;
    scene.inject(pod_named("far"), json!({ "cpu": { "load": "30%" } }))?;
    std::thread::sleep(Duration::from_secs(1));
    let burnt = used(victim)? - quota;
    if burnt < Duration::from_millis(100) {
        return Err(format!("{burnt:?} are charged to the container").into());
    }
    let pause = scene.inject(pod_named("far"), json!({ "pause": {} }))?;
    // nginx is a master and two workers; the holder that burns is in their group too.
    let paused = states(victim)?;
    if paused.iter().filter(|state| **state == 't').count() < 3 {
        return Err(format!("a paused container is in {paused:?}").into());
    }
    scene.agent.stop(&pause)?;
    scene.inject(pod_named("far"), json!({ "pause": {} }))?;
    let renewed = written(json!(LEASE));
    scene.agent.renew_all(&[], renewed)
}
