//! Pods and containers, for real: containerd with its CRI, runc, CNI, and nginx, Redis and PostgreSQL in pods, on this kernel's cgroup v1 and
//! the VM's v2. One node serves all tests of this file; each has pods of its own.

mod again;
mod daemon_set;
mod database;
mod fds;
mod select;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::fingerprint::Fingerprint;
use lab::world::pods::{
    Container, ContainerPlan, Mount, Node, Pod, PodPlan, Resources, hierarchies, missing,
};
use lab::world::{Result, until};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::{Value, json};
use squall_experiments::dose::Dose;
use squall_experiments::fault::Fault;
use squall_experiments::ids::FaultId;
use squall_experiments::target::Target;
use squall_experiments::wire::EndCause;

use crate::dose::{LEASE, emulated};
use crate::{TURN, beside_others};

/// How long something may take that takes a moment.
const LIMIT: Duration = Duration::from_secs(20);

/// A fault on packets, and the time by which it makes an answer later: the packets that open a connection, and those of the
/// answer, are late once each.
const LATE: Duration = Duration::from_millis(150);

/// A test on the node, and its name.
type Test = (&'static str, fn(&mut Scene) -> Result<()>);

pub(crate) fn trials() -> Vec<Trial> {
    // What cgroup v2 and netem make different; an emulated machine takes ten times as long to start a container.
    let mut tests: Vec<Test> = vec![
        ("packets_are_late_through_restart_until_deletion", late),
        ("pressure_is_in_the_containers_own_cgroup", pressure),
        (
            "the_daemon_sets_container_injects_and_its_end_reverts",
            daemon_set::injects,
        ),
    ];
    if !emulated() {
        tests.extend::<[Test; 6]>([
            ("are_selected_by_what_they_are", select::selected),
            ("a_pause_and_a_kill_spare_the_sidecar", processes),
            ("a_volume_is_filled_as_the_container_sees_it", filled),
            (
                "one_that_may_open_nothing_takes_no_connection",
                fds::of_a_pod,
            ),
            ("a_share_of_them_is_hit_at_once", several),
            ("a_crash_loop_hits_what_takes_its_place", again::pod),
        ]);
    }
    let mut trials: Vec<Trial> = tests
        .into_iter()
        .map(|(name, test)| on_the_node(format!("pods::{name}"), test))
        .collect();
    trials.push(beside_others(
        "pods::a_runtime_that_hangs_is_told",
        select::hangs,
    ));
    if !emulated() {
        trials.push(database::trial());
        trials.push(again::docker_trial());
    }
    trials
}

/// The node, and an agent that was told where its runtime is.
pub(crate) struct Scene {
    pub(crate) node: Node,
    pub(crate) agent: Agent,
    before: Fingerprint,
}

static SCENE: Mutex<Option<Scene>> = Mutex::new(None);

fn on_the_node(
    name: impl Into<String>,
    test: impl FnOnce(&mut Scene) -> Result<()> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Completion::ignored_with("needs root: containers"));
        }
        if let Some(package) = missing() {
            let why = format!("needs {package}: apt-get install {package}");
            return Ok(Completion::ignored_with(why));
        }
        let _turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
        let mut scene = SCENE.lock().unwrap_or_else(PoisonError::into_inner);
        let done = scene_of(&mut scene).and_then(test);
        done.map(|()| Completion::Completed)
            .map_err(|error| Failed::from(error.to_string()))
    })
}

fn scene_of(scene: &mut Option<Scene>) -> Result<&mut Scene> {
    if scene.is_none() {
        let before = Fingerprint::take(&[])?;
        let node = Node::start(&[], &[])?;
        let socket = node.socket().display().to_string();
        let agent = Agent::start_with(&["--cri-socket", &socket])?;
        *scene = Some(Scene {
            node,
            agent,
            before,
        });
    }
    scene.as_mut().ok_or_else(|| "the scene is lost".into())
}

