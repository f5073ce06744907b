//! TCP as an application meets it: how fast data goes, how long a connection takes, how it is refused.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Result;
use super::netns::Netns;
use super::wire::Wire;

/// A server that sends back what it is sent, and ends with whoever ends.
#[derive(Debug)]
pub struct Echo {
    /// Where it listens.
    pub at: SocketAddr,
    over: Arc<AtomicBool>,
    ends: Arc<Ends>,
    listener: Option<JoinHandle<()>>,
}

/// How its connections have ended.
#[derive(Debug, Default)]
struct Ends {
    closed: AtomicU64,
    reset: AtomicU64,
}

impl Echo {
    /// Starts it.
    ///
    /// # Errors
    /// When the address or the port is taken.
    pub fn start(netns: &Netns, at: SocketAddr) -> Result<Self> {
        netns.enter(|| Self::start_here(at))
    }

    /// The same, in the namespace of the calling thread.
    ///
    /// # Errors
    /// When the address or the port is taken.
    pub fn start_here(at: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let (over, ends) = (Arc::<AtomicBool>::default(), Arc::<Ends>::default());
        let (until, told) = (Arc::clone(&over), Arc::clone(&ends));
        let listener = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let told = Arc::clone(&told);
                        thread::spawn(move || repeat(stream, &told));
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Ok(Self {
            at,
            over,
            ends,
            listener: Some(listener),
        })
    }

    /// Connections that ended with a reset here.
    pub fn reset(&self) -> u64 {
        self.ends.reset.load(Ordering::Relaxed)
    }

    /// Connections whose client has closed them.
    pub fn closed(&self) -> u64 {
        self.ends.closed.load(Ordering::Relaxed)
    }

    /// A connection to it from a namespace.
    ///
    /// # Errors
    /// When there is none within `limit`: the kernel's own error, so that a refusal can be told.
    pub fn connect(&self, from: &Netns, limit: Duration) -> Result<TcpStream> {
        let stream = from.enter(|| Ok(TcpStream::connect_timeout(&self.at, limit)?))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Says something on a connection to an [`Echo`], and waits for it to come back.
///
/// # Errors
/// When it does not, or something else does.
pub fn ask(mut stream: &TcpStream, what: &[u8], patience: Duration) -> std::io::Result<Duration> {
    let begun = Instant::now();
    stream.write_all(what)?;
    hear(stream, what, patience)?;
    Ok(begun.elapsed())
}

/// Waits for what was said before to come back.
///
/// # Errors
/// When it does not, or something else does.
pub fn hear(mut stream: &TcpStream, what: &[u8], patience: Duration) -> std::io::Result<()> {
    stream.set_read_timeout(Some(patience))?;
    let mut heard = vec![0; what.len()];
    stream.read_exact(&mut heard)?;
    if heard == what {
        Ok(())
    } else {
        Err(ErrorKind::InvalidData.into())
    }
}

fn repeat(mut stream: TcpStream, ends: &Ends) {
    let mut chunk = vec![0; 64 << 10];
    if stream.set_nonblocking(false).is_err() {
        return;
    }
    let ended = loop {
        match stream.read(&mut chunk) {
            Ok(0) => break &ends.closed,
            Ok(length) if stream.write_all(&chunk[..length]).is_ok() => {}
            Ok(_) | Err(_) => break &ends.reset,
        }
    };
    ended.fetch_add(1, Ordering::Relaxed);
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            // A listener that panicked has shown up as missing answers.
            let _ = listener.join();
        }
    }
}

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
