//! A Docker engine, for real: Debian's dockerd with its own containerd, in a mount and a network namespace of its own, without a
//! bridge and without firewall rules, with an image made by hand.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::super::{Result, output, until, victim};
use super::{IMAGE, LIMIT, apart, group, image, sweep};
use crate::vm::on_path;

/// Where its socket is on every machine.
const SOCKET: &str = "run/docker.sock";

/// What it needs, and the Debian package that has it.
const NEEDED: [(&str, &str); 4] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("containerd", "containerd"),
    ("runc", "runc"),
];

/// The package that is missing for an engine, if one is.
pub fn missing() -> Option<&'static str> {
    let mut absent = NEEDED
        .iter()
        .filter(|(program, _)| on_path(program).is_none());
    absent.next().map(|(_, package)| *package)
}

/// An engine. It is stopped, with all its containers, when this is dropped.
#[derive(Debug)]
pub struct Engine {
    dockerd: Child,
    socket: PathBuf,
    /// The cgroup below which all containers are.
    group: String,
    scratch: TempDir,
}

impl Engine {
    /// Starts dockerd, and gives it an image with busybox in it.
    ///
    /// # Errors
    /// When something is missing, or does not start; with its last words.
    pub fn start() -> Result<Self> {
        let scratch = TempDir::with_prefix("squall-lab-docker-")?;
        let archive = image::make(scratch.path(), IMAGE, &[], &[])?;
        let group = group("docker");
        let dockerd = apart(|| {
            Ok(Command::new("dockerd")
                .args(["--host", "unix:///run/docker.sock", "--bridge=none"])
                .args([
                    "--iptables=false",
                    "--ip6tables=false",
                    "--storage-driver=vfs",
                ])
                .args(["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"])
                .arg("--data-root")
                .arg(scratch.path().join("data"))
                .arg("--cgroup-parent")
                .arg(format!("/{group}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(File::create(scratch.path().join("log"))?)
                .spawn()?)
        })?;
        let root = PathBuf::from(format!("/proc/{}/root", dockerd.id()));
        let mut engine = Self {
            dockerd,
            socket: root.join(SOCKET),
            group,
            scratch,
        };
        engine.wait()?;
        engine.say(&["load", "--input", &archive.display().to_string()])?;
        fs::remove_file(archive)?;
        Ok(engine)
    }

    fn wait(&mut self) -> Result<()> {
        let ready = || {
            let ended = self.dockerd.try_wait().ok().flatten();
            match (ended, self.say(&["version"])) {
                (Some(code), _) => Some(Err(format!("dockerd ended with {code}"))),
                (None, Ok(_)) => Some(Ok(())),
                (None, Err(_)) => None,
            }
        };
        let begun = until("dockerd", LIMIT, ready);
        begun.and_then(|ready| Ok(ready?)).map_err(|error| {
            let log = fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(8).collect();
            format!("{error}; its last words: {}", last.join("\n")).into()
        })
    }

    /// Where the agent finds it: its socket, seen from outside.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What `docker` answers.
    ///
    /// # Errors
    /// What it says.
    pub fn say(&self, words: &[&str]) -> Result<String> {
        let mut docker = Command::new("docker");
        docker
            .arg("--host")
            .arg(format!("unix://{}", self.socket.display()));
        output(docker.args(words).env("DOCKER_CONFIG", self.scratch.path()))
    }

    /// Runs a container that sleeps, without a network beyond its own loopback, and is restarted whenever it ends.
    ///
    /// # Errors
    /// What the engine says.
    pub fn run(&self, name: &str, label: &str) -> Result<()> {
        let what = ["run", "--detach", "--network=none", "--restart=always"];
        let named = [
            "--name",
            name,
            "--label",
            label,
            IMAGE,
            "/bin/sleep",
            "100000",
        ];
        self.say(&[&what[..], &named[..]].concat()).map(drop)
    }

    /// The main process of a container; 0 while it has none.
    ///
    /// # Errors
    /// What the engine says.
    pub fn pid(&self, name: &str) -> Result<u32> {
        Ok(self
            .say(&["inspect", "--format", "{{.State.Pid}}", name])?
            .trim()
            .parse()?)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let all = self.say(&["ps", "--all", "--quiet"]).unwrap_or_default();
        for id in all.split_whitespace() {
            let _ = self.say(&["rm", "--force", id]);
        }
        let _ = victim::signal(self.dockerd.id(), Signal::SIGTERM);
        let ended = || matches!(self.dockerd.try_wait(), Ok(Some(_))).then_some(());
        if until("dockerd's end", LIMIT, ended).is_err() {
            let _ = self.dockerd.kill();
            let _ = self.dockerd.wait();
        }
        sweep(self.scratch.path(), &self.group);
    }
}