/// Takes the node down, if a test has started it, and says what is left of it and its faults.
pub(crate) fn close() -> Option<String> {
    let scene = SCENE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()?;
    let Scene {
        node,
        agent,
        before,
    } = scene;
    drop(agent);
    drop(node);
    let mut left = match Fingerprint::take(&[]) {
        Ok(after) => before.difference(&after),
        Err(error) => vec![format!("+ {error}")],
    };
    // The node was started beside other tests, whose worlds are gone by now.
    left.retain(|line| line.starts_with('+'));
    (!left.is_empty()).then(|| format!("the node with its pods left:\n{}", left.join("\n")))
}

fn shell(command: &str) -> ContainerPlan {
    ContainerPlan {
        command: ["/bin/sh", "-c", command].map(str::to_owned).to_vec(),
        ..ContainerPlan::default()
    }
}

const NGINX: &str = r#"mkdir -p /var/lib/nginx /var/log/nginx
echo 'worker_processes 2; user nobody nogroup; daemon off; pid /tmp/pid; error_log /dev/null; events {}
http { access_log off; keepalive_timeout 0; server { listen 80; return 200 "hello\n"; } }' > /tmp/nginx.conf
exec nginx -c /tmp/nginx.conf"#;

const REDIS: &str = "ln -s /usr/bin/redis-check-rdb /tmp/redis-server
exec /tmp/redis-server --port 6379 --save '' --protected-mode no";

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

impl Scene {
    /// A pod with labels `app=NAME`, and a container in it that has its name.
    fn pod_with(&mut self, name: &str, plan: &ContainerPlan) -> Result<(Pod, Container)> {
        let pod = self.node.pod(
            name,
            &PodPlan {
                labels: labels(&[("app", name)]),
                ..PodPlan::default()
            },
        )?;
        let container = self.node.container(&pod, name, plan)?;
        Ok((pod, container))
    }

    /// nginx, once it answers.
    fn nginx(&mut self, name: &str) -> Result<(Pod, Container, SocketAddr)> {
        let (pod, container) = self.pod_with(name, &shell(NGINX))?;
        let at = Node::at(&pod, 80)?;
        self.answers(at, GET)?;
        Ok((pod, container, at))
    }

    fn answers(&self, at: SocketAddr, question: &str) -> Result<()> {
        until("an answer", LIMIT, || self.ask(at, question).ok()).map(drop)
    }

