//! The real agent, driven over its real link: this is the controller's end of the wire, and no more.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use squall_experiments::capability::Means;
use squall_experiments::fault::Fault;
use squall_experiments::ids::{FaultId, RunId, TargetId};
use squall_experiments::pulse::Pulse;
use squall_experiments::target::{Candidate, Target};
use squall_experiments::units::Lease;
use squall_experiments::wire::{
    Arm, Armed, Ended, FromAgent, FromController, Hello, PROTOCOL, Renew, Resolve, Resolved, Stop,
    Welcome,
};
use tungstenite::{Message, WebSocket};

use super::{Result, fingerprint, shout, victim};

/// How long the agent may take for an answer. Under emulation, with both CPUs busy, a second is usual.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// How long one read of the link waits.
const GLANCE: Duration = Duration::from_millis(5);

/// An agent of one's own. It is killed, with all its faults, when this is dropped.
#[derive(Debug)]
pub struct Agent {
    /// None until it has said its first word.
    child: Option<Child>,
    link: Option<WebSocket<UnixStream>>,
    heard: VecDeque<FromAgent>,
    hello: Hello,
    asked: u64,
}

/// The agent in the place of the one that was built beside the test binaries.
static TAKEN: OnceLock<PathBuf> = OnceLock::new();

/// Takes another build of the agent from now on: the one that is shipped, for one. Said twice, the first is kept.
pub fn take(file: PathBuf) {
    let _ = TAKEN.set(file);
}

/// Where the project's programs were built: beside the folder of the test binaries.
///
/// # Errors
/// When the program is not there.
pub fn program(name: &str) -> Result<PathBuf> {
    if let (Some(file), "squall-agent") = (TAKEN.get(), name) {
        return Ok(file.clone());
    }
    let own = std::env::current_exe()?;
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    found.ok_or_else(|| format!("{name} is not built: `cargo build --workspace --bins`").into())
}

/// The text of a lease, a fault or a target turned into it: tests say them as an experiment file does.
///
/// # Panics
/// When the text is none: a mistake in the test.
pub fn written<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value.clone())
        .unwrap_or_else(|error| panic!("{value} is not what the wire says: {error}"))
}

impl Agent {
    /// Starts `squall-agent run` on a socketpair and waits for its first word.
    ///
    /// # Errors
    /// When it cannot be started or says something else.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one whose command line has `more` on it, as a node's administrator would.
    ///
    /// # Errors
    /// When it cannot be started or says something else.
    pub fn start_with(more: &[&str]) -> Result<Self> {
        Self::start_as(&program("squall-agent")?, more, Stdio::inherit())
    }

