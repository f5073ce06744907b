//! The agent as Kubernetes runs it: its image, made as the recipe says, in a container that may do what the DaemonSet says and no more, with
//! the node's process ids, its own network, a root that it cannot write to, and a cluster's names. The controller is the real one.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::world::agent::program;
use lab::world::pods::manifest::{Source, Template};
use lab::world::pods::{Container, ContainerPlan, Dns, Pod, PodPlan};
use lab::world::serve::until_it_serves;
use lab::world::{Ended, Result, until, victim};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{GET, LATE, Scene, labels, states, used};

const MANIFEST: &str = include_str!("../../../../deploy/kubernetes/base/agent.yaml");
const POLICY: &str = include_str!("../../../../deploy/kubernetes/base/policy.yaml");
const RECIPE: &str = include_str!("../../../../deploy/image/Containerfile");

/// Names the agent that the image is made of, where it is not the one that was built beside the tests: the one that is shipped.
const SHIPPED: &str = "SQUALL_SHIPPED_AGENT";

/// How long a link, a fault or an end may take on an emulated machine.
const LIMIT: Duration = Duration::from_secs(90);

/// The bridge, which is every pod's way to the node.
const BRIDGE: &str = "10.88.0.1";
const PORT: u16 = 7410;

/// The controller's service, as a cluster's DNS knows it.
const SERVICE: &str = "squall-controller.squall.svc.cluster.local";
const NODE: &str = "node-a";

/// Where a cluster looks for what is no whole name.
const SEARCHES: [&str; 3] = [
    "squall-node.svc.cluster.local",
    "svc.cluster.local",
    "cluster.local",
];

/// The cluster around the DaemonSet: its names, and the controller behind one of them.
struct Cluster {
    home: TempDir,
    _serving: [Ended; 2],
}

impl Cluster {
    fn start(scene: &Scene) -> Result<Self> {
        let home = TempDir::new()?;
        // Its one replica may be hit: it is all there is.
        let config = "environments: { lab: { budget: { lastReplica: hit } } }\n";
        fs::write(home.path().join("config.yaml"), config)?;
        let mut names = Command::new("dnsmasq");
        names
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--pid-file=",
            ])
            .args(["--no-hosts", "--no-resolv", "--user=root"])
            .args(["--bind-interfaces", "--listen-address", BRIDGE])
            .arg("--local=/cluster.local/")
            .arg(format!("--address=/{SERVICE}/{BRIDGE}"));
        let names = scene.node.enter(|| Ok(Ended(names.spawn()?)))?;
        let mut serve = Self::squall(&home)?;
        serve
            .args(["serve", "--listen", &format!("0.0.0.0:{PORT}")])
            .args(["--name", "squall-controller.squall.svc"])
            .arg("--config")
            .arg(home.path().join("config.yaml"))
            .stderr(Stdio::piped());
        let mut serving = scene.node.enter(|| Ok(Ended(serve.spawn()?)))?;
        until_it_serves(&mut serving.0)?;
        Ok(Self {
            home,
            _serving: [names, serving],
        })
    }

    fn squall(home: &TempDir) -> Result<Command> {
        let mut command = Command::new(program("squall")?);
        command
            .env("SQUALL_DATA", home.path().join("data"))
            .env("SQUALL_CONTROLLER", format!("https://127.0.0.1:{PORT}"))
            .stdin(Stdio::null());
        Ok(command)
    }

    /// What a command says.
    fn says(&self, scene: &Scene, words: &[&str]) -> Result<String> {
        let mut command = Self::squall(&self.home)?;
        command.args(words);
        let output = scene.node.enter(|| Ok(command.output()?))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("squall {}: {said}", words.join(" ")).into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Since when the node's agent is linked, in microseconds since the Unix epoch.
    fn linked(&self, scene: &Scene) -> Option<i64> {
        let agents = self.says(scene, &["agents", "--json"]).ok()?;
        let agents: Value = serde_json::from_str(&agents).ok()?;
        let agent = agents.get(0).filter(|agent| agent["node"] == NODE)?;
        agent["connected"]["sinceUs"].as_i64()
    }
}

/// The DaemonSet's pod on this node.
struct DaemonSet {
    template: Template,
    pod: Pod,
    plan: ContainerPlan,
}

impl DaemonSet {
    fn start(scene: &mut Scene, cluster: &Cluster) -> Result<Self> {
        let template = Template::of(MANIFEST, "DaemonSet")?;
        let files = |volume: &str| cluster.home.path().join(volume);
        for volume in ["policy", "join"] {
            fs::create_dir_all(files(volume))?;
        }
        fs::write(files("policy").join("policy.yaml"), POLICY)?;
        let token = cluster.says(scene, &["token", "create"])?;
        fs::write(files("join").join("token"), token)?;
        let outside = |source: Source<'_>| match source {
            Source::Files(volume) => Ok(files(volume)),
            Source::Folder { path, make } => {
                let there = scene.node.outside(path);
                if make {
                    fs::create_dir_all(&there)?;
                }
                // The runtime sees the node's own /run.
                Ok(if path.starts_with("/run/") {
                    PathBuf::from(path)
                } else {
                    there
                })
            }
        };
        let mut plan = template.container(NODE, &outside)?;
        if let Some(capabilities) = &mut plan.security.capabilities
            && !may(SYS_RESOURCE)?
        {
            capabilities.add.retain(|name| name != "SYS_RESOURCE");
        }
        let built = |name: &str| match std::env::var_os(SHIPPED) {
            Some(file) => Ok(PathBuf::from(file)),
            None => program(name),
        };
        plan.image = Some(scene.node.image(RECIPE, "agent", &built)?);
        let pod = PodPlan {
            namespace: Some("squall-node".to_owned()),
            dns: Some(Dns {
                servers: vec![BRIDGE.to_owned()],
                searches: SEARCHES.map(str::to_owned).to_vec(),
                options: vec!["ndots:5".to_owned()],
            }),
            ..template.pod()
        };
        let pod = scene.node.pod("squall-agent", &pod)?;
        Ok(Self {
            template,
            pod,
            plan,
        })
    }

    /// Starts the container, or starts it again, and waits for its link.
    fn run(&self, scene: &mut Scene, cluster: &Cluster) -> Result<Container> {
        let last = cluster.linked(scene);
        let name = self.template.name();
        let container = scene.node.container(&self.pod, name, &self.plan)?;
        let linked = || cluster.linked(scene).filter(|since| last < Some(*since));
        until("the agent's link", LIMIT, linked)
            .map_err(|error| format!("{error}; it said: {}", scene.node.log(name)))?;
        Ok(container)
    }
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