    /// How long one answer over a connection of its own takes.
    fn ask(&self, at: SocketAddr, question: &str) -> Result<Duration> {
        self.node.enter(|| {
            let begun = Instant::now();
            let mut stream = TcpStream::connect_timeout(&at, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(question.as_bytes())?;
            if stream.read(&mut [0; 64])? == 0 {
                return Err(format!("{at} hung up").into());
            }
            Ok(begun.elapsed())
        })
    }

    /// The fastest of a few answers: what else the machine does makes some of them late.
    fn fastest(&self, at: SocketAddr, question: &str) -> Result<Duration> {
        let all: Result<Vec<Duration>> = (0..3).map(|_| self.ask(at, question)).collect();
        all?.into_iter().min().ok_or_else(|| "no answer".into())
    }

    fn inject(&mut self, target: Value, fault: Value) -> Result<FaultId> {
        let (target, fault): (Target, Fault) = (written(target), written(fault));
        let armed = self
            .agent
            .inject(&target, &fault, written(json!(LEASE)), None)?;
        Ok(armed.id)
    }

    /// The labels of the candidates, and what is left alone.
    fn found(&mut self, target: Value, fault: Value) -> Result<(Vec<String>, Vec<String>)> {
        let (target, fault): (Target, Fault) = (written(target), written(fault));
        let candidates = self.agent.resolve(&target, &fault);
        let excluded = self.agent.excluded(&target, &fault)?;
        let labels = candidates.unwrap_or_default().into_iter().map(|c| c.label);
        Ok((labels.collect(), excluded))
    }
}

const GET: &str = "GET / HTTP/1.0\r\n\r\n";
const PING: &str = "PING\r\n";

fn delay() -> Value {
    let ms = LATE.as_millis();
    json!({ "delay": { "time": format!("{ms}ms"), "filter": { "direction": "egress" } } })
}

fn pod_named(name: &str) -> Value {
    json!({ "pod": { "namespace": "shop", "labels": { "app": name } } })
}

fn expect(what: &str, found: &[String], wanted: &[&str]) -> Result<()> {
    let same = found.len() == wanted.len() && found.iter().zip(wanted).all(|(f, w)| f == w);
    if same {
        return Ok(());
    }
    Err(format!("{what}: found {found:?} instead of {wanted:?}").into())
}

/// Only the named pod is late, also when its container is another by then; and the fault ends with the pod.
fn late(scene: &mut Scene) -> Result<()> {
    let (pod, container, at) = scene.nginx("slow")?;
    let (other, _) = scene.pod_with("beside", &shell(REDIS))?;
    let beside = Node::at(&other, 6379)?;
    scene.answers(beside, PING)?;
    let (before, beside_before) = (scene.fastest(at, GET)?, scene.fastest(beside, PING)?);
    let fault = scene.inject(pod_named("slow"), delay())?;
    let later = |scene: &Scene| -> Result<()> {
        let now = scene.fastest(at, GET)?;
        let (least, most) = (before + LATE * 2, before + LATE * 2 + LATE / 2);
        if now < least - LATE / 10 || now > most {
            return Err(format!("{now:?} where {least:?} was expected").into());
        }
        Ok(())
    };
    later(scene)?;
    let spared = scene.fastest(beside, PING)?;
    if spared > beside_before + LATE / 2 {
        return Err(format!("the pod beside it went from {beside_before:?} to {spared:?}").into());
    }
    scene.node.remove_container(&container)?;
    scene.node.container(&pod, "slow", &shell(NGINX))?;
    scene.answers(at, GET)?;
    later(scene).map_err(|e| format!("after the restart: {e}"))?;
    scene.node.remove_pod(&pod)?;
    gone(scene, &fault)?;
    scene.node.remove_pod(&other)
}

/// The fault ended by itself, because what it was aimed at did.
fn gone(scene: &mut Scene, fault: &FaultId) -> Result<()> {
    let ended = scene.agent.ended(fault)?;
    if ended.cause == EndCause::TargetGone {
        return Ok(());
    }
    Err(format!("it ended by {:?}, not with its target", ended.cause).into())
}

/// Processor time that a container's cgroup used.
fn used(container: &Container) -> Result<Duration> {
    let lines = fs::read_to_string(format!("/proc/{}/cgroup", container.pid))?;
    let path = |controller: &str| {
        lines.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let found = controllers.split(',').any(|c| c == controller);
            found.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let read = |controller: &str, file: &str| {
        let inside = path(controller)?;
        let mut files = hierarchies()
            .into_iter()
            .map(|h| h.join(&inside).join(file));
        files.find_map(|file| fs::read_to_string(file).ok())
    };
    if let Some(text) = read("cpuacct", "cpuacct.usage") {
        return Ok(Duration::from_nanos(text.trim().parse()?));
    }
    let text = read("", "cpu.stat").unwrap_or_default();
    if let Some(usage) = text.lines().find_map(|l| l.strip_prefix("usage_usec ")) {
        return Ok(Duration::from_micros(usage.parse()?));
    }
    Err("the container's cgroup accounts no processor time".into())
}

/// Half of the container's quota is burnt in its own cgroup and none in its neighbour's; and the container can be removed while
/// it is, which a process left in its cgroup would prevent.
fn pressure(scene: &mut Scene) -> Result<()> {
    /// What is burnt before and after the look, and what Redis itself takes.
    const MOMENT: Duration = Duration::from_millis(100);
    const QUOTA_PERCENT: i64 = 40;
    let plan = ContainerPlan {
        resources: Resources::limited(QUOTA_PERCENT, 256 << 20),
        ..shell(REDIS)
    };
    let (pod, main) = scene.pod_with("busy", &plan)?;
    let sidecar = scene
        .node
        .container(&pod, "linkerd-proxy", &ContainerPlan::default())?;
    scene.answers(Node::at(&pod, 6379)?, PING)?;
    let cpu = json!({ "cpu": { "load": "50%", "of": "quota" } });
    let fault = scene.inject(pod_named("busy"), cpu)?;
    // How exact the dose is, is measured elsewhere, without a whole runtime beside it: this is about where it is.
    let (before, spared) = (used(&main)?, used(&sidecar)?);
    std::thread::sleep(Duration::from_secs(2));
    let (charged, beside) = (used(&main)? - before, used(&sidecar)? - spared);
    scene.node.remove_container(&main)?;
    let ended = scene.agent.ended(&fault)?;
    let Some(Dose::Cpu(dose)) = &ended.dose else {
        return Err(format!("no processor time is told: {ended:?}").into());
    };
    let burnt = Duration::from_secs_f64(dose.seconds);
    if ended.cause != EndCause::TargetGone || burnt < MOMENT * 2 {
        return Err(format!("it did not act until its target's end: {ended:?}").into());
    }
    // What was burnt includes the container's removal, however long that took; nothing else in there does much.
    if charged < MOMENT * 2 || charged > burnt + MOMENT || beside * 4 > charged {
        return Err(format!("{burnt:?} were burnt, {charged:?} are charged to the container, {beside:?} to the one beside it").into());
    }
    // Without the quota: a holder starts inside the group, and on an emulated machine would wait for its turn there.
    let roomy = ContainerPlan {
        resources: Resources::limited(0, 256 << 20),
        ..plan
    };
    let again = scene.node.container(&pod, "busy", &roomy)?;
    let fault = scene.inject(pod_named("busy"), json!({ "memory": { "size": "64MiB" } }))?;
    until("64 MiB charged to the container", LIMIT, || {
        (memory(&again).ok()? >= 64 << 20).then_some(())
    })?;
    scene.agent.stop(&fault)?;
    scene.node.remove_pod(&pod)
}

/// Bytes that are charged to a container's cgroup.
fn memory(container: &Container) -> Result<u64> {
    let lines = fs::read_to_string(format!("/proc/{}/cgroup", container.pid))?;
    for line in lines.lines() {
        let path = line
            .rsplit(':')
            .next()
            .unwrap_or_default()
            .trim_start_matches('/');
        for hierarchy in hierarchies() {
            for file in ["memory.usage_in_bytes", "memory.current"] {
                if let Ok(text) = fs::read_to_string(hierarchy.join(path).join(file)) {
                    return Ok(text.trim().parse()?);
                }
            }
        }
    }
    Err("the container's cgroup accounts no memory".into())
}

/// The processes of a container, by the state that /proc shows.
fn states(container: &Container) -> Result<Vec<char>> {
    let own = fs::read_to_string(format!("/proc/{}/cgroup", container.pid))?;
    let mut states = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("cgroup") == own {
            let stat = read("stat");
            let state = stat
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.chars().next());
            states.extend(state);
        }
    }
    Ok(states)
}

