//! The thread on which redirected connections are served.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use crate::hold::held::HoldError;
use crate::kernel::net::origin;
use crate::kernel::process;

/// How long requests under way may take when the fault is stopped. The agent kills a holder that takes 500 ms to stop.
const GRACE: Duration = Duration::from_millis(200);
/// How long closing what is left may take after that.
const CLOSING_MAX: Duration = Duration::from_millis(100);
/// Connections at once; more wait in the kernel until one has ended. Each costs some 20 KiB and up to three descriptors.
const CONNECTIONS_MAX: usize = 4_096;
/// Descriptors of a connection: the client's, its twin for a reset, the service's.
const DESCRIPTORS_EACH: u64 = 3;
/// Descriptors for everything else.
const DESCRIPTORS_APART: u64 = 64;
/// How long the service waits after the kernel had no descriptor left for a connection.
const SHORT_OF_DESCRIPTORS: Duration = Duration::from_millis(10);

/// One redirected connection.
pub(crate) struct Meeting {
    /// From whoever made it.
    pub(crate) client: TcpStream,
    /// Where it was meant for.
    pub(crate) to: SocketAddr,
    /// Turns true when the fault is being stopped: finish what is under way, begin nothing.
    pub(crate) stop: watch::Receiver<bool>,
}

/// What is done with each connection until it has ended.
pub(crate) type Serve =
    Arc<dyn Fn(Meeting) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The running thread.
pub(crate) struct Service {
    stop: watch::Sender<bool>,
    /// Ends when the thread does.
    alive: Receiver<()>,
}

impl Service {
    /// Starts it; the thread stays in the namespace this one is in.
    pub(crate) fn start(
        listeners: Vec<StdListener>,
        port: u16,
        serve: Serve,
    ) -> Result<Self, HoldError> {
        let failed = |what| HoldError::kernel("start", what);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed("the service of redirected connections"))?;
        let most = connections_max();
        let (stop, stopped) = watch::channel(false);
        let (life, alive) = mpsc::channel();
        let thread = std::thread::Builder::new().name("redirect".into());
        let body = move || {
            let ends = ExitWithMe(stopped.clone(), life);
            let result = run(&runtime, listeners, port, most, stopped, &serve);
            // Closes every connection, before the caller lets go of the table that translates their addresses.
            drop(runtime);
            drop(result);
            drop(ends);
        };
        thread.spawn(body).map_err(failed("the service's thread"))?;
        Ok(Self { stop, alive })
    }

    /// Whether it still serves.
    pub(crate) fn check(&self) -> Result<(), HoldError> {
        match self.alive.try_recv() {
            Err(mpsc::TryRecvError::Empty) => Ok(()),
            _ => Err(HoldError::Unable(
                "the service of redirected connections has ended, so the fault ends".into(),
            )),
        }
    }
}

impl Drop for Service {
    /// Requests under way have [`GRACE`] to finish; then every connection is closed, and only then this returns.
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        match self.alive.recv_timeout(GRACE + CLOSING_MAX) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => {
                tracing::debug!("the service of redirected connections did not end in time");
            }
        }
    }
}

/// Ends the process where the thread ends without having been told to: a table that leads connections to nobody is an
/// outage, not a fault.
struct ExitWithMe(
    watch::Receiver<bool>,
    #[expect(dead_code, reason = "its end is the message")] mpsc::Sender<()>,
);

impl Drop for ExitWithMe {
    fn drop(&mut self) {
        if !*self.0.borrow() && self.0.has_changed().is_ok() {
            std::process::exit(1);
        }
    }
}

fn run(
    runtime: &Runtime,
    listeners: Vec<StdListener>,
    port: u16,
    most: usize,
    stop: watch::Receiver<bool>,
    serve: &Serve,
) -> io::Result<()> {
    runtime.block_on(async {
        let free = Arc::new(Semaphore::new(most));
        let mut accepting = tokio::task::JoinSet::new();
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(origin::close_early(listener))?;
            accepting.spawn(accept(
                listener,
                port,
                Arc::clone(&free),
                stop.clone(),
                Arc::clone(serve),
            ));
        }
        let mut stop = stop;
        tokio::select! {
            // Accepting never ends by itself.
            _ = accepting.join_next() => return Err(io::Error::other("a listener has ended")),
            _ = stop.wait_for(|stop| *stop) => {}
        }
        accepting.shutdown().await;
        // Every connection gives its permit back as it ends. What is left then ends with the runtime.
        let all = u32::try_from(most).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(GRACE, free.acquire_many(all)).await;
        Ok(())
    })
}

async fn accept(
    listener: TcpListener,
    port: u16,
    free: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    serve: Serve,
) {
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let accepted = listener.accept().await;
        let client = match accepted.and_then(|(client, _)| early(client)) {
            Ok(client) => client,
            Err(_) => {
                tokio::time::sleep(SHORT_OF_DESCRIPTORS).await;
                continue;
            }
        };
        // Somebody who found the port by himself is nobody's client.
        let ip_v6 = client.local_addr().is_ok_and(|a| a.is_ipv6());
        let to = match origin::meant_for(&client, ip_v6) {
            Ok(to) if to.port() != port => to,
            _ => continue,
        };
        let _ = client.set_nodelay(true);
        let meeting = Meeting {
            client,
            to,
            stop: stop.clone(),
        };
        let serving = serve(meeting);
        tokio::spawn(async move {
            serving.await;
            drop(permit);
        });
    }
}

fn early(client: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(origin::close_early(client.into_std()?))
}

/// A connection of our own to where a client wanted to go.
///
/// # Errors
/// What the client would have met.
pub(crate) async fn upstream(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    origin::mark_own(&socket)?;
    socket.set_nodelay(true)?;
    socket.connect(to).await
}

/// For how many connections the descriptors of this process are enough, once it may have as many as it can.
fn connections_max() -> usize {
    let wanted = CONNECTIONS_MAX as u64 * DESCRIPTORS_EACH + DESCRIPTORS_APART;
    let have = process::raise_descriptors(wanted);
    let enough = have.saturating_sub(DESCRIPTORS_APART) / DESCRIPTORS_EACH;
    usize::try_from(enough).map_or(CONNECTIONS_MAX, |n| n.clamp(1, CONNECTIONS_MAX))
}