/// What faults are felt by: packets that leave one pod, and the processor and processes of another.
struct Victims {
    far: (Pod, SocketAddr, Duration),
    busy: (Pod, Container),
}

impl Victims {
    fn start(scene: &mut Scene) -> Result<Self> {
        let (far, _, at) = scene.nginx("far")?;
        let before = scene.fastest(at, GET)?;
        let plan = PodPlan {
            labels: labels(&[("app", "still")]),
            ..PodPlan::default()
        };
        let busy = scene.node.pod("still", &plan)?;
        let container = scene
            .node
            .container(&busy, "still", &ContainerPlan::default())?;
        Ok(Self {
            far: (far, at, before),
            busy: (busy, container),
        })
    }

    /// On packets, by pressure, by tracing: each needs other rights.
    fn method(&self) -> String {
        let (_, at, _) = &self.far;
        let ms = LATE.as_millis();
        format!(
            "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: two-pods, owner: lab, runbook: \"https://wiki.example/two\" }}
hypothesis: One pod is there while its answers are late and another stands still.
steadyState:
  - name: it is there
    probe: {{ tcp: {{ address: \"{at}\", every: 50ms, timeout: 2s }} }}
    expect: [ success >= 50% ]
method:
  - fault: {{ delay: {{ time: {ms}ms, direction: egress }} }}
    on: {{ pod: {{ namespace: shop, labels: {{ app: far }} }} }}
    hold: 1s
  - faults:
      - cpu: {{ load: 30% }}
      - pause: {{}}
    on: {{ pod: {{ namespace: shop, labels: {{ app: still }} }} }}
    hold: 5m
    keepPrevious: true
baseline: 3s
recovery: 10s
lease: 4s
"
        )
    }

    fn hit(&self, scene: &Scene) -> Result<()> {
        let ((_, at, before), (_, still)) = (&self.far, &self.busy);
        until("a late answer", LIMIT, || {
            let took = scene.fastest(*at, GET).ok()?;
            (took >= *before + LATE).then_some(())
        })?;
        let paused = || states(still).ok()?.contains(&'t').then_some(());
        until("a process that stands still", LIMIT, paused)?;
        let begun = used(still)?;
        until("processor time in the container's group", LIMIT, || {
            (used(still).ok()? >= begun + Duration::from_millis(200)).then_some(())
        })
    }

    fn free(&self, scene: &Scene) -> Result<()> {
        let ((_, at, before), (_, still)) = (&self.far, &self.busy);
        until("an answer that is not late", LIMIT, || {
            let took = scene.fastest(*at, GET).ok()?;
            (took < *before + LATE).then_some(())
        })?;
        // Its one process is left, and runs.
        until("the container's own process alone", LIMIT, || {
            matches!(states(still).ok()?.as_slice(), ['S']).then_some(())
        })
    }
}

/// The agent's container is killed while a run of the real controller is under way: all that it held is gone at once, the run says
/// whose loss ended it, and the container that the kubelet starts next is the same agent again, without a token.
pub(super) fn injects(scene: &mut Scene) -> Result<()> {
    let victims = Victims::start(scene)?;
    let cluster = Cluster::start(scene)?;
    let daemon_set = DaemonSet::start(scene, &cluster)?;
    let agent = daemon_set.run(scene, &cluster)?;
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid))?;
    if !status.contains("NoNewPrivs:\t1") || !status.contains("Seccomp:\t2") {
        return Err(format!("the agent is not confined: {status}").into());
    }
    let file = cluster.home.path().join("two.yaml");
    fs::write(&file, victims.method())?;
    let mut run = Cluster::squall(&cluster.home)?;
    run.args(["run", "--json", "--environment", "lab", "--controller"])
        .arg(format!("https://127.0.0.1:{PORT}"))
        .arg(file);
    run.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = scene.node.enter(|| Ok(run.spawn()?))?;
    let hit = victims.hit(scene);
    victim::signal(agent.pid, Signal::SIGKILL)?;
    let output = run.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|_| said)?;
    let because = report["because"].as_str().unwrap_or_default();
    hit.map_err(|error| {
        let log = scene.node.log(daemon_set.template.name());
        format!("{error}; the run: {because}; the agent: {log}")
    })?;
    victims.free(scene)?;
    if output.status.code() != Some(3) || !because.contains(NODE) {
        return Err(format!("{}: {because}", output.status).into());
    }
    fs::remove_file(cluster.home.path().join("join/token"))?;
    daemon_set.run(scene, &cluster)?;
    for pod in [&daemon_set.pod, &victims.far.0, &victims.busy.0] {
        scene.node.remove_pod(pod)?;
    }
    Ok(())
}
