//! What this node allows, whatever a controller says.
//!
//! The file is the node's own. Missing means the defaults below; unreadable means that the agent does not serve: a
//! policy with a typing error must not turn into no policy.

pub(crate) mod bounds;
pub(crate) mod hours;
mod mend;

use crate::hold::strain;
use crate::inventory::containers::Sockets;
use hours::Hours;
use serde::Deserialize;
use squall_experiments::fault::FaultKind;
use squall_experiments::filter::{Network, Ports, ResolvedEndpoint};
use squall_experiments::units::{Delay, Hold, Lease, LoadPercent, Percent};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the file is looked for unless another place is named.
pub(crate) const PATH: &str = "/etc/squall/policy.yaml";
/// A policy is a page; more is not one.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// What this node allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Policy {
    /// What needs to be allowed by name, because no kernel object takes it back.
    pub(crate) allow: Vec<Leave>,
    /// Kinds of faults that are never injected here.
    pub(crate) forbid: Vec<FaultKind>,
    /// Where anything is said: no other kinds than these.
    pub(crate) only: Vec<FaultKind>,
    /// What is never touched.
    pub(crate) protect: Protect,
    /// How much there may be.
    pub(crate) limits: Limits,
    /// Where the node's container runtimes listen.
    pub(crate) runtimes: Sockets,
    /// The folder where a journal says what faults have changed that no kernel object gives back.
    pub(crate) journal: Folder,
    /// When there may be anything; always where nothing is said.
    pub(crate) hours: Option<Hours>,
}

/// The folder of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Default for Folder {
    fn default() -> Self {
        Self(PathBuf::from(crate::journal::FOLDER))
    }
}

/// What a node must allow by name: no process's death takes it back. Either a journal does when the agent starts
/// again, or nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Leave {
    /// A cgroup stands still until it is thawed.
    Freeze,
    /// The node starts anew.
    Reboot,
    /// The node is off.
    Shutdown,
    /// A network interface is down until it is set up.
    Nic,
    /// Processes have few descriptors until their limit is raised.
    Fds,
}

impl Leave {
    /// Which leave a kind of fault needs; none where the kernel takes it back by itself.
    pub(crate) const fn needed_by(kind: FaultKind) -> Option<Self> {
        match kind {
            FaultKind::Delay | FaultKind::Loss | FaultKind::Duplicate | FaultKind::Corrupt => None,
            FaultKind::Reorder | FaultKind::Rate | FaultKind::Partition => None,
            FaultKind::Dns | FaultKind::Http | FaultKind::Tcp => None,
            FaultKind::Kill | FaultKind::Pause | FaultKind::Cpu | FaultKind::Memory => None,
            FaultKind::Fill | FaultKind::Io | FaultKind::Exhaust => None,
            FaultKind::Freeze => Some(Self::Freeze),
            FaultKind::Fds => Some(Self::Fds),
            FaultKind::NicDown => Some(Self::Nic),
            FaultKind::Reboot => Some(Self::Reboot),
            FaultKind::Shutdown => Some(Self::Shutdown),
        }
    }

    /// The word for it in a policy.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Reboot => "reboot",
            Self::Shutdown => "shutdown",
            Self::Nic => "nic",
            Self::Fds => "fds",
        }
    }
}

/// What is never touched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Protect {
    /// Programs, by the base name of their executable or their comm.
    pub(crate) processes: Vec<String>,
    /// systemd units, in full.
    pub(crate) units: Vec<String>,
    /// Kubernetes namespaces: no fault on a pod in one of them. A `*` at the end stands for any rest.
    pub(crate) namespaces: Vec<String>,
    /// Network namespaces by their name under /run/netns. A `*` at the end stands for any rest.
    pub(crate) netns: Vec<String>,
    /// TCP and UDP ports whose packets stay as they are, at either end.
    pub(crate) ports: Vec<Ports>,
    /// Addresses whose packets stay as they are, at either end.
    pub(crate) addresses: Vec<Network>,
    /// Whether the node's own resolvers (/etc/resolv.conf) stay reachable for the node itself.
    pub(crate) dns: bool,
    /// Whether no interface is set down over which the controller, those resolvers or a protected address are reached.
    pub(crate) links: bool,
}

