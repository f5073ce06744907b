//! Real servers, started once for all tests that ask them, and ended with the last.

use lab::world::{Result, until};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a server may take until it listens, on a machine that is busy compiling.
const START_LIMIT: Duration = Duration::from_secs(60);

static RUNNING: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// A port on loopback that was free a moment ago.
pub(crate) fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

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
