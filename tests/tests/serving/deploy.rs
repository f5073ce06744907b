//! How Squall is deployed: what is in deploy/ is what Kubernetes, systemd and Prometheus understand, and asks for no more rights than
//! agent/README.md explains.

use lab::verify::python_package;
use lab::world::service::needing;
use lab::world::{Result, answer, output};
use libtest_mimic::Trial;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::NamedTempFile;

/// Every folder that `kubectl apply -k` may be given.
const FOLDERS: [&str; 4] = [
    "base",
    "overlays/postgres",
    "overlays/k3s",
    "overlays/cluster-probes",
];

/// The capabilities that only the watchdog has, and gives up before the agent serves.
const WATCHDOGS: [&str; 2] = ["IPC_LOCK", "SYS_NICE"];

/// Holds documents against Kubernetes' own schemas of its three newest minor versions; an unknown field is a mistake.
const VALIDATE: &str = include_str!("../probes/kubernetes/validate.py");

const TO_JSON: &str = "import json, sys, yaml; print(json.dumps([one for one in yaml.safe_load_all(sys.stdin) if one]))";

pub(crate) fn trials() -> Vec<Trial> {
    let schemas = || python_package("kubernetes_validate");
    let package = "the Python package kubernetes-validate, which `cargo verify` installs";
    let prometheus = which("promtool");
    vec![
        needing(
            schemas(),
            package,
            "deploy::manifests_fit_kubernetes_own_schemas",
            manifests,
        ),
        needing(
            schemas(),
            package,
            "deploy::the_agent_asks_for_what_is_explained_and_no_more",
            rights,
        ),
        needing(
            which("systemd-analyze"),
            "systemd",
            "deploy::units_are_understood_and_hardened",
            units,
        ),
        needing(
            prometheus,
            "prometheus",
            "deploy::rules_are_understood_and_ask_for_what_there_is",
            rules,
        ),
    ]
}

fn which(program: &str) -> Option<PathBuf> {
    let path = Path::new("/usr/bin").join(program);
    path.exists().then_some(path)
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// The documents of a folder, as `kubectl` renders them; without one those of the base, as they are written.
fn documents(packages: &Path, folder: &str) -> Result<Vec<Value>> {
    let place = deploy().join("kubernetes").join(folder);
    let text = if let Some(kubectl) = which("kubectl") {
        output(Command::new(kubectl).arg("kustomize").arg(place))?
    } else if folder == "base" {
        let files = ["namespaces", "controller", "agent", "network"];
        let read = files.map(|name| std::fs::read_to_string(place.join(format!("{name}.yaml"))));
        let read: std::io::Result<Vec<String>> = read.into_iter().collect();
        read?.join("\n---\n")
    } else {
        return Ok(Vec::new());
    };
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", packages).args(["-c", TO_JSON]);
    Ok(serde_json::from_str(&answer(&mut python, &text)?)?)
}

fn validate(packages: &Path, documents: &[Value]) -> Result<String> {
    let file = NamedTempFile::new()?;
    serde_json::to_writer(&file, documents)?;
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", packages);
    output(python.args(["-c", VALIDATE]).arg(file.path()))
}

fn manifests(packages: &Path) -> Result<()> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        all.extend(documents(packages, folder)?);
    }
    let versions = validate(packages, &all)?;
    assert_eq!(versions.split_whitespace().count(), 3, "{versions}");
    // A mistake is found.
    let agent = all.iter_mut().find(|one| one["kind"] == "DaemonSet");
    let agent = agent.ok_or("no DaemonSet")?;
    agent["spec"]["template"]["spec"]["hostPid"] = true.into();
    let error = validate(packages, &all).expect_err("a field that is none");
    assert!(error.to_string().contains("hostPid"), "{error}");
    Ok(())
}

/// The capabilities in the table of agent/README.md.
fn explained() -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(deploy().join("../agent/README.md"))?;
    let rows = text.lines().filter_map(|line| {
        let name = line.strip_prefix("| CAP_")?.split(' ').next()?;
        Some(name.to_owned())
    });
    Ok(rows.collect())
}

