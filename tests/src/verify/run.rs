//! Runs a test binary on this machine; what comes out reads as it does from the VM.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::build::TestBinary;
use super::tally::Tally;
use super::transcript::Transcript;

/// How long one test binary may run. The longest, the worlds under emulation, should need half.
pub(super) const BINARY_LIMIT: Duration = Duration::from_secs(35 * 60);

/// The environment variable by which a test learns where it is.
pub const WORLD: &str = "SQUALL_WORLD";

/// The environment variable by which the store's tests learn of a PostgreSQL server that is theirs.
const DATABASE: &str = "SQUALL_TEST_POSTGRES";

/// Where tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum World {
    /// On this machine's kernel.
    Here,
    /// In a VM on Debian's kernel.
    Vm,
}

impl World {
    /// As it is written on the command line and in front of a test's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Vm => "vm",
        }
    }
}

/// Runs `binary` here, with a `database` for the tests of the store. `each` hears every test as it ends.
pub(super) fn here(
    binary: &TestBinary,
    args: &[String],
    database: Option<&str>,
    each: impl FnMut(&str, &str),
) -> Tally {
    let mut transcript = Transcript::new(prefix(World::Here, binary), each);
    let mut command = Command::new(&binary.path);
    command
        .args(args)
        .current_dir(&binary.folder)
        .env("CARGO_MANIFEST_DIR", &binary.folder);
    command.env(WORLD, World::Here.name());
    if let Some(address) = database {
        command.env(DATABASE, address);
    }
    let ending = stream(command, &mut transcript);
    transcript.end(&ending)
}

/// Passes the command's output to `transcript`; returns how it ended, empty where all was well.
fn stream(mut command: Command, transcript: &mut impl Write) -> String {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return format!("as it could not be started: {error}"),
    };
    let Some(mut output) = child.stdout.take() else {
        return "without output".to_owned();
    };
    let (over, wait) = mpsc::channel::<()>();
    let pid = child.id();
    let watchdog = thread::spawn(move || {
        let late = wait.recv_timeout(BINARY_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
        if late && let Ok(pid) = i32::try_from(pid) {
            // The child is not reaped before this thread is told, so the number is still its own.
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        late
    });
    let copied = io::copy(&mut output, transcript);
    drop(over);
    let late = watchdog.join().unwrap_or(false);
    match (child.wait(), copied) {
        _ if late => format!("as it still ran after {BINARY_LIMIT:?}"),
        (Err(error), _) | (_, Err(error)) => format!("and could not be followed: {error}"),
        (Ok(status), _) if status.success() => String::new(),
        (Ok(status), _) => format!("with {status}"),
    }
}

/// What stands before the names of the tests of `binary` in `world`.
pub(super) fn prefix(world: World, binary: &TestBinary) -> String {
    format!("{}: {}/{}: ", world.name(), binary.package, binary.target)
}
