//! A web service for end-to-end tests: answers every request at once, from a namespace of one's choice, and as well as it
//! is told to.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Result;
use super::netns::Netns;

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
                    Err(_) => thread::sleep(Duration::from_millis(1)),
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