/// How much there may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Faults at once, of all runs together.
    pub(crate) faults: usize,
    /// Faults at once of one kind, of all runs together; no other limit where nothing is said.
    pub(crate) per_kind: BTreeMap<FaultKind, usize>,
    /// Faults at once on one target, of all runs together.
    pub(crate) per_target: usize,
    /// The share of what one selection finds on this node that may be hit at once; one may always.
    pub(crate) share: Percent,
    /// The longest lease.
    pub(crate) lease: Lease,
    /// The longest that one fault may stay, whatever is renewed.
    pub(crate) hold: Hold,
    /// The latest that a fault may make anything.
    pub(crate) delay: Delay,
    /// The share of packets that may be lost; below 100 % there is no partition.
    pub(crate) loss: Percent,
    /// The most processor time of one fault; as much as the language allows where nothing is said.
    pub(crate) load: Option<LoadPercent>,
    /// The share of memory, of a file system or of what else is limited that may be taken.
    pub(crate) fill: Percent,
    /// How much of the time work on the node may stand still before faults that press give way.
    pub(crate) pressure: strain::Limits,
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
            namespaces: vec!["kube-system".to_owned()],
            netns: Vec::new(),
            ports: vec![ssh],
            addresses: Vec::new(),
            dns: true,
            links: true,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A holder costs about 2 MiB: 200 of them are what a small node can spare.
            faults: 200,
            per_kind: BTreeMap::new(),
            per_target: 200,
            share: Percent::ALL,
            // As long as the language allows: a shorter one is for nodes that are more careful than most.
            lease: Lease::clamped(std::time::Duration::from_nanos(Lease::MOST)),
            // Two hours: an experiment that needs longer is an outage.
            hold: Hold::clamped(std::time::Duration::from_nanos(Hold::MOST)),
            delay: Delay::clamped(std::time::Duration::from_nanos(Delay::MOST)),
            loss: Percent::ALL,
            load: None,
            fill: Percent::ALL,
            pressure: strain::Limits::default(),
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

    /// Whether a fault may be the end of the node.
    pub(crate) fn may_end_the_node(&self) -> bool {
        let ends = |leave: &Leave| matches!(leave, Leave::Reboot | Leave::Shutdown);
        self.allow.iter().any(ends)
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim().starts_with('#'))
        {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| mend::with_mend(&error.to_string()))
    }

    /// Conversations that no fault touches. `resolvers` are the node's own, where the fault is on the node itself.
    pub(crate) fn spare(&self, resolvers: &[Network]) -> Vec<ResolvedEndpoint> {
        let mut spare = Vec::new();
        if self.protect.dns && !resolvers.is_empty() {
            spare.push(ResolvedEndpoint {
                networks: resolvers.to_vec(),
                ports: vec![DNS],
                ..ResolvedEndpoint::default()
            });
        }
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

/// Where resolvers are asked.
const DNS: Ports = Ports {
    first: 53,
    last: 53,
};

/// Whether one of the `protected` names is this one; a `*` at the end of one stands for any rest.
pub(crate) fn names<'a>(protected: &'a [String], name: &str) -> Option<&'a String> {
    protected.iter().find(|protected| {
        let start = protected.strip_suffix('*');
        start.map_or(*protected == name, |start| name.starts_with(start))
    })
}

/// The node's own resolvers, as resolv.conf(5) has them. What cannot be read as an address is not one.
pub(crate) fn resolvers(text: &str) -> Vec<Network> {
    let words = |line: &str| -> Option<Network> {
        let mut words = line.split_ascii_whitespace();
        let named = words.next() == Some("nameserver");
        // An address of a link has its interface behind it: `fe80::1%eth0`.
        let address = words.next()?.split('%').next()?;
        named.then(|| address.parse().ok().map(Network::single))?
    };
    text.lines().filter_map(words).collect()
}

#[cfg(test)]
mod tests;
