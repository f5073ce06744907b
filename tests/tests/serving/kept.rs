//! What one controller keeps: shown to Prometheus, written into a backup, and taken out of it elsewhere.

use crate::controller::Controller;
use lab::world::Result;
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

pub(crate) fn trials() -> Vec<Trial> {
    let backup = || Ok(a_backup_is_all_that_is_needed_elsewhere()?);
    let metrics = || Ok(prometheus_is_shown_figures_and_nobody_without_a_token()?);
    vec![
        Trial::test("kept::a_backup_is_all_that_is_needed_elsewhere", backup),
        Trial::test(
            "kept::prometheus_is_shown_figures_and_nobody_without_a_token",
            metrics,
        ),
    ]
}

fn text(path: &Path) -> Result<&str> {
    Ok(path.to_str().ok_or("a path that is no text")?)
}

fn a_backup_is_all_that_is_needed_elsewhere() -> Result<()> {
    let mut first = Controller::start(&[])?;
    let shown = first.squalls(&["token", "create", "--uses", "3", "--note", "rack 7"])?;
    let token = shown.trim().to_owned();
    let folder = TempDir::new()?;
    let file = folder.path().join("backup");
    // While it serves.
    first.squalls(&["backup", text(&file)?])?;
    let twice = first.squall(&["backup", text(&file)?])?;
    assert_eq!(twice.status.code(), Some(3), "a backup over another");
    let over = first.squall(&["restore", text(&file)?])?;
    assert_eq!(
        over.status.code(),
        Some(3),
        "a restore under a controller that serves"
    );
    first.end(Signal::SIGTERM)?;

    let home = TempDir::new()?;
    let data = home.path().join("data");
    let restored = std::process::Command::new(lab::world::agent::program("squall")?)
        .args(["restore", text(&file)?])
        .env("SQUALL_DATA", &data)
        .output()?;
    let said = String::from_utf8_lossy(&restored.stderr);
    assert!(restored.status.success(), "{said}");
    for name in ["authority.pem", "authority.key"] {
        assert_eq!(
            fs::read(data.join(name))?,
            fs::read(first.data().join(name))?,
            "{name}"
        );
    }
    // Whoever had the first token still has it: its hash is kept, and it itself nowhere but with them.
    fs::copy(first.data().join("admin.token"), data.join("admin.token"))?;
    let second = Controller::start_in(home, &[])?;
    let tokens = second.squalls(&["token", "list"])?;
    assert!(tokens.contains("rack 7"), "{tokens}");
    assert!(
        !fs::read(&file)?
            .windows(token.len())
            .any(|part| part == token.as_bytes())
    );
    Ok(())
}

fn prometheus_is_shown_figures_and_nobody_without_a_token() -> Result<()> {
    let controller = Controller::start(&[])?;
    let refused = controller.get("/api/v1/metrics")?;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let shown = controller.get_as_admin("/api/v1/metrics")?;
    assert!(shown.starts_with("HTTP/1.1 200"), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    for line in [
        "squall_leader 1",
        "squall_store_up 1",
        "squall_halted 0",
        "squall_faults_live 0",
        "squall_agents{state=\"connected\"} 0",
        "# EOF",
    ] {
        assert!(lines.contains(&line), "{line}: {shown}");
    }
    controller.squalls(&["halt", "--because", "a look"])?;
    let shown = controller.get_as_admin("/api/v1/metrics")?;
    assert!(shown.contains("squall_halted 1"), "{shown}");
    Ok(())
}
