//! Pods and containers: asked of the node's container runtimes, and nothing of Kubernetes.
//!
//! ```text
//!   ask (async, with limits) ─▶ which ones match, and the pids that the runtime names
//!   take (blocking)          ─▶ a pidfd for each, shown to be that container's by its cgroup; its network namespace
//! ```
//!
//! A runtime that hangs is an exclusion with the reason after [`OPEN_LIMIT`] and [`ANSWER_LIMIT`]; the others are heard
//! meanwhile. Nothing is kept between questions: each opens its connections anew and closes them.

mod choose;
mod cri;
mod docker;
pub(crate) mod grasp;
mod grpc;

use super::Rules;
use cri::Cri;
use docker::Docker;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use squall_experiments::fault::FaultKind;
use squall_experiments::target::{ContainerSelector, PodSelector, Runtime, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// How long a runtime may take to let us in: it accepts in microseconds, and one that hangs accepts nothing.
const OPEN_LIMIT: Duration = Duration::from_secs(2);
/// How long it may take for one answer: milliseconds as a rule, a second on a node that starts many containers.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The longest answer that is taken in. The list of a thousand containers has about one MiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Questions to one runtime at once: enough to hide its latency, and no burst that would slow it down for others.
const QUESTIONS_MAX: usize = 8;
/// The most processes watched for one pod without a process of its own.
const KEEPERS_MAX: usize = 16;

/// Labels, annotations.
pub(crate) type Pairs = BTreeMap<String, String>;
/// One of the names of an image.
type Image = String;

/// Where the node's container runtimes listen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Sockets {
    /// Runtimes that speak CRI.
    pub(crate) cri: Vec<PathBuf>,
    /// Docker engines.
    pub(crate) docker: Vec<PathBuf>,
}

impl Default for Sockets {
    /// Where containerd, CRI-O, cri-dockerd and Docker listen as they are packaged, and where k3s and RKE2 have their containerd.
    fn default() -> Self {
        const CRI: [&str; 7] = [
            "/run/containerd/containerd.sock",
            "/run/crio/crio.sock",
            "/run/k3s/containerd/containerd.sock",
            "/run/cri-dockerd.sock",
            "/var/run/containerd/containerd.sock",
            "/var/run/crio/crio.sock",
            "/var/run/cri-dockerd.sock",
        ];
        const DOCKER: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];
        Self {
            cri: CRI.map(PathBuf::from).to_vec(),
            docker: DOCKER.map(PathBuf::from).to_vec(),
        }
    }
}

/// A pod, as its runtime lists it.
#[derive(Debug, Clone, Default)]
struct Pod {
    id: String,
    namespace: String,
    name: String,
    labels: Pairs,
    annotations: Pairs,
}

impl Pod {
    fn label(&self) -> String {
        format!("pod {}/{}", self.namespace, self.name)
    }
}

/// A container that runs, as its runtime lists it.
#[derive(Debug, Clone, Default)]
struct Container {
    id: String,
    name: String,
    labels: Pairs,
    images: Vec<Image>,
    /// When it was made, to be compared with others of its runtime.
    created: i64,
    /// The sandbox that it is in.
    pod: Option<String>,
    /// It is known to be in the node's own network namespace.
    host_network: bool,
}

/// Something that matched: the processes to be taken hold of, each beside the id that its cgroup must show.
#[derive(Debug, Default)]
pub(crate) struct Match {
    id: String,
    label: String,
    /// The main process of the container that is hit.
    main: Option<(String, u32)>,
    /// The processes that keep the network namespace.
    keepers: Vec<(String, u32)>,
}

/// The answer of all runtimes.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    matches: Vec<Match>,
    excluded: Vec<(String, String)>,
}

/// What the faults need to be taken hold of.
#[derive(Debug, Clone, Copy)]
struct Needs {
    netns: bool,
    main: bool,
}

/// One runtime that is to be asked.
enum Socket {
    Cri(PathBuf),
    Docker(PathBuf),
}

