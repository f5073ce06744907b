//! Two network namespaces joined by a veth, with an echo in the second, and a fault held in it by a thread.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use squall_experiments::capability::Means;
use squall_experiments::dose::{Dose, Evidence, NetworkDose};
use squall_experiments::fault::Fault;
use squall_experiments::filter::{Direction, Protocol, ResolvedEndpoint, ResolvedFilter};

use crate::hold::network;
use crate::kernel::net::NetError;
use crate::kernel::net::netns::{Netns, in_scratch};

pub(super) const PORT: u16 = 9000;
/// The addresses that a fault is aimed at, and those of the neighbour on the same wire.
pub(super) const NAMED: [&str; 2] = ["10.9.0.2", "fd00:9::2"];
pub(super) const NEIGHBOUR: [&str; 2] = ["10.9.0.3", "fd00:9::3"];
const READER_BYTES: usize = 8 << 20;
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The client's namespace and the target's.
pub(super) struct World {
    pub(super) client: Netns,
    pub(super) target: Netns,
    ends: Arc<AtomicBool>,
    echoes: Vec<JoinHandle<()>>,
}

impl World {
    /// `None`, with the reason said, where namespaces may not be made.
    pub(super) fn new() -> Option<Self> {
        let (client, target) = match (in_scratch(Netns::current), in_scratch(Netns::current)) {
            (Ok(client), Ok(target)) => (client, target),
            (Err(e), _) | (_, Err(e)) => {
                eprintln!("skipped: {e}");
                return None;
            }
        };
        let there = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            target.as_fd().as_raw_fd()
        );
        let own = [
            "link add va type veth peer name vb netns ".to_owned() + &there,
            "link set lo up".into(),
        ];
        run_all(&client, &own);
        run_all(&client, &up("va", &["10.9.0.1/24", "fd00:9::1/64"]));
        let all = ["10.9.0.2/24", "10.9.0.3/24", "fd00:9::2/64", "fd00:9::3/64"];
        run_all(&target, &["link set lo up".to_owned()]);
        run_all(&target, &up("vb", &all));
        let mut world = Self {
            client,
            target,
            ends: Arc::default(),
            echoes: Vec::new(),
        };
        for address in NAMED.iter().chain(&NEIGHBOUR) {
            world.echo(address);
        }
        for address in NAMED.iter().chain(&NEIGHBOUR) {
            let warm = Instant::now();
            while world.round_trip(address).is_none() {
                assert!(
                    warm.elapsed() < Duration::from_secs(10),
                    "{address} never answered"
                );
            }
        }
        Some(world)
    }

    fn echo(&mut self, address: &str) {
        let socket = self
            .target
            .inside(|| Ok(bound(address, PORT)))
            .expect("the target's namespace");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let ends = Arc::clone(&self.ends);
        self.echoes.push(std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !ends.load(Ordering::Relaxed) {
                if let Ok((n, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..n], from);
                }
            }
        }));
    }

    /// A socket of the client's, connected to the echo at an address.
    pub(super) fn socket(&self, address: &str) -> UdpSocket {
        let here = if address.contains(':') {
            "fd00:9::1"
        } else {
            "10.9.0.1"
        };
        self.socket_from(here, address)
    }

    /// The same from an address of the client's.
    pub(super) fn socket_from(&self, here: &str, address: &str) -> UdpSocket {
        Self::connected(&self.client, here, address)
    }

    fn connected(netns: &Netns, here: &str, address: &str) -> UdpSocket {
        let socket = netns.inside(|| Ok(bound(here, 0))).expect("a namespace");
        socket
            .connect(SocketAddr::new(address.parse().unwrap(), PORT))
            .unwrap();
        socket.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        socket
    }

    /// How long one packet takes there and back.
    pub(super) fn round_trip(&self, address: &str) -> Option<Duration> {
        once(&self.socket(address))
    }

    /// The least of some round trips in milliseconds, after one that warms the path. A busy machine only ever adds
    /// time, so the least is nearest to what the fault itself does: too short a delay shows, and too long a one.
    pub(super) fn least_ms(&self, address: &str) -> f64 {
        Self::least_of(&self.socket(address), address)
    }

    /// The least round trip from an address of the target's to itself, over its `lo`.
    pub(super) fn own_round_trip_ms(&self, address: &str, asked_ms: f64, tolerance_ms: f64) -> f64 {
        let socket = Self::connected(&self.target, address, address);
        settle(address, asked_ms, tolerance_ms, || {
            Self::least_of(&socket, address)
        })
    }

    fn least_of(socket: &UdpSocket, address: &str) -> f64 {
        once(socket);
        let all: Vec<_> = (0..15).filter_map(|_| once(socket)).collect();
        assert!(
            all.len() > 10,
            "{address} answered only {} of 15",
            all.len()
        );
        all.iter()
            .min()
            .map_or(f64::NAN, |least| least.as_secs_f64() * 1e3)
    }

    /// Measures again while it is not yet as expected, and says the last.
    pub(super) fn settled_ms(&self, address: &str, asked_ms: f64, tolerance_ms: f64) -> f64 {
        settle(address, asked_ms, tolerance_ms, || self.least_ms(address))
    }

    /// Sends numbered packets and says which numbers came back, in their order. At 2 kHz: an emulated machine keeps up.
    pub(super) fn volley(&self, address: &str, count: u32, bytes: usize) -> Vec<u32> {
        let socket = self.socket(address);
        let back = socket.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            back.set_read_timeout(Some(Duration::from_millis(700)))
                .unwrap();
            let mut heard = Vec::new();
            let mut buffer = [0; 2048];
            while let Ok(n) = back.recv(&mut buffer) {
                if let Some(number) = buffer[..n].first_chunk() {
                    heard.push(u32::from_ne_bytes(*number));
                }
            }
            heard
        });
        let mut packet = vec![0; bytes.max(4)];
        let started = Instant::now();
        for number in 0..count {
            let due = Duration::from_micros(500) * number;
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            packet[..4].copy_from_slice(&number.to_ne_bytes());
            let _ = socket.send(&packet);
        }
        reader.join().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for echo in self.echoes.drain(..) {
            let _ = echo.join();
        }
    }
}

