//! What this node allows, whatever a controller says.
//!
//! The file is the node's own. Missing means the defaults below; unreadable means that the agent does not serve: a
//! policy with a typing error must not turn into no policy.

use crate::inventory::containers::Sockets;
use serde::Deserialize;
use squall_experiments::filter::{Network, Ports, ResolvedEndpoint};
use squall_experiments::units::{Hold, Lease};
use std::path::{Path, PathBuf};

/// Where the file is looked for unless another place is named.
pub(crate) const PATH: &str = "/etc/squall/policy.yaml";
/// A policy is a page; more is not one.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// What this node allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Policy {
    /// What is never touched.
    pub(crate) protect: Protect,
    /// How much there may be.
    pub(crate) limits: Limits,
    /// Where the node's container runtimes listen.
    pub(crate) runtimes: Sockets,
}

/// What is never touched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Protect {
    /// Programs, by the base name of their executable or their comm.
    pub(crate) processes: Vec<String>,
    /// systemd units, in full.
    pub(crate) units: Vec<String>,
    /// TCP and UDP ports whose packets stay as they are, at either end.
    pub(crate) ports: Vec<Ports>,
    /// Addresses whose packets stay as they are, at either end.
    pub(crate) addresses: Vec<Network>,
    /// Namespaces of Kubernetes whose pods are left alone.
    pub(crate) namespaces: Vec<String>,
}

/// How much there may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Faults at once, of all runs together.
    pub(crate) faults: usize,
    /// The longest lease.
    pub(crate) lease: Lease,
    /// The longest that one fault may stay, whatever is renewed.
    pub(crate) hold: Hold,
}

impl Default for Protect {
    /// What a node needs to be reached, and to start anything at all.
    fn default() -> Self {
        const PROCESSES: [&str; 16] = [
            "systemd",
            "init",
            "sshd",
            "containerd",
            "containerd-shim-runc-v2",
            "dockerd",
            "crio",
            "conmon",
            "kubelet",
            "kube-proxy",
            "dbus-daemon",
            "dbus-broker",
            "systemd-journald",
            "systemd-logind",
            "systemd-udevd",
            "squall-agent",
        ];
        const UNITS: [&str; 10] = [
            "init.scope",
            "ssh.service",
            "sshd.service",
            "containerd.service",
            "docker.service",
            "crio.service",
            "kubelet.service",
            "dbus.service",
            "systemd-journald.service",
            "squall-agent.service",
        ];
        let ssh = Ports {
            first: 22,
            last: 22,
        };
        Self {
            processes: PROCESSES.map(str::to_owned).to_vec(),
            units: UNITS.map(str::to_owned).to_vec(),
            ports: vec![ssh],
            addresses: Vec::new(),
            // The node's own proxy, its network's agents and the cluster's DNS live there.
            namespaces: vec!["kube-system".to_owned()],
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A holder costs about 2 MiB: 200 of them are what a small node can spare.
            faults: 200,
            // As long as the language allows: a shorter one is for nodes that are more careful than most.
            lease: Lease::clamped(std::time::Duration::from_nanos(Lease::MOST)),
            hold: Hold::clamped(std::time::Duration::from_nanos(Hold::MOST)),
        }
    }
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    /// The file is there and cannot be read.
    #[error(
        "cannot read the node's policy {path}: mend it or remove it; without it the agent does not serve"
    )]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be understood.
    #[error("the node's policy {path} cannot be understood: {text}")]
    Understand {
        /// Which.
        path: PathBuf,
        /// Where and why.
        text: String,
    },
}

impl Policy {
    /// Reads the node's file. A missing file is the defaults, unless it was `named` by whoever started the agent.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self, PolicyError> {
        let path = named.unwrap_or(Path::new(PATH));
        let read = |source| PolicyError::Read {
            path: path.to_owned(),
            source,
        };
        let size = match std::fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            Err(error) => return Err(read(error)),
        };
        if size > FILE_BYTES_MAX {
            let text = format!("it has {size} bytes, and a policy at most {FILE_BYTES_MAX}");
            return Err(read(std::io::Error::other(text)));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Self::parse(&text).map_err(|text| PolicyError::Understand {
            path: path.to_owned(),
            text,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim().starts_with('#'))
        {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// Conversations that no fault touches.
    pub(crate) fn spare(&self) -> Vec<ResolvedEndpoint> {
        let mut spare = Vec::new();
        if !self.protect.ports.is_empty() {
            spare.push(ResolvedEndpoint {
                ports: self.protect.ports.clone(),
                ..ResolvedEndpoint::default()
            });
        }
        if !self.protect.addresses.is_empty() {
            spare.push(ResolvedEndpoint {
                networks: self.protect.addresses.clone(),
                ..ResolvedEndpoint::default()
            });
        }
        spare
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays_at_its_default() {
        let policy = Policy::parse("limits: { faults: 3 }\n").unwrap();
        assert_eq!(policy.limits.faults, 3);
        assert_eq!(policy.protect, Protect::default());
        assert_eq!(Policy::parse("# nothing\n").unwrap(), Policy::default());
    }

    #[test]
    fn a_typing_error_is_not_no_policy() {
        assert!(Policy::parse("limts: { faults: 3 }").is_err());
        assert!(Policy::parse("limits: { lease: 10 }").is_err());
        let missing = Policy::load(Some(Path::new("/nonexistent/policy.yaml")));
        assert!(matches!(missing, Err(PolicyError::Read { .. })));
    }
}
