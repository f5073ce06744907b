//! What systemd is told, where it started the agent and wants to know: that it serves, that it still does, and that it ends.
//! One datagram each (sd_notify(3)); with `WatchdogSec=` in the unit, the one task itself says each half of that time that it
//! runs, so that systemd ends and restarts an agent that hangs even when no fault lives.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The way to systemd; none where there is nobody to tell.
#[derive(Debug, Default)]
pub(crate) struct Systemd {
    socket: Option<UnixDatagram>,
    every: Option<Duration>,
    next: Option<Instant>,
}

impl Systemd {
    /// As the environment says. Failing to reach it is as if nobody wanted to know: systemd then ends the unit, and says so.
    pub(crate) fn from_environment() -> Self {
        let text = |name| std::env::var(name).ok();
        let number = |name| text(name)?.parse::<u64>().ok();
        // It may be meant for the process that started this one.
        let mine = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|_| mine);
        let address = std::env::var_os("NOTIFY_SOCKET");
        Self {
            socket: address.and_then(|address| connect(&address).ok()),
            every: limit.map(|us| Duration::from_micros(us) / 2),
            next: None,
        }
    }

    /// It serves.
    pub(crate) fn ready(&mut self) {
        self.say("READY=1");
        self.next = self.every.map(|every| Instant::now() + every);
    }

    /// The task runs; said when it is due.
    pub(crate) fn beat(&mut self) {
        let now = Instant::now();
        if let (Some(next), Some(every)) = (self.next, self.every)
            && now >= next
        {
            self.say("WATCHDOG=1");
            self.next = Some(now + every);
        }
    }

    /// When `beat` must be called next, if ever.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.next.filter(|_| self.socket.is_some())
    }

    /// It ends its faults, and then itself.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1");
    }

    fn say(&self, word: &str) {
        if let Some(socket) = &self.socket {
            // A systemd that does not read is not waited for.
            let _ = socket.send(word.as_bytes());
        }
    }
}

/// A path, or a name that begins with `@` in the abstract namespace (unix(7)).
fn connect(address: &OsStr) -> std::io::Result<UnixDatagram> {
    let address = match address.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}
