//! What a kubelet says to a container runtime: as much of CRI (version 1) as a test needs, spoken over the runtime's socket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;

use super::super::Result;

/// A runtime may take so long for one answer: it starts processes meanwhile, on an emulated machine slowly.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// A runtime's socket. Each call opens a connection of its own, so that the runtime may be restarted in between.
#[derive(Clone, Debug)]
pub(super) struct Cri(pub(super) PathBuf);

impl Cri {
    pub(super) fn call<A: Message + Default>(
        &self,
        method: &str,
        question: &impl Message,
    ) -> Result<A> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let answer = runtime.block_on(async {
            let asked = self.ask(method, question.encode_to_vec());
            tokio::time::timeout(ANSWER_LIMIT, asked).await
        });
        let answer = answer.map_err(|_| format!("no answer to {method}"))??;
        Ok(A::decode(answer)?)
    }

    async fn ask(&self, method: &str, question: Vec<u8>) -> Result<Bytes> {
        let stream = TokioIo::new(UnixStream::connect(&self.0).await?);
        let (mut sender, connection) = handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        let mut framed = vec![0];
        framed.extend(u32::try_from(question.len())?.to_be_bytes());
        framed.extend(question);
        let request = hyper::Request::post(format!(
            "http://localhost/runtime.v1.RuntimeService/{method}"
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(framed)))?;
        let answer = sender.send_request(request).await?;
        let refused = |headers: &hyper::HeaderMap| {
            let status = headers.get("grpc-status").filter(|code| *code != "0");
            status.map(|code| {
                format!(
                    "{method}: status {code:?}: {:?}",
                    headers.get("grpc-message")
                )
            })
        };
        if let Some(error) = refused(answer.headers()) {
            return Err(error.into());
        }
        let body = answer.into_body().collect().await?;
        if let Some(error) = body.trailers().and_then(refused) {
            return Err(error.into());
        }
        // One byte of flags and four of length come before the message.
        Ok(body.to_bytes().split_off(5))
    }
}

pub(super) type Pairs = BTreeMap<String, String>;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) uid: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodConfig {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<Metadata>,
    #[prost(string, tag = "2")]
    pub(super) hostname: String,
    #[prost(string, tag = "3")]
    pub(super) log_directory: String,
    #[prost(message, optional, tag = "4")]
    pub(super) dns: Option<Dns>,
    #[prost(btree_map = "string, string", tag = "6")]
    pub(super) labels: Pairs,
    #[prost(btree_map = "string, string", tag = "7")]
    pub(super) annotations: Pairs,
    #[prost(message, optional, tag = "8")]
    pub(super) linux: Option<PodLinux>,
}

/// What a pod's resolver is told.
#[derive(Clone, PartialEq, Message)]
pub struct Dns {
    /// The servers' addresses.
    #[prost(string, repeated, tag = "1")]
    pub servers: Vec<String>,
    /// Domains that names are looked for in.
    #[prost(string, repeated, tag = "2")]
    pub searches: Vec<String>,
    /// As in resolv.conf(5).
    #[prost(string, repeated, tag = "3")]
    pub options: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodLinux {
    #[prost(string, tag = "1")]
    pub(super) cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub(super) security: Option<PodSecurity>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PodSecurity {
    #[prost(message, optional, tag = "1")]
    pub(super) namespaces: Option<Namespaces>,
}

/// Each is 0 for the pod's own, 1 for the container's own, 2 for the node's.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Namespaces {
    #[prost(int32, tag = "1")]
    pub(super) network: i32,
    #[prost(int32, tag = "2")]
    pub(super) pid: i32,
    #[prost(int32, tag = "3")]
    pub(super) ipc: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RunPod {
    #[prost(message, optional, tag = "1")]
    pub(super) config: Option<PodConfig>,
}

/// The answer to whatever makes something.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Made {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// The question about, or the order to, whatever has been made.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Named {
    #[prost(string, tag = "1")]
    pub(super) id: String,
}

/// The same where the answer is to have all that the runtime knows.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Verbose {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(bool, tag = "2")]
    pub(super) verbose: bool,
}

