//! A web service for end-to-end tests: answers every request at once, from a namespace of one's choice, and as well as it
//! is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Result;
use super::netns::Netns;
use super::wire::someone_waits;

/// How often the service looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(20);

/// What every request is answered with.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";

/// What those are answered with that are to fail.
const FAILURE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// Whether the n-th request, counted from 0, succeeds.
pub type Succeeds = dyn Fn(u64) -> bool + Send + Sync;

/// A service that ends with this value.
#[derive(Debug)]
pub struct Service {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    listener: Option<JoinHandle<()>>,
}

impl Service {
    /// Listens at `address:port` inside `netns`.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(netns: &Netns, address: IpAddr, port: u16) -> Result<Self> {
        Self::start_with(netns, address, port, Arc::new(|_| true))
    }

    /// The same, with a say in which requests succeed.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start_with(
        netns: &Netns,
        address: IpAddr,
        port: u16,
        succeeds: Arc<Succeeds>,
    ) -> Result<Self> {
        let listener = netns.enter(|| Ok(TcpListener::bind((address, port))?))?;
        Self::on(listener, succeeds)
    }

    /// One in the calling thread's namespace, by which all requests succeed.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn here(at: SocketAddr) -> Result<Self> {
        Self::on(TcpListener::bind(at)?, Arc::new(|_| true))
    }

    /// The same where somebody listens already.
    ///
    /// # Errors
    /// When the kernel does not let it.
    pub fn on(listener: TcpListener, succeeds: Arc<Succeeds>) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (until, count) = (Arc::clone(&over), Arc::clone(&answered));
        let listener = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let (count, succeeds) = (Arc::clone(&count), Arc::clone(&succeeds));
                        thread::spawn(move || answer(&stream, &count, &*succeeds));
                    }
                    Err(_) => someone_waits(&listener),
                }
            }
        });
        Ok(Self {
            over,
            answered,
            listener: Some(listener),
        })
    }

    /// Requests answered so far, or about to be.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            // A listener that panicked has shown up as missing answers.
            let _ = listener.join();
        }
    }
}

/// Serves one connection until its client has enough.
fn answer(stream: &TcpStream, count: &AtomicU64, succeeds: &Succeeds) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(GLANCE * 500)).ok()?;
    stream.set_nodelay(true).ok()?;
    let mut requests = BufReader::new(stream);
    loop {
        let mut line = String::new();
        while line.trim_end() != "" || line.is_empty() {
            line.clear();
            if requests.read_line(&mut line).ok()? == 0 {
                return None;
            }
        }
        let number = count.fetch_add(1, Ordering::Relaxed);
        let answer = if succeeds(number) { ANSWER } else { FAILURE };
        (&mut &*stream).write_all(answer).ok()?;
    }
}

/// What a client got for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// As much of the body as came.
    pub body: Vec<u8>,
    /// Whether all that was promised came.
    pub whole: bool,
}

/// Sends one GET for `path` on a connection of its own, made inside `netns`, as a client without patience does.
///
/// # Errors
/// When the connection is refused or reset, or no status comes within `limit`.
pub fn get(netns: &Netns, to: SocketAddr, path: &str, limit: Duration) -> Result<Got> {
    let stream = netns.enter(|| Ok(TcpStream::connect_timeout(&to, limit)?))?;
    get_on(&stream, path, limit)
}

/// Sends one GET on a connection that there is already.
///
/// # Errors
/// As [`get`].
pub fn get_on(mut stream: &TcpStream, path: &str, limit: Duration) -> Result<Got> {
    stream.set_read_timeout(Some(limit))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: orders.shop\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if answer.read_line(&mut head)? == 0 {
            return Err(format!("the connection ended behind {head:?}").into());
        }
    }
    let field = |name: &str| {
        let lines = head.lines().map(str::to_ascii_lowercase);
        let mut found = lines.filter_map(|line| line.strip_prefix(name).map(str::to_owned));
        found.next().map(|value| value.trim().to_owned())
    };
    let status = head.split(' ').nth(1).unwrap_or_default().parse()?;
    let promised: usize = field("content-length:").unwrap_or_default().parse()?;
    let mut body = vec![0; promised];
    let mut have = 0;
    // A connection that breaks has said all that it will.
    while have < promised
        && let Ok(more @ 1..) = answer.read(&mut body[have..])
    {
        have += more;
    }
    body.truncate(have);
    Ok(Got {
        status,
        head,
        body,
        whole: have == promised,
    })
}
