//! Two namespaces on one wire: the victim's, and a peer that answers at two addresses.
//!
//! ```text
//!   victim ns                    peer ns
//!   10.77.0.1  ──── veth ────  10.77.0.2  the one faults name
//!   fd77::1                    10.77.0.3  its neighbour, on the same wire, never named
//!                              fd77::2 and fd77::3 alike
//! ```

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::netns::Netns;
use super::{Result, answer};

/// The port every answering address listens on, UDP and TCP.
pub const PORT: u16 = 7007;

/// How long a server sleeps at most before it looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(50);

/// Internet protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The hardware addresses of the victim's end and of the peer's.
const NEAR: &str = "02:77:00:00:00:01";
const FAR: &str = "02:77:00:00:00:02";

/// The address `last` in the wire's network.
const fn address(ip: Ip, last: u8) -> IpAddr {
    match ip {
        Ip::V4 => IpAddr::V4(Ipv4Addr::new(10, 77, 0, last)),
        Ip::V6 => IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last as u16)),
    }
}

/// The victim's own address.
pub const fn victim(ip: Ip) -> IpAddr {
    address(ip, 1)
}

/// The address faults name.
pub const fn named(ip: Ip) -> IpAddr {
    address(ip, 2)
}

/// The address beside it, which no fault names.
pub const fn neighbour(ip: Ip) -> IpAddr {
    address(ip, 3)
}

/// The wire with its two ends and the peer's servers.
#[derive(Debug)]
pub struct Wire {
    /// Where faults are injected, and where they are felt.
    pub victim: Netns,
    /// The other end.
    pub peer: Netns,
    servers: Servers,
}

impl Wire {
    /// A wire with servers answering at both of the peer's addresses, over both protocols.
    ///
    /// # Errors
    /// Without root, or when the kernel has no veth.
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let own = format!(
            "{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let victim = Netns::create(&format!("sqt-victim-{own}"))?;
        let peer = Netns::create(&format!("sqt-peer-{own}"))?;
        let (v, p) = (victim.name(), peer.name());
        ip(
            None,
            &[format!(
                "link add eth0 address {NEAR} netns {v} type veth peer name eth0 address {FAR} netns {p}"
            )],
        )?;
        set_up(v, &[1], &[2, 3], FAR)?;
        set_up(p, &[2, 3], &[1], NEAR)?;
        let servers = Servers::start(&peer)?;
        Ok(Self {
            victim,
            peer,
            servers,
        })
    }

    /// Gives the peer so many IPv4 addresses more, as many hosts have them; says which.
    ///
    /// # Errors
    /// When the kernel refuses, or there are more than 200.
    pub fn more_hosts(&self, count: u8) -> Result<Vec<IpAddr>> {
        const FIRST: u8 = 50;
        if count > 200 {
            return Err(format!("{count} hosts are more than fit the wire's network").into());
        }
        let hosts: Vec<IpAddr> = (0..count).map(|n| address(Ip::V4, FIRST + n)).collect();
        let own = hosts
            .iter()
            .map(|host| format!("addr add {host}/24 dev eth0"));
        let near = hosts.iter().map(|host| known(*host, FAR));
        ip(Some(self.peer.name()), &own.collect::<Vec<_>>())?;
        ip(Some(self.victim.name()), &near.collect::<Vec<_>>())?;
        Ok(hosts)
    }

    /// A UDP socket in the victim's namespace, connected to `to`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn udp(&self, to: IpAddr) -> Result<UdpSocket> {
        self.victim.enter(|| {
            let any: IpAddr = if to.is_ipv4() {
                Ipv4Addr::UNSPECIFIED.into()
            } else {
                Ipv6Addr::UNSPECIFIED.into()
            };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect((to, PORT))?;
            Ok(socket)
        })
    }

    /// A TCP connection from the victim's namespace.
    ///
    /// # Errors
    /// When it is refused or does not come about within `limit`.
    pub fn tcp(&self, to: IpAddr, limit: Duration) -> Result<TcpStream> {
        self.victim.enter(|| {
            Ok(TcpStream::connect_timeout(
                &SocketAddr::new(to, PORT),
                limit,
            )?)
        })
    }

    /// Bytes the peer's TCP servers have read so far.
    pub fn bytes_read(&self) -> u64 {
        self.servers.read.load(Ordering::Relaxed)
    }

    /// Packets the peer's kernel threw away for a wrong UDP checksum, over both versions.
    ///
    /// # Errors
    /// When its statistics cannot be read.
    pub fn checksum_errors(&self) -> Result<u64> {
        let (four, six) = self.peer.enter(|| {
            let read =
                |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
            Ok((read("snmp")?, read("snmp6")?))
        })?;
        let mut udp = four.lines().filter_map(|line| line.strip_prefix("Udp: "));
        let (names, values) = (
            udp.next().unwrap_or_default(),
            udp.next().unwrap_or_default(),
        );
        let mut columns = names.split(' ').zip(values.split(' '));
        let four = columns
            .find(|(name, _)| *name == "InCsumErrors")
            .map_or("0", |(_, value)| value);
        let six = six
            .lines()
            .find_map(|line| line.strip_prefix("Udp6InCsumErrors"))
            .unwrap_or("0");
        Ok(four.parse::<u64>()? + six.trim().parse::<u64>()?)
    }
}