/// Asks for what a target means; nothing for one that is neither a pod nor a container.
pub(crate) async fn ask(
    target: &Target,
    faults: &[FaultKind],
    sockets: &Sockets,
    rules: &Rules,
) -> Asked {
    let needs = Needs {
        netns: faults.iter().any(|kind| kind.is_network()),
        main: !faults.iter().all(|kind| kind.is_network()),
    };
    let cri = existing(&sockets.cri).into_iter().map(Socket::Cri);
    let asked: Vec<Socket> = match target {
        Target::Pod(_) => cri.collect(),
        Target::Container(_) => {
            let docker = existing(&sockets.docker).into_iter().map(Socket::Docker);
            cri.chain(docker).collect()
        }
        _ => return Asked::default(),
    };
    let mut all = Asked::default();
    if asked.is_empty() {
        all.excluded.push((target.to_string(), none_there(sockets)));
    }
    let answers = asked.iter().map(|socket| async move {
        let (path, answer) = match (socket, target) {
            (Socket::Cri(path), Target::Pod(selector)) => {
                (path, pods(path, selector, needs, rules).await)
            }
            (Socket::Cri(path), Target::Container(selector)) => {
                (path, containers(path, selector, needs, rules).await)
            }
            (Socket::Docker(path), Target::Container(selector)) => {
                (path, docker_containers(path, selector, needs).await)
            }
            (Socket::Cri(path) | Socket::Docker(path), _) => (path, Ok(Asked::default())),
        };
        answer.unwrap_or_else(|reason| Asked {
            matches: Vec::new(),
            excluded: vec![(
                format!("the container runtime at {}", path.display()),
                reason,
            )],
        })
    });
    for mut answer in join_all(answers).await {
        all.matches.append(&mut answer.matches);
        all.excluded.append(&mut answer.excluded);
    }
    all
}

/// The sockets that are there, each once: /var/run is /run almost everywhere. They are told apart by what they are, as a path
/// such as /proc/1/root/run/… leads elsewhere than it reads.
fn existing(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let new = |path: &&PathBuf| {
        std::fs::metadata(path).is_ok_and(|socket| seen.insert((socket.dev(), socket.ino())))
    };
    paths.iter().filter(new).cloned().collect()
}

fn none_there(sockets: &Sockets) -> String {
    let all = sockets.cri.iter().chain(&sockets.docker);
    let all: Vec<String> = all.map(|path| path.display().to_string()).collect();
    format!(
        "no container runtime listens at {}: name its socket with --cri-socket or --docker-socket, or below `runtimes` in the \
         node's policy; an agent in a container needs it mounted",
        all.join(", ")
    )
}

async fn pods(
    socket: &std::path::Path,
    selector: &PodSelector,
    needs: Needs,
    rules: &Rules,
) -> Result<Asked, String> {
    let cri = Cri::open(socket).await?;
    let mut pods = cri.pods().await?;
    pods.retain(|pod| choose::pod_matches(selector, pod));
    let containers = if pods.is_empty() {
        Vec::new()
    } else {
        cri.containers().await?
    };
    let found = pods.iter().map(|pod| {
        let inside = |c: &&Container| c.pod.as_ref() == Some(&pod.id);
        let inside: Vec<&Container> = containers.iter().filter(inside).collect();
        let cri = &cri;
        async move {
            let found = one_pod(cri, selector, pod, &inside, needs, rules).await;
            found.map_err(|reason| (pod.label(), reason))
        }
    });
    Ok(collect(found).await)
}

/// Works off the questions, some at a time.
async fn collect<F>(questions: impl Iterator<Item = F>) -> Asked
where
    F: Future<Output = Result<Match, (String, String)>>,
{
    let questions: Vec<F> = questions.collect();
    let mut answers = stream::iter(questions).buffered(QUESTIONS_MAX);
    let mut asked = Asked::default();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(found) => asked.matches.push(found),
            Err(excluded) => asked.excluded.push(excluded),
        }
    }
    asked
}

const NODES_OWN: &str = "it is in the node's own network namespace (hostNetwork), where others would be hit too: say `host` if you \
                         mean that";

async fn one_pod(
    cri: &Cri,
    selector: &PodSelector,
    pod: &Pod,
    containers: &[&Container],
    needs: Needs,
    rules: &Rules,
) -> Result<Match, String> {
    unprotected(pod, rules)?;
    let mut found = Match {
        id: format!("pod:{}", pod.id),
        label: pod.label(),
        ..Match::default()
    };
    if needs.main {
        let chosen = choose::main_of(selector.container.as_deref(), pod, containers)?;
        let (pid, _) = cri.main(&chosen.id).await?;
        found.id = format!("{}:{}", found.id, chosen.id);
        found.label = format!("{}, container {}", found.label, chosen.name);
        found.main = Some((chosen.id.clone(), pid));
    }
    if needs.netns {
        found.keepers = keepers(cri, &pod.id, containers).await?;
    }
    Ok(found)
}

fn unprotected(pod: &Pod, rules: &Rules) -> Result<(), String> {
    rules.protects_namespace(&pod.namespace).map_or(Ok(()), Err)
}

