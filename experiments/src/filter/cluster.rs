//! Ends of a conversation that a Kubernetes cluster names: the controller asks where they are, and keeps it current.

use super::{Host, Network};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a selector calls the name of a pod, as `kubectl --field-selector` does.
pub const POD_NAME: &str = "metadata.name";

/// What of a cluster stands at one end of a conversation. Text: `service/shop/payment`, `pods/shop/app=payment,tier=web` or
/// `pods/shop/metadata.name=payment-0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterHost {
    /// A service: its own addresses, and those of its ready endpoints.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Pods by their labels or their name, those that have ended apart.
    Pods {
        /// Their namespace.
        namespace: String,
        /// A label selector as `kubectl --selector` takes it, in which [`POD_NAME`] stands for the name.
        selector: String,
    },
}

/// Where a host of a cluster is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// What was asked for.
    pub host: Host,
    /// Its addresses, sorted; none where it has none just now, which matches nothing.
    pub networks: Vec<Network>,
}

impl ClusterHost {
    /// `None` for a text that names nothing of a cluster.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let (kind, namespace, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let named = |name: &str| {
            let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            let ends = [name.bytes().next(), name.bytes().last()];
            ends.iter().all(|end| end.is_some_and(letter))
                && name.bytes().all(|b| letter(b) || b == b'-' || b == b'.')
        };
        let namespace = Some(namespace).filter(|name| named(name))?.to_owned();
        match kind {
            "service" if named(rest) => Some(Self::Service {
                namespace,
                name: rest.to_owned(),
            }),
            "pods" if !rest.trim().is_empty() => Some(Self::Pods {
                namespace,
                selector: rest.to_owned(),
            }),
            _ => None,
        }
    }
}

impl fmt::Display for ClusterHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { namespace, name } => write!(f, "service/{namespace}/{name}"),
            Self::Pods {
                namespace,
                selector,
            } => write!(f, "pods/{namespace}/{selector}"),
        }
    }
}
