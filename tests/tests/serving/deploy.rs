//! How Squall is deployed: what is in deploy/ is what Kubernetes, systemd and Prometheus understand, and asks for no more rights than agent/README.md explains.

use lab::world::{Result, answer, output};
use libtest_mimic::{Completion, Failed, Trial};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every folder that `kubectl apply -k` may be given.
const RENDERED: [&str; 4] = [
    "base",
    "overlays/postgres",
    "overlays/k3s",
    "overlays/cluster-probes",
];

/// Checks JSON documents, one a line, against Kubernetes' own schemas of the three newest minor versions that it has; unknown fields are mistakes.
const VALIDATE: &str = r#"
import json, sys
import kubernetes_validate as kv
from kubernetes_validate.utils import major_minor
versions = sorted({tuple(map(int, v.split(".")[:2])) for v in kv.utils.get_supported_versions() if True} if hasattr(kv.utils, "get_supported_versions") else set())
"#;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        needing("kubectl", "kubernetes-client", "deploy::manifests_render_and_fit_the_schemas", manifests),
        needing("kubectl", "kubernetes-client", "deploy::the_agent_asks_for_no_more_than_it_explains", rights),
        needing("systemd-analyze", "systemd", "deploy::units_are_understood_and_hardened", units),
        needing("promtool", "prometheus", "deploy::rules_are_understood", rules),
    ]
}
