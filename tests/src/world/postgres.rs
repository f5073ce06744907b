//! A PostgreSQL server of one test: Debian's programs, without rights, in a folder that goes with it.

use super::netns::Netns;
use super::service::{Service, folder, free, inside, own, unprivileged};
use super::{Result, output};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Ends it at once, and lets it give its shared memory back.
const END: Signal = Signal::SIGQUIT;

/// The server's one user.
pub const USER: &str = "squall";

/// Where Debian has the newest server's programs: not on the path, as several may be there.
pub fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders.filter(|bin| bin.join("initdb").exists()).max()
}

/// An empty database, which does not run yet.
pub struct Data {
    folder: TempDir,
    programs: PathBuf,
}

impl Data {
    /// Makes it. Without a password, whoever reaches it is let in.
    ///
    /// # Errors
    /// With what `initdb` said.
    pub fn new(programs: &Path, password: Option<&str>) -> Result<Self> {
        let data = Self {
            folder: folder()?,
            programs: programs.to_owned(),
        };
        let at = |name: &str| data.path(name).display().to_string();
        let mut initdb = unprivileged(programs.join("initdb"), Signal::SIGKILL);
        initdb.current_dir(data.folder.path());
        initdb.args(["--pgdata", &at("data"), "--username", USER]);
        initdb.args(["--no-sync", "--no-locale", "--encoding=UTF8"]);
        if let Some(password) = password {
            fs::write(at("password"), password)?;
            own(at("password").as_ref())?;
            initdb.args(["--auth=scram-sha-256", "--pwfile", &at("password")]);
        } else {
            initdb.arg("--auth=trust");
        }
        output(&mut initdb)?;
        Ok(data)
    }

    /// A file of its folder; `data/` is the database's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it on the loopback, with more settings as `name=value`.
    ///
    /// # Errors
    /// With what it said.
    pub fn start(self, settings: &[String]) -> Result<(Service, SocketAddr)> {
        let address = free()?;
        let command = self.server(address, settings);
        let service = Service::start(command, END, self.folder, &[address])?;
        Ok((service, address))
    }

    /// Starts it in a network namespace, for whoever reaches it there; whether it listens yet is to be tried from there.
    ///
    /// # Errors
    /// With what it said.
    pub fn start_in(self, netns: &Netns, at: SocketAddr) -> Result<Service> {
        let rules = self.path("data/pg_hba.conf");
        let mut rules = File::options().append(true).open(rules)?;
        writeln!(rules, "host all all all trust")?;
        let command = inside(netns, &self.server(at, &[]));
        Service::start(command, END, self.folder, &[])
    }

    fn server(&self, at: SocketAddr, settings: &[String]) -> Command {
        let mut command = unprivileged(self.programs.join("postgres"), END);
        command.arg("-D").arg(self.path("data"));
        command.args(["-h", &at.ip().to_string(), "-p", &at.port().to_string()]);
        let ours = ["unix_socket_directories=", "fsync=off"].map(str::to_owned);
        for setting in ours.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        command
    }
}

/// A server that lets everybody in, and its address as a store takes it.
///
/// # Errors
/// It cannot be made or started.
pub fn open_to_all(programs: &Path) -> Result<(Service, String)> {
    let (service, address) = Data::new(programs, None)?.start(&[])?;
    Ok((service, format!("postgres://{USER}@{address}/postgres")))
}

/// The same for controllers in whichever network namespace: it is reached by a socket in its folder.
///
/// # Errors
/// It cannot be made or started.
pub fn open_by_socket(programs: &Path) -> Result<(Service, String)> {
    let data = Data::new(programs, None)?;
    let folder = data.path("").display().to_string();
    let (service, address) = data.start(&[format!("unix_socket_directories={folder}")])?;
    let folder = folder.trim_end_matches('/').replace('/', "%2F");
    let url = format!("postgres://{USER}@{folder}:{}/postgres", address.port());
    Ok((service, url))
}