fn settle(address: &str, asked_ms: f64, tolerance_ms: f64, measure: impl Fn() -> f64) -> f64 {
    const ROUNDS_MAX: usize = 8;
    let mut last = f64::NAN;
    for _ in 0..ROUNDS_MAX {
        last = measure();
        if (last - asked_ms).abs() <= tolerance_ms {
            break;
        }
        eprintln!("  {address}: {last:.3} ms, once more");
    }
    last
}

fn once(socket: &UdpSocket) -> Option<Duration> {
    let started = Instant::now();
    socket.send(b"ping").ok()?;
    socket.recv(&mut [0; 16]).ok()?;
    Some(started.elapsed())
}

fn bound(address: &str, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(address.parse::<IpAddr>().unwrap(), port))
        .expect("an address of the namespace");
    // A slow reader must not be taken for a lossy wire. In a user namespace only the system's own limit is to be had.
    if setsockopt(&socket, sockopt::RcvBufForce, &READER_BYTES).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &READER_BYTES).unwrap();
    }
    socket
}

fn up(link: &str, addresses: &[&str]) -> Vec<String> {
    let add = addresses.iter().map(|a| {
        let nodad = if a.contains(':') { " nodad" } else { "" };
        format!("addr add {a} dev {link}{nodad}")
    });
    add.chain([format!("link set {link} up")]).collect()
}

