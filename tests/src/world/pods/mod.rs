//! A node's container runtime, for real: Debian's containerd with its CRI plugin, runc and CNI plugins, told what to run as a
//! kubelet tells it.
//!
//! It lives in a mount and a network namespace of its own, in which /run is its own too and its socket is where every node has
//! it. Pods are on a bridge there, so that the machine's own network is left alone.

mod config;
mod cri;
pub mod docker;
mod image;
pub mod manifest;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::netns::enter;
use super::{Result, output, shout, until, victim};
use crate::vm::on_path;
pub use cri::{ContainerSecurity, Dns, Mount, Resources};
use cri::{Cri, Made, Named, Nothing, Pairs, Verbose};

/// Where containerd's socket is on every node.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// What the image is called.
const IMAGE: &str = "squall.lab/all:1";

/// How long containerd may take to start or to end, on an emulated machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Where Debian keeps the CNI plugins.
const CNI: &str = "/usr/lib/cni";

/// Those of them that the pods' network is made with.
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

/// Programs that pods run.
const SERVERS: [&str; 2] = ["nginx", "redis-check-rdb"];

/// A node with a container runtime. It is stopped, with all its pods, when this is dropped.
#[derive(Debug)]
pub struct Node {
    containerd: Child,
    cri: Cri,
    netns: File,
    /// The cgroup below which all pods are.
    group: String,
    made: u32,
    scratch: TempDir,
}

/// A pod that is to be.
#[derive(Clone, Debug, Default)]
pub struct PodPlan {
    /// Its namespace, `shop` where nothing is said.
    pub namespace: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// It is in the node's network namespace.
    pub host_network: bool,
    /// It sees the node's processes.
    pub host_pid: bool,
    /// Its resolver; the node's where nothing is said.
    pub dns: Option<Dns>,
}

/// A container that is to be.
#[derive(Clone, Debug, Default)]
pub struct ContainerPlan {
    /// Its image; the one with all that pods run where nothing is said.
    pub image: Option<String>,
    /// What it runs instead of what its image says.
    pub command: Vec<String>,
    /// Arguments instead of those that its image says.
    pub args: Vec<String>,
    /// Variables of its environment.
    pub env: Vec<(String, String)>,
    /// The user it runs as.
    pub user: i64,
    /// What of the node it sees.
    pub mounts: Vec<Mount>,
    /// What it may use.
    pub resources: Resources,
    /// What it may do.
    pub security: ContainerSecurity,
}

/// The period of quotas, as kubelets set it.
const PERIOD_US: i64 = 100_000;

impl Resources {
    /// A quota in percent of a core, and bytes of memory; no limit at 0.
    #[must_use]
    pub fn limited(cpu_percent: i64, memory_bytes: i64) -> Self {
        let quota = cpu_percent * PERIOD_US / 100;
        Self {
            cpu_period: if quota > 0 { PERIOD_US } else { 0 },
            cpu_quota: quota,
            memory_bytes,
            ..Self::default()
        }
    }
}

/// A pod that runs.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The runtime's id for it.
    pub id: String,
    /// Its address on the bridge; none in the node's network namespace.
    pub address: Option<IpAddr>,
    config: cri::PodConfig,
}

/// A container that was started.
#[derive(Clone, Debug)]
pub struct Container {
    /// The runtime's id for it.
    pub id: String,
    /// Its main process.
    pub pid: u32,
}

/// What a node needs, and the Debian package that has it.
const NEEDED: [(&str, &str); 7] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("containerd-shim-runc-v2", "containerd"),
    ("runc", "runc"),
    // A cluster's names.
    ("dnsmasq", "dnsmasq-base"),
    ("nginx", "nginx-light"),
    ("redis-check-rdb", "redis-tools"),
];

/// A cgroup for all that one runtime starts, of its own.
fn group(what: &str) -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    format!("sqt-{what}-{}-{number}", std::process::id())
}

