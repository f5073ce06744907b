//! Kubernetes' Container Runtime Interface, version 1 (containerd since 1.6, CRI-O since 1.20): the messages, with only the
//! fields that matter here, and the questions.
//!
//! Numbers and names are those of <https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto>. They
//! are written by hand because the full definitions need a compiler of their own at build time, and the rest of them is of no
//! use to us.

use super::grpc::Channel;
use super::{Container, ENTRIES_MAX, Image, Pairs, Pod};
use hyper::body::Bytes;
use prost::Message;
use squall_experiments::target::Runtime;
use std::collections::BTreeMap;

#[derive(Message)]
struct VersionRequest {
    #[prost(string, tag = "1")]
    version: String,
}

#[derive(Message)]
struct VersionResponse {
    #[prost(string, tag = "2")]
    runtime_name: String,
}

#[derive(Message)]
struct ListRequest {
    #[prost(message, optional, tag = "1")]
    filter: Option<Filter>,
}

/// `PodSandboxFilter` and `ContainerFilter` alike, as far as this goes.
#[derive(Message)]
struct Filter {
    #[prost(message, optional, tag = "2")]
    state: Option<StateValue>,
}

#[derive(Message)]
struct StateValue {
    #[prost(int32, tag = "1")]
    state: i32,
}

/// `SANDBOX_READY`.
const READY: i32 = 0;
/// `CONTAINER_RUNNING`.
const RUNNING: i32 = 1;
/// `NamespaceMode.NODE`.
const NODE: i32 = 2;

/// `ListPodSandboxResponse` and `ListContainersResponse` alike. Its entries are read one by one, so that they can be counted
/// first: an empty one is two bytes here and a hundred times that in memory.
#[derive(Message)]
struct ListResponse {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    entries: Vec<Bytes>,
}

#[derive(Message)]
struct PodSandbox {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(message, optional, tag = "2")]
    metadata: Option<PodSandboxMetadata>,
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(btree_map = "string, string", tag = "5")]
    labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "6")]
    annotations: BTreeMap<String, String>,
}

#[derive(Message)]
struct PodSandboxMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

/// `Container`.
#[derive(Message)]
struct ContainerEntry {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    pod_sandbox_id: String,
    #[prost(message, optional, tag = "3")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "4")]
    image: Option<ImageSpec>,
    #[prost(string, tag = "5")]
    image_ref: String,
    #[prost(int32, tag = "6")]
    state: i32,
    #[prost(int64, tag = "7")]
    created_at: i64,
    #[prost(btree_map = "string, string", tag = "8")]
    labels: BTreeMap<String, String>,
}

#[derive(Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "18")]
    user_specified_image: String,
}

/// `PodSandboxStatusRequest` and `ContainerStatusRequest` alike.
#[derive(Message)]
struct StatusRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    verbose: bool,
}

#[derive(Message)]
struct PodSandboxStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<PodSandboxStatus>,
    #[prost(btree_map = "string, string", tag = "2")]
    info: BTreeMap<String, String>,
}

#[derive(Message)]
struct PodSandboxStatus {
    #[prost(message, optional, tag = "6")]
    linux: Option<LinuxPodSandboxStatus>,
}

#[derive(Message)]
struct LinuxPodSandboxStatus {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespace>,
}

#[derive(Message)]
struct Namespace {
    #[prost(message, optional, tag = "2")]
    options: Option<NamespaceOption>,
}

#[derive(Message)]
struct NamespaceOption {
    #[prost(int32, tag = "1")]
    network: i32,
}

#[derive(Message)]
struct ContainerStatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
    #[prost(btree_map = "string, string", tag = "2")]
    info: BTreeMap<String, String>,
}

#[derive(Message)]
struct ContainerStatus {
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(message, optional, tag = "8")]
    image: Option<ImageSpec>,
    #[prost(string, tag = "9")]
    image_ref: String,
}

/// What a sandbox's status adds to its entry in the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sandbox {
    /// The process that keeps its namespaces; none in a CRI-O that pins them without one.
    pub(super) pid: Option<u32>,
    /// It is in the node's own network namespace.
    pub(super) host_network: bool,
}

/// A runtime that answers.
pub(super) struct Cri {
    channel: Channel,
    /// Which it says it is; none where it says something else.
    pub(super) runtime: Option<Runtime>,
}