/// Addresses, links up, and the other end's hardware address: no ARP or neighbour discovery takes part
/// in what is measured.
fn set_up(netns: &str, own: &[u8], others: &[u8], other_mac: &str) -> Result<()> {
    // No link-local address: it would turn up in the fingerprint a second or two later.
    let up = [
        "link set lo up",
        "link set eth0 addrgenmode none",
        "link set eth0 up",
    ];
    let mut commands: Vec<String> = up.map(str::to_owned).into();
    for last in own {
        commands.push(format!("addr add {}/24 dev eth0", address(Ip::V4, *last)));
        commands.push(format!(
            "addr add {}/64 dev eth0 nodad",
            address(Ip::V6, *last)
        ));
    }
    for last in others {
        for version in [Ip::V4, Ip::V6] {
            commands.push(known(address(version, *last), other_mac));
        }
    }
    ip(Some(netns), &commands)
}

/// The command by which nobody needs to look for that address.
fn known(other: IpAddr, mac: &str) -> String {
    format!("neigh add {other} lladdr {mac} dev eth0 nud permanent")
}

/// Runs iproute2's commands, all in one process.
fn ip(netns: Option<&str>, commands: &[String]) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(netns) = netns {
        command.args(["-n", netns]);
    }
    answer(command.args(["-batch", "-"]), &commands.join("\n")).map(drop)
}

/// The peer's servers, each on a thread; they end with this value.
#[derive(Debug)]
struct Servers {
    over: Arc<AtomicBool>,
    read: Arc<std::sync::atomic::AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    fn start(peer: &Netns) -> Result<Self> {
        let mut servers = Self {
            over: Arc::default(),
            read: Arc::default(),
            threads: Vec::new(),
        };
        for at in [
            named(Ip::V4),
            neighbour(Ip::V4),
            named(Ip::V6),
            neighbour(Ip::V6),
        ] {
            // One socket per address: an answer then comes from the address that was asked.
            let (udp, tcp) =
                peer.enter(|| Ok((UdpSocket::bind((at, PORT))?, TcpListener::bind((at, PORT))?)))?;
            udp.set_read_timeout(Some(GLANCE))?;
            tcp.set_nonblocking(true)?;
            let over = Arc::clone(&servers.over);
            servers
                .threads
                .push(thread::spawn(move || echo(&udp, &over)));
            let (over, read) = (Arc::clone(&servers.over), Arc::clone(&servers.read));
            servers
                .threads
                .push(thread::spawn(move || sink(&tcp, &over, &read)));
        }
        Ok(servers)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A server that panicked has shown up in the measurement already.
            let _ = thread.join();
        }
    }
}

/// Sends every datagram back.
fn echo(socket: &UdpSocket, over: &AtomicBool) {
    let mut datagram = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            // An answer that cannot be sent is a lost packet, and measured as one.
            let _ = socket.send_to(&datagram[..length], from);
        }
    }
}

/// Reads whatever comes in and counts it.
fn sink(listener: &TcpListener, over: &Arc<AtomicBool>, read: &Arc<std::sync::atomic::AtomicU64>) {
    while !over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let (over, read) = (Arc::clone(over), Arc::clone(read));
                thread::spawn(move || swallow(stream, &over, &read));
            }
            Err(_) => someone_waits(listener),
        }
    }
}

/// Waits until somebody wants to connect, or for a glance: a thread that looked every millisecond would cost an emulated machine,
/// on which dozens of them wait, more than what is measured.
pub(crate) fn someone_waits(listener: &TcpListener) {
    let mut readable = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    let glance = PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::ZERO);
    // Whatever it says, the next accept says it better.
    let _ = poll(&mut readable, glance);
}

fn swallow(
    mut stream: TcpStream,
    over: &AtomicBool,
    counter: &std::sync::atomic::AtomicU64,
) -> Option<()> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(GLANCE)).ok()?;
    let mut chunk = vec![0; 256 << 10];
    while !over.load(Ordering::Relaxed) {
        match stream.read(&mut chunk) {
            Ok(0) => return None,
            Ok(length) => {
                counter.fetch_add(length as u64, Ordering::Relaxed);
            }
            Err(error) if waiting(&error) => {}
            Err(_) => return None,
        }
    }
    None
}

/// Whether a read only ran into its time limit.
pub(crate) fn waiting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