/// All programs that a node and its pods are made of, as far as they are there.
pub fn programs() -> Vec<PathBuf> {
    let plugins = PLUGINS.map(|name| Path::new(CNI).join(name));
    let plugins = plugins.into_iter().filter(|path| path.exists());
    let named = NEEDED.iter().filter_map(|(program, _)| on_path(program));
    named.chain(plugins).collect()
}

/// The package that is missing for a node, if one is.
pub fn missing() -> Option<&'static str> {
    if !Path::new(CNI).join("bridge").exists() {
        return Some("containernetworking-plugins");
    }
    let absent = NEEDED
        .iter()
        .find(|(program, _)| on_path(program).is_none());
    absent.map(|(_, package)| *package)
}

impl Node {
    /// Starts containerd, and gives it an image in which there are nginx, Redis, the given programs and folders.
    ///
    /// # Errors
    /// When something is missing, or does not start.
    pub fn start(programs: &[PathBuf], folders: &[PathBuf]) -> Result<Self> {
        let scratch = TempDir::with_prefix("squall-lab-node-")?;
        let servers = SERVERS.iter().filter_map(|name| on_path(name));
        let programs: Vec<PathBuf> = servers.chain(programs.iter().cloned()).collect();
        let archive = image::make(scratch.path(), IMAGE, &programs, folders)?;
        let config = config::write(scratch.path())?;
        let containerd = apart(|| {
            Ok(Command::new("containerd")
                .arg("--config")
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(scratch.path().join("log"))?)
                .spawn()?)
        })?;
        let process = PathBuf::from(format!("/proc/{}", containerd.id()));
        let netns = File::open(process.join("ns/net"))?;
        let socket = process.join("root").join(SOCKET.trim_start_matches('/'));
        let mut node = Self {
            containerd,
            cri: Cri(socket),
            netns,
            group: group("pods"),
            made: 0,
            scratch,
        };
        node.wait()?;
        node.import(&archive)?;
        Ok(node)
    }

    fn import(&self, archive: &Path) -> Result<()> {
        let mut import = Command::new("ctr");
        import.arg("--address").arg(&self.cri.0);
        import
            .args(["-n", "k8s.io", "images", "import"])
            .arg(archive);
        output(&mut import)?;
        Ok(fs::remove_file(archive)?)
    }

    /// Makes an image as a stage of a recipe says, from programs that were built: by their names.
    ///
    /// # Errors
    /// When the recipe says what is not understood, or the runtime refuses it.
    pub fn image(
        &self,
        recipe: &str,
        stage: &str,
        built: &dyn Fn(&str) -> Result<PathBuf>,
    ) -> Result<String> {
        let tag = format!("squall.lab/{stage}:1");
        let archive = image::from_recipe(self.scratch.path(), &tag, recipe, stage, built)?;
        self.import(&archive)?;
        Ok(tag)
    }

    /// What a container has said, on whichever of its streams.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.scratch.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Where a folder of the node is, seen from outside: /run is its own; what would be on its disk is in a scratch folder; the rest
    /// is the machine's.
    #[must_use]
    pub fn outside(&self, folder: &str) -> PathBuf {
        let inside = folder.trim_start_matches('/');
        if inside.starts_with("run/") {
            return PathBuf::from(format!("/proc/{}/root", self.pid())).join(inside);
        }
        if inside.starts_with("var/") {
            return self.scratch.path().join("disk").join(inside);
        }
        PathBuf::from(folder)
    }

    fn wait(&mut self) -> Result<()> {
        let ready = || {
            let ended = self.containerd.try_wait().ok().flatten();
            let answer = self.cri.call::<Nothing>("Status", &Nothing {});
            match (ended, answer) {
                (Some(code), _) => Some(Err(format!("containerd ended with {code}"))),
                (None, Ok(_)) => Some(Ok(())),
                (None, Err(_)) => None,
            }
        };
        let begun = until("containerd's CRI", LIMIT, ready);
        begun.and_then(|ready| Ok(ready?)).map_err(|error| {
            let log = fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(8).collect();
            format!("{error}; its last words: {}", last.join("\n")).into()
        })
    }

    /// Where the agent finds the runtime: its socket, seen from outside.
    pub fn socket(&self) -> &Path {
        &self.cri.0
    }

    /// The process whose mount and network namespaces are the node's.
    pub fn pid(&self) -> u32 {
        self.containerd.id()
    }

    /// Does `work` where the pods' bridge is.
    ///
    /// # Errors
    /// What `work` fails with.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        enter(&self.netns, work)
    }

    /// Runs a pod.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn pod(&mut self, name: &str, plan: &PodPlan) -> Result<Pod> {
        self.made += 1;
        let namespaces = cri::Namespaces {
            network: if plan.host_network { 2 } else { 0 },
            pid: if plan.host_pid { 2 } else { 1 },
            ipc: 0,
        };
        let uid = format!("{}-{}", name, self.made);
        let config = cri::PodConfig {
            hostname: if plan.host_network {
                String::new()
            } else {
                name.to_owned()
            },
            log_directory: self.scratch.path().display().to_string(),
            dns: plan.dns.clone(),
            linux: Some(cri::PodLinux {
                cgroup_parent: format!("/{}/pod{uid}", self.group),
                security: Some(cri::PodSecurity {
                    namespaces: Some(namespaces),
                }),
            }),
            metadata: Some(cri::Metadata {
                name: name.to_owned(),
                uid,
                namespace: plan.namespace.clone().unwrap_or_else(|| "shop".to_owned()),
            }),
            labels: plan.labels.clone() as Pairs,
            annotations: plan.annotations.clone() as Pairs,
        };
        let run = cri::RunPod {
            config: Some(config.clone()),
        };
        let made: Made = self.cri.call("RunPodSandbox", &run)?;
        let status: cri::Status = self.cri.call("PodSandboxStatus", &verbose(&made.id))?;
        let network = status.status.and_then(|status| status.network);
        Ok(Pod {
            name: name.to_owned(),
            id: made.id,
            address: network.and_then(|network| network.ip.parse().ok()),
            config,
        })
    }

    /// Runs a container in a pod.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn container(&mut self, pod: &Pod, name: &str, plan: &ContainerPlan) -> Result<Container> {
        self.made += 1;
        let pods = pod.config.linux.as_ref().and_then(|l| l.security.as_ref());
        let variable = |(name, value): &(String, String)| cri::Variable {
            name: name.clone(),
            value: value.clone(),
        };
        let config = cri::ContainerConfig {
            metadata: Some(cri::Attempt {
                name: name.to_owned(),
                attempt: self.made,
            }),
            image: Some(Named {
                id: plan.image.clone().unwrap_or_else(|| IMAGE.to_owned()),
            }),
            command: plan.command.clone(),
            args: plan.args.clone(),
            env: plan.env.iter().map(variable).collect(),
            mounts: plan.mounts.clone(),
            labels: Pairs::from([("container".to_owned(), name.to_owned())]),
            log_path: format!("{name}.log"),
            linux: Some(cri::ContainerLinux {
                resources: Some(plan.resources),
                security: Some(ContainerSecurity {
                    namespaces: pods.and_then(|s| s.namespaces),
                    user: Some(cri::Number { value: plan.user }),
                    ..plan.security.clone()
                }),
            }),
        };
        let create = cri::CreateContainer {
            pod: pod.id.clone(),
            config: Some(config),
            pod_config: Some(pod.config.clone()),
        };
        let made: Made = self.cri.call("CreateContainer", &create)?;
        let named = Named {
            id: made.id.clone(),
        };
        let _: Nothing = self.cri.call("StartContainer", &named)?;
        let status: cri::ContainerStatus = self.cri.call("ContainerStatus", &verbose(&made.id))?;
        let info = status.info.get("info").map_or("{}", String::as_str);
        let info: serde_json::Value = serde_json::from_str(info)?;
        let pid = info["pid"].as_u64().ok_or("the container has no process")?;
        Ok(Container {
            id: made.id,
            pid: u32::try_from(pid)?,
        })
    }

    /// Whether a container still runs.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn runs(&self, container: &Container) -> Result<bool> {
        let status: cri::ContainerStatus =
            self.cri.call("ContainerStatus", &verbose(&container.id))?;
        Ok(status.status.is_some_and(|status| status.state == 1))
    }

    /// Ends a container at once and removes it, as a kubelet does before it starts the next.
    ///
    /// # Errors
    /// What the runtime says: also when its cgroup cannot be removed.
    pub fn remove_container(&self, container: &Container) -> Result<()> {
        let named = Named {
            id: container.id.clone(),
        };
        let _: Nothing = self.cri.call("StopContainer", &named)?;
        let _: Nothing = self.cri.call("RemoveContainer", &named)?;
        Ok(())
    }

    /// Deletes a pod with all that is in it.
    ///
    /// # Errors
    /// What the runtime says.
    pub fn remove_pod(&self, pod: &Pod) -> Result<()> {
        let named = Named { id: pod.id.clone() };
        let _: Nothing = self.cri.call("StopPodSandbox", &named)?;
        let _: Nothing = self.cri.call("RemovePodSandbox", &named)?;
        Ok(())
    }

    /// Where a pod's port is.
    ///
    /// # Errors
    /// When it has no address.
    pub fn at(pod: &Pod, port: u16) -> Result<SocketAddr> {
        let address = pod.address.ok_or("the pod has no address of its own")?;
        Ok(SocketAddr::new(address, port))
    }
}

