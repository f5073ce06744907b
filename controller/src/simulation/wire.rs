//! Connections between processes: bytes in order, each way with a delay that changes; held back while the way is cut, as TCP does, and
//! broken off when that lasts.

use crate::clock::simulated::now_us;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What the kernels on both sides take before they let a writer wait.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// After so long without an answer the kernel gives a connection up (`TCP_USER_TIMEOUT` in `api/listen.rs`).
const GIVEN_UP_US: u64 = 20_000_000;

/// Between which agent and which controller.
pub(super) type Way = (usize, usize);

/// How the network between two processes is.
#[derive(Debug, Clone, Copy)]
struct Weather {
    slow_us: u64,
    cut_since: Option<u64>,
}

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    /// What is on its way, and when it arrives; never, while the way is cut.
    chunks: VecDeque<(Option<u64>, Vec<u8>)>,
    bytes: usize,
    last_us: u64,
    /// Nothing comes after what is on its way.
    ends: bool,
    is_broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Inner {
    dice: StdRng,
    least_us: u64,
    weather: BTreeMap<Way, Weather>,
    /// When which controller said more than stops.
    spoken: Vec<(usize, u64)>,
    /// Both directions of each connection.
    connections: Vec<(Way, [Shared; 2])>,
}

type Shared = Arc<Mutex<Pipe>>;

/// All connections. Cloning it is another handle to the same.
#[derive(Clone)]
pub(super) struct Network(Arc<Mutex<Inner>>);

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    /// One on which nothing takes less than `least_us`: what is said while processes run one after the other is not heard in the past.
    pub(super) fn new(least_us: u64, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            dice: StdRng::seed_from_u64(seed),
            least_us,
            weather: BTreeMap::new(),
            spoken: Vec::new(),
            connections: Vec::new(),
        })))
    }

    /// A new connection: its near and its far end.
    pub(super) fn connect(&self, way: Way) -> (End, End) {
        let pipes: [Shared; 2] = [Arc::default(), Arc::default()];
        let [there, back] = pipes.clone();
        let mut inner = lock(&self.0);
        inner
            .connections
            .retain(|(_, pipes)| pipes.iter().all(|pipe| !lock(pipe).is_broken));
        inner.connections.push((way, pipes));
        drop(inner);
        (
            self.end(way, &back, &there, false),
            self.end(way, &there, &back, true),
        )
    }

    fn end(&self, way: Way, incoming: &Shared, outgoing: &Shared, is_far: bool) -> End {
        End {
            network: self.clone(),
            way,
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
            is_far,
            due: None,
        }
    }

    pub(super) fn is_cut(&self, way: Way) -> bool {
        lock(&self.0).weather(way).cut_since.is_some()
    }

    pub(super) fn set_slow(&self, way: Way, slow_us: u64) {
        lock(&self.0).weather(way).slow_us = slow_us;
    }

    /// When which controller asked for more than an end, since this was asked last.
    pub(super) fn spoken(&self) -> Vec<(usize, u64)> {
        std::mem::take(&mut lock(&self.0).spoken)
    }

    /// From now on nothing passes.
    pub(super) fn cut(&self, way: Way, now_us: u64) {
        lock(&self.0).weather(way).cut_since.get_or_insert(now_us);
    }

    /// Everything passes again, first what was held back.
    pub(super) fn mend(&self, way: Way, now_us: u64) {
        let mut inner = lock(&self.0);
        inner.weather(way).cut_since = None;
        for pipe in inner.pipes(way) {
            // A retransmission comes when its timer says so.
            let later_us = inner.delay(way) + inner.dice.random_range(0..400_000);
            let mut pipe = lock(&pipe);
            pipe.last_us = pipe.last_us.max(now_us + later_us);
            let at_us = pipe.last_us;
            for (due, _) in &mut pipe.chunks {
                due.get_or_insert(at_us);
            }
            wake(&mut pipe);
        }
    }

    /// Breaks all connections of a way off, as a firewall that forgets does.
    pub(super) fn reset(&self, way: Way) {
        let pipes = lock(&self.0).pipes(way);
        for pipe in pipes {
            let mut pipe = lock(&pipe);
            pipe.is_broken = true;
            wake(&mut pipe);
        }
    }

    /// Gives up what has been cut for too long.
    pub(super) fn give_up(&self, now_us: u64) {
        let inner = lock(&self.0);
        let late = |since: u64| now_us > since + GIVEN_UP_US;
        let cut = inner.weather.iter();
        let cut = cut.filter(|(_, weather)| weather.cut_since.is_some_and(late));
        let ways: Vec<Way> = cut.map(|(way, _)| *way).collect();
        drop(inner);
        ways.into_iter().for_each(|way| self.reset(way));
    }
}

