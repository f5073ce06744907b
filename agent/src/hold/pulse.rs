//! A fault that comes and goes: its holder holds nothing itself, but starts a holder for each pulse and ends it again.
//!
//! ```text
//!   coming ── armed ──▶ on ── its time is over: stop ──▶ going ── ended, nothing is left ──▶ off ── its time is over ──▶ coming …
//! ```
//!
//! So `off` is what the end of a fault always is: the kernel took the object back with the process that owned it, and
//! here it is asked whether anything is left before the pulse counts as released. The pattern needs nobody else: no
//! network lies between the clock and the fault. The lease is this process's; the pulse's holder gets what is left of
//! it, each renewal is passed on, and it is tied to this process as this one is to the agent.

use super::held::{HoldError, chain};
use super::holder::{self, Company};
use super::network;
use super::speech::{Attached, FromHolder, HoldSpec, ToHolder};
use super::supervise;
use crate::kernel::net::late;
use crate::kernel::{channel, process, timer};
use rustix::event::{PollFd, PollFlags};
use squall_experiments::dose::{Dose, PulsedDose};
use squall_experiments::pulse::Pulse;
use squall_experiments::wire::EndCause;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a pulse may take to come: as long as the agent gives any fault.
const COME_LIMIT: Duration = Duration::from_secs(5);
/// How long a pulse may take to go in an orderly way before its holder is killed; less than the agent gives this process.
const GO_LIMIT: Duration = Duration::from_millis(350);
/// How long after SIGKILL it may still be there.
const GONE_LIMIT: Duration = Duration::from_secs(1);
/// How often a group is asked whether anybody is left in it while nothing is in force.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where the pattern is, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Coming,
    On,
    Going { killed: bool },
    Off,
}

/// The holder of one pulse.
struct Beat {
    socket: OwnedFd,
    pidfd: OwnedFd,
    hung_up: bool,
    dose: Option<Dose>,
    cause: Option<EndCause>,
    failed: Option<String>,
}

struct Keeper<'a> {
    control: &'a OwnedFd,
    lease: &'a timer::LeaseTimer,
    lease_end: Instant,
    spec: HoldSpec,
    fds: Vec<OwnedFd>,
    pulse: Pulse,
    company: Company,
    phase: Phase,
    until: Instant,
    since: Instant,
    look: Instant,
    beat: Option<Beat>,
    /// Of the pulses that are over.
    done: PulsedDose,
}

/// What ends the pattern: a fault that was in force, or one that never was.
enum End {
    Because(EndCause),
    NeverWas(String),
}

/// Keeps the pattern up until something ends it.
pub(super) fn keep(
    control: &OwnedFd,
    lease: &timer::LeaseTimer,
    spec: HoldSpec,
    fds: Vec<OwnedFd>,
    (pulse, company): (Pulse, Company),
) -> Result<(), HoldError> {
    let now = Instant::now();
    let lease_end = now + Duration::from_millis(spec.lease_ms);
    let mut keeper = Keeper {
        control,
        lease,
        lease_end,
        spec,
        fds,
        pulse,
        company,
        phase: Phase::Off,
        until: now,
        since: now,
        look: now,
        beat: None,
        done: PulsedDose::default(),
    };
    let end = match keeper.run() {
        Ok(end) => end,
        Err(error) if keeper.done.times_on == 0 => End::NeverWas(chain(&error)),
        Err(error) => End::Because(EndCause::Failed(chain(&error))),
    };
    keeper.end_beat();
    let word = match end {
        End::NeverWas(reason) => FromHolder::Failed { reason },
        End::Because(cause) => FromHolder::Ended {
            cause,
            dose: Some(keeper.dose()),
        },
    };
    holder::tell(control, &word)
}

