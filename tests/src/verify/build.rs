//! Cargo: the checks it brings, and the test binaries it builds.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A test binary, and where it wants to run.
#[derive(Clone, Debug)]
pub(super) struct TestBinary {
    /// The package's name without the project's own in front.
    pub(super) package: String,
    /// The target's name: the library's, a binary's, or an integration test's.
    pub(super) target: String,
    /// The file.
    pub(super) path: PathBuf,
    /// The package's folder, in which cargo would start it.
    pub(super) folder: PathBuf,
}

/// Runs cargo; what it said is the error.
pub(super) fn cargo(args: &[&str]) -> Result<(), String> {
    answer(&mut command(args))
}

/// The same, in time that nobody else wants (`SCHED_IDLE`, sched(7)).
pub(super) fn cargo_when_idle(args: &[&str]) -> Result<(), String> {
    let cargo = command(args);
    let mut idle = Command::new("chrt");
    idle.args(["--idle", "0"]).arg(cargo.get_program());
    answer(idle.args(args).stdin(Stdio::null()))
}

fn answer(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().display().to_string();
    let answer = command
        .stderr(Stdio::piped())
        .output()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    if answer.status.success() {
        return Ok(());
    }
    let said = [answer.stdout, answer.stderr].concat();
    Err(String::from_utf8_lossy(&said).into_owned())
}

/// Builds every program and every test binary of the workspace.
pub(super) fn test_binaries() -> Result<Vec<TestBinary>, String> {
    // All at once: cargo has something for each processor to do until the end.
    let mut build = command(&[
        "build",
        "--workspace",
        "--bins",
        "--tests",
        "--message-format=json-render-diagnostics",
    ]);
    let answer = build
        .stderr(Stdio::piped())
        .output()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    if !answer.status.success() {
        return Err(String::from_utf8_lossy(&answer.stderr).into_owned());
    }
    let messages = String::from_utf8_lossy(&answer.stdout);
    let mut binaries: Vec<TestBinary> = messages.lines().filter_map(test_binary).collect();
    binaries.sort_by(|a, b| (&a.package, &a.target).cmp(&(&b.package, &b.target)));
    Ok(binaries)
}

/// One line of cargo's report, where it names a test binary.
fn test_binary(message: &str) -> Option<TestBinary> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_test = message["profile"]["test"].as_bool()?;
    let path = message["executable"].as_str().filter(|_| is_test)?;
    let folder = PathBuf::from(message["manifest_path"].as_str()?)
        .parent()?
        .to_owned();
    let package = folder.file_name()?.to_string_lossy().into_owned();
    let target = message["target"]["name"].as_str()?.to_owned();
    Some(TestBinary {
        package,
        target,
        path: path.into(),
        folder,
    })
}

fn command(args: &[&str]) -> Command {
    // The cargo that started us, so that a toolchain chosen with `cargo +…` stays chosen.
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).stdin(Stdio::null());
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_told_from_others() {
        let report = |test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/w/agent/Cargo.toml","target":{{"name":"squall_agent"}},
                "profile":{{"test":{test}}},"executable":"/w/target/debug/deps/squall_agent-1"}}"#
            )
        };
        let binary = test_binary(&report(true)).unwrap();
        assert_eq!(
            (&*binary.package, &*binary.target),
            ("agent", "squall_agent")
        );
        assert!(test_binary(&report(false)).is_none());
        assert!(test_binary(r#"{"reason":"build-finished","success":true}"#).is_none());
    }
}