fn verbose(id: &str) -> Verbose {
    Verbose {
        id: id.to_owned(),
        verbose: true,
    }
}

/// Does `work` on a thread with a mount and a network namespace of its own, where /run is empty and loopback up.
fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let done = thread::scope(|scope| {
        let apart = scope.spawn(|| -> Result<T> {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
            let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            mount(none, "/", none, private, none)?;
            mount(Some("lab"), "/run", Some("tmpfs"), MsFlags::empty(), none)?;
            output(Command::new("ip").args(["link", "set", "lo", "up"]))?;
            work()
        });
        apart.join()
    });
    done.unwrap_or_else(|_| Err("the start of a node panicked".into()))
}

/// The list of pods.
#[derive(Clone, PartialEq, prost::Message)]
struct Pods {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Made>,
}

impl Node {
    /// Takes all pods down, then the runtime, then what is left of either.
    fn end(&mut self) {
        let pods = self.cri.call::<Pods>("ListPodSandbox", &Nothing {});
        for pod in pods.map(|pods| pods.items).unwrap_or_default() {
            let named = Named { id: pod.id };
            let stopped = self.cri.call::<Nothing>("StopPodSandbox", &named);
            let removed =
                stopped.and_then(|_| self.cri.call::<Nothing>("RemovePodSandbox", &named));
            if let Err(error) = removed {
                shout(&format!("pod {}: {error}", named.id));
            }
        }
        let _ = victim::signal(self.containerd.id(), Signal::SIGTERM);
        let ended = || matches!(self.containerd.try_wait(), Ok(Some(_))).then_some(());
        if until("containerd's end", LIMIT, ended).is_err() {
            let _ = self.containerd.kill();
            let _ = self.containerd.wait();
        }
        sweep(self.scratch.path(), &self.group);
    }
}

/// A shim outlives its runtime by design, and one whose container was not removed would stay for ever; runc leaves the groups above
/// its containers'.
fn sweep(scratch: &Path, group: &str) {
    for pid in with_word(&scratch.display().to_string()) {
        let _ = victim::signal(pid, Signal::SIGKILL);
    }
    for hierarchy in hierarchies() {
        remove_groups(&hierarchy.join(group));
    }
}

/// The processes in whose command line there is this word.
fn with_word(word: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        (pid != std::process::id() && String::from_utf8_lossy(&line).contains(word)).then_some(pid)
    };
    processes.filter_map(pid).collect()
}

/// Where cgroups are mounted: v2's one tree, or v1's one for each controller.
pub fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let folders = fs::read_dir(root).into_iter().flatten().flatten();
    folders
        .map(|entry| entry.path())
        .filter(|p| p.is_dir())
        .collect()
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(group)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        shout(&format!("cgroup {}: {error}", group.display()));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}
