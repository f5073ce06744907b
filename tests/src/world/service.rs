//! A real server of one test, without rights, in a folder of its own; both go with the value.

use super::netns::Netns;
use super::{Result, until};
use libtest_mimic::{Completion, Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, chown, geteuid};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long a server may take until it listens, on a machine that is busy compiling.
const START_LIMIT: Duration = Duration::from_secs(60);

/// `nobody`: root's servers run as that, for some refuse to run as root.
const NOBODY: u32 = 65534;

/// A test that needs something installed; without, it is skipped and says so.
pub fn needing(
    there: Option<PathBuf>,
    package: &'static str,
    name: &str,
    test: impl FnOnce(&Path) -> Result<()> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || {
        let Some(there) = there else {
            let why = match package.contains(' ') {
                true => format!("needs {package}"),
                false => format!("needs {package}: apt-get install {package}"),
            };
            return Ok(Completion::ignored_with(why));
        };
        test(&there)
            .map(|()| Completion::Completed)
            .map_err(|error| Failed::from(error.to_string()))
    })
}

/// A port on loopback that was free a moment ago.
///
/// # Errors
/// There is none.
pub fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A folder that the servers of this test may write to.
///
/// # Errors
/// It cannot be made.
pub fn folder() -> Result<TempDir> {
    let folder = TempDir::new()?;
    own(folder.path())?;
    Ok(folder)
}

/// Gives a file or folder to the servers of this test.
///
/// # Errors
/// The kernel does not let us.
pub fn own(path: &Path) -> Result<()> {
    if geteuid().is_root() {
        chown(
            path,
            Some(Uid::from_raw(NOBODY)),
            Some(Gid::from_raw(NOBODY)),
        )?;
    }
    Ok(())
}

/// A command without rights that gets `end` when this program dies, however it dies.
pub fn unprivileged(program: impl AsRef<Path>, end: Signal) -> Command {
    let mut command = Command::new("setpriv");
    if geteuid().is_root() {
        let nobody = NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    }
    let end = end.as_str().trim_start_matches("SIG");
    command
        .args(["--pdeathsig", end, "--"])
        .arg(program.as_ref());
    command
}

/// The same command inside a network namespace, entered before anything else is done.
pub fn inside(netns: &Netns, command: &Command) -> Command {
    let mut entered = Command::new("nsenter");
    entered.arg(format!("--net=/run/netns/{}", netns.name()));
    entered.arg(command.get_program()).args(command.get_args());
    entered
}

/// A server that listens.
pub struct Service {
    command: Command,
    listens: Vec<SocketAddr>,
    child: Child,
    end: Signal,
    /// Removed after the server's end.
    folder: TempDir,
}

impl Service {
    /// Starts it and waits until it listens everywhere that it should. `end` is the signal that ends it and lets it clean up.
    ///
    /// # Errors
    /// With what it said, where it ended.
    pub fn start(
        mut command: Command,
        end: Signal,
        folder: TempDir,
        listens: &[SocketAddr],
    ) -> Result<Self> {
        let log = folder.path().join("said");
        let said = File::create(&log)?;
        command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        let child = begin(&mut command)?;
        let mut service = Self {
            command,
            listens: listens.to_vec(),
            child,
            end,
            folder,
        };
        service.ready()?;
        Ok(service)
    }

    /// Waits until it listens.
    fn ready(&mut self) -> Result<()> {
        let log = self.folder.path().join("said");
        let (command, child) = (&self.command, &mut self.child);
        for address in &self.listens {
            let ready = || match child.try_wait() {
                Ok(None) => TcpStream::connect(address).ok().map(|_| Ok(())),
                _ => {
                    let said = fs::read_to_string(&log).unwrap_or_default();
                    Some(Err(format!("{command:?} ended: {said}")))
                }
            };
            until(&format!("{command:?} at {address}"), START_LIMIT, ready)??;
        }
        Ok(())
    }

    /// Ends it in the hardest way, with the processes that it has started.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(&mut self) -> Result<()> {
        let children = self.children();
        self.child.kill()?;
        self.child.wait()?;
        // They end by themselves as well, but the next would have to wait for that.
        for child in children {
            let _ended = kill(child, Signal::SIGKILL);
        }
        Ok(())
    }

    /// Starts it again where it was, after its end.
    ///
    /// # Errors
    /// With what it said, where it ended.
    pub fn again(&mut self) -> Result<()> {
        self.child = begin(&mut self.command)?;
        self.ready()
    }

    /// While `test` runs, it does nothing, nor do the processes that it has started: neither answers nor refuses.
    ///
    /// # Errors
    /// Those of `test`.
    pub fn stopped(&self, test: impl FnOnce() -> Result<()>) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let children = self.children();
        say(&children, Signal::SIGSTOP);
        // However the test ends: who stands still could not be ended in order.
        let _goes_on = GoesOn(self, children);
        test()
    }

    fn children(&self) -> Vec<Pid> {
        let pid = self.child.id();
        let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let listed = listed.unwrap_or_default();
        let pids = listed.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.map(Pid::from_raw).collect()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        Ok(kill(pid, signal)?)
    }
}

/// Goes on when this is dropped.
struct GoesOn<'a>(&'a Service, Vec<Pid>);

impl Drop for GoesOn<'_> {
    fn drop(&mut self) {
        say(&self.1, Signal::SIGCONT);
        // Ended meanwhile is as good.
        let _ended = self.0.signal(Signal::SIGCONT);
    }
}

/// Ended meanwhile is as good.
fn say(pids: &[Pid], signal: Signal) {
    for pid in pids {
        let _ended = kill(*pid, signal);
    }
}

fn begin(command: &mut Command) -> Result<Child> {
    let begun = command.spawn();
    Ok(begun.map_err(|error| format!("cannot start {command:?}: {error}"))?)
}

impl Drop for Service {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.signal(self.end);
        let _ = self.child.wait();
    }
}