    /// Starts the agent that this file is, with a log of one's choice.
    ///
    /// # Errors
    /// When it cannot be started or says something else.
    pub fn start_as(program: &Path, more: &[&str], log: Stdio) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(program)
            .args(["run", "--link-fd", "0"])
            .args(more)
            .env(fingerprint::MARK, fingerprint::mark())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut guard = Orphan(Some(child));
        let mut agent = Self::met(ours)?;
        agent.child = guard.0.take();
        Ok(agent)
    }

    /// Meets it at this end of its link; it is not yet killed when this is dropped.
    fn met(link: UnixStream) -> Result<Self> {
        link.set_read_timeout(Some(ANSWER_LIMIT))?;
        let mut link = tungstenite::accept(link)
            .map_err(|error| format!("no WebSocket from the agent: {error}"))?;
        let message = link
            .read()
            .map_err(|error| format!("no hello from the agent: {error}"))?;
        let FromAgent::Hello(hello) = serde_json::from_str(message.to_text()?)? else {
            return Err(format!("the agent's first word was {message}").into());
        };
        link.get_ref().set_read_timeout(Some(GLANCE))?;
        let mut agent = Self {
            child: None,
            link: Some(link),
            heard: VecDeque::new(),
            hello,
            asked: 0,
        };
        let spare_pids = vec![std::process::id()];
        agent.say(&FromController::Welcome(Welcome {
            protocol: PROTOCOL,
            protocol_least: None,
            version: "0".into(),
            spare_pids,
            term: None,
        }))?;
        Ok(agent)
    }

    /// What it said first.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.hello.pid
    }

    /// Sends `message`.
    ///
    /// # Errors
    /// When the link is closed.
    pub fn say(&mut self, message: &FromController) -> Result<()> {
        let link = self.link.as_mut().ok_or("the link is closed")?;
        link.send(Message::text(serde_json::to_string(message)?))?;
        Ok(())
    }

    /// The first message, heard already or still to come, in which `wanted` finds something.
    ///
    /// # Errors
    /// After `limit`, or when the link ends; with what was heard instead.
    pub fn hear<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&FromAgent) -> Option<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        let mut seen = 0;
        loop {
            while let Some(message) = self.heard.get(seen) {
                if let Some(found) = wanted(message) {
                    self.heard.remove(seen);
                    return Ok(found);
                }
                seen += 1;
            }
            if begun.elapsed() >= limit {
                return Err(format!(
                    "the agent said no {what} within {limit:?}, but {:?}",
                    self.heard
                )
                .into());
            }
            self.listen()?;
        }
    }

    /// Hears one message, or none for a short while.
    fn listen(&mut self) -> Result<()> {
        let link = self.link.as_mut().ok_or("the link is closed")?;
        match link.read() {
            Ok(Message::Text(text)) => {
                let message = serde_json::from_str(&text)
                    .map_err(|e| format!("the agent said {text}: {e}"))?;
                self.heard.push_back(message);
                Ok(())
            }
            Ok(Message::Close(_)) => Err("the agent closed the link".into()),
            Ok(_) => Ok(()),
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                Ok(())
            }
            Err(error) => Err(format!("the link to the agent broke: {error}").into()),
        }
    }

    /// The candidates for `target`.
    ///
    /// # Errors
    /// When there is none, with the reasons of those that were excluded.
    pub fn resolve(&mut self, target: &Target, fault: &Fault) -> Result<Vec<Candidate>> {
        let resolved = self.resolved(target, fault)?;
        if resolved.candidates.is_empty() {
            return Err(format!("nothing to hit for {target:?}: {:?}", resolved.excluded).into());
        }
        Ok(resolved.candidates)
    }

    fn resolved(&mut self, target: &Target, fault: &Fault) -> Result<Resolved> {
        self.asked += 1;
        let request = self.asked;
        let faults = vec![fault.kind()];
        self.say(&FromController::Resolve(Resolve {
            request,
            target: target.clone(),
            faults,
        }))?;
        self.hear("resolved", ANSWER_LIMIT, |message| match message {
            FromAgent::Resolved(resolved) if resolved.request == request => Some(resolved.clone()),
            _ => None,
        })
    }

    /// What is left alone of `target`, each in words with the reason.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn excluded(&mut self, target: &Target, fault: &Fault) -> Result<Vec<String>> {
        let resolved = self.resolved(target, fault)?;
        let told = |excluded: squall_experiments::wire::Excluded| {
            format!("{}: {}", excluded.label, excluded.reason)
        };
        Ok(resolved.excluded.into_iter().map(told).collect())
    }

    /// Resolves `target` and arms `fault` on its first candidate.
    ///
    /// # Errors
    /// When it is refused.
    pub fn inject(
        &mut self,
        target: &Target,
        fault: &Fault,
        lease: Lease,
        means: Option<Means>,
    ) -> Result<Armed> {
        let target = self.resolve(target, fault)?.swap_remove(0).id;
        self.arm(target, fault, lease, means)
    }

    /// Arms `fault` on a candidate.
    ///
    /// # Errors
    /// When it is refused.
    pub fn arm(
        &mut self,
        target: TargetId,
        fault: &Fault,
        lease: Lease,
        means: Option<Means>,
    ) -> Result<Armed> {
        self.arm_pulsing(target, fault, lease, means, None)
    }

    /// Arms `fault` on a candidate, to come and go where a pulse is given.
    ///
    /// # Errors
    /// When it is refused.
    pub fn arm_pulsing(
        &mut self,
        target: TargetId,
        fault: &Fault,
        lease: Lease,
        means: Option<Means>,
        pulse: Option<Pulse>,
    ) -> Result<Armed> {
        let wanted = self.say_arm(target, fault, lease, means, pulse)?;
        self.hear("armed", ANSWER_LIMIT, |message| match message {
            FromAgent::Armed(armed) if armed.id == wanted => Some(Ok(armed.clone())),
            FromAgent::Refused(refused) if refused.id == wanted => {
                Some(Err(refused.reason.clone().into()))
            }
            FromAgent::Ended(ended) if ended.id == wanted => {
                Some(Err(format!("ended at once: {ended:?}").into()))
            }
            _ => None,
        })?
    }

    /// Says that `fault` is to be armed, and waits for nothing.
    ///
    /// # Errors
    /// When the link is closed.
    pub fn say_arm(
        &mut self,
        target: TargetId,
        fault: &Fault,
        lease: Lease,
        means: Option<Means>,
        pulse: Option<Pulse>,
    ) -> Result<FaultId> {
        self.asked += 1;
        let id = FaultId(format!("test-{}", self.asked));
        self.say(&FromController::Arm(Arm {
            id: id.clone(),
            run: RunId::from("test"),
            fault: fault.clone(),
            target,
            lease,
            seed: SEED,
            means,
            pulse,
            found: Vec::new(),
        }))?;
        Ok(id)
    }

    /// What it said since somebody listened, in its order.
    ///
    /// # Errors
    /// When the link ends.
    pub fn heard(&mut self) -> Result<Vec<FromAgent>> {
        let mut before = usize::MAX;
        while before != self.heard.len() {
            before = self.heard.len();
            self.listen()?;
        }
        Ok(self.heard.drain(..).collect())
    }

    /// Arms them all at once and waits for the last; in the order in which they came into force.
    ///
    /// # Errors
    /// When one is refused.
    pub fn arm_all(&mut self, orders: &[(TargetId, Fault)], lease: Lease) -> Result<Vec<Armed>> {
        for (target, fault) in orders {
            self.asked += 1;
            self.say(&FromController::Arm(Arm {
                id: FaultId(format!("test-{}", self.asked)),
                run: RunId::from("test"),
                fault: fault.clone(),
                target: target.clone(),
                lease,
                seed: SEED,
                means: None,
                pulse: None,
                found: Vec::new(),
            }))?;
        }
        let mut all = Vec::new();
        while all.len() < orders.len() {
            all.push(self.hear("armed", ANSWER_LIMIT, |message| match message {
                FromAgent::Armed(armed) => Some(Ok(armed.clone())),
                FromAgent::Refused(refused) => Some(Err(refused.reason.clone())),
                _ => None,
            })??);
        }
        Ok(all)
    }

    /// Gives `fault` another lease.
    ///
    /// # Errors
    /// When the link is closed.
    pub fn renew(&mut self, fault: &FaultId, lease: Lease) -> Result<()> {
        self.renew_all(std::slice::from_ref(fault), lease)
    }

    /// Gives all these faults another lease, in one word.
    ///
    /// # Errors
    /// When the link is closed.
    pub fn renew_all(&mut self, faults: &[FaultId], lease: Lease) -> Result<()> {
        let faults = faults.to_vec();
        self.say(&FromController::Renew(Renew { faults, lease }))
    }

    /// Says that everything is to stop, and waits for nothing.
    ///
    /// # Errors
    /// When the link is closed.
    pub fn stop_all(&mut self) -> Result<()> {
        self.say(&FromController::Stop(Stop::All))
    }

    /// Stops `fault` and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub fn stop(&mut self, fault: &FaultId) -> Result<Ended> {
        self.say(&FromController::Stop(Stop::Faults(vec![fault.clone()])))?;
        self.ended(fault)
    }

    /// Waits until `fault` is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub fn ended(&mut self, fault: &FaultId) -> Result<Ended> {
        self.hear("ended", ANSWER_LIMIT, |message| match message {
            FromAgent::Ended(ended) if ended.id == *fault => Some(ended.clone()),
            _ => None,
        })
    }

    /// Sends the agent itself a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        victim::signal(self.pid(), signal)
    }

    /// Closes the link, as a dying controller does.
    pub fn hang_up(&mut self) {
        self.link = None;
    }

    /// Whether one that was started here still runs; a dead one is reaped by this.
    pub fn lives(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }
}

/// Every run of a test makes the same random decisions.
const SEED: u64 = 42;

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            end(child);
        }
    }
}

/// A child that is not yet anybody's.
struct Orphan(Option<Child>);

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            end(child);
        }
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    if let Err(error) = child.wait() {
        shout(&format!("agent {}: {error}", child.id()));
    }
}
