//! TCP as an application meets it: how fast data goes, how long a connection takes, how it is refused.

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Result;
use super::wire::Wire;

/// How an attempt to connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Connected after this long.
    Connected(Duration),
    /// Refused after this long.
    Refused(Duration),
    /// Neither within the limit.
    Silent,
}

/// Tries to connect to `to`.
pub fn connect(wire: &Wire, to: IpAddr, limit: Duration) -> Attempt {
    let begun = Instant::now();
    match wire.tcp(to, limit) {
        Ok(_) => Attempt::Connected(begun.elapsed()),
        Err(error) => match error
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind)
        {
            Some(
                ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::HostUnreachable,
            ) => Attempt::Refused(begun.elapsed()),
            _ => Attempt::Silent,
        },
    }
}

/// Sends to `to` for `time` and returns the bytes per second its reader got.
///
/// # Errors
/// When no connection comes about.
pub fn throughput(wire: &Wire, to: IpAddr, time: Duration) -> Result<f64> {
    let mut stream = wire.tcp(to, Duration::from_secs(5))?;
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    let chunk = vec![0x5a; 128 << 10];
    let mut send_for = |time: Duration| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            // Blocked for the moment: that is what a slow link feels like.
            let _ = stream.write(&chunk);
        }
    };
    // Slow start and the first full queue are not what is measured.
    send_for(time / 4);
    let (before, begun) = (wire.bytes_read(), Instant::now());
    send_for(time);
    #[allow(
        clippy::cast_precision_loss,
        reason = "bytes of a few seconds are far below 2^52"
    )]
    let bytes = (wire.bytes_read() - before) as f64;
    Ok(bytes / begun.elapsed().as_secs_f64())
}