impl Cri {
    /// Connects, and asks who it is.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn open(socket: &std::path::Path) -> Result<Self, String> {
        let channel = Channel::open(socket).await?;
        let question = VersionRequest {
            version: "v1".to_owned(),
        };
        let answer: VersionResponse = channel.call(&method("Version"), &question).await?;
        let runtime = Runtime::WORDS
            .iter()
            .find(|(word, _)| *word == answer.runtime_name);
        Ok(Self {
            channel,
            runtime: runtime.map(|(_, runtime)| *runtime),
        })
    }

    /// The pods that are ready.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn pods(&self) -> Result<Vec<Pod>, String> {
        let listed: Vec<PodSandbox> = self.list("ListPodSandbox", READY).await?;
        let ready = listed.into_iter().filter(|pod| pod.state == READY);
        let pod = |pod: PodSandbox| {
            let metadata = pod.metadata.unwrap_or_default();
            Pod {
                id: pod.id,
                namespace: metadata.namespace,
                name: metadata.name,
                labels: pod.labels,
                annotations: pod.annotations,
            }
        };
        Ok(ready.map(pod).collect())
    }

    /// The containers that run.
    ///
    /// # Errors
    /// A sentence.
    pub(super) async fn containers(&self) -> Result<Vec<Container>, String> {
        let listed: Vec<ContainerEntry> = self.list("ListContainers", RUNNING).await?;
        let running = listed.into_iter().filter(|c| c.state == RUNNING);
        let container = |entry: ContainerEntry| Container {
            id: entry.id,
            name: entry.metadata.unwrap_or_default().name,
            labels: entry.labels as Pairs,
            images: images(entry.image, entry.image_ref),
            created: entry.created_at,
            pod: Some(entry.pod_sandbox_id),
            host_network: false,
        };
        Ok(running.map(container).collect())
    }

    async fn list<E: Message + Default>(&self, name: &str, state: i32) -> Result<Vec<E>, String> {
        let answer = self.channel.call(&method(name), &in_state(state)).await?;
        entries(name, answer)
    }

    /// What keeps a pod's namespaces, and whose network it is in.
    ///
    /// # Errors
    /// A sentence; also when it is gone.
    pub(super) async fn sandbox(&self, id: &str) -> Result<Sandbox, String> {
        let answer: PodSandboxStatusResponse = self
            .channel
            .call(&method("PodSandboxStatus"), &verbose(id))
            .await?;
        let options = answer
            .status
            .and_then(|status| status.linux?.namespaces?.options);
        Ok(Sandbox {
            pid: pid(&answer.info),
            host_network: options.is_some_and(|options| options.network == NODE),
        })
    }

    /// The main process of a container that runs, and all names of its image.
    ///
    /// # Errors
    /// A sentence; also when it is gone.
    pub(super) async fn main(&self, id: &str) -> Result<(u32, Vec<Image>), String> {
        let answer: ContainerStatusResponse = self
            .channel
            .call(&method("ContainerStatus"), &verbose(id))
            .await?;
        let status = answer.status.unwrap_or_default();
        if status.state != RUNNING {
            return Err("it does not run any more".to_owned());
        }
        let pid = pid(&answer.info).ok_or_else(|| {
            "the runtime does not say which process is its main one (`info.pid` of ContainerStatus)"
                .to_owned()
        })?;
        Ok((pid, images(status.image, status.image_ref)))
    }
}

fn entries<E: Message + Default>(name: &str, answer: ListResponse) -> Result<Vec<E>, String> {
    let count = answer.entries.len();
    if count > ENTRIES_MAX {
        return Err(format!(
            "its answer to {name} has {count} entries, and {ENTRIES_MAX} are the most that is taken in"
        ));
    }
    let read = |entry: Bytes| E::decode(entry);
    let all: Result<_, _> = answer.entries.into_iter().map(read).collect();
    all.map_err(|error| format!("its answer to {name} cannot be read: {error}"))
}

fn method(name: &str) -> String {
    format!("/runtime.v1.RuntimeService/{name}")
}

const fn in_state(state: i32) -> ListRequest {
    ListRequest {
        filter: Some(Filter {
            state: Some(StateValue { state }),
        }),
    }
}

fn verbose(id: &str) -> StatusRequest {
    StatusRequest {
        id: id.to_owned(),
        verbose: true,
    }
}

/// containerd and CRI-O both put JSON with a `pid` under the key `info`; it is theirs to say and no part of CRI.
fn pid(info: &BTreeMap<String, String>) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Info {
        pid: Option<u32>,
    }
    let info: Info = serde_json::from_str(info.get("info")?).ok()?;
    info.pid.filter(|pid| *pid > 0)
}

/// The kubelet creates containers by the image's digest; what was written in the pod comes beside it in newer versions.
fn images(spec: Option<ImageSpec>, reference: String) -> Vec<Image> {
    let spec = spec.unwrap_or_default();
    [spec.image, spec.user_specified_image, reference]
        .into_iter()
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_before_they_are_read() {
        let answer = |count, entry: &'static [u8]| ListResponse {
            entries: vec![Bytes::from_static(entry); count],
        };
        let list = |answer| entries::<PodSandbox>("ListPodSandbox", answer);
        assert_eq!(list(answer(2, b"\x0a\x01a")).unwrap()[1].id, "a");
        assert!(list(answer(ENTRIES_MAX + 1, b"")).is_err());
        assert!(list(answer(1, b"\x0a\x05a")).is_err());
    }

    #[test]
    fn the_pid_is_found_in_what_runtimes_add() {
        let with = |text: &str| BTreeMap::from([("info".to_owned(), text.to_owned())]);
        assert_eq!(pid(&with(r#"{"pid":4711,"sandboxID":"a"}"#)), Some(4711));
        assert_eq!(pid(&with(r#"{"pid":0}"#)), None);
        assert_eq!(pid(&with("{}")), None);
        assert_eq!(pid(&with("no JSON")), None);
        assert_eq!(pid(&BTreeMap::new()), None);
    }
}
