//! The real servers that the cells share. One whose program is not installed leaves its cells out, and says so.

use crate::certificates::Certificates;
use crate::{daemon, dns, grpc, peer, postgres, prometheus, redis};
use lab::world::Result;
use lab::world::postgres::programs;
use lab::world::service::Service;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

pub(super) struct Servers {
    pub(super) prometheus: Option<Arc<prometheus::Real>>,
    pub(super) postgres: Option<postgres::Real>,
    pub(super) redis: Option<redis::Real>,
    pub(super) grpc: Option<grpc::Real>,
    dns: Option<(Service, SocketAddr)>,
    /// An authority that nobody here was certified by.
    pub(super) foreign: Certificates,
    /// Files that the probes read.
    pub(super) folder: TempDir,
    /// Accepts and never says a word.
    pub(super) silent: SocketAddr,
    /// Accepts and hangs up.
    pub(super) mute: SocketAddr,
    /// Says what no protocol here begins with.
    pub(super) rubbish: SocketAddr,
    /// Nobody listens there.
    pub(super) nobody: SocketAddr,
}

/// Starts what is installed.
fn there<P, T>(program: Option<P>, start: impl FnOnce(&P) -> Result<T>) -> Result<Option<T>> {
    program.map(|program| start(&program)).transpose()
}

impl Servers {
    /// One after another, and by the thread that uses them: they die with the thread that started them.
    pub(super) fn start() -> Result<Self> {
        let program = lab::vm::on_path;
        let dns = there(program("dnsmasq"), |program| {
            let address = daemon::free()?;
            Ok((dns::start(program, address)?, address))
        });
        Ok(Self {
            prometheus: there(program(prometheus::PROGRAM.0), |_| prometheus::real())?,
            postgres: there(programs(), |programs| postgres::start(programs))?,
            redis: there(program("redis-check-rdb"), |program| redis::start(program))?,
            grpc: there(grpc::installed(), |_| grpc::start())?,
            dns: dns?,
            foreign: Certificates::new()?,
            folder: files()?,
            silent: peer::silent()?,
            mute: peer::saying(b"")?,
            rubbish: peer::saying(b"SSH-2.0-OpenSSH_9.2\r\n")?,
            nobody: daemon::free()?,
        })
    }

    pub(super) fn dns(&self) -> Option<SocketAddr> {
        self.dns.as_ref().map(|(_, address)| *address)
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The packages of what is not installed.
    pub(super) fn missing(&self) -> String {
        let all = [
            ("prometheus", self.prometheus.is_none()),
            ("postgresql", self.postgres.is_none()),
            ("redis-tools", self.redis.is_none()),
            ("python3-grpcio", self.grpc.is_none()),
            ("dnsmasq-base", self.dns.is_none()),
        ];
        let missing = all.into_iter().filter(|(_, missing)| *missing);
        let missing: Vec<_> = missing.map(|(package, _)| package).collect();
        missing.join(" ")
    }
}

/// What is found in the folder.
fn files() -> Result<TempDir> {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new()?;
    let at = |name: &str| folder.path().join(name);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    // Others may come in: whether they may read is the file's own affair.
    mode(folder.path(), 0o755)?;
    for (name, text) in [
        ("wrong", "incorrect mule"),
        ("closed.log", "fine\n"),
        ("quiet.log", ""),
        ("program", "#!/bin/sh\necho 3\n"),
    ] {
        fs::write(at(name), text)?;
        mode(&at(name), 0o644)?;
    }
    mode(&at("closed.log"), 0o000)?;
    for journal in ["no-journal", "broken-journal"] {
        fs::create_dir(at(journal))?;
    }
    fs::write(at("broken-journal/system.journal"), "ERROR\n".repeat(1000))?;
    Ok(folder)
}