impl Keeper<'_> {
    fn run(&mut self) -> Result<End, HoldError> {
        self.come()?;
        let mut fds = Vec::new();
        loop {
            if self.wait()? {
                match holder::next_word(self.control, &mut fds, Some(Duration::ZERO))? {
                    None | Some(ToHolder::Stop) => return Ok(self.ended(EndCause::Stopped)),
                    Some(word) => self.pass_on(word)?,
                }
            }
            self.listen()?;
            if let Some(end) = self.buried()? {
                return Ok(end);
            }
            if self.company.is_gone() || self.is_forsaken() {
                return Ok(self.ended(EndCause::TargetGone));
            }
            if Instant::now() >= self.until {
                self.turn()?;
            }
        }
    }

    /// What is said of an end before the first pulse was in force: nothing was.
    fn ended(&self, cause: EndCause) -> End {
        if self.done.times_on > 0 {
            return End::Because(cause);
        }
        End::NeverWas(match cause {
            EndCause::TargetGone => "the target has ended".to_owned(),
            _ => "it was stopped before it was in force".to_owned(),
        })
    }

    /// Nobody is left in the group that was aimed at. While a pulse is on, its holder looks itself.
    fn is_forsaken(&mut self) -> bool {
        let due = self.phase == Phase::Off && Instant::now() >= self.look;
        if due {
            self.look = Instant::now() + LOOK_EVERY;
        }
        due && self.company.is_alone()
    }

    /// Waits for a word from either side, an end, or the pattern's next moment. Says whether the agent spoke.
    fn wait(&self) -> Result<bool, HoldError> {
        let from = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![from(self.control.as_fd())];
        fds.extend(self.company.processes.iter().map(|fd| from(fd.as_fd())));
        if let Some(beat) = &self.beat {
            fds.push(from(beat.pidfd.as_fd()));
            if !beat.hung_up {
                fds.push(from(beat.socket.as_fd()));
            }
        }
        let until = match self.phase {
            Phase::Off => self.until.min(self.look.max(Instant::now())),
            _ => self.until,
        };
        let left = until.saturating_duration_since(Instant::now());
        match rustix::event::poll(&mut fds, Some(&holder::timespec(left))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!fds[0].revents().is_empty()),
            Err(error) => Err(HoldError::kernel("wait for", "the control channel")(error)),
        }
    }

    /// What the agent says to a fault holds for the pattern and for the pulse that is on.
    fn pass_on(&mut self, word: ToHolder) -> Result<(), HoldError> {
        match &word {
            ToHolder::Renew { lease_ms } => {
                let lease = Duration::from_millis(*lease_ms);
                self.lease
                    .renew(lease)
                    .map_err(HoldError::kernel("renew", "the lease's timer"))?;
                self.lease_end = Instant::now() + lease;
            }
            ToHolder::Update(filter) => self.spec.filter = filter.clone(),
            // Said twice is said once.
            ToHolder::Hold(_) | ToHolder::Stop => return Ok(()),
        }
        if let Some(beat) = &self.beat {
            // One that does not read is hung: its lease ends it.
            let _ = beat.say(&word);
        }
        Ok(())
    }

    /// The moment of a phase has come.
    fn turn(&mut self) -> Result<(), HoldError> {
        match self.phase {
            Phase::Off => self.come(),
            Phase::Coming => Err(HoldError::Unable(format!(
                "a pulse was not in force within {} s",
                COME_LIMIT.as_secs()
            ))),
            Phase::On => {
                self.begin(Phase::Going { killed: false }, GO_LIMIT);
                match &self.beat {
                    Some(beat) if beat.say(&ToHolder::Stop).is_err() => self.kill(),
                    _ => Ok(()),
                }
            }
            Phase::Going { killed: false } => self.kill(),
            Phase::Going { killed: true } => Err(HoldError::Unable(
                "the holder of a pulse was sent SIGKILL and is still there: it waits inside the kernel".to_owned(),
            )),
        }
    }

    fn begin(&mut self, phase: Phase, limit: Duration) {
        self.phase = phase;
        self.until = Instant::now() + limit;
    }

    fn kill(&mut self) -> Result<(), HoldError> {
        self.begin(Phase::Going { killed: true }, GONE_LIMIT);
        match &self.beat {
            Some(beat) => process::signal(&beat.pidfd, libc::SIGKILL)
                .map_err(HoldError::kernel("kill", "the holder of a pulse")),
            None => Ok(()),
        }
    }

    /// Starts the holder of the next pulse.
    fn come(&mut self) -> Result<(), HoldError> {
        if self.done.times_off > 0 {
            self.done.seconds_off += self.since.elapsed().as_secs_f64();
        }
        self.begin(Phase::Coming, COME_LIMIT);
        let left = self.lease_end.saturating_duration_since(Instant::now());
        let me = std::process::id();
        let order = ToHolder::Hold(Box::new(HoldSpec {
            parent: me,
            lease_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1),
            // Each pulse draws anew, and a run with the same seed draws the same.
            seed: self.spec.seed.wrapping_add(u64::from(self.done.times_on)),
            pulse: None,
            on_behalf_of: Some(me),
            ..self.spec.clone()
        }));
        let start = HoldError::kernel("start", "the holder of a pulse");
        let words = format!("a pulse of {}", self.spec.fault);
        let (socket, pidfd, pid) = supervise::start_holder(&words).map_err(start)?;
        // First its name, so that the agent knows of it before it does anything.
        holder::tell(self.control, &FromHolder::Beat { pid })?;
        let bytes = serde_json::to_vec(&order)
            .map_err(|error| HoldError::Unable(format!("cannot encode the order: {error}")))?;
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        channel::send(&socket, &bytes, &fds)
            .map_err(HoldError::kernel("order", "the holder of a pulse"))?;
        self.beat = Some(Beat {
            socket,
            pidfd,
            hung_up: false,
            dose: None,
            cause: None,
            failed: None,
        });
        Ok(())
    }

    /// Takes in what the pulse's holder says.
    fn listen(&mut self) -> Result<(), HoldError> {
        while let Some(word) = self.beat.as_mut().map_or(Ok(None), Beat::hear)? {
            match word {
                FromHolder::Armed(mut evidence) if self.phase == Phase::Coming => {
                    self.since = Instant::now();
                    self.begin(Phase::On, self.pulse.on.duration());
                    self.done.times_on += 1;
                    if self.done.times_on == 1 {
                        evidence.read_back.push(format!(
                            "{}, over and over: read back at each pulse, and looked for after it",
                            self.pulse
                        ));
                        holder::tell(self.control, &FromHolder::Armed(evidence))?;
                    }
                    holder::tell(self.control, &FromHolder::Dose(self.dose()))?;
                }
                FromHolder::Armed(_) | FromHolder::Beat { .. } => {}
                FromHolder::Dose(dose) => {
                    if let Some(beat) = &mut self.beat {
                        beat.dose = Some(dose);
                    }
                    holder::tell(self.control, &FromHolder::Dose(self.dose()))?;
                }
                FromHolder::Ended { cause, dose } => {
                    if let Some(beat) = &mut self.beat {
                        beat.cause = Some(cause);
                        beat.dose = dose.or(beat.dose.take());
                    }
                }
                FromHolder::Failed { reason } => {
                    if let Some(beat) = &mut self.beat {
                        beat.failed = Some(reason);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the pulse's holder has ended, and what that means: the pattern goes on where that was its time.
    fn buried(&mut self) -> Result<Option<End>, HoldError> {
        if !self
            .beat
            .as_ref()
            .is_some_and(|beat| process::has_ended(beat.pidfd.as_fd()))
        {
            return Ok(None);
        }
        self.listen()?;
        let Some(mut beat) = self.beat.take() else {
            return Ok(None);
        };
        let exit = process::reap(beat.pidfd.as_fd())
            .map_err(HoldError::kernel("reap", "the holder of a pulse"))?;
        let phase = self.phase;
        self.take_down(&mut beat);
        let how = || exit.map_or_else(|| "nobody saw how".to_owned(), supervise::words);
        match phase {
            Phase::Going { .. } => {
                self.show_gone()?;
                self.done.times_off += 1;
                self.since = Instant::now();
                self.look = self.since + LOOK_EVERY;
                self.begin(Phase::Off, self.pulse.off.duration());
                holder::tell(self.control, &FromHolder::Dose(self.dose()))?;
                Ok(None)
            }
            Phase::Coming if self.done.times_on == 0 => {
                let reason = beat.failed.unwrap_or_else(|| {
                    format!("its holder ended before it was in force: {}", how())
                });
                Ok(Some(End::NeverWas(reason)))
            }
            // What it was aimed at ended while it was absent, and nothing is there to come back to.
            Phase::Coming if self.company.is_gone() || self.company.is_alone() => {
                Ok(Some(self.ended(EndCause::TargetGone)))
            }
            Phase::Coming => {
                let why = beat.failed.unwrap_or_else(how);
                let why = format!("it did not come back for its next pulse: {why}");
                Ok(Some(self.ended(EndCause::Failed(why))))
            }
            _ => {
                let cause = beat.cause.unwrap_or_else(|| EndCause::HolderKilled(how()));
                Ok(Some(self.ended(cause)))
            }
        }
    }

    /// Adds a pulse that is over to those before.
    fn take_down(&mut self, beat: &mut Beat) {
        if matches!(self.phase, Phase::On | Phase::Going { .. }) {
            self.done.seconds_on += self.since.elapsed().as_secs_f64();
        }
        self.done.of = match (self.done.of.take(), beat.dose.take()) {
            (Some(before), Some(now)) => Some(Box::new(before.and(now))),
            (before, now) => before.or(now.map(Box::new)),
        };
        // Whatever comes next, no pulse is on.
        self.phase = Phase::Going { killed: false };
        self.since = Instant::now();
    }

    /// Asks the kernel whether anything of a pulse is left.
    fn show_gone(&self) -> Result<(), HoldError> {
        if !self.spec.fault.kind().is_network() {
            return Ok(());
        }
        let at = self.spec.attached.iter();
        let at = at
            .zip(&self.fds)
            .find(|(what, _)| **what == Attached::Netns);
        let left = network::sweep(at.map(|(_, fd)| fd.as_fd()), std::process::id())?;
        // They own nothing, and nobody waits for this process meanwhile.
        late::close();
        if !left.in_force.is_empty() {
            return Err(HoldError::Unable(format!(
                "a pulse is over, and the kernel still shows: {}",
                left.in_force.join("; ")
            )));
        }
        left.swept.map(drop)
    }

    fn dose(&self) -> Dose {
        let mut dose = self.done.clone();
        if let Some(now) = self.beat.as_ref().and_then(|beat| beat.dose.clone()) {
            dose.of = Some(Box::new(match dose.of.take() {
                Some(before) => before.and(now),
                None => now,
            }));
        }
        let since = self.since.elapsed().as_secs_f64();
        match self.phase {
            Phase::On | Phase::Going { .. } if self.beat.is_some() => {
                dose.is_on = true;
                dose.seconds_on += since;
            }
            Phase::Off => dose.seconds_off += since,
            _ => {}
        }
        Dose::Pulsed(dose)
    }

    /// Ends the pulse that is on, by SIGKILL where a word is not enough.
    fn end_beat(&mut self) {
        let Some(beat) = &self.beat else {
            return;
        };
        let mut killed = beat.say(&ToHolder::Stop).is_err() && beat.kill();
        let mut until = Instant::now() + GO_LIMIT;
        while !process::has_ended(beat.pidfd.as_fd()) {
            if Instant::now() >= until {
                if killed {
                    return;
                }
                killed = beat.kill();
                until = Instant::now() + GONE_LIMIT;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Its last words are still in the socket.
        let _ = self.listen();
        if let Some(mut beat) = self.beat.take() {
            let _ = process::reap(beat.pidfd.as_fd());
            self.take_down(&mut beat);
        }
    }
}

impl Beat {
    fn say(&self, word: &ToHolder) -> io::Result<()> {
        let bytes = serde_json::to_vec(word).map_err(io::Error::other)?;
        channel::send(&self.socket, &bytes, &[])
    }

    fn kill(&self) -> bool {
        let _ = process::signal(&self.pidfd, libc::SIGKILL);
        true
    }

    /// The next word that is there.
    fn hear(&mut self) -> Result<Option<FromHolder>, HoldError> {
        if self.hung_up {
            return Ok(None);
        }
        let mut fds = Vec::new();
        match channel::receive(&self.socket, &mut fds) {
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                HoldError::Unable(format!("a pulse's holder cannot be understood: {error}"))
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.hear(),
            Ok(None) | Err(_) => {
                self.hung_up = true;
                Ok(None)
            }
        }
    }
}
