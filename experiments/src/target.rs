//! What a fault hits: how a file names it, and how an agent answers.

mod container;

use crate::ids::TargetId;
use crate::units::Percent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

pub use container::{ContainerSelector, PodSelector, Runtime};

/// What a step is aimed at. Every match is a candidate; the share says how many of them are hit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// The node itself: its own network namespace, its root cgroup.
    Host(HostTarget),
    /// Processes that match all that is said.
    Process(ProcessSelector),
    /// One cgroup, by its path below the hierarchy's root.
    Cgroup(String),
    /// The cgroup of one systemd unit.
    Unit(String),
    /// A network namespace.
    Netns(NetnsSelector),
    /// Pods of Kubernetes, as the node's container runtime knows them.
    Pod(PodSelector),
    /// Containers, in pods or not.
    Container(ContainerSelector),
}

/// The node has nothing to select by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostTarget {}

/// Selects processes: all that is said must match, and something must be said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessSelector {
    /// The program's name: the base name of its executable, or its comm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A regular expression found somewhere in the command line, its words joined by single blanks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The user it runs as: a name or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A TCP port it listens on, in its own network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Selects network namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NetnsSelector {
    /// By the name under /run/netns.
    Name(String),
    /// Those in which matching processes live; the node's own is never among them (say `host` for it).
    Process(ProcessSelector),
}

/// How many of the candidates: `all`, `3` or `10%`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Share {
    /// Every one.
    #[default]
    All,
    /// So many, at least one.
    Count(u32),
    /// A share, rounded up, so that it is at least one.
    Percent(Percent),
}

impl Share {
    /// How many of `candidates` that is; never more than there are, and none only of none.
    #[must_use]
    pub fn of(self, candidates: usize) -> usize {
        match self {
            Self::All => candidates,
            Self::Count(count) => candidates.min(count as usize),
            Self::Percent(percent) => {
                let millionths = candidates as u128 * u128::from(percent.get());
                usize::try_from(millionths.div_ceil(1_000_000)).unwrap_or(candidates)
            }
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Count(count) => count.fmt(f),
            Self::Percent(percent) => percent.fmt(f),
        }
    }
}

/// Why a share could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a share: write `all`, a count from 1 such as `3`, or a percentage above 0 such as `10%`"
)]
pub struct ShareError(String);

impl std::str::FromStr for Share {
    type Err = ShareError;
    fn from_str(text: &str) -> Result<Self, ShareError> {
        let error = || ShareError(text.to_owned());
        match text.trim() {
            "all" => Ok(Self::All),
            t if t.ends_with('%') => {
                let percent: Percent = t.parse().map_err(|_| error())?;
                if percent.get() > 0 {
                    Ok(Self::Percent(percent))
                } else {
                    Err(error())
                }
            }
            t => t
                .parse()
                .ok()
                .filter(|c| *c > 0)
                .map(Self::Count)
                .ok_or_else(error),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Share {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Share".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "integer"], "description": "all, a count (3) or a percentage (10%)" })
    }
}

/// One thing that an agent found for a [`Target`] and now holds on to, so that it cannot become another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Its name on the wire.
    pub id: TargetId,
    /// The node it is on.
    pub node: String,
    /// For people: `process 4711 payment`, `netns shop (3 processes)`.
    pub label: String,
    /// The process that was matched, where one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its cgroup's path, where a fault would enter it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The set of replicas that it is one of, where that is known: a pod's owner, a unit, a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The namespace of Kubernetes that it belongs to, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The zone of its node, where that is known. The controller says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// One target among all nodes: its name is its node's alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetAt {
    /// The node.
    pub node: String,
    /// Its name there.
    pub id: TargetId,
}

impl Candidate {
    /// Where it is.
    #[must_use]
    pub fn at(&self) -> TargetAt {
        TargetAt {
            node: self.node.clone(),
            id: self.id.clone(),
        }
    }
}

impl fmt::Display for ProcessSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = [
            self.name.as_ref().map(|v| format!("named {v}")),
            self.command.as_ref().map(|v| format!("matching /{v}/")),
            self.pid.map(|v| format!("with pid {v}")),
            self.user.as_ref().map(|v| format!("of user {v}")),
            self.port.map(|v| format!("listening on {v}")),
        ];
        let said: Vec<String> = said.into_iter().flatten().collect();
        write!(f, "processes {}", said.join(" and "))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(_) => f.write_str("the host"),
            Self::Process(selector) => selector.fmt(f),
            Self::Cgroup(path) => write!(f, "cgroup {path}"),
            Self::Unit(unit) => write!(f, "unit {unit}"),
            Self::Netns(NetnsSelector::Name(name)) => write!(f, "netns {name}"),
            Self::Netns(NetnsSelector::Process(selector)) => write!(f, "the netns of {selector}"),
            Self::Pod(selector) => selector.fmt(f),
            Self::Container(selector) => selector.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_some_is_at_least_one() {
        let share: Share = "5%".parse().unwrap();
        assert_eq!([0, 1, 20, 21, 100].map(|n| share.of(n)), [0, 1, 1, 2, 5]);
        assert_eq!(Share::Count(3).of(2), 2);
        assert!("0".parse::<Share>().is_err() && "0%".parse::<Share>().is_err());
    }
}
