//! Real servers, started once for all tests that ask them, and ended with the last.

pub(crate) use lab::world::service::free;
use lab::world::{Result, until};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a server may take until it listens, on a machine that is busy compiling.
const START_LIMIT: Duration = Duration::from_secs(60);

static RUNNING: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Starts a program that dies with this one, however this one dies, and waits until it listens.
pub(crate) fn start(program: &str, args: &[String], listens: SocketAddr) -> Result<()> {
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", program])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start {program}: {error}"))?;
    RUNNING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(child);
    until(&format!("{program} at {listens}"), START_LIMIT, || {
        TcpStream::connect(listens).ok().map(drop)
    })
}

/// Ends them all.
pub(crate) fn end_all() {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    for mut child in running.drain(..) {
        // Ended already is as good.
        let _ = child.kill();
        let _ = child.wait();
    }
}
