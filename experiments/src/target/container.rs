//! Pods and containers, as a file names them. What they are is asked of the node's container runtime, never of Kubernetes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Selects pods: all that is said must match.
///
/// Faults on packets hit a pod as a whole, as its containers share one network namespace; all others hit one container of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodSelector {
    /// The namespace of Kubernetes that it is in.
    pub namespace: String,
    /// The pod's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels that it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations that it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The container of each pod that is hit; where nothing is said, the pod's main one: what the annotation
    /// `kubectl.kubernetes.io/default-container` says, or the first that is no known sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// Selects containers: all that is said must match, and more than the runtime must be said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerSelector {
    /// The container's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels that it has, or the pod that it is in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its image: `nginx` and `library/nginx:1.25` both mean `docker.io/library/nginx:1.25`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The container runtime that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
}

/// What runs containers on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Runtime {
    /// containerd, through CRI.
    #[serde(rename = "containerd")]
    Containerd,
    /// CRI-O, through CRI.
    #[serde(rename = "cri-o")]
    CriO,
    /// Docker, through the Engine's API, or through CRI by way of cri-dockerd.
    #[serde(rename = "docker")]
    Docker,
}

impl Runtime {
    /// All of them, with the word for each in a file; CRI's `Version` says the same words (`runtime_name`).
    pub const WORDS: [(&'static str, Self); 3] = [
        ("containerd", Self::Containerd),
        ("cri-o", Self::CriO),
        ("docker", Self::Docker),
    ];

    /// The word for it in a file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Docker => "docker",
        }
    }
}

impl fmt::Display for PodSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "pod {}/{name}", self.namespace)?,
            None => write!(f, "pods in {}", self.namespace)?,
        }
        let said = [
            pairs("labelled", &self.labels),
            pairs("annotated", &self.annotations),
        ];
        let said: Vec<String> = said.into_iter().flatten().collect();
        if !said.is_empty() {
            write!(f, " {}", said.join(" and "))?;
        }
        match &self.container {
            Some(container) => write!(f, ", container {container}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ContainerSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said: Vec<String> = self.name.iter().map(|v| format!("named {v}")).collect();
        said.extend(pairs("labelled", &self.labels));
        said.extend(self.image.iter().map(|v| format!("of image {v}")));
        said.extend(self.runtime.map(|v| format!("run by {}", v.word())));
        write!(f, "containers {}", said.join(" and "))
    }
}

fn pairs(how: &str, pairs: &BTreeMap<String, String>) -> Option<String> {
    let pairs: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={v}")).collect();
    (!pairs.is_empty()).then(|| format!("{how} {}", pairs.join(",")))
}