fn processes(scene: &mut Scene) -> Result<()> {
    let (pod, main, at) = scene.nginx("still")?;
    let sidecar = scene
        .node
        .container(&pod, "envoy", &ContainerPlan::default())?;
    let fault = scene.inject(pod_named("still"), json!({ "pause": {} }))?;
    let (paused, beside) = (states(&main)?, states(&sidecar)?);
    // nginx is a master and two workers.
    if paused.len() < 3 || paused.iter().any(|state| *state != 't') || beside.contains(&'t') {
        return Err(format!(
            "the container's processes are in {paused:?}, the sidecar's in {beside:?}"
        )
        .into());
    }
    scene.agent.stop(&fault)?;
    scene.answers(at, GET)?;
    let fault = scene.inject(pod_named("still"), json!({ "kill": {} }))?;
    scene.agent.ended(&fault)?;
    until("the container's end", LIMIT, || {
        matches!(scene.node.runs(&main), Ok(false)).then_some(())
    })?;
    if !scene.node.runs(&sidecar)? {
        return Err("the sidecar was killed too".into());
    }
    let (found, excluded) = scene.found(pod_named("still"), json!({ "kill": {} }))?;
    expect("the sidecar alone", &found, &[])?;
    if !excluded[0].contains("no main container") {
        return Err(format!("it is not said that only a sidecar is left: {excluded:?}").into());
    }
    scene.node.remove_pod(&pod)
}