fn rights(packages: &Path) -> Result<()> {
    let explained = explained()?;
    for folder in FOLDERS {
        let documents = documents(packages, folder)?;
        for pod in documents.iter().map(|one| &one["spec"]["template"]["spec"]) {
            for container in pod["containers"].as_array().into_iter().flatten() {
                let context = &container["securityContext"];
                assert_ne!(context["privileged"], true, "{folder}: {container}");
                assert_eq!(
                    context["readOnlyRootFilesystem"], true,
                    "{folder}: {container}"
                );
                assert_eq!(
                    context["allowPrivilegeEscalation"], false,
                    "{folder}: {container}"
                );
                let added = context["capabilities"]["add"]
                    .as_array()
                    .into_iter()
                    .flatten();
                let added: BTreeSet<String> =
                    added.filter_map(Value::as_str).map(str::to_owned).collect();
                let wanted = match container["name"].as_str() {
                    Some("agent") => explained.clone(),
                    _ => BTreeSet::new(),
                };
                assert_eq!(added, wanted, "{folder}: {container}");
            }
        }
        let has_rights = documents.iter().any(|one| one["kind"] == "ClusterRole");
        if !documents.is_empty() {
            let meant = folder == "overlays/cluster-probes";
            assert_eq!(has_rights, meant, "{folder}: rights in the cluster");
        }
    }
    let unit = std::fs::read_to_string(deploy().join("systemd/squall-agent.service"))?;
    let bounded = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let bounded = bounded.ok_or("no CapabilityBoundingSet")?.split(' ');
    let bounded: BTreeSet<String> = bounded
        .filter_map(|name| name.strip_prefix("CAP_"))
        .map(str::to_owned)
        .collect();
    let watchdogs = WATCHDOGS.map(str::to_owned);
    assert_eq!(bounded, explained.into_iter().chain(watchdogs).collect());
    Ok(())
}

fn units(analyze: &Path) -> Result<()> {
    // As if the programs were installed: what is looked at is the unit.
    let folder = tempfile::tempdir()?;
    for (name, program, exposed_most) in [
        ("squall-controller", "squall", 2.0),
        ("squall-agent", "squall-agent", 7.0),
    ] {
        let text = std::fs::read_to_string(deploy().join(format!("systemd/{name}.service")))?;
        let installed = text.replace(&format!("/usr/local/bin/{program} "), "/usr/bin/true ");
        assert_ne!(text, installed, "{name}");
        let unit = folder.path().join(format!("{name}.service"));
        std::fs::write(&unit, installed)?;
        let security = output(
            Command::new(analyze)
                .args(["security", "--offline=true", "--no-pager"])
                .arg(&unit),
        )?;
        let (_, level) = security.rsplit_once(": ").ok_or("no exposure level")?;
        let level: f64 = level.split(' ').next().unwrap_or_default().parse()?;
        assert!(level <= exposed_most, "{name} is exposed: {level}");
        let said = misunderstood(analyze, &unit)?;
        assert!(said.is_empty(), "{name}: {said}");
        // A mistake is found.
        let mut unit_file = std::fs::File::options().append(true).open(&unit)?;
        writeln!(unit_file, "[Service]\nNoNewPrivilege=yes")?;
        assert!(misunderstood(analyze, &unit)?.contains("NoNewPrivilege"));
    }
    Ok(())
}

/// What systemd does not understand of a unit.
fn misunderstood(analyze: &Path, unit: &Path) -> Result<String> {
    let verified = Command::new(analyze)
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .arg(unit)
        .output()?;
    let said = String::from_utf8_lossy(&verified.stderr);
    let name = unit.file_name().unwrap_or_default().to_string_lossy();
    // It says more where no systemd runs; that is not about the unit.
    let about: Vec<&str> = said.lines().filter(|line| line.contains(&*name)).collect();
    Ok(about.join("\n"))
}

fn rules(promtool: &Path) -> Result<()> {
    let dashboards = deploy().join("dashboards");
    let alerts = dashboards.join("alerts.yaml");
    output(Command::new(promtool).args(["check", "rules"]).arg(alerts))?;
    // Every metric that rules and dashboard ask for is one that is explained.
    let told = std::fs::read_to_string(deploy().join("README.md"))?;
    for file in ["alerts.yaml", "squall.json"] {
        let text = std::fs::read_to_string(dashboards.join(file))?;
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("squall_")) {
            let metric = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(told.contains(metric), "{file}: {metric}");
        }
    }
    Ok(())
}
