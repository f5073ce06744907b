//! What the tests need from the machine, in one place, and its installation where that is allowed.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::vm::on_path;

/// A program tests call, and the Debian package that has it.
const NEEDED: [(&str, &str); 11] = [
    ("busybox", "busybox-static"),
    ("ip", "iproute2"),
    ("ldd", "libc-bin"),
    ("nft", "nftables"),
    ("nghttpd", "nghttp2-server"),
    ("nsenter", "util-linux"),
    ("prometheus", "prometheus"),
    ("ps", "procps"),
    ("strip", "binutils"),
    ("stress-ng", "stress-ng"),
    ("tc", "iproute2"),
];

/// Installs what is missing, as root on a machine with apt; otherwise names it. Tests whose tool is
/// missing in the end are skipped and say so.
pub(super) fn provide() -> Result<(), String> {
    let mut missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| on_path(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    // The VM's kernel comes out of the package archive, whose index a bare container image lacks.
    let index = Command::new("apt-cache")
        .args(["show", "linux-image-cloud-amd64"])
        .output();
    let no_index = !index.is_ok_and(|answer| answer.status.success());
    if missing.is_empty() && !no_index {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        let update = if no_index {
            "`apt-get update` and "
        } else {
            ""
        };
        return Err(format!(
            "not root, so this is left to you: {update}apt-get install {}",
            missing.join(" ")
        ));
    }
    apt(&["update"])?;
    if missing.is_empty() {
        return Ok(());
    }
    // --no-remove: the machine's own packages are not ours to take away.
    apt(&[
        &["install", "-y", "--no-install-recommends", "--no-remove"],
        &missing[..],
    ]
    .concat())?;
    let came: Vec<&str> = SERVICES
        .into_iter()
        .filter(|service| missing.contains(service))
        .collect();
    silence(&came)
}

/// Packages that start a service of the same name when they are installed. Only the program is wanted: tests start their own.
const SERVICES: [&str; 1] = ["prometheus"];

/// Stops services that came along, where there is somebody who started them.
fn silence(services: &[&str]) -> Result<(), String> {
    if services.is_empty() || !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    let answer = Command::new("systemctl")
        .args(["disable", "--now"])
        .args(services)
        .output();
    match answer {
        Ok(answer) if answer.status.success() => Ok(()),
        Ok(answer) => Err(format!(
            "`systemctl disable --now {}` failed: {}",
            services.join(" "),
            String::from_utf8_lossy(&answer.stderr).trim()
        )),
        Err(error) => Err(format!("cannot run systemctl: {error}")),
    }
}

fn apt(args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command
        .arg("-qq")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    match command.output() {
        Ok(answer) if answer.status.success() => Ok(()),
        Ok(answer) => Err(format!(
            "`apt-get {}` failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&answer.stderr).trim()
        )),
        Err(error) => Err(format!("cannot run apt-get: {error}")),
    }
}
