//! schemathesis (<https://schemathesis.readthedocs.io>) reads the OpenAPI document of a controller and asks it all that the document allows, and what
//! it does not: no answer may be an error of the server, or anything that the document does not say.

use crate::controller::Controller;
use lab::verify::python_package;
use lab::world::Result;
use lab::world::service::needing;
use libtest_mimic::Trial;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// What takes back an API token.
const TAKES_BACK: &str = "deleteTokensId";

/// Requests to each endpoint, beside those that try the borders of what its parameters may be.
const EACH: &str = "8";

const POLICY: &str = "apiVersion: squall/v1
kind: Policy
environments: [ { name: staging, stage: 1 } ]
";

/// What is in the place of parameters that are not drawn: things that are there.
const SETTINGS: &str = "[parameters]
\"path.environment\" = \"staging\"
\"path.run\" = \"last\"
";

/// Refused at once, for there is no agent; with a name, events and a report all the same.
const EXPERIMENT: &str = "apiVersion: squall/v1
kind: Experiment
metadata: { name: refused, owner: ann }
hypothesis: A run without agents is refused.
steadyState: [ { name: port, probe: { tcp: { address: \"127.0.0.1:9\" } }, expect: [ success >= 99% ] } ]
method: [ { fault: { cpu: { load: 10% } }, on: { process: { name: x } }, hold: 5s } ]
baseline: 5s
recovery: 5s
";

pub(crate) fn trials() -> Vec<Trial> {
    vec![needing(
        python_package("schemathesis"),
        "the Python package schemathesis, which `cargo verify` installs",
        "fuzz::schemathesis_finds_nothing",
        finds_nothing,
    )]
}

fn finds_nothing(python: &Path) -> Result<()> {
    let folder = TempDir::new()?;
    let [policy, settings, wanted] = ["policy.yaml", "settings.toml", "e.yaml"]
        .map(|name| folder.path().join(name).display().to_string());
    fs::write(&policy, POLICY)?;
    fs::write(&settings, SETTINGS)?;
    fs::write(&wanted, EXPERIMENT)?;
    let controller = Controller::start(&["--policy", &policy])?;
    let (url, at) = (controller.url(), "--environment");
    let run = ["run", &wanted, "--controller", &url, at, "staging"];
    let run = controller.squall(&run)?;
    assert_eq!(run.status.code(), Some(4), "{run:?}");
    let count = operations(&controller)?;
    // It tries what other answers name: it would take back the token that it has itself, and then be let in nowhere.
    let others = ["--exclude-operation-id", TAKES_BACK];
    let said = asks(python, &folder, &controller, &others)?;
    let tested = format!("Tested: {}", count - 1);
    assert!(said.contains(&tested), "{said}");
    assert!(!said.contains("Authentication failed"), "{said}");
    let last = ["--include-operation-id", TAKES_BACK];
    let said = asks(python, &folder, &controller, &last)?;
    assert!(said.contains("Tested: 1"), "{said}");
    Ok(())
}

/// Lets it ask some of the endpoints; what it says where it finds nothing.
fn asks(
    python: &Path,
    folder: &TempDir,
    controller: &Controller,
    which: &[&str],
) -> Result<String> {
    let token = fs::read_to_string(controller.data().join("admin.token"))?;
    let settings = folder.path().join("settings.toml");
    let answer = Command::new("python3")
        .env("PYTHONPATH", python)
        .current_dir(folder.path())
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(settings)
        .arg("run")
        .arg(format!("{}/api/v1/openapi.json", controller.url()))
        .arg("--tls-verify")
        .arg(controller.data().join("authority.pem"))
        .args([
            "--header",
            &format!("Authorization: Bearer {}", token.trim()),
        ])
        .args(["--phases", "coverage,fuzzing", "--max-examples", EACH])
        .args(["--seed", "7", "--generation-database", "none"])
        // What an experiment file, a schedule or a reason must be, no schema can say.
        .args(["--exclude-checks", "positive_data_acceptance"])
        // A connection that was idle for too long is closed.
        .args(["--request-retries", "3", "--continue-on-failure"])
        .args(which)
        .output()?;
    let said = String::from_utf8_lossy(&answer.stdout).into_owned();
    if answer.status.success() {
        return Ok(said);
    }
    let trouble = String::from_utf8_lossy(&answer.stderr);
    Err(format!("schemathesis: {}: {said}{trouble}", answer.status).into())
}

fn operations(controller: &Controller) -> Result<usize> {
    let document = controller.squalls(&["schema", "--of", "openapi"])?;
    let document: serde_json::Value = serde_json::from_str(&document)?;
    let paths = document["paths"].as_object().ok_or("no paths")?;
    Ok(paths
        .values()
        .filter_map(|path| path.as_object())
        .map(serde_json::Map::len)
        .sum())
}
