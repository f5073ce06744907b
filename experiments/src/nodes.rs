//! On which nodes a step looks for its target.

use crate::join::Labels;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The labels that name a node's zone, the first that it has: ours, and the well-known one of Kubernetes.
const ZONE_LABELS: [&str; 2] = ["zone", "topology.kubernetes.io/zone"];

/// Selects nodes: all that is said must match, and something must be said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nodes {
    /// Any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// In this zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// With each of these labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

impl Nodes {
    /// Whether a node is meant.
    #[must_use]
    pub fn take(&self, name: &str, labels: &Labels) -> bool {
        let named = self.names.is_empty() || self.names.iter().any(|one| one == name);
        let there = |zone: &String| zone_of(labels) == Some(zone.as_str());
        let labelled = self
            .labels
            .iter()
            .all(|(name, value)| labels.get(name) == Some(value));
        named && labelled && self.zone.as_ref().is_none_or(there)
    }
}

/// The zone of a node with these labels: `zone`, or `topology.kubernetes.io/zone`.
#[must_use]
pub fn zone_of(labels: &Labels) -> Option<&str> {
    let mut zones = ZONE_LABELS.iter().filter_map(|name| labels.get(*name));
    zones.next().map(String::as_str)
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Vec::new();
        if !self.names.is_empty() {
            said.push(format!("named {}", self.names.join(" or ")));
        }
        said.extend(self.zone.iter().map(|zone| format!("in zone {zone}")));
        let labels = self.labels.iter();
        said.extend(labels.map(|(name, value)| format!("labelled {name}={value}")));
        write!(f, "nodes {}", said.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_said_must_match() {
        let labels = Labels::from([
            ("topology.kubernetes.io/zone".into(), "eu-1".into()),
            ("pool".into(), "web".into()),
        ]);
        let nodes = |names: &[&str], zone: Option<&str>, pool: Option<&str>| Nodes {
            names: names.iter().map(ToString::to_string).collect(),
            zone: zone.map(str::to_owned),
            labels: pool
                .map(|pool| ("pool".into(), pool.into()))
                .into_iter()
                .collect(),
        };
        assert!(nodes(&["a", "b"], Some("eu-1"), Some("web")).take("b", &labels));
        assert!(!nodes(&["a"], None, None).take("b", &labels));
        assert!(!nodes(&[], Some("eu-2"), None).take("b", &labels));
        assert!(!nodes(&[], None, Some("db")).take("b", &labels));
    }
}