impl Inner {
    fn weather(&mut self, way: Way) -> &mut Weather {
        let slow_us = self.least_us;
        self.weather.entry(way).or_insert(Weather {
            slow_us,
            cut_since: None,
        })
    }

    fn delay(&mut self, way: Way) -> u64 {
        let slow_us = self.weather(way).slow_us;
        self.least_us + self.dice.random_range(0..=slow_us)
    }

    fn pipes(&self, way: Way) -> Vec<Shared> {
        let here = self.connections.iter().filter(|(of, _)| *of == way);
        here.flat_map(|(_, pipes)| pipes.clone()).collect()
    }
}

fn wake(pipe: &mut Pipe) {
    pipe.reader.take().into_iter().for_each(Waker::wake);
    pipe.writer.take().into_iter().for_each(Waker::wake);
}

/// One end of a connection.
pub(super) struct End {
    network: Network,
    way: Way,
    incoming: Shared,
    outgoing: Shared,
    /// The controller's.
    is_far: bool,
    due: Option<Pin<Box<Sleep>>>,
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl End {
    /// Takes down what a controller says: its words are not masked (RFC 6455, section 5.1).
    fn note(&self, bytes: &[u8]) {
        let says = |word: &[u8]| bytes.windows(word.len()).any(|at| at == word);
        if self.is_far && (says(b"{\"arm\":") || says(b"{\"renew\":")) {
            let at_us = now_us().unwrap_or_default();
            lock(&self.network.0).spoken.push((self.way.1, at_us));
        }
    }

    /// When something that is sent now arrives; unknown while the way is cut.
    fn arrival(&self) -> Option<u64> {
        let mut inner = lock(&self.network.0);
        let at_us = now_us().unwrap_or_default() + inner.delay(self.way);
        let is_cut = inner.weather(self.way).cut_since.is_some();
        Some(at_us).filter(|_| !is_cut)
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = self.get_mut();
        let is_cut = end.network.is_cut(end.way);
        loop {
            let mut pipe = lock(&end.incoming);
            if pipe.is_broken {
                return Poll::Ready(Err(broken()));
            }
            pipe.reader = Some(context.waker().clone());
            let now_us = now_us().unwrap_or_default();
            let due_us = match pipe.chunks.front() {
                None if pipe.ends && !is_cut => return Poll::Ready(Ok(())),
                None | Some((None, _)) => return Poll::Pending,
                Some((Some(due_us), _)) => *due_us,
            };
            if due_us <= now_us {
                pipe.read(buffer);
                return Poll::Ready(Ok(()));
            }
            drop(pipe);
            let until = Instant::now() + Duration::from_micros(due_us - now_us);
            let sleep = end.due.insert(Box::pin(tokio::time::sleep_until(until)));
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Pipe {
    fn read(&mut self, buffer: &mut ReadBuf<'_>) {
        if let Some((_, bytes)) = self.chunks.front_mut() {
            let many = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..many]);
            bytes.drain(..many);
            self.bytes -= many;
        }
        if self
            .chunks
            .front()
            .is_some_and(|(_, bytes)| bytes.is_empty())
        {
            self.chunks.pop_front();
        }
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.note(bytes);
        let arrival = self.arrival();
        let mut pipe = lock(&self.outgoing);
        if pipe.is_broken || pipe.ends {
            return Poll::Ready(Err(broken()));
        }
        if pipe.bytes >= WAITING_BYTES_MAX {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        // In order.
        let waits = pipe.chunks.back().is_some_and(|(due, _)| due.is_none());
        let at_us = arrival.filter(|_| !waits).map(|at| at.max(pipe.last_us));
        pipe.last_us = at_us.unwrap_or(pipe.last_us);
        pipe.bytes += bytes.len();
        pipe.chunks.push_back((at_us, bytes.to_vec()));
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.outgoing);
        pipe.ends = true;
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    /// The kernel closes it, however the process ended: the other side hears of that once the way is free.
    fn drop(&mut self) {
        let is_cut = self.network.is_cut(self.way);
        let mut outgoing = lock(&self.outgoing);
        outgoing.ends = true;
        outgoing.reader.take().into_iter().for_each(Waker::wake);
        drop(outgoing);
        let mut incoming = lock(&self.incoming);
        // What is written to a process that is gone is answered with a reset.
        incoming.is_broken |= !is_cut;
        incoming.ends = true;
        wake(&mut incoming);
    }
}