/// Runs `ip` in a namespace.
pub(super) fn run_all(netns: &Netns, commands: &[String]) {
    for command in commands {
        let output = netns.inside(|| {
            Command::new("ip")
                .args(command.split(' '))
                .output()
                .map_err(|e| NetError::io("run", "ip", e))
        });
        let output = output.expect("ip from iproute2");
        assert!(
            output.status.success(),
            "ip {command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// A fault held by a thread in the target's namespace.
pub(super) struct Holding {
    pub(super) evidence: Evidence,
    words: mpsc::Sender<Word>,
    thread: JoinHandle<NetworkDose>,
}

enum Word {
    Update(ResolvedFilter),
    Dose(mpsc::Sender<NetworkDose>),
    Stop,
}

impl Holding {
    pub(super) fn start(world: &World, means: Means, fault: &str, filter: ResolvedFilter) -> Self {
        Self::try_start(&world.target, means, fault, filter)
            .unwrap_or_else(|e| panic!("{fault}: {e}"))
    }

    pub(super) fn try_start(
        target: &Netns,
        means: Means,
        fault: &str,
        filter: ResolvedFilter,
    ) -> Result<Self, String> {
        let fault: Fault = serde_json::from_str(fault).unwrap_or_else(|e| panic!("{fault}: {e}"));
        let (words, orders) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let fd = target.as_fd().try_clone_to_owned().unwrap();
        let thread = std::thread::spawn(move || {
            Netns::from_descriptor(fd, "the target")
                .unwrap()
                .enter()
                .unwrap();
            let asked = Instant::now();
            let (mut held, evidence) = match network::arm_fault(&fault, means, &filter, 42) {
                Ok(armed) => armed,
                Err(error) => {
                    tell.send(Err(crate::hold::held::chain(&error))).unwrap();
                    return NetworkDose::default();
                }
            };
            eprintln!("{means:?} armed and read back in {:?}", asked.elapsed());
            tell.send(Ok(evidence)).unwrap();
            loop {
                match orders.try_recv() {
                    Ok(Word::Update(filter)) => held.update(&filter).unwrap(),
                    Ok(Word::Dose(tell)) => {
                        let dose = held.dose().unwrap();
                        tell.send(network_dose(&dose)).unwrap();
                    }
                    Ok(Word::Stop) | Err(mpsc::TryRecvError::Disconnected) => break,
                    Err(mpsc::TryRecvError::Empty) => {}
                }
                let descriptors = held.descriptors();
                let mut polled: Vec<_> = descriptors
                    .iter()
                    .map(|d| PollFd::new(*d, PollFlags::POLLIN))
                    .collect();
                let ready = poll(&mut polled, PollTimeout::from(5u8)).unwrap();
                if ready > 0 {
                    held.turn().unwrap();
                }
            }
            let asked = Instant::now();
            let dose = held.release().unwrap();
            eprintln!("{means:?} released in {:?}", asked.elapsed());
            network_dose(&dose)
        });
        let evidence = told.recv().expect("the holding thread")?;
        Ok(Self {
            evidence,
            words,
            thread,
        })
    }

    pub(super) fn update(&self, filter: ResolvedFilter) {
        self.words.send(Word::Update(filter)).unwrap();
    }

    /// What was done so far.
    pub(super) fn dose(&self) -> NetworkDose {
        let (tell, told) = mpsc::channel();
        self.words.send(Word::Dose(tell)).unwrap();
        told.recv().expect("the holding thread")
    }

    pub(super) fn stop(self) -> NetworkDose {
        let _ = self.words.send(Word::Stop);
        self.thread.join().expect("the holding thread")
    }
}

fn network_dose(dose: &Dose) -> NetworkDose {
    match dose {
        Dose::Network(dose) => dose.clone(),
        other => panic!("not a network dose: {other:?}"),
    }
}

/// The means by which this kernel can shape.
pub(super) fn shaping_means() -> Vec<Means> {
    let capability = network::probe()
        .into_iter()
        .find(|c| c.fault.is_shaping())
        .unwrap();
    eprintln!("shaping by {:?}; {:?}", capability.means, capability.notes);
    assert!(!capability.means.is_empty());
    capability.means
}

pub(super) fn endpoint(addresses: &[&str]) -> Option<ResolvedEndpoint> {
    endpoint_at(addresses, &[])
}

/// The same at some ports; at any where none is named.
pub(super) fn endpoint_at(addresses: &[&str], ports: &[u16]) -> Option<ResolvedEndpoint> {
    let one = |port: &u16| port.to_string().parse().unwrap();
    Some(ResolvedEndpoint {
        networks: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        ports: ports.iter().map(one).collect(),
        ..ResolvedEndpoint::default()
    })
}

/// What comes to the named addresses.
pub(super) fn arriving() -> ResolvedFilter {
    ResolvedFilter {
        to: endpoint(&NAMED),
        direction: Direction::Ingress,
        ..ResolvedFilter::default()
    }
}

/// What leaves from the named addresses.
pub(super) fn leaving() -> ResolvedFilter {
    ResolvedFilter {
        from: endpoint(&NAMED),
        direction: Direction::Egress,
        ..ResolvedFilter::default()
    }
}

/// Everything of one protocol, both ways.
pub(super) fn all_of(protocol: Protocol) -> ResolvedFilter {
    ResolvedFilter {
        protocol: Some(protocol),
        ..ResolvedFilter::default()
    }
}