/// A volume that only the container's mount namespace shows: /run is the node's own, and not this machine's.
fn filled(scene: &mut Scene) -> Result<()> {
    const BYTES: u64 = 20 << 20;
    let plan = ContainerPlan {
        mounts: vec![Mount {
            inside: "/data".to_owned(),
            outside: "/run/volume".to_owned(),
            read_only: false,
        }],
        ..ContainerPlan::default()
    };
    let (pod, container) = scene.pod_with("full", &plan)?;
    let free = || -> Result<u64> {
        let path = format!("/proc/{}/root/data", container.pid);
        let all = nix::sys::statvfs::statvfs(path.as_str())?;
        Ok(all.blocks_available() * all.fragment_size())
    };
    let before = free()?;
    let fill = json!({ "fill": { "path": "/data", "goal": { "size": "20MiB" } } });
    let fault = scene.inject(pod_named("full"), fill)?;
    let taken = before - free()?;
    if taken.abs_diff(BYTES) > 1 << 20 {
        return Err(format!("{taken} bytes are taken, not {BYTES}").into());
    }
    scene.agent.stop(&fault)?;
    if before.abs_diff(free()?) > 1 << 20 {
        return Err("the bytes are not given back".into());
    }
    scene.node.remove_pod(&pod)
}

fn several(scene: &mut Scene) -> Result<()> {
    let mut pods = Vec::new();
    for number in 0..3 {
        let plan = PodPlan {
            labels: labels(&[("tier", "cache")]),
            ..PodPlan::default()
        };
        let pod = scene.node.pod(&format!("cache-{number}"), &plan)?;
        scene.node.container(&pod, "redis", &shell(REDIS))?;
        scene.answers(Node::at(&pod, 6379)?, PING)?;
        pods.push(pod);
    }
    let target: Target =
        written(json!({ "pod": { "namespace": "shop", "labels": { "tier": "cache" } } }));
    let fault: Fault = written(delay());
    let candidates = scene.agent.resolve(&target, &fault)?;
    if candidates.len() != 3 {
        return Err(format!("three pods were expected: {candidates:?}").into());
    }
    let mut live = Vec::new();
    for candidate in candidates.iter().take(2) {
        let lease = written(json!(LEASE));
        live.push(
            scene
                .agent
                .arm(candidate.id.clone(), &fault, lease, None)?
                .id,
        );
    }
    for pod in &pods {
        let hit = candidates
            .iter()
            .take(2)
            .any(|c| c.label.ends_with(&pod.name));
        let took = scene.fastest(Node::at(pod, 6379)?, PING)?;
        if hit != (took > LATE) {
            return Err(format!("{} is hit: {hit}; it answered after {took:?}", pod.name).into());
        }
    }
    for fault in live {
        scene.agent.stop(&fault)?;
    }
    for pod in &pods {
        scene.node.remove_pod(pod)?;
    }
    Ok(())
}
