//! What a Kubernetes cluster says of its own objects.

use super::connection::{Auth, Tls, Trouble};
use super::{every_default, timeout_default};
use crate::units::{Interval, Timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One look at a cluster's API each interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// What is looked at.
    pub object: Object,
    /// Which cluster, and as whom; the controller's own service account where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// After this an attempt counts as failed.
    #[serde(default = "timeout_default")]
    pub timeout: Timeout,
    /// How often.
    #[serde(default = "every_default")]
    pub every: Interval,
    /// What becomes of an attempt without an answer.
    #[serde(default, skip_serializing_if = "Trouble::is_default")]
    pub trouble: Trouble,
}

/// What of a cluster is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Object {
    /// Success is that all wanted replicas are available; `value` is how many are.
    Deployment(Deployment),
    /// `value` is how often containers of these pods were restarted since the run began; success is never.
    Pods(Pods),
    /// `value` is how many warnings there were per second; success is none.
    Events(Events),
}

/// A deployment by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Deployment {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Pods by their labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pods {
    /// Their namespace.
    pub namespace: String,
    /// A label selector as `kubectl --selector` takes it: `app=payment,tier!=test`.
    pub selector: String,
}

/// Events of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Events {
    /// The namespace.
    pub namespace: String,
}

/// How a cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Cluster {
    /// As a kubeconfig file says, in its current context.
    Kubeconfig(String),
    /// At this address.
    Api(Api),
}

/// An API server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Api {
    /// Its address.
    pub url: String,
    /// How the probe proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Whom it trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}
