//! A controller's side of the link, for tests: speaks the real wire with the real program.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(clippy::print_stderr, reason = "a test says what it leaves")]
pub(crate) mod group;

use futures_util::{SinkExt, StreamExt};
use squall_experiments::capability::Means;
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::ids::{FaultId, RunId, TargetId};
use squall_experiments::pulse::Pulse;
use squall_experiments::target::{NetnsSelector, ProcessSelector, Target};
use squall_experiments::units::Lease;
use squall_experiments::wire::*;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a link runs over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) link: Option<WebSocketStream<Box<dyn Stream>>>,
    pub(crate) hello: Hello,
    requests: u64,
}

/// A process to aim at, killed when the test is over.
pub(crate) struct Victim(pub(crate) Child);

impl Victim {
    pub(crate) fn new() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }
    /// Burns processor time without end.
    pub(crate) fn busy() -> Self {
        Self(
            Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .spawn()
                .unwrap(),
        )
    }
    /// The processor time it has used, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid())).unwrap();
        let ns: u64 = text
            .split_ascii_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        ns / 1_000_000
    }
    /// Takes no notice of SIGUSR1, so that a crash loop can go on and on.
    pub(crate) fn deaf() -> Self {
        Self::of(
            Command::new("sh").args(["-c", "trap '' USR1; exec sleep 600"]),
            "sleep",
        )
    }
    /// Lives in a network namespace of its own, where there are 64 ports for outgoing connections.
    pub(crate) fn in_netns() -> Self {
        let prepared = "ip link set lo up && echo 40000 40063 > /proc/sys/net/ipv4/ip_local_port_range \
                        && exec sleep 600";
        Self::of(
            Command::new("unshare").args(["-n", "sh", "-c", prepared]),
            "sleep",
        )
    }
    /// Has a file system in memory of its own at /tmp, with 64 MiB and 500 inodes.
    pub(crate) fn on_disk() -> Self {
        let prepared =
            "mount -t tmpfs -o size=64m,nr_inodes=500 squall-test /tmp && exec sleep 600";
        Self::of(
            Command::new("unshare").args(["-m", "sh", "-c", prepared]),
            "sleep",
        )
    }
    /// A path as the victim sees it, as it is seen from here.
    pub(crate) fn path(&self, path: &str) -> std::path::PathBuf {
        format!("/proc/{}/root{path}", self.pid()).into()
    }
    /// Starts it and waits until it is what it is to be.
    fn of(command: &mut Command, comm: &str) -> Self {
        let victim = Self(command.spawn().unwrap());
        let path = format!("/proc/{}/comm", victim.pid());
        let begun = Instant::now();
        while std::fs::read_to_string(&path).unwrap().trim() != comm {
            assert!(begun.elapsed() < PATIENCE, "the victim does not start");
            std::thread::yield_now();
        }
        victim
    }
    pub(crate) fn netns(&self) -> Target {
        Target::Netns(NetnsSelector::Process(ProcessSelector {
            pid: Some(self.pid()),
            ..Default::default()
        }))
    }
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
    pub(crate) fn selector(&self) -> Target {
        Target::Process(ProcessSelector {
            pid: Some(self.pid()),
            ..Default::default()
        })
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Agent {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(more: &[&str]) -> Self {
        Self::start_in(more, &[]).await
    }

    /// With these arguments, and with this in its environment.
    pub(crate) async fn start_in(more: &[&str], environment: &[(&str, &str)]) -> Self {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        // As standard input it reaches this child and no other, whatever other tests start meanwhile.
        let child = Command::new(env!("CARGO_BIN_EXE_squall-agent"))
            .args(["run", "--link-fd", "0"])
            .args(more)
            .env("SQUALL_LOG", "info")
            .envs(environment.iter().copied())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = UnixStream::from_std(ours).unwrap();
        Self::greet(child, Box::new(stream)).await
    }

    /// The controller's first words to an agent that dialled.
    pub(crate) async fn greet(child: Child, stream: Box<dyn Stream>) -> Self {
        Self::greet_in(child, stream, None).await
    }

    /// The same of a controller that leads in this term.
    pub(crate) async fn greet_in(child: Child, stream: Box<dyn Stream>, term: Option<u64>) -> Self {
        let mut link = tokio_tungstenite::accept_async(stream).await.unwrap();
        let first = link.next().await.unwrap().unwrap().into_text().unwrap();
        let FromAgent::Hello(hello) = serde_json::from_str(&first).unwrap() else {
            panic!("the first word is {first}");
        };
        let mut agent = Self {
            child,
            link: Some(link),
            hello,
            requests: 0,
        };
        let welcome = Welcome {
            protocol: PROTOCOL,
            protocol_least: None,
            version: "0".into(),
            spare_pids: vec![std::process::id()],
            term,
        };
        agent.say(FromController::Welcome(welcome)).await;
        agent
    }

    pub(crate) async fn say(&mut self, message: FromController) {
        let text = serde_json::to_string(&message).unwrap();
        self.link
            .as_mut()
            .unwrap()
            .send(Message::text(text))
            .await
            .unwrap();
    }

    pub(crate) async fn hear(&mut self) -> FromAgent {
        let next = self.link.as_mut().unwrap().next();
        let text = tokio::time::timeout(PATIENCE, next)
            .await
            .expect("no word in time");
        let text = text.expect("the link ended").unwrap().into_text().unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The first message that `wanted` takes; doses in between are passed over.
    pub(crate) async fn expect<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(&FromAgent) -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < PATIENCE, "{what} did not come");
            let message = self.hear().await;
            if let Some(found) = wanted(&message) {
                return found;
            }
            assert!(
                matches!(message, FromAgent::Dosed(_)),
                "waiting for {what}, got {message:?}"
            );
        }
    }

    pub(crate) async fn resolve(&mut self, target: Target, kind: FaultKind) -> Resolved {
        self.requests += 1;
        let request = self.requests;
        let faults = vec![kind];
        self.say(FromController::Resolve(Resolve {
            request,
            target,
            faults,
        }))
        .await;
        self.expect("an answer", |m| match m {
            FromAgent::Resolved(r) if r.request == request => Some(r.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn send_arm(
        &mut self,
        id: &str,
        fault: Fault,
        target: TargetId,
        lease: Duration,
    ) {
        self.say(FromController::Arm(Arm {
            id: FaultId::from(id),
            run: RunId::from("run"),
            fault,
            target,
            lease: Lease::clamped(lease),
            seed: 7,
            means: None,
            pulse: None,
            found: Vec::new(),
        }))
        .await;
    }

    /// Resolves a victim and arms a fault that comes and goes on it.
    pub(crate) async fn arm_pulse(
        &mut self,
        fault: &str,
        target: Target,
        lease: Duration,
        pulse: Pulse,
    ) -> Armed {
        let fault: Fault = serde_json::from_str(fault).unwrap();
        let resolved = self.resolve(target, fault.kind()).await;
        let target = resolved.candidates.first().unwrap().id.clone();
        self.say(FromController::Arm(Arm {
            id: FaultId::from("pulse"),
            run: RunId::from("run"),
            fault,
            target,
            lease: Lease::clamped(lease),
            seed: 7,
            means: None,
            pulse: Some(pulse),
            found: Vec::new(),
        }))
        .await;
        self.armed().await
    }

    /// Resolves a namespace and arms a fault on its packets by the user-space queue, also where that is not the first choice.
    pub(crate) async fn arm_by_queue(&mut self, fault: &str, target: Target) -> Armed {
        let fault: Fault = serde_json::from_str(fault).unwrap();
        let resolved = self.resolve(target, fault.kind()).await;
        let target = resolved.candidates.first().unwrap().id.clone();
        self.say(FromController::Arm(Arm {
            id: FaultId::from("queue"),
            run: RunId::from("run"),
            fault,
            target,
            lease: Lease::clamped(Duration::from_secs(20)),
            seed: 7,
            means: Some(Means::Queue),
            pulse: None,
            found: Vec::new(),
        }))
        .await;
        self.armed().await
    }

    pub(crate) async fn armed(&mut self) -> Armed {
        self.expect("armed", |m| match m {
            FromAgent::Armed(a) => Some(a.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn refused(&mut self) -> Refused {
        self.expect("refused", |m| match m {
            FromAgent::Refused(r) => Some(r.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn ended(&mut self) -> Ended {
        self.expect("ended", |m| match m {
            FromAgent::Ended(e) => Some(e.clone()),
            _ => None,
        })
        .await
    }

    /// Resolves a victim and arms one fault on it.
    pub(crate) async fn arm(
        &mut self,
        id: &str,
        fault: &str,
        target: Target,
        lease: Duration,
    ) -> Armed {
        let fault: Fault = serde_json::from_str(fault).unwrap();
        let resolved = self.resolve(target, fault.kind()).await;
        let candidate = resolved
            .candidates
            .first()
            .unwrap_or_else(|| panic!("{resolved:?}"));
        self.send_arm(id, fault, candidate.id.clone(), lease).await;
        self.armed().await
    }

    pub(crate) async fn stop(&mut self, id: &str) {
        self.say(FromController::Stop(Stop::Faults(vec![FaultId::from(id)])))
            .await;
    }
}

impl Agent {
    /// Lets go of the link and of the agent, which dials again.
    pub(crate) fn hang_up(mut self) -> Child {
        drop(self.link.take());
        let stand_in = Command::new("true").spawn().unwrap();
        std::mem::replace(&mut self.child, stand_in)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the process is gone (a zombie is gone); returns how long that took.
pub(crate) fn gone(pid: u32, what: &str) -> Duration {
    let begun = Instant::now();
    while is_there(pid) {
        assert!(
            begun.elapsed() < PATIENCE,
            "{what} (process {pid}) is still there"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    begun.elapsed()
}

pub(crate) fn is_there(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

pub(crate) fn signal(pid: u32, number: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), number).unwrap();
}
