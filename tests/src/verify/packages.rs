//! What the tests need from the machine, in one place, and its installation where that is allowed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::vm::on_path;

/// A program tests call, or a file that they need, and the Debian package that has it. A `*` stands for a version.
const NEEDED: [(&str, &str); 27] = [
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
    ("curl", "curl"),
    ("dnsmasq", "dnsmasq-base"),
    ("dockerd", "docker.io"),
    ("ip", "iproute2"),
    ("jq", "jq"),
    ("ldd", "libc-bin"),
    ("nft", "nftables"),
    ("nghttpd", "nghttp2-server"),
    ("nginx", "nginx-light"),
    ("node", "nodejs"),
    ("npm", "npm"),
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

/// Python packages and the versions that tests were written with: the schemas of Kubernetes' API; the messages in which traces are sent; what
/// asks an API all that its OpenAPI document allows, and what it does not.
const PYTHON: [(&str, &str); 3] = [
    ("kubernetes_validate", "kubernetes-validate==1.37.0"),
    ("opentelemetry", "opentelemetry-proto==1.45.2"),
    ("schemathesis", "schemathesis==4.32.5"),
];

/// Where Python packages are put that no Debian package has: beside what cargo builds, and nowhere on the machine.
const PYTHON_PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/python");

/// An OpenID provider, certified by those who made the standard, in the last line that Debian's Node runs.
const PROVIDER: (&str, &str) = ("oidc-provider", "oidc-provider@8.8.1");

/// The same for what Node runs.
const NODE_PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/node");

/// The folder of this package of Node's, where it was installed.
#[must_use]
pub fn node_package(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(NODE_PACKAGES).join("node_modules").join(name);
    folder.exists().then_some(folder)
}

/// The folder to import this Python package from, where it was installed.
#[must_use]
pub fn python_package(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(PYTHON_PACKAGES);
    folder.join(name).exists().then_some(folder)
}

/// Installs what is missing, or says what could not be.
pub(super) fn provide() -> Result<(), String> {
    let trouble = [debian(), python(), node()].map(Result::err);
    let trouble: Vec<String> = trouble.into_iter().flatten().collect();
    if trouble.is_empty() {
        Ok(())
    } else {
        Err(trouble.join("; "))
    }
}

/// Needs no root, and changes nothing but the folder.
fn python() -> Result<(), String> {
    let missing = PYTHON
        .iter()
        .filter(|(module, _)| python_package(module).is_none());
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-compile"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore"])
        .args(["--target", PYTHON_PACKAGES])
        .args(&missing);
    installed(pip)
}

/// Runs nothing of what it fetches.
fn node() -> Result<(), String> {
    let (module, package) = PROVIDER;
    if node_package(module).is_some() {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args([
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ])
    .args(["--prefix", NODE_PACKAGES, package]);
    installed(npm)
}

fn installed(mut installer: Command) -> Result<(), String> {
    let shown = format!("{installer:?}").replace('"', "");
    match installer.stdin(Stdio::null()).output() {
        Ok(answer) if answer.status.success() => Ok(()),
        Ok(answer) => Err(format!(
            "`{shown}` failed: {}",
            String::from_utf8_lossy(&answer.stderr).trim()
        )),
        Err(error) => Err(format!("cannot run `{shown}`: {error}")),
    }
}

fn has_pip() -> bool {
    let answer = Command::new("python3")
        .args(["-m", "pip", "--version"])
        .output();
    answer.is_ok_and(|answer| answer.status.success())
}

/// Installs what is missing, as root on a machine with apt; otherwise names it. Tests whose tool is
/// missing in the end are skipped and say so.
fn debian() -> Result<(), String> {
    let mut missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(what, _)| !is_there(what))
        .map(|(_, package)| *package)
        .collect();
    missing.extend((!has_pip()).then_some("python3-pip"));
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
const SERVICES: [(&str, &str); 6] = [
    ("containerd", "containerd"),
    ("docker.io", "docker"),
    ("docker.io", "docker.socket"),
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