/// An answer that says nothing.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Nothing {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CreateContainer {
    #[prost(string, tag = "1")]
    pub(super) pod: String,
    #[prost(message, optional, tag = "2")]
    pub(super) config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pub(super) pod_config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<Attempt>,
    #[prost(message, optional, tag = "2")]
    pub(super) image: Option<Named>,
    #[prost(string, repeated, tag = "3")]
    pub(super) command: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(super) args: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(super) env: Vec<Variable>,
    #[prost(message, repeated, tag = "7")]
    pub(super) mounts: Vec<Mount>,
    #[prost(btree_map = "string, string", tag = "9")]
    pub(super) labels: Pairs,
    #[prost(string, tag = "11")]
    pub(super) log_path: String,
    #[prost(message, optional, tag = "15")]
    pub(super) linux: Option<ContainerLinux>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attempt {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint32, tag = "2")]
    pub(super) attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Variable {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// What of the node a container sees.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    /// Where the container sees it.
    #[prost(string, tag = "1")]
    pub inside: String,
    /// Where it is on the node.
    #[prost(string, tag = "2")]
    pub outside: String,
    /// It cannot be written to.
    #[prost(bool, tag = "3")]
    pub read_only: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerLinux {
    #[prost(message, optional, tag = "1")]
    pub(super) resources: Option<Resources>,
    #[prost(message, optional, tag = "2")]
    pub(super) security: Option<ContainerSecurity>,
}

/// What a container may use.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Resources {
    /// The period of its quota in microseconds.
    #[prost(int64, tag = "1")]
    pub cpu_period: i64,
    /// Microseconds of processor time in each period; no quota at 0.
    #[prost(int64, tag = "2")]
    pub cpu_quota: i64,
    /// Its weight beside others; the runtime's own at 0.
    #[prost(int64, tag = "3")]
    pub cpu_shares: i64,
    /// Its limit of memory; none at 0.
    #[prost(int64, tag = "4")]
    pub memory_bytes: i64,
    /// How soon it is killed where memory is short: proc_pid_oom_score_adj(5).
    #[prost(int64, tag = "5")]
    pub oom_score_adj: i64,
}

/// What a container may do; all that its user may where nothing is said.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerSecurity {
    /// Its capabilities, without `CAP_`.
    #[prost(message, optional, tag = "1")]
    pub capabilities: Option<Capabilities>,
    #[prost(message, optional, tag = "3")]
    pub(super) namespaces: Option<Namespaces>,
    #[prost(message, optional, tag = "5")]
    pub(super) user: Option<Number>,
    /// It cannot write to its root.
    #[prost(bool, tag = "7")]
    pub read_only_root: bool,
    /// Nothing that it starts has more rights than itself.
    #[prost(bool, tag = "11")]
    pub no_new_privs: bool,
    /// What of /proc and /sys it does not see.
    #[prost(string, repeated, tag = "13")]
    pub masked: Vec<String>,
    /// What of them it cannot write to.
    #[prost(string, repeated, tag = "14")]
    pub read_only: Vec<String>,
    /// Which system calls it may make.
    #[prost(message, optional, tag = "15")]
    pub seccomp: Option<Profile>,
    /// What AppArmor lets it do.
    #[prost(message, optional, tag = "16")]
    pub app_armor: Option<Profile>,
}

/// 0 for the runtime's own, 1 for none.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Profile {
    /// Which.
    #[prost(int32, tag = "1")]
    pub kind: i32,
}

/// Those that are added to what the runtime gives, and those that are taken away first.
#[derive(Clone, PartialEq, Message)]
pub struct Capabilities {
    /// Added.
    #[prost(string, repeated, tag = "1")]
    pub add: Vec<String>,
    /// Taken away.
    #[prost(string, repeated, tag = "2")]
    pub drop: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Number {
    #[prost(int64, tag = "1")]
    pub(super) value: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<PodStatus>,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) info: Pairs,
}

/// Of a pod, or of a container, which has no such network.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PodStatus {
    #[prost(message, optional, tag = "5")]
    pub(super) network: Option<Network>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerStatus {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<ContainerState>,
    #[prost(btree_map = "string, string", tag = "2")]
    pub(super) info: Pairs,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ContainerState {
    /// 1 runs, 2 has exited.
    #[prost(int32, tag = "3")]
    pub(super) state: i32,
    #[prost(int32, tag = "7")]
    pub(super) exit_code: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Network {
    #[prost(string, tag = "1")]
    pub(super) ip: String,
}