/// The processes that keep a pod's network namespace: its sandbox's, or where it has none those of its containers.
async fn keepers(
    cri: &Cri,
    pod: &str,
    containers: &[&Container],
) -> Result<Vec<(String, u32)>, String> {
    let sandbox = cri.sandbox(pod).await?;
    if sandbox.host_network {
        return Err(NODES_OWN.to_owned());
    }
    if let Some(pid) = sandbox.pid {
        return Ok(vec![(pod.to_owned(), pid)]);
    }
    let mut keepers = Vec::new();
    for container in containers.iter().take(KEEPERS_MAX) {
        // One that has just ended keeps nothing.
        if let Ok((pid, _)) = cri.main(&container.id).await {
            keepers.push((container.id.clone(), pid));
        }
    }
    if keepers.is_empty() {
        return Err(
            "it has no process by which its network namespace could be found: none of its containers runs".to_owned(),
        );
    }
    Ok(keepers)
}

async fn containers(
    socket: &std::path::Path,
    selector: &ContainerSelector,
    needs: Needs,
    rules: &Rules,
) -> Result<Asked, String> {
    let cri = Cri::open(socket).await?;
    if selector.runtime.is_some() && selector.runtime != cri.runtime {
        return Ok(Asked::default());
    }
    let (all, pods) = (cri.containers().await?, cri.pods().await?);
    let pod_of = |c: &Container| pods.iter().find(|pod| c.pod.as_ref() == Some(&pod.id));
    let matching = all
        .iter()
        .filter(|c| choose::container_matches(selector, c, pod_of(c)));
    let matching: Vec<&Container> = matching.collect();
    let found = matching.into_iter().map(|container| {
        let (cri, pod) = (&cri, pod_of(container));
        let label = match pod {
            Some(pod) => format!("container {} of {}", container.name, pod.label()),
            None => format!("container {}", container.name),
        };
        async move {
            let found = one_container(cri, selector, container, pod, needs, rules).await;
            match found {
                Ok(Some(found)) => Some(Ok(Match { label, ..found })),
                Ok(None) => None,
                Err(reason) => Some(Err((label, reason))),
            }
        }
    });
    let found: Vec<_> = stream::iter(found.collect::<Vec<_>>())
        .buffered(QUESTIONS_MAX)
        .collect()
        .await;
    Ok(collect(found.into_iter().flatten().map(std::future::ready)).await)
}

/// `None` where it is of another image.
async fn one_container(
    cri: &Cri,
    selector: &ContainerSelector,
    container: &Container,
    pod: Option<&Pod>,
    needs: Needs,
    rules: &Rules,
) -> Result<Option<Match>, String> {
    let (pid, mut images) = cri.main(&container.id).await?;
    images.extend(container.images.iter().cloned());
    if !choose::image_matches(selector, &images) {
        return Ok(None);
    }
    if let Some(pod) = pod {
        unprotected(pod, rules)?;
    }
    let mut found = Match {
        id: format!("container:{}", container.id),
        ..Match::default()
    };
    if needs.main {
        found.main = Some((container.id.clone(), pid));
    }
    if needs.netns {
        found.keepers = match &container.pod {
            Some(pod) => keepers(cri, pod, &[container]).await?,
            None => vec![(container.id.clone(), pid)],
        };
    }
    Ok(Some(found))
}

async fn docker_containers(
    socket: &std::path::Path,
    selector: &ContainerSelector,
    needs: Needs,
) -> Result<Asked, String> {
    if selector.runtime.is_some_and(|r| r != Runtime::Docker) {
        return Ok(Asked::default());
    }
    let docker = Docker(socket.to_owned());
    let mut all = docker.containers().await?;
    all.retain(|c| {
        choose::container_matches(selector, c, None) && choose::image_matches(selector, &c.images)
    });
    let found = all.iter().map(|container| {
        let docker = &docker;
        async move {
            let label = format!("container {}", container.name);
            if needs.netns && container.host_network {
                return Err((label, NODES_OWN.to_owned()));
            }
            match docker.main(&container.id).await {
                Err(reason) => Err((label, reason)),
                Ok(pid) => {
                    let process = (container.id.clone(), pid);
                    Ok(Match {
                        id: format!("container:{}", container.id),
                        label,
                        main: needs.main.then(|| process.clone()),
                        keepers: needs.netns.then_some(process).into_iter().collect(),
                    })
                }
            }
        }
    });
    Ok(collect(found).await)
}
