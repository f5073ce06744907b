//! A service as the shipped experiments assume one: instances that a supervisor starts again when they die, each a real
//! process that serves HTTP, asks its dependencies for every answer, but answers without them too, looks their names up
//! and keeps its data in /var/lib/orders, on a file system of its own.
//!
//! An instance is this very program, started again. It lives until its standard input ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, sockopt};
use nix::sys::socket::{bind, listen, setsockopt, socket};

use super::netns::{self, Netns};
use super::{Result, until};

/// The first argument by which this program knows that it is to be an instance.
const ROLE: &str = "be-an-instance";

/// How long an instance waits for a dependency before it answers without it: well within what its users tolerate.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often an instance asks the dependency that no user waits for, as a connection pool or a cache would.
const BACKGROUND: Duration = Duration::from_millis(200);

/// How soon the supervisor sees that an instance has died.
const GLANCE: Duration = Duration::from_millis(5);

/// The most bytes a process's name has (proc(5), comm).
const NAME_MAX: usize = 15;

/// Where the resolver among the dependencies listens.
const DNS_PORT: u16 = 53;

/// What every request is answered with.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Call this first in `main` of a program that starts shops.
pub fn main_if_instance() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) != Some(ROLE) {
        return None;
    }
    let served = instance(&args[2..]);
    Some(if served.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Serves until standard input ends: name, own address, what each answer asks, what is asked in the background.
fn instance(args: &[String]) -> Result<()> {
    let [name, own, asked, background] = args else {
        return Err(format!("four arguments are needed, not {args:?}").into());
    };
    let name = std::ffi::CString::new(name.as_str())?;
    nix::sys::prctl::set_name(&name)?;
    let (asked, background): (SocketAddr, SocketAddr) = (asked.parse()?, background.parse()?);
    own_disk()?;
    let listener = shared(own.parse()?)?;
    thread::spawn(move || {
        loop {
            let _ = TcpStream::connect_timeout(&background, PATIENCE);
            let _ = look_up(SocketAddr::new(background.ip(), DNS_PORT));
            thread::sleep(BACKGROUND);
        }
    });
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(&stream, asked));
        }
    });
    std::io::stdout().write_all(b"!")?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A small file system in memory for the service's data, seen by this instance alone. Called while it has one thread only, so
/// that all it starts later see it too.
fn own_disk() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    mount(none, "/", none, private, none)?;
    let (kind, size) = (Some("tmpfs"), Some("size=192m"));
    mount(kind, "/var/lib", kind, MsFlags::empty(), size)?;
    Ok(std::fs::create_dir("/var/lib/orders")?)
}

/// Asks for the address of the dependency, as a client that does not trust its cache does (RFC 1035, section 4).
fn look_up(resolver: SocketAddr) -> std::io::Result<()> {
    const NAME: [&str; 3] = ["payment", "shop", "example"];
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // Number 7, recursion desired, one question.
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in NAME {
        query.push(u8::try_from(label.len()).unwrap_or(0));
        query.extend_from_slice(label.as_bytes());
    }
    // The root, type A, class IN.
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    socket.send_to(&query, resolver)?;
    socket.recv(&mut [0; 512]).map(drop)
}

/// A listener that instances share: the kernel spreads new connections over those that live (SO_REUSEPORT, socket(7)).
fn shared(at: SocketAddr) -> Result<TcpListener> {
    let family = if at.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let made: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&made, sockopt::ReuseAddr, &true)?;
    setsockopt(&made, sockopt::ReusePort, &true)?;
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&made),
        &SockaddrStorage::from(at),
    )?;
    listen(&made, Backlog::new(128)?)?;
    Ok(made.into())
}

/// Serves one request: the connection closes after it, so that the next finds an instance that lives.
fn answer(stream: &TcpStream, dependency: SocketAddr) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut request = BufReader::new(stream);
    let mut line = String::new();
    while request.read_line(&mut line).ok()? > 0 && line.trim_end() != "" {
        line.clear();
    }
    // With or without it: that is what makes the service one that bears the loss.
    let _ = ask(dependency);
    (&mut &*stream).write_all(ANSWER).ok()
}

/// One request to a dependency, and the beginning of its answer.
fn ask(dependency: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&dependency, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: dependency\r\n\r\n")?;
    stream.read(&mut [0; 64]).map(drop)
}

/// Where a shop is and what it depends on.
#[derive(Clone, Debug)]
pub struct Place {
    /// The name of its processes, up to 15 bytes.
    pub name: String,
    /// Where it listens.
    pub own: SocketAddr,
    /// Where its dependencies are.
    pub dependencies: IpAddr,
    /// The port that every answer asks.
    pub asked: u16,
    /// The port that is asked in the background.
    pub background: u16,
}

/// A service with its supervisor. It ends with this value.
#[derive(Debug)]
pub struct Shop {
    over: Arc<AtomicBool>,
    supervisor: Option<JoinHandle<()>>,
}

impl Shop {
    /// Opens with so many instances in `netns`, and returns once all of them serve. `settle` is called with the process
    /// id of every instance that is started, then and later: it may move it into a cgroup.
    ///
    /// # Errors
    /// When the name is too long, or an instance does not serve.
    pub fn open(
        netns: &Netns,
        place: &Place,
        instances: usize,
        settle: impl Fn(u32) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        if place.name.len() > NAME_MAX {
            return Err(format!("{} is too long a name for a process", place.name).into());
        }
        let handle = netns.handle()?;
        let start = {
            let place = place.clone();
            move || -> Result<Instance> {
                let child = netns::enter(&handle, || start(&place))?;
                settle(child.0.id())?;
                Ok(child)
            }
        };
        let mut living: Vec<Instance> = Vec::new();
        for _ in 0..instances {
            living.push(start()?);
        }
        let over = Arc::<AtomicBool>::default();
        let told = Arc::clone(&over);
        let supervisor = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                for instance in &mut living {
                    if !instance.lives()
                        && let Ok(again) = start()
                    {
                        *instance = again;
                    }
                }
                thread::sleep(GLANCE);
            }
        });
        Ok(Self {
            over,
            supervisor: Some(supervisor),
        })
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(supervisor) = self.supervisor.take() {
            // One that panicked has shown up as instances that do not come back.
            let _ = supervisor.join();
        }
    }
}

/// One instance; killed with this value.
struct Instance(Child);

impl Instance {
    fn lives(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Dead already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(place: &Place) -> Result<Instance> {
    let at = |port| SocketAddr::new(place.dependencies, port).to_string();
    let child = Command::new("/proc/self/exe")
        .args([ROLE, &place.name, &place.own.to_string()])
        .args([at(place.asked), at(place.background)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start an instance of {}: {error}", place.name))?;
    let mut instance = Instance(child);
    let mut ready = [0; 1];
    if let Some(stdout) = instance.0.stdout.as_mut() {
        stdout
            .read_exact(&mut ready)
            .map_err(|error| format!("an instance of {} does not serve: {error}", place.name))?;
    }
    until("an instance that lives", PATIENCE, || {
        instance.lives().then_some(())
    })?;
    Ok(instance)
}
