//! Pods and containers, for real: containerd with its CRI, runc, CNI, and nginx and Redis in pods, on this kernel's cgroup v1 and
//! the VM's v2. One node serves all tests of this file; each has pods of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lab::world::agent::{Agent, written};
use lab::world::fingerprint::Fingerprint;
use lab::world::pods::{Container, ContainerPlan, Node, Pod, PodPlan, hierarchies, missing};
use lab::world::{Result, until};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::{Value, json};
use squall_experiments::fault::Fault;
use squall_experiments::ids::FaultId;
use squall_experiments::target::Target;
use squall_experiments::wire::EndCause;

use crate::as_root;
use crate::dose::LEASE;

/// How long something may take that takes a moment.
const LIMIT: Duration = Duration::from_secs(20);

/// A fault on packets, and the time by which it makes an answer later: the packets that open a connection, and those of the
/// answer, are late once each.
const LATE: Duration = Duration::from_millis(150);

pub(crate) fn trials() -> Vec<Trial> {
    let tests: [(&str, fn(&mut Scene) -> Result<()>); 6] = [
        ("are_selected_by_what_they_are", selected),
        ("packets_are_late_through_restart_until_deletion", late),
        ("pressure_is_in_the_containers_own_cgroup", pressure),
        ("a_pause_and_a_kill_spare_the_sidecar", processes),
        ("a_volume_is_filled_as_the_container_sees_it", filled),
        ("a_share_of_them_is_hit_at_once", several),
    ];
    let mut trials: Vec<Trial> = tests
        .into_iter()
        .map(|(name, test)| on_the_node(format!("pods::{name}"), test))
        .collect();
    trials.push(as_root("pods::a_runtime_that_hangs_is_told", hangs));
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
    let left = match Fingerprint::take(&[]) {
        Ok(after) => before.difference(&after),
        Err(error) => vec![error.to_string()],
    };
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

fn selected(scene: &mut Scene) -> Result<()> {
    let plain = PodPlan {
        labels: labels(&[("app", "pay"), ("version", "2")]),
        annotations: labels(&[("chaos", "allowed")]),
        ..PodPlan::default()
    };
    let pay = scene.node.pod("pay-0", &plain)?;
    for name in ["istio-proxy", "pay", "logger"] {
        scene
            .node
            .container(&pay, name, &ContainerPlan::default())?;
    }
    let host = PodPlan {
        on_host: true,
        annotations: labels(&[("kubectl.kubernetes.io/default-container", "second")]),
        ..plain.clone()
    };
    let host = scene.node.pod("pay-host", &host)?;
    for name in ["first", "second"] {
        scene
            .node
            .container(&host, name, &ContainerPlan::default())?;
    }
    let system = PodPlan {
        namespace: Some("kube-system".to_owned()),
        ..plain
    };
    let system = scene.node.pod("pay-system", &system)?;
    scene
        .node
        .container(&system, "pay", &ContainerPlan::default())?;

    let cpu = || json!({ "cpu": { "load": "1%" } });
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
    if !excluded
        .iter()
        .any(|e| e.starts_with("pod shop/pay-host: ") && e.contains("hostNetwork"))
    {
        return Err(format!("the pod in the node's network is not told: {excluded:?}").into());
    }
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
    let protected = json!({ "pod": { "namespace": "kube-system" } });
    let (found, excluded) = scene.found(protected, cpu())?;
    expect("a protected namespace", &found, &[])?;
    expect(
        "protected",
        &excluded,
        &["pod kube-system/pay-system: the node's policy protects namespace kube-system"],
    )?;
    by_container(scene)?;
    for pod in [&pay, &host, &system] {
        scene.node.remove_pod(pod)?;
    }
    let (found, _) = scene.found(
        json!({ "pod": { "namespace": "shop", "labels": { "app": "pay" } } }),
        cpu(),
    )?;
    expect("when they are deleted", &found, &[])
}

fn by_container(scene: &mut Scene) -> Result<()> {
    let cpu = || json!({ "cpu": { "load": "1%" } });
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
    const QUOTA_PERCENT: i64 = 40;
    let plan = ContainerPlan {
        cpu_percent: QUOTA_PERCENT,
        memory_bytes: 256 << 20,
        ..shell(REDIS)
    };
    let (pod, main) = scene.pod_with("busy", &plan)?;
    let sidecar = scene.node.container(
        &pod,
        "linkerd-proxy",
        &shell("while true; do sleep 1; done"),
    )?;
    scene.answers(Node::at(&pod, 6379)?, PING)?;
    let cpu = json!({ "cpu": { "load": "50%", "of": "quota" } });
    let fault = scene.inject(pod_named("busy"), cpu)?;
    std::thread::sleep(Duration::from_millis(500));
    let (begun, before, spared) = (Instant::now(), used(&main)?, used(&sidecar)?);
    std::thread::sleep(Duration::from_secs(2));
    let share = (used(&main)? - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let beside = (used(&sidecar)? - spared).as_secs_f64() / begun.elapsed().as_secs_f64();
    let asked = QUOTA_PERCENT as f64 / 100.0 / 2.0;
    if (share - asked).abs() > asked / 5.0 || beside > asked / 4.0 {
        let dose = scene.agent.stop(&fault)?.dose;
        return Err(format!("{share:.3} cores in the container and {beside:.3} beside it, where {asked:.3} were asked for: {dose:?}").into());
    }
    scene.node.remove_container(&main)?;
    gone(scene, &fault)?;
    let again = scene.node.container(&pod, "busy", &plan)?;
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
        mounts: vec![("/data".to_owned(), "/run/volume".to_owned())],
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

/// A runtime that takes a connection and never answers, one that is no more, and one that speaks something else.
fn hangs() -> Result<()> {
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
