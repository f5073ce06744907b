//! Every answer that is played back here, against Kubernetes' own schemas: those of the Python package `kubernetes-validate`, for its three
//! newest versions of Kubernetes, with nothing allowed that they do not name. Those of lists and of `Status` are among them.
//!
//! No API server itself is asked: neither Debian nor the registries of Rust, Python and Node have one (Debian stops at `kubectl`; what is
//! called k3s, kind or minikube in the others starts containers, whose images are fetched elsewhere).

use super::{answers, edges};
use lab::world::cluster;
use lab::world::service::needing;
use lab::world::wire::{Ip, named};
use lab::world::{Result, output};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use tempfile::NamedTempFile;

/// Prints the versions, or what is wrong with the first answer that does not fit.
const CHECK: &str = include_str!("validate.py");

/// All of them, as they are sent.
fn all() -> Result<Vec<Value>> {
    let mut all = vec![answers::deployment()];
    all.extend(edges::deployments()?);
    let somewhere = [named(Ip::V4)];
    let mut pods = vec![cluster::Pod::at("a", &somewhere); 2];
    pods[1].host_network = true;
    pods[1].over = true;
    all.extend([cluster::service(&[]), cluster::service(&somewhere)]);
    let slices = cluster::endpoint_slices(&pods);
    let pods: Vec<Value> = pods.iter().map(cluster::pod).collect();
    all.push(cluster::page(
        "discovery.k8s.io/v1",
        "EndpointSliceList",
        &slices,
        Some(1),
    ));
    all.push(cluster::page("v1", "PodList", &pods, None));
    let mut texts = vec![
        answers::unauthorized(),
        answers::forbidden(),
        answers::not_found(),
        answers::gone(),
        answers::too_many(),
        answers::list("PodList", &[], None),
        answers::list("PodList", &[answers::pod("a1", 7)], Some("next")),
        answers::list("PodList", &edges::rare_pods(2), None),
    ];
    let events = [
        answers::warning("a", 4),
        answers::warning_of_series("b", None),
        answers::warning_of_series("c", Some(2)),
    ];
    texts.push(answers::list("EventList", &events, None));
    for text in texts {
        all.push(serde_json::from_str(&text)?);
    }
    Ok(all)
}

fn validate(packages: &Path, answers: &[Value]) -> Result<String> {
    let file = NamedTempFile::new()?;
    serde_json::to_writer(&file, &json!(answers))?;
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", packages);
    output(python.args(["-c", CHECK]).arg(file.path()))
}

pub(super) fn trial() -> Trial {
    needing(
        lab::verify::python_package("kubernetes_validate"),
        "the Python package kubernetes-validate, which `cargo verify` installs",
        "kubernetes::the_answers_fit_kubernetes_own_schemas",
        answers_fit,
    )
}

fn answers_fit(packages: &Path) -> Result<()> {
    let versions = validate(packages, &all()?)?;
    if versions.split_whitespace().count() != 3 {
        return Err(format!("checked against `{versions}`").into());
    }
    // A check that lets everything pass would say nothing.
    let mut wrong = answers::warning("a", 4);
    wrong["count"] = json!("four");
    let wrong = answers::list("EventList", &[wrong], None);
    match validate(packages, &[serde_json::from_str(&wrong)?]) {
        Ok(versions) => Err(format!("`four` was taken for a number by {versions}").into()),
        Err(why) if why.to_string().contains("four") => Ok(()),
        Err(why) => Err(why),
    }
}
