//! A whole run of the real `squall`: what a probe is told stays in it.

use lab::world::agent::program;
use lab::world::stub::{Said, Stub};
use lab::world::victim::Victim;
use lab::world::{Result, victim};
use libtest_mimic::{Completion, Failed, Trial};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    let test = || {
        if !nix::unistd::geteuid().is_root() {
            return Ok(Completion::ignored_with("needs root: it injects a fault"));
        }
        secret()
            .map(|()| Completion::Completed)
            .map_err(|error| Failed::from(error.to_string()))
    };
    vec![Trial::ignorable_test(
        "run::a_secret_is_in_no_report_and_no_store",
        test,
    )]
}

/// Long enough to be found anywhere, and nowhere by chance.
const SECRET: &str = "hunter2-correct-horse-battery-staple";

fn secret() -> Result<()> {
    let stub = Stub::start(|asked| {
        if !asked
            .headers
            .contains(&format!("authorization: Bearer {SECRET}"))
        {
            return Said::new(401, "");
        }
        Said::new(
            200,
            r#"{ "status": "success", "data": { "resultType": "scalar", "result": [ 1.5, "7" ] } }"#,
        )
    })?;
    let (home, _victim) = (TempDir::new()?, Victim::start("squall-probes-secret")?);
    let file = home.path().join("experiment.yaml");
    fs::write(&file, experiment(&stub.url()))?;
    let answer = Command::new(program("squall")?)
        .args([
            "run",
            "--json",
            "--report",
            "report.html",
            "--markdown",
            "report.md",
        ])
        .arg(&file)
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("XDG_STATE_HOME", home.path())
        .env("XDG_DATA_HOME", home.path())
        .env("SQUALL_TEST_TOKEN", SECRET)
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .output()?;
    let (out, err) = (
        String::from_utf8_lossy(&answer.stdout),
        String::from_utf8_lossy(&answer.stderr),
    );
    if answer.status.code() != Some(0) {
        return Err(format!("{}: {out}\n{err}", answer.status).into());
    }
    if out.contains(SECRET) || err.contains(SECRET) {
        return Err("the secret was printed".into());
    }
    let mut read = 0;
    search(home.path(), &mut read)?;
    // The file, two reports and the store.
    if read < 4 {
        return Err(format!("only {read} files were written").into());
    }
    Ok(())
}

fn experiment(url: &str) -> String {
    format!(
        "apiVersion: squall/v1
kind: Experiment
metadata: {{ name: secret }}
hypothesis: What is told in confidence is kept.
steadyState:
  - name: total
    probe: {{ prometheus: {{ url: \"{}\", query: paid_total, every: 100ms, auth: {{ bearer: {{ env: SQUALL_TEST_TOKEN }} }} }} }}
    expect: [ value within 10% of baseline, success >= 90% ]
    confirm: 1
method:
  - fault: {{ cpu: 5% }}
    on: {{ process: {{ command: squall-probes-secret }} }}
    hold: 4s
baseline: 4s
recovery: 10s
",
        url
    )
}

fn search(folder: &Path, read: &mut usize) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            search(&path, read)?;
            continue;
        }
        *read += 1;
        let text = fs::read(&path)?;
        let found = text
            .windows(SECRET.len())
            .any(|part| part == SECRET.as_bytes());
        if found {
            return Err(format!("the secret stands in {}", path.display()).into());
        }
    }
    Ok(())
}

/// Victims are this very program, started again.
pub(crate) fn main_if_victim() -> Option<std::process::ExitCode> {
    victim::main_if_victim()
}
