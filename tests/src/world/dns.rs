//! A resolver for end-to-end tests, and a client that asks it: both speak as much of DNS as that takes, over UDP and TCP.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Result;
use super::netns::Netns;
use super::wire::{someone_waits, waiting};

/// Where resolvers listen.
const PORT: u16 = 53;

/// How long the resolver sleeps at most before it looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(20);

/// The header, and a question's type and class.
const HEADER_BYTES: usize = 12;
const FIXED_BYTES: usize = 4;

/// The record types of addresses.
pub const A: u16 = 1;
/// See [`A`].
pub const AAAA: u16 = 28;

/// What the resolver says of every name.
pub const TRUE_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 9, 9);
/// See [`TRUE_V4`].
pub const TRUE_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 9, 9);

/// A resolver that ends with this value.
#[derive(Debug)]
pub struct Resolver {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Resolver {
    /// Listens at these addresses inside `netns`.
    ///
    /// # Errors
    /// When a port is taken.
    pub fn start(netns: &Netns, addresses: &[IpAddr]) -> Result<Self> {
        let mut resolver = Self {
            over: Arc::default(),
            answered: Arc::default(),
            threads: Vec::new(),
        };
        for at in addresses {
            let (udp, tcp) = netns.enter(|| {
                Ok((
                    UdpSocket::bind((*at, PORT))?,
                    TcpListener::bind((*at, PORT))?,
                ))
            })?;
            udp.set_read_timeout(Some(GLANCE))?;
            tcp.set_nonblocking(true)?;
            let (over, count) = (Arc::clone(&resolver.over), Arc::clone(&resolver.answered));
            let datagrams = thread::spawn(move || datagrams(&udp, &over, &count));
            let (over, count) = (Arc::clone(&resolver.over), Arc::clone(&resolver.answered));
            let streams = thread::spawn(move || streams(&tcp, &over, &count));
            resolver.threads.extend([datagrams, streams]);
        }
        Ok(resolver)
    }

    /// Queries answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has shown up as missing answers.
            let _ = thread.join();
        }
    }
}

fn datagrams(socket: &UdpSocket, over: &AtomicBool, count: &AtomicU64) {
    let mut query = [0; 512];
    while !over.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut query)
            && let Some(answer) = truth(&query[..length])
        {
            count.fetch_add(1, Ordering::Relaxed);
            // An answer that cannot be sent is a lost one, and its client says so.
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn streams(listener: &TcpListener, over: &AtomicBool, count: &AtomicU64) {
    while !over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_read_timeout(Some(GLANCE * 50));
                while let Ok(query) = read_framed(&mut stream) {
                    let Some(answer) = truth(&query) else { break };
                    count.fetch_add(1, Ordering::Relaxed);
                    if write_framed(&mut stream, &answer).is_err() {
                        break;
                    }
                }
            }
            Err(_) => someone_waits(listener),
        }
    }
}

/// The answer to a query: one address of the asked type, which is the same for every name.
fn truth(query: &[u8]) -> Option<Vec<u8>> {
    let end = question_end(query)?;
    let kind = u16::from_be_bytes([query[end - FIXED_BYTES], query[end - FIXED_BYTES + 1]]);
    let data = match kind {
        A => TRUE_V4.octets().to_vec(),
        AAAA => TRUE_V6.octets().to_vec(),
        _ => Vec::new(),
    };
    let mut answer = query[..end].to_vec();
    answer[2] |= 0x80;
    answer[6..12].copy_from_slice(&[0, u8::from(!data.is_empty()), 0, 0, 0, 0]);
    if !data.is_empty() {
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 1, 0, u8::try_from(data.len()).ok()?]);
        answer.extend(data);
    }
    Some(answer)
}

fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER_BYTES;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1 + length;
        if length == 0 {
            let end = at + FIXED_BYTES;
            return (end <= message.len()).then_some(end);
        }
    }
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The response code: 0 for success, 2 for a failed resolver, 3 for no such name.
    pub code: u8,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// After how long.
    pub after: Duration,
}

/// A client with one UDP socket for all its queries, as a caching resolver may have.
#[derive(Debug)]
pub struct Client {
    socket: UdpSocket,
    to: SocketAddr,
    asked: u16,
}

impl Client {
    /// A client inside `netns` that asks the resolver at `to`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(netns: &Netns, to: IpAddr) -> Result<Self> {
        netns.enter(|| Self::here(to))
    }

    /// One in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn here(to: IpAddr) -> Result<Self> {
        let any: IpAddr = if to.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let socket = UdpSocket::bind((any, 0))?;
        // Only what comes from the address that was asked is an answer.
        socket.connect((to, PORT))?;
        Ok(Self {
            socket,
            to: SocketAddr::new(to, PORT),
            asked: 0,
        })
    }

    /// Asks over UDP; none where no answer comes within `limit`.
    ///
    /// # Errors
    /// When the query cannot be sent.
    pub fn ask(&mut self, name: &str, kind: u16, limit: Duration) -> Result<Option<Told>> {
        self.asked = self.asked.wrapping_add(1);
        let query = query(self.asked, name, kind);
        let begun = Instant::now();
        self.socket.send(&query)?;
        let mut answer = [0; 1500];
        while let Some(left) = limit.checked_sub(begun.elapsed()).filter(|l| !l.is_zero()) {
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv(&mut answer) {
                Ok(length) if answer[..2] == query[..2] => {
                    return Ok(told(&answer[..length], begun));
                }
                // A late answer to an earlier query.
                Ok(_) => {}
                Err(error) if waiting(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Asks over a TCP connection of its own, made inside `netns`; none where no answer comes within `limit`.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn ask_by_tcp(
        &self,
        netns: &Netns,
        name: &str,
        kind: u16,
        limit: Duration,
    ) -> Result<Option<Told>> {
        netns.enter(|| self.ask_by_tcp_here(name, kind, limit))
    }

    /// The same in the calling thread's namespace.
    ///
    /// # Errors
    /// As [`Self::ask_by_tcp`].
    pub fn ask_by_tcp_here(&self, name: &str, kind: u16, limit: Duration) -> Result<Option<Told>> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect_timeout(&self.to, limit)?;
        stream.set_read_timeout(Some(limit))?;
        write_framed(&mut stream, &query(self.asked, name, kind))?;
        match read_framed(&mut stream) {
            Ok(answer) => Ok(told(&answer, begun)),
            Err(error) if waiting(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut query = id.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        query.extend(u8::try_from(label.len()));
        query.extend(label.bytes());
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend([0, 1]);
    query
}

fn told(answer: &[u8], begun: Instant) -> Option<Told> {
    let mut at = question_end(answer)?;
    let mut addresses = Vec::new();
    for _ in 0..u16::from_be_bytes([answer[6], answer[7]]) {
        // A pointer to the name, type, class, life, length.
        let length = usize::from(*answer.get(at + 11)?);
        let data = answer.get(at + 12..at + 12 + length)?;
        addresses.push(match length {
            4 => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
        });
        at += 12 + length;
    }
    Some(Told {
        code: answer[3] & 0x0f,
        addresses,
        after: begun.elapsed(),
    })
}

fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_framed(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed)
}
