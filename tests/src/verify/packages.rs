//! What the tests need from the machine, in one place, and its installation where that is allowed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::vm::on_path;

/// A program tests call, or a file that they need, and the Debian package that has it. A `*` stands for a version.
const NEEDED: [(&str, &str); 22] = [
    // The program that writes a journal; Debian leaves its services off.
    (
        "/lib/systemd/systemd-journal-remote",
        "systemd-journal-remote",
    ),
    (
        "/usr/lib/python3/dist-packages/grpc/__init__.py",
        "python3-grpcio",
    ),
    (
        "/usr/lib/python3/dist-packages/croniter/__init__.py",
        "python3-croniter",
    ),
    ("/usr/share/zoneinfo/Europe/Berlin", "tzdata"),
    ("/usr/lib/postgresql/*/bin/initdb", "postgresql"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("busybox", "busybox-static"),
    ("containerd", "containerd"),
    ("dnsmasq", "dnsmasq-base"),
    ("ip", "iproute2"),
    ("ldd", "libc-bin"),
    ("nft", "nftables"),
    ("nghttpd", "nghttp2-server"),
    ("nginx", "nginx-light"),
    ("nsenter", "util-linux"),
    ("prometheus", "prometheus"),
    ("ps", "procps"),
    // Redis itself, without its service: the server is the same program under another name.
    ("redis-check-rdb", "redis-tools"),
    ("runc", "runc"),
    ("strip", "binutils"),
    ("stress-ng", "stress-ng"),
    ("tc", "iproute2"),
];

/// Installs what is missing, as root on a machine with apt; otherwise names it. Tests whose tool is
/// missing in the end are skipped and say so.
pub(super) fn provide() -> Result<(), String> {
    let mut missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(what, _)| !is_there(what))
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
    let _quiet = NoStarts::ask().map_err(|error| format!("{POLICY}: {error}"))?;
    // --no-remove: the machine's own packages are not ours to take away.
    apt(&[
        &["install", "-y", "--no-install-recommends", "--no-remove"],
        &missing[..],
    ]
    .concat())?;
    let came: Vec<&str> = SERVICES
        .into_iter()
        .filter(|(package, _)| missing.contains(package))
        .map(|(_, service)| service)
        .collect();
    silence(&came)
}

/// Asked before a package starts its service (Debian's `invoke-rc.d` and `deb-systemd-invoke`).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it lives, packages that are installed start nothing. A policy that the machine has is left as it is.
struct NoStarts {
    ours: bool,
}

impl NoStarts {
    fn ask() -> std::io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        // 101: not allowed.
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        let policy = Self { ours: true };
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(policy)
    }
}

impl Drop for NoStarts {
    fn drop(&mut self) {
        if self.ours {
            // Gone already is as good.
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Packages that start a service when they are installed, and its name. Only the program is wanted: tests start their own.
const SERVICES: [(&str, &str); 4] = [
    ("containerd", "containerd"),
    ("nginx-light", "nginx"),
    ("postgresql", "postgresql"),
    ("prometheus", "prometheus"),
];

/// Keeps services that came along from starting with the machine, where there is somebody who would start them.
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

fn is_there(what: &str) -> bool {
    match what.split_once("*/") {
        None if what.starts_with('/') => Path::new(what).exists(),
        None => on_path(what).is_some(),
        Some((folder, below)) => fs::read_dir(folder)
            .is_ok_and(|versions| versions.flatten().any(|v| v.path().join(below).exists())),
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
