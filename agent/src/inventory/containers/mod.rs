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
mod find;
pub(crate) mod grasp;
mod grpc;

use super::Rules;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use squall_experiments::fault::FaultKind;
use squall_experiments::target::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a runtime may take to let us in: it accepts in microseconds, and one that hangs accepts nothing.
const OPEN_LIMIT: Duration = Duration::from_secs(2);
/// How long it may take for one answer: milliseconds as a rule, a second on a node that starts many containers.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long one runtime may take for all that it is asked about one target: a thousand pods are answered for in a second.
const RUNTIME_LIMIT: Duration = Duration::from_secs(15);
/// The longest answer that is taken in. The list of a thousand containers has about one MiB.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// The most pods, or containers, of one answer: a kubelet runs 110 pods where nothing else is said.
const ENTRIES_MAX: usize = 10_000;
/// Targets that are asked about at once: the answers of all are in memory together.
const ASKED_MAX: usize = 4;
/// Of a name that a runtime says, so many characters are passed on: as long as Kubernetes lets one be.
const SHOWN_CHARS_MAX: usize = 253;
/// Questions to one runtime at once: enough to hide its latency, and no burst that would slow it down for others.
const QUESTIONS_MAX: usize = 8;
/// The most processes watched for one pod without a process of its own.
const KEEPERS_MAX: usize = 16;

/// Labels, annotations.
pub(crate) type Pairs = BTreeMap<String, String>;
/// One of the names of an image.
type Image = String;

/// Where the node's container runtimes listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        format!("pod {}/{}", shown(&self.namespace), shown(&self.name))
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
    /// What stays the same when it is restarted.
    kin: String,
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
    static ASKING: Semaphore = Semaphore::const_new(ASKED_MAX);
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
    // It is never closed; without it one more would be asked about at once, no worse.
    let _turn = ASKING.acquire().await.ok();
    let mut all = Asked::default();
    if asked.is_empty() {
        all.excluded.push((target.to_string(), none_there(sockets)));
    }
    let answers = asked.iter().map(|socket| async move {
        let answer = timeout(RUNTIME_LIMIT, socket.ask(target, needs, rules)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(format!(
                "it did not answer all questions within {RUNTIME_LIMIT:?}: select more narrowly, or see what keeps it busy"
            ))
        });
        answer.unwrap_or_else(|reason| {
            let who = format!("the container runtime at {}", socket.path().display());
            Asked {
                matches: Vec::new(),
                excluded: vec![(who, shown(&reason))],
            }
        })
    });
    for mut answer in join_all(answers).await {
        all.matches.append(&mut answer.matches);
        all.excluded.append(&mut answer.excluded);
    }
    all
}

impl Socket {
    fn path(&self) -> &PathBuf {
        match self {
            Self::Cri(path) | Self::Docker(path) => path,
        }
    }

    async fn ask(&self, target: &Target, needs: Needs, rules: &Rules) -> Result<Asked, String> {
        match (self, target) {
            (Self::Cri(path), Target::Pod(selector)) => {
                find::pods(path, selector, needs, rules).await
            }
            (Self::Cri(path), Target::Container(selector)) => {
                find::containers(path, selector, needs, rules).await
            }
            (Self::Docker(path), Target::Container(selector)) => {
                find::docker_containers(path, selector, needs).await
            }
            _ => Ok(Asked::default()),
        }
    }
}

/// What a runtime says, as it is passed on: a name of any length, or one that moves a terminal's cursor, goes no further.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(SHOWN_CHARS_MAX).map(plain).collect()
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

const NODES_OWN: &str = "it is in the node's own network namespace (hostNetwork), where others would be hit too: say `host` if you \
                         mean that";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runtime_says_is_cut_and_has_no_control_characters() {
        assert_eq!(shown("pay\u{1b}[2J-0"), "pay?[2J-0");
        assert_eq!(shown(&"ä".repeat(5_000)).chars().count(), SHOWN_CHARS_MAX);
    }
}
